//! Tables for people.

use crate::measure::Row;
use std::fmt::Write as _;

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
