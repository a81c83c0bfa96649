//! Tables for people.

use crate::measure::Row;
use std::fmt::Write as _;

/// An error with its causes, each said once: many errors say what caused them in their own message.
pub(crate) fn causes(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.ends_with(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// The table of plans, one line a row.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<26} {:>6} {:>9} {:>10} {:>9} {:>9} {:>9} {:>9} {:>12} {:>11}\n",
        "plan",
        "batch",
        "accuracy",
        "agreement",
        "error",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "edges/batch",
        "rows/batch"
    );
    for row in rows {
        let accuracy = match row.accuracy {
            Some(share) => format!("{:.2}%", 100.0 * share),
            None => "-".to_owned(),
        };
        let _ = writeln!(
            text,
            "{:<26} {:>6} {:>9} {:>9.2}% {:>9.4} {:>9.2} {:>9.2} {:>9.2} {:>12.0} {:>11.0}",
            row.plan,
            row.batch,
            accuracy,
            100.0 * row.agreement,
            row.output_error,
            row.p50_ms,
            row.p90_ms,
            row.p99_ms,
            row.edges,
            row.rows
        );
    }
    text
}

/// A count of bytes with a unit.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::causes;
    use anyhow::Context;
    use std::{error::Error, fmt, io};

    /// Says what caused it in its own message.
    #[derive(Debug)]
    struct Unreadable(io::Error);

    impl fmt::Display for Unreadable {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "net.onnx: {}", self.0)
        }
    }

    impl Error for Unreadable {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let gone = || io::Error::other("no such file");
        let twice: Result<(), _> = Err(Unreadable(gone()));
        let error = twice.context("model `a`").unwrap_err();
        assert_eq!(causes(&error), "model `a`: net.onnx: no such file");
        let once: Result<(), _> = Err(gone());
        let error = once.context("net.onnx").context("model `a`").unwrap_err();
        assert_eq!(causes(&error), "model `a`: net.onnx: no such file");
    }
}
