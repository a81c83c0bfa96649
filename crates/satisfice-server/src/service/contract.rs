//! What a request asks for besides an answer: by when, how good, before whom.

use super::SpareTime;
use satisfice_core::{
    Error, ErrorKind, Measure, Parameters,
    parameters::{DEADLINE_MS, EXPLAIN, MIN_ACCURACY, MIN_FIDELITY, PRIORITY, TIMEOUT},
};
use std::time::{Duration, Instant};

/// Level of requests that name none: levels below it go first, levels above it last.
const PRIORITY_DEFAULT: i32 = 100;

/// The least quality that is good enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Minimum {
    pub measure: Measure,
    /// 0 to 1.
    pub share: f64,
}

/// The contract of one request.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Contract {
    /// When an answer is of no more use.
    pub deadline: Option<Instant>,
    pub minimum: Option<Minimum>,
    /// Higher goes first; 0 is the default.
    pub priority: i32,
    /// Whether the answer is to say why its plan was taken.
    pub explain: bool,
}

impl Contract {
    /// Takes the contract out of the parameters: `deadline_ms`, `timeout`, `min_accuracy`,
    /// `min_fidelity`, `priority`, `explain`. The earliest deadline counts, that of the transport included.
    pub(super) fn take(
        parameters: &mut Parameters,
        received: Instant,
        of_transport: Option<Instant>,
    ) -> Result<Self, Error> {
        let deadline = deadline(parameters, received)?;
        Ok(Self {
            deadline: deadline.into_iter().chain(of_transport).min(),
            minimum: minimum(parameters)?,
            priority: priority(parameters)?,
            explain: EXPLAIN.take_flag(parameters)?.unwrap_or(false),
        })
    }

    /// Whether the cheapest answer that keeps the contract is the one to give.
    pub(super) fn wants_just_enough(&self, spare_time: SpareTime) -> bool {
        self.minimum.is_some() && (self.deadline.is_none() || spare_time == SpareTime::Idle)
    }

    /// Whether there is anything to choose a plan for.
    pub(super) fn is_demanding(&self) -> bool {
        self.deadline.is_some() || self.minimum.is_some()
    }
}

fn deadline(parameters: &mut Parameters, received: Instant) -> Result<Option<Instant>, Error> {
    let deadline = DEADLINE_MS.take_number(parameters)?.map(milliseconds);
    let timeout = TIMEOUT
        .take_whole(parameters)?
        .filter(|&microseconds| microseconds > 0);
    let timeout = timeout.map(|microseconds| Duration::from_micros(microseconds.unsigned_abs()));
    // What is beyond the clock's range is no deadline.
    let earliest = deadline.into_iter().chain(timeout).min();
    Ok(earliest.and_then(|after| received.checked_add(after)))
}

fn milliseconds(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or(Duration::MAX)
}

fn minimum(parameters: &mut Parameters) -> Result<Option<Minimum>, Error> {
    let accuracy = MIN_ACCURACY.take_number(parameters)?;
    let fidelity = MIN_FIDELITY.take_number(parameters)?;
    let (measure, share) = match (accuracy, fidelity) {
        (None, None) => return Ok(None),
        (Some(share), None) => (Measure::Accuracy, share),
        (None, Some(share)) => (Measure::Fidelity, share),
        (Some(_), Some(_)) => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "wrong_parameter",
                "parameters `min_accuracy` and `min_fidelity` exclude each other",
            )
            .with_hint("send one of them"));
        }
    };
    Ok(Some(Minimum { measure, share }))
}

/// Triton's numbers: 1 is the highest, 0 the default.
fn priority(parameters: &mut Parameters) -> Result<i32, Error> {
    let level = match PRIORITY.take_whole(parameters)? {
        None | Some(0) => PRIORITY_DEFAULT,
        Some(level) => i32::try_from(level).unwrap_or(i32::MAX),
    };
    Ok(PRIORITY_DEFAULT - level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use satisfice_core::Parameter;

    fn taken(parameters: &[(&str, Parameter)], received: Instant) -> Result<Contract, Error> {
        let mut parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let contract = Contract::take(&mut parameters, received, None)?;
        assert!(parameters.is_empty());
        Ok(contract)
    }

    fn after(parameters: &[(&str, Parameter)]) -> Result<Option<Duration>, Error> {
        let received = Instant::now();
        let contract = taken(parameters, received)?;
        Ok(contract.deadline.map(|deadline| deadline - received))
    }

    #[test]
    fn the_earlier_one_counts() {
        let ms = |value: f64| ("deadline_ms", Parameter::Float(value));
        let us = |value: i64| ("timeout", Parameter::Int(value));
        assert_eq!(after(&[]), Ok(None));
        assert_eq!(after(&[ms(2.5)]), Ok(Some(Duration::from_micros(2500))));
        assert_eq!(after(&[ms(2.5), us(7)]), Ok(Some(Duration::from_micros(7))));
        assert_eq!(
            after(&[ms(2.5), us(0)]),
            Ok(Some(Duration::from_micros(2500)))
        );
        assert_eq!(after(&[us(0)]), Ok(None));
        for far in [1e18, 1e300] {
            assert_eq!(after(&[ms(far), us(7)]), after(&[us(7)]), "{far}");
            assert_eq!(after(&[ms(f64::MAX)]), Ok(None));
        }
    }

    #[test]
    fn minima_and_priorities_are_read() {
        let now = Instant::now();
        let contract = taken(
            &[
                ("min_fidelity", 0.9.into()),
                ("priority", Parameter::Int(1)),
            ],
            now,
        );
        let contract = contract.unwrap();
        let minimum = Minimum {
            measure: Measure::Fidelity,
            share: 0.9,
        };
        assert_eq!(contract.minimum, Some(minimum));
        assert!(contract.is_demanding());
        let priority = |level: i64| taken(&[("priority", level.into())], now).unwrap().priority;
        assert!(priority(1) > priority(2));
        assert!(priority(2) > priority(0));
        assert!(priority(0) > priority(101));
        assert!(priority(i64::MAX) < priority(0));
        assert_eq!(priority(0), Contract::default().priority);
    }

    #[test]
    fn other_values_are_refused() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(after(&[("deadline_ms", value.into())]).is_err(), "{value}");
        }
        for value in [Parameter::Int(-1), 1.5.into(), true.into(), "five".into()] {
            assert!(after(&[("timeout", value.clone())]).is_err());
            assert!(after(&[("priority", value.clone())]).is_err());
            assert!(after(&[("min_accuracy", value)]).is_err());
        }
        for value in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            assert!(after(&[("min_fidelity", value.into())]).is_err(), "{value}");
        }
        let both = [("min_accuracy", 0.5.into()), ("min_fidelity", 0.5.into())];
        assert!(after(&both).is_err());
    }
}
