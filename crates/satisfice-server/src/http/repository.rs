//! The `model_repository` extension: what is there, load, unload.

use super::{App, body, error::HttpError, handlers::ModelPath};
use crate::{
    protocol::message::parse,
    service::{IndexEntry, ModelState, check_control_parameters},
};
use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use satisfice_core::Error;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of a body that are read.
const BODY_BYTES_MAX: usize = 64 << 10;

#[derive(Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

#[derive(Default, Deserialize)]
struct ControlRequest {
    #[serde(default)]
    parameters: serde_json::Map<String, serde_json::Value>,
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

pub(super) async fn index(State(app): State<Arc<App>>, body: Body) -> Result<Response, HttpError> {
    let request: IndexRequest = read(&app, body).await?;
    let entries = app.service.index().await?.into_iter();
    let wanted = entries.filter(|entry| !request.ready || entry.state == ModelState::Ready);
    let entries: Vec<Entry> = wanted.map(Entry::from).collect();
    Ok(axum::Json(entries).into_response())
}

pub(super) async fn load(
    State(app): State<Arc<App>>,
    path: ModelPath,
    body: Body,
) -> Result<(), HttpError> {
    check_parameters(&read(&app, body).await?)?;
    Ok(app.service.load(path.model()).await?)
}

pub(super) async fn unload(
    State(app): State<Arc<App>>,
    path: ModelPath,
    body: Body,
) -> Result<(), HttpError> {
    check_parameters(&read(&app, body).await?)?;
    Ok(app.service.unload(path.model())?)
}

/// A JSON document, or what an empty body stands for.
async fn read<T: for<'a> Deserialize<'a> + Default>(
    app: &App,
    mut body: Body,
) -> Result<T, HttpError> {
    let body = body::read(app, &mut body, None).await?;
    if body.bytes.len() > BODY_BYTES_MAX {
        return Err(body::too_large(BODY_BYTES_MAX).into());
    }
    match body.bytes.trim_ascii() {
        [] => Ok(T::default()),
        json => Ok(parse(json)?),
    }
}

fn check_parameters(request: &ControlRequest) -> Result<(), Error> {
    check_control_parameters(request.parameters.keys().map(String::as_str))
}
