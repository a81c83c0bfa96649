//! The logging and trace extensions: settings that may be changed while the server runs.

use super::{App, body, error::HttpError, handlers::ModelPath};
use crate::observe::LogSettings;
use axum::{Json, body::Body, extract::State};
use serde_json::{Map, Value};
use std::sync::Arc;

type Settings = Map<String, Value>;

pub(super) async fn log(State(app): State<Arc<App>>) -> Result<Json<LogSettings>, HttpError> {
    Ok(Json(app.front.observer().log_settings()?))
}

pub(super) async fn set_log(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<LogSettings>, HttpError> {
    let changes: Settings = body::read_json(&app, body).await?;
    Ok(Json(app.front.observer().change_log(&changes)?))
}

pub(super) async fn traces(State(app): State<Arc<App>>) -> Result<Json<Settings>, HttpError> {
    Ok(Json(
        app.front.observer().change_traces(None, &Settings::new())?,
    ))
}

pub(super) async fn set_traces(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<Settings>, HttpError> {
    let changes: Settings = body::read_json(&app, body).await?;
    Ok(Json(app.front.observer().change_traces(None, &changes)?))
}

pub(super) async fn model_traces(
    State(app): State<Arc<App>>,
    path: ModelPath,
) -> Result<Json<Settings>, HttpError> {
    let model = app.service.find(path.model(), None)?;
    let settings = app
        .front
        .observer()
        .change_traces(Some(model.name()), &Settings::new())?;
    Ok(Json(settings))
}

pub(super) async fn set_model_traces(
    State(app): State<Arc<App>>,
    path: ModelPath,
    body: Body,
) -> Result<Json<Settings>, HttpError> {
    let changes: Settings = body::read_json(&app, body).await?;
    let model = app.service.find(path.model(), None)?;
    let settings = app
        .front
        .observer()
        .change_traces(Some(model.name()), &changes)?;
    Ok(Json(settings))
}
