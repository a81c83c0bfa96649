//! Counters in Prometheus' text format, under the names that dashboards for Triton read.

mod graphs;
mod histograms;

use super::{App, process};
use crate::{
    Access,
    service::{PlanAudit, Reason, ServedModel, Stats},
};
use axum::{
    extract::State,
    http::{HeaderName, header},
};
use std::{
    fmt::{Display, Write},
    sync::Arc,
};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One metric that has a single value per model.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    value: fn(&ServedModel) -> u64,
}

const METRICS: &[Metric] = &[
    Metric {
        name: "nv_inference_request_success",
        help: "Requests answered",
        kind: "counter",
        value: |model| model.stats().success.count(),
    },
    Metric {
        name: "nv_inference_count",
        help: "Inputs answered",
        kind: "counter",
        value: |model| model.stats().inferences(),
    },
    Metric {
        name: "nv_inference_exec_count",
        help: "Executions of the engine",
        kind: "counter",
        value: |model| model.stats().compute_infer.count(),
    },
    Metric {
        name: "nv_inference_pending_request_count",
        help: "Requests that wait for the engine",
        kind: "gauge",
        value: |model| model.waiting() as u64,
    },
    Metric {
        name: "nv_inference_request_duration_us",
        help: "Time of answered requests in microseconds",
        kind: "counter",
        value: |model| model.stats().success.ns() / 1000,
    },
    Metric {
        name: "nv_inference_queue_duration_us",
        help: "Time in the queue in microseconds",
        kind: "counter",
        value: |model| model.stats().queue.ns() / 1000,
    },
    Metric {
        name: "nv_inference_compute_input_duration_us",
        help: "Time to decode requests in microseconds",
        kind: "counter",
        value: |model| model.stats().compute_input.ns() / 1000,
    },
    Metric {
        name: "nv_inference_compute_infer_duration_us",
        help: "Time in the engine in microseconds",
        kind: "counter",
        value: |model| model.stats().compute_infer.ns() / 1000,
    },
    Metric {
        name: "nv_inference_compute_output_duration_us",
        help: "Time to encode answers in microseconds",
        kind: "counter",
        value: |model| model.stats().compute_output.ns() / 1000,
    },
];

pub(super) async fn metrics(
    State(app): State<Arc<App>>,
) -> ([(HeaderName, &'static str); 1], String) {
    let models = app.service.versions();
    let mut text = String::new();
    for metric in METRICS {
        head(&mut text, metric.name, metric.help, metric.kind);
        for model in &models {
            sample(&mut text, metric.name, model, None, (metric.value)(model));
        }
    }
    let name = "nv_model_load_duration_secs";
    head(
        &mut text,
        name,
        "Time the model took to load, with all its versions",
        "gauge",
    );
    for model in &models {
        let seconds = model.stats().load_duration().as_secs_f64();
        sample(&mut text, name, model, None, seconds);
    }
    let name = "nv_inference_request_failure";
    head(&mut text, name, "Requests not answered", "counter");
    for model in &models {
        for reason in Reason::ALL {
            let label = Some(("reason", reason.name()));
            sample(
                &mut text,
                name,
                model,
                label,
                model.stats().failures(reason),
            );
        }
    }
    let name = "satisfice_plan_requests_total";
    labelled(
        &mut text,
        name,
        "Answers by plan",
        &models,
        "plan",
        Stats::plans,
    );
    let name = "satisfice_refusals_total";
    labelled(
        &mut text,
        name,
        "Errors by code",
        &models,
        "code",
        Stats::refusals,
    );
    histograms::write(&mut text, &models);
    graphs::write(&mut text, &app.service.graphs());
    audits(&mut text, &models);
    engine_metrics(&mut text, &models);
    expiries(&mut text, app.front.access());
    process::write(&mut text, app.front.observer());
    ([(header::CONTENT_TYPE, TEXT)], text)
}

/// When tokens end, for alarms before they do.
fn expiries(text: &mut String, access: &Access) {
    let name = "satisfice_token_expires_timestamp_seconds";
    let help = "When a token ends, in seconds since 1970; tokens without an end are not here";
    head(text, name, help, "gauge");
    for (token, expires) in access.expiries() {
        let (token, seconds) = (escape(&token), expires.seconds());
        put(
            text,
            format_args!("{name}{{token=\"{token}\"}} {seconds}\n"),
        );
    }
}

/// What engines show of themselves, by name.
fn engine_metrics(text: &mut String, models: &[Arc<ServedModel>]) {
    let of_model = |model: &Arc<ServedModel>| {
        let metrics = model.engine_metrics().into_iter();
        metrics
            .map(|metric| (metric, Arc::clone(model)))
            .collect::<Vec<_>>()
    };
    let mut metrics: Vec<_> = models.iter().flat_map(of_model).collect();
    metrics.sort_by_key(|(metric, _)| metric.name);
    for (at, (metric, model)) in metrics.iter().enumerate() {
        if at == 0 || metrics[at - 1].0.name != metric.name {
            let kind = match metric.name.ends_with("_total") {
                true => "counter",
                false => "gauge",
            };
            head(text, metric.name, metric.help, kind);
        }
        let label = metric
            .label
            .as_ref()
            .map(|(name, value)| (*name, value.as_str()));
        sample(text, metric.name, model, label, metric.value);
    }
}

fn labelled(
    text: &mut String,
    name: &str,
    help: &str,
    models: &[Arc<ServedModel>],
    label: &str,
    counts: fn(&Stats) -> std::collections::BTreeMap<&str, u64>,
) {
    head(text, name, help, "counter");
    for model in models {
        for (key, count) in counts(model.stats()) {
            sample(text, name, model, Some((label, key)), count);
        }
    }
}

/// One metric that has a value per model and audited plan.
type AuditMetric = (
    &'static str,
    &'static str,
    &'static str,
    fn(&PlanAudit) -> f64,
);

const AUDITS: [AuditMetric; 4] = [
    (
        "satisfice_promised_agreement",
        "Share of inputs on which a plan has to agree with the dearest one for its promises to hold",
        "gauge",
        |audit| audit.promised,
    ),
    (
        "satisfice_audited_agreement",
        "Share of audited inputs on which it did",
        "gauge",
        |audit| audit.observed,
    ),
    (
        "satisfice_audited_inputs_total",
        "Inputs answered again by the dearest plan",
        "counter",
        |audit| audit.inputs as f64,
    ),
    (
        "satisfice_broken_promises_total",
        "Promises that audits found broken, and lowered",
        "counter",
        |audit| audit.alarms as f64,
    ),
];

fn audits(text: &mut String, models: &[Arc<ServedModel>]) {
    let audits: Vec<(&ServedModel, Vec<PlanAudit>)> = models
        .iter()
        .map(|model| (&**model, model.audits()))
        .collect();
    for (name, help, kind, value) in AUDITS {
        head(text, name, help, kind);
        for (model, audits) in &audits {
            for audit in audits {
                sample(text, name, model, Some(("plan", &audit.plan)), value(audit));
            }
        }
    }
}

pub(super) fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    put(
        text,
        format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
    );
}

fn sample(
    text: &mut String,
    name: &str,
    model: &ServedModel,
    label: Option<(&str, &str)>,
    value: impl Display,
) {
    let (model, version) = (model.name(), model.version());
    put(
        text,
        format_args!("{name}{{model=\"{model}\",version=\"{version}\""),
    );
    if let Some((label, value)) = label {
        put(text, format_args!(",{label}=\"{}\"", escape(value)));
    }
    put(text, format_args!("}} {value}\n"));
}

pub(super) fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("invariant: writing to a String does not fail");
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
