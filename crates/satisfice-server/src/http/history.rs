//! What models have done over time, for the page and for programs.

use super::{App, error::HttpError};
use crate::{
    edge::Asked,
    service::{BOUNDS, Point, Range, ServedModel},
};
use axum::{
    extract::{Extension, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use satisfice_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    range: Option<String>,
    since_ms: Option<u64>,
}

/// The history of all models that the caller sees.
#[derive(Serialize)]
struct History {
    state: &'static str,
    uptime_s: u64,
    range: &'static str,
    step_s: u64,
    /// Upper bounds of the classes of durations.
    bounds_ms: [f64; BOUNDS.len()],
    models: Vec<ModelHistory>,
}

/// Columns by point, oldest first.
#[derive(Serialize)]
struct ModelHistory {
    name: String,
    version: String,
    platform: String,
    state: &'static str,
    plans: Vec<String>,
    at_ms: Vec<u64>,
    answered: Vec<u64>,
    kept: Vec<u64>,
    late: Vec<u64>,
    refused: Vec<u64>,
    failed: Vec<u64>,
    waiting: Vec<u64>,
    durations: Vec<[u64; BOUNDS.len() + 1]>,
    by_plan: Vec<Vec<u64>>,
    audits: Vec<Vec<Option<(f64, f64)>>>,
    engine: Vec<Metric>,
}

/// A number of the engine's own, as it is now.
#[derive(Serialize)]
struct Metric {
    name: &'static str,
    help: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    value: u64,
}

pub(super) async fn history(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, HttpError> {
    let Query(wanted) = wanted.map_err(|rejection| wrong(rejection.body_text()))?;
    let range = range(wanted.range.as_deref())?;
    let since = wanted.since_ms.unwrap_or(0);
    let mut models = app.service.versions();
    models.retain(|model| asked.caller.sees(model.name()));
    let models = models
        .iter()
        .map(|model| model_history(&app, model, range, since));
    let history = History {
        state: app.service.readiness().name(),
        uptime_s: app.front.observer().uptime().as_secs(),
        range: range.name(),
        step_s: range.step(),
        bounds_ms: BOUNDS.map(|seconds| seconds * 1e3),
        models: models.collect(),
    };
    Ok(axum::Json(history).into_response())
}

fn range(name: Option<&str>) -> Result<Range, HttpError> {
    let Some(name) = name else {
        return Ok(Range::Minutes);
    };
    let mut ranges = Range::ALL.into_iter();
    let known = || Range::ALL.map(Range::name).join(", ");
    ranges
        .find(|range| range.name() == name)
        .ok_or_else(|| wrong(format!("`range` is one of {}", known())))
}

fn wrong(message: String) -> HttpError {
    Error::new(ErrorKind::InvalidInput, "wrong_query", message)
        .with_hint("ask for `/v2/history`, with `?range=10m` and `since_ms=` if need be")
        .into()
}

fn model_history(app: &App, model: &ServedModel, range: Range, since: u64) -> ModelHistory {
    let (plans, points) = app.service.history_of(model, range, since);
    let count = |of: fn(&Point) -> u64| points.iter().map(of).collect();
    let metric = |metric: satisfice_core::EngineMetric| Metric {
        name: metric.name,
        help: metric.help,
        label: metric.label.map(|(name, value)| format!("{name}={value}")),
        value: metric.value,
    };
    ModelHistory {
        name: model.name().to_owned(),
        version: model.version().to_owned(),
        platform: model.metadata().platform.clone(),
        state: model.readiness().name(),
        plans,
        at_ms: count(|point| point.at_ms),
        answered: count(|point| point.answered),
        kept: count(|point| point.kept),
        late: count(|point| point.late),
        refused: count(|point| point.refused),
        failed: count(|point| point.failed),
        waiting: count(|point| point.waiting),
        durations: points.iter().map(|point| point.durations).collect(),
        engine: model.engine_metrics().into_iter().map(metric).collect(),
        audits: points.iter().map(|point| point.audits.clone()).collect(),
        by_plan: points.into_iter().map(|point| point.by_plan).collect(),
    }
}
