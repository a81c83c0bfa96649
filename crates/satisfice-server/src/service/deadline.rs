//! By when a request wants to be executed.

use satisfice_core::{Error, ErrorKind, Parameter, Parameters};
use std::time::{Duration, Instant};

/// Takes `deadline_ms` and `timeout` out of the parameters; the earlier one counts.
pub(super) fn take(
    parameters: &mut Parameters,
    received: Instant,
) -> Result<Option<Instant>, Error> {
    let deadline = match parameters.remove("deadline_ms") {
        None => None,
        Some(value) => Some(milliseconds(&value).ok_or_else(|| {
            wrong("parameter `deadline_ms` is not a number of milliseconds over 0")
        })?),
    };
    let timeout = match parameters.remove("timeout") {
        None | Some(Parameter::Int(0)) => None,
        Some(value) => Some(microseconds(&value).ok_or_else(|| {
            wrong("parameter `timeout` is not a whole number of microseconds, 0 or more")
        })?),
    };
    // What is beyond the clock's range is no deadline.
    let earliest = deadline.into_iter().chain(timeout).min();
    Ok(earliest.and_then(|after| received.checked_add(after)))
}

fn milliseconds(value: &Parameter) -> Option<Duration> {
    let milliseconds = match *value {
        Parameter::Int(value) => value as f64,
        Parameter::Float(value) => value,
        Parameter::Bool(_) | Parameter::String(_) => return None,
    };
    Duration::try_from_secs_f64(milliseconds / 1e3)
        .ok()
        .filter(|_| milliseconds > 0.0)
}

fn microseconds(value: &Parameter) -> Option<Duration> {
    match *value {
        Parameter::Int(value) => u64::try_from(value).ok().map(Duration::from_micros),
        _ => None,
    }
}

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "wrong_parameter", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(parameters: &[(&str, Parameter)]) -> Result<Option<Duration>, Error> {
        let mut parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let received = Instant::now();
        let deadline = take(&mut parameters, received)?;
        assert!(parameters.is_empty());
        Ok(deadline.map(|deadline| deadline - received))
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
    }

    #[test]
    fn other_values_are_refused() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(after(&[("deadline_ms", value.into())]).is_err(), "{value}");
        }
        for value in [Parameter::Int(-1), 1.5.into(), true.into(), "5".into()] {
            assert!(after(&[("timeout", value)]).is_err());
        }
    }
}
