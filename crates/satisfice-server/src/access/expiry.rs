//! Until when a token holds, in UTC.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const DAY_S: u64 = 86_400;

/// A moment after which a token is refused, in whole seconds.
///
/// It is written as `2027-02-28T12:00:00Z`; `2027-02-28` is the beginning of that day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Expiry {
    /// Since 1970-01-01.
    seconds: u64,
}

impl Expiry {
    /// The moment that a text means: one as above, or a time from now such as `90d`, `12h` or `30m`.
    ///
    /// # Errors
    /// What texts are known, when it is none, or is no moment to come.
    pub fn to_come(text: &str) -> Result<Self, String> {
        let now = seconds_since_1970(SystemTime::now());
        let expiry = match text.parse() {
            Ok(expiry) => expiry,
            Err(_) => Self {
                seconds: duration_s(text)
                    .and_then(|duration| now.checked_add(duration))
                    .filter(|&seconds| seconds < LAST_S)
                    .ok_or(format!("`{text}` is neither a time such as `90d`, `12h` or `30m` nor a date such as `2027-02-28`"))?,
            },
        };
        match expiry.seconds > now {
            true => Ok(expiry),
            false => Err(format!("{expiry} is over")),
        }
    }

    /// Seconds since 1970-01-01.
    pub fn seconds(self) -> u64 {
        self.seconds
    }

    /// Time that is left at a moment; nothing when it is over.
    pub fn left(self, at: SystemTime) -> Option<Duration> {
        let left = self.seconds.checked_sub(seconds_since_1970(at))?;
        (left > 0).then(|| Duration::from_secs(left))
    }
}

/// The beginning of the year 10000, which has no date of that form.
const LAST_S: u64 = 253_402_300_800;

fn seconds_since_1970(time: SystemTime) -> u64 {
    // A clock before 1970 is wrong; tokens hold then.
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn duration_s(text: &str) -> Option<u64> {
    let unit_s = match text.chars().last()? {
        'd' => DAY_S,
        'h' => 3_600,
        'm' => 60,
        _ => return None,
    };
    text[..text.len() - 1]
        .parse::<u64>()
        .ok()?
        .checked_mul(unit_s)
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not of the form `2027-02-28T12:00:00Z`");
        let moment: toml::value::Datetime = text.parse().map_err(|_| wrong())?;
        let in_utc = match (moment.time, moment.offset) {
            (None, None) => true,
            (Some(_), Some(offset)) => offset == toml::value::Offset::Z,
            _ => false,
        };
        let date = moment
            .date
            .filter(|date| in_utc && date.year >= 1970)
            .ok_or_else(wrong)?;
        let of_day = moment.time.map_or(0, |time| {
            let seconds = u64::from(time.second.unwrap_or(0));
            u64::from(time.hour) * 3_600 + u64::from(time.minute) * 60 + seconds
        });
        let days = days_before(
            u64::from(date.year),
            u64::from(date.month),
            u64::from(date.day),
        );
        Ok(Self {
            seconds: days * DAY_S + of_day,
        })
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March: a leap day is the last of its year.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    // From the first of March of the year 0 to 1970-01-01 it is 719,468 days.
    year * 365 + leap_days + (153 * month + 2) / 5 + (day - 1) - 719_468
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, of_day) = (self.seconds / DAY_S, self.seconds % DAY_S);
        // Estimated from the mean year, at most one too late.
        let year = 1970 + days * 400 / 146_097;
        let year = if days_before(year, 1, 1) > days {
            year - 1
        } else {
            year
        };
        let year = if days_before(year + 1, 1, 1) <= days {
            year + 1
        } else {
            year
        };
        let month = (2..=12)
            .take_while(|&month| days_before(year, month, 1) <= days)
            .last();
        let month = month.unwrap_or(1);
        let day = days - days_before(year, month, 1) + 1;
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

impl From<Expiry> for String {
    fn from(expiry: Expiry) -> Self {
        expiry.to_string()
    }
}

impl TryFrom<String> for Expiry {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written_as_calendars_have_them() {
        // As `date -u +%s` has them.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2024-12-31T12:30:15Z", 1_735_648_215),
            ("2027-02-28T12:00:00Z", 1_803_816_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            let expiry: Expiry = text.parse().unwrap();
            assert_eq!(
                (expiry.seconds(), expiry.to_string()),
                (seconds, text.to_owned())
            );
        }
        assert_eq!(
            "2027-02-28".parse::<Expiry>().unwrap().to_string(),
            "2027-02-28T00:00:00Z"
        );
        for days in 0..60_000 {
            let expiry = Expiry {
                seconds: days * DAY_S + 1,
            };
            assert_eq!(expiry.to_string().parse::<Expiry>().unwrap(), expiry);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "d",
            "90",
            "0d",
            "-1d",
            "90x",
            "é",
            "12:00:00",
            "2027-02-30",
            "2027-13-01",
            "1969-12-31",
            "2027-02-28T12:00:00",
            "2027-02-28T12:00:00+01:00",
            "2001-01-01",
            "99999999999999999999d",
            "9999999999d",
        ] {
            assert!(Expiry::to_come(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_left_ends() {
        let now = SystemTime::now();
        let expiry = Expiry::to_come("90d").unwrap();
        let left = expiry.left(now).unwrap().as_secs();
        assert!((89 * DAY_S..=90 * DAY_S + 60).contains(&left), "{left}");
        assert_eq!(expiry.left(now + Duration::from_secs(91 * DAY_S)), None);
        assert_eq!(
            expiry.left(UNIX_EPOCH + Duration::from_secs(expiry.seconds())),
            None
        );
    }
}
