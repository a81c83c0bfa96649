//! The `model_repository` extension: what is there, load, unload.

use super::{App, body, error::HttpError, handlers::ModelPath};
use crate::{
    edge::Asked,
    protocol::message::ParametersMessage,
    service::{IndexEntry, ModelState, check_control_parameters},
};
use axum::{
    body::Body,
    extract::{Extension, State},
    response::{IntoResponse, Response},
};
use satisfice_core::{Error, parameters::CONTROL};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

#[derive(Default, Deserialize)]
struct ControlRequest {
    #[serde(default)]
    parameters: ParametersMessage,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    state: &'static str,
    reason: String,
}

impl From<IndexEntry> for Entry {
    fn from(entry: IndexEntry) -> Self {
        Self {
            name: entry.name,
            version: entry.version,
            state: entry.state.name(),
            reason: entry.reason,
        }
    }
}

pub(super) async fn index(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    body: Body,
) -> Result<Response, HttpError> {
    let request: IndexRequest = body::read_json(&app, body).await?;
    let entries = app.service.index().await?.into_iter();
    let wanted = entries
        .filter(|entry| asked.caller.sees(&entry.name))
        .filter(|entry| !request.ready || entry.state == ModelState::Ready);
    let entries: Vec<Entry> = wanted.map(Entry::from).collect();
    Ok(axum::Json(entries).into_response())
}

pub(super) async fn load(
    State(app): State<Arc<App>>,
    path: ModelPath,
    body: Body,
) -> Result<(), HttpError> {
    check_parameters(body::read_json(&app, body).await?)?;
    Ok(app.service.load(path.model()).await?)
}

pub(super) async fn unload(
    State(app): State<Arc<App>>,
    path: ModelPath,
    body: Body,
) -> Result<(), HttpError> {
    check_parameters(body::read_json(&app, body).await?)?;
    Ok(app.service.unload(path.model())?)
}

fn check_parameters(request: ControlRequest) -> Result<(), Error> {
    check_control_parameters(request.parameters.0.flat(&CONTROL)?)
}
