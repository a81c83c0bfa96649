//! Durations of requests by buckets, of which Prometheus makes quantiles.

use super::{escape, head, put};
use crate::service::{BOUNDS, Histogram, PlanTimes, Seen, ServedModel};
use std::sync::Arc;

struct Metric {
    name: &'static str,
    help: &'static str,
    of: fn(&PlanTimes) -> &Histogram,
}

const METRICS: [Metric; 3] = [
    Metric {
        name: "satisfice_request_duration_seconds",
        help: "Time of answered requests, from the first byte to the encoded answer",
        of: |times| &times.request,
    },
    Metric {
        name: "satisfice_queue_duration_seconds",
        help: "Time in the queue, until an execution begins that the request is part of",
        of: |times| &times.queue,
    },
    Metric {
        name: "satisfice_execution_duration_seconds",
        help: "Time of executions of the engine",
        of: |times| &times.execution,
    },
];

/// Triton's histogram of the time to the first answer, and its buckets in milliseconds; a request has one
/// answer here.
const FIRST_RESPONSE: &str = "nv_inference_first_response_histogram_ms";
const FIRST_RESPONSE_BOUNDS: [f64; 4] = [100.0, 500.0, 2000.0, 5000.0];

pub(super) fn write(text: &mut String, models: &[Arc<ServedModel>]) {
    for metric in &METRICS {
        head(text, metric.name, metric.help, "histogram");
        for model in models {
            for (plan, times) in model.stats().plan_times() {
                let seen = (metric.of)(times).seen();
                if seen.count() > 0 {
                    let labels = format!("{},plan=\"{}\"", labels(model), escape(plan));
                    buckets(text, metric.name, &labels, &of_plan(&seen));
                }
            }
        }
    }
    let help = "Time to the first answer in milliseconds";
    head(text, FIRST_RESPONSE, help, "histogram");
    for model in models {
        let times = model.stats().plan_times();
        let all = times.fold(Seen::default(), |all, (_, times)| {
            all.and(&times.request.seen())
        });
        buckets(text, FIRST_RESPONSE, &labels(model), &of_model(&all));
    }
}

fn labels(model: &ServedModel) -> String {
    let (name, version) = (model.name(), model.version());
    format!("model=\"{name}\",version=\"{version}\"")
}

/// The lines of one histogram, in its unit.
pub(super) struct Lines {
    up_to: Vec<(f64, u64)>,
    sum: f64,
    count: u64,
}

pub(super) fn of_plan(seen: &Seen) -> Lines {
    Lines {
        up_to: BOUNDS.into_iter().zip(seen.up_to).collect(),
        sum: seen.seconds,
        count: seen.count(),
    }
}

fn of_model(seen: &Seen) -> Lines {
    let up_to = |ms: f64| {
        let bucket = BOUNDS.iter().position(|&bound| bound >= ms / 1e3);
        (ms, seen.up_to[bucket.unwrap_or(BOUNDS.len())])
    };
    Lines {
        up_to: FIRST_RESPONSE_BOUNDS.map(up_to).into(),
        sum: seen.seconds * 1e3,
        count: seen.count(),
    }
}

pub(super) fn buckets(text: &mut String, name: &str, labels: &str, lines: &Lines) {
    for (bound, count) in &lines.up_to {
        let line = format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {count}\n");
        put(text, line);
    }
    let Lines { sum, count, .. } = lines;
    put(
        text,
        format_args!(
            "{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}\n"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tritons_bounds_are_among_ours() {
        for ms in FIRST_RESPONSE_BOUNDS {
            assert!(
                BOUNDS.iter().any(|bound| (bound * 1e3 - ms).abs() < 1e-9),
                "{ms}"
            );
        }
    }
}
