//! The deadline of a call.

use satisfice_core::{Error, ErrorKind};
use std::time::{Duration, Instant};
use tonic::metadata::MetadataMap;

/// Digits that a `grpc-timeout` may have.
const DIGITS_MAX: usize = 8;

/// When the client gives up, counted from `received`.
pub(super) fn deadline(
    metadata: &MetadataMap,
    received: Instant,
) -> Result<Option<Instant>, Error> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(None);
    };
    let timeout = value.to_str().ok().and_then(parse).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            "wrong_header",
            "`grpc-timeout` is not one to eight digits and a unit",
        )
    })?;
    Ok(received.checked_add(timeout))
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let valid = (1..=DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| valid)?;
    Some(match unit {
        "H" => Duration::from_hours(number),
        "M" => Duration::from_mins(number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_a_unit() {
        assert_eq!(parse("2H"), Some(Duration::from_hours(2)));
        assert_eq!(parse("3M"), Some(Duration::from_mins(3)));
        assert_eq!(parse("00000004S"), Some(Duration::from_secs(4)));
        assert_eq!(parse("5m"), Some(Duration::from_millis(5)));
        assert_eq!(parse("6u"), Some(Duration::from_micros(6)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for text in [
            "",
            "S",
            "5",
            "+5S",
            "-5S",
            "5 S",
            "123456789S",
            "5s",
            "5é",
            "1.5S",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
