//! The protocol's endpoints.

use super::{
    App,
    body::{self, HeldBody},
    compression,
    error::HttpError,
};
use crate::{
    access::Caller,
    edge::Asked,
    exchange::Exchange,
    inflate::Encoding,
    observe::Record,
    protocol::{
        Answer, AnswerFormat, Encoded, JSON_LENGTH_HEADER, Pieces, ServerDescription,
        config::ModelConfig,
        decode_request, encode_answer, encode_metadata,
        raw::decode_raw,
        statistics::{ModelStatistics, Statistics},
    },
    service::ServedModel,
};
use axum::{
    body::Body,
    extract::{Extension, FromRequestParts, Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Buf;
use satisfice_core::{Error, ErrorKind, Readiness};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON_LENGTH: HeaderName = HeaderName::from_static(JSON_LENGTH_HEADER);

#[derive(Deserialize)]
pub(super) struct ModelPath {
    model: String,
    version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ModelPath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(path)) => Ok(path),
            Err(rejection) => {
                Err(Error::new(ErrorKind::InvalidInput, "wrong_path", rejection.body_text()).into())
            }
        }
    }
}

impl ModelPath {
    pub(super) fn model(&self) -> &str {
        &self.model
    }

    fn names(&self) -> Names<'_> {
        (&self.model, self.version.as_deref())
    }

    fn find(&self, app: &App, caller: &Caller) -> Result<Arc<ServedModel>, Error> {
        find(app, caller, self.names())
    }
}

/// A model and, if it is named, its version.
type Names<'a> = (&'a str, Option<&'a str>);

/// The model, for who may use it.
fn find(app: &App, caller: &Caller, names: Names<'_>) -> Result<Arc<ServedModel>, Error> {
    let (model, version) = names;
    caller.check_model(model)?;
    let found = app.service.find(model, version);
    found.map_err(|error| caller.without_names(error))
}

/// Whether the server, or a model, answers; the status says it, and some clients read the body.
#[derive(Serialize)]
pub(super) struct ReadinessBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    ready: bool,
    /// A word that tells more: `ready`, `degraded`, `forming`, `failed`, `draining`;
    /// `unknown` of no model.
    state: &'static str,
}

impl IntoResponse for ReadinessBody {
    fn into_response(self) -> Response {
        let status = match self.ready {
            true => StatusCode::OK,
            false => StatusCode::BAD_REQUEST,
        };
        (status, axum::Json(self)).into_response()
    }
}

#[derive(Serialize)]
pub(super) struct Liveness {
    live: bool,
}

pub(super) async fn live() -> axum::Json<Liveness> {
    axum::Json(Liveness { live: true })
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> ReadinessBody {
    let readiness = app.service.readiness();
    ReadinessBody {
        name: None,
        ready: readiness.is_ready(),
        state: readiness.name(),
    }
}

pub(super) async fn model_ready(State(app): State<Arc<App>>, path: ModelPath) -> ReadinessBody {
    let readiness = app
        .service
        .model_readiness(&path.model, path.version.as_deref());
    ReadinessBody {
        name: Some(path.model),
        ready: readiness.as_ref().is_ok_and(|state| state.is_ready()),
        state: readiness.map_or("unknown", Readiness::name),
    }
}

pub(super) async fn server_metadata() -> Response {
    axum::Json(ServerDescription::THIS).into_response()
}

pub(super) async fn model_metadata(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    path: ModelPath,
) -> Result<Response, HttpError> {
    let description = path.find(&app, &asked.caller)?.describe();
    let body = encode_metadata(&description)?;
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

pub(super) async fn model_config(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    path: ModelPath,
) -> Result<Response, HttpError> {
    let description = path.find(&app, &asked.caller)?.describe();
    Ok(axum::Json(ModelConfig::from(description)).into_response())
}

pub(super) async fn all_statistics(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
) -> Response {
    let mut models = app.service.versions();
    models.retain(|model| asked.caller.sees(model.name()));
    statistics(&models)
}

pub(super) async fn model_statistics(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    path: ModelPath,
) -> Result<Response, HttpError> {
    let models = app
        .service
        .select(Some(&path.model), path.version.as_deref())
        .map_err(|error| asked.caller.without_names(error))?;
    Ok(statistics(&models))
}

pub(super) async fn model_plans(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    path: ModelPath,
) -> Result<Response, HttpError> {
    let model = path.find(&app, &asked.caller)?;
    Ok(axum::Json(model.plans().await?).into_response())
}

fn statistics(models: &[Arc<ServedModel>]) -> Response {
    let model_stats = models.iter().map(|model| ModelStatistics::new(model));
    axum::Json(Statistics {
        model_stats: model_stats.collect(),
    })
    .into_response()
}

pub(super) async fn infer_by_route(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    path: ModelPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    infer(&app, asked, path.names(), &headers, body).await
}

pub(super) async fn infer(
    app: &App,
    asked: Asked,
    names: Names<'_>,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Response, HttpError> {
    let received = asked.record.received();
    let arrived = match find(app, &asked.caller, names) {
        Ok(model) => {
            let arrived = take_in(app, Arc::clone(&model), headers, &mut body).await;
            arrived.inspect_err(|error| model.stats().failed(error.error(), received.elapsed()))
        }
        Err(error) => Err(error.into()),
    };
    match arrived {
        Ok(arrived) => answer(app, arrived, asked.record).await,
        Err(error) => {
            body::discard(body, headers, &error);
            Err(error)
        }
    }
}

/// A request whose bytes are all here.
struct Arrived {
    model: Arc<ServedModel>,
    json_length: Option<usize>,
    body: HeldBody,
    answer_encoding: Option<Encoding>,
}

/// Reads the body, unless there is a reason not to.
async fn take_in(
    app: &App,
    model: Arc<ServedModel>,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Arrived, HttpError> {
    let encoding = compression::of_request(headers)?;
    let json_length = json_length(headers)?;
    let announced = body::announced_length(headers, app.front.limits().body_bytes_max)?;
    model.check_room(announced.unwrap_or(0))?;
    let mut body = body::read(app, body).await?;
    if let Some(encoding) = encoding {
        let (limits, bodies) = (app.front.limits(), Arc::clone(app.front.bodies()));
        // What is small may hold much.
        let decompress = move || compression::decompress(encoding, body, limits, &bodies);
        body = app.front.codecs().elsewhere(decompress).await??;
        model.check_room(body.bytes.remaining())?;
    }
    Ok(Arrived {
        model,
        json_length,
        body,
        answer_encoding: compression::of_answer(headers),
    })
}

async fn answer(app: &App, arrived: Arrived, record: Arc<Record>) -> Result<Response, HttpError> {
    let Arrived {
        model,
        json_length,
        body: HeldBody { bytes, held },
        answer_encoding,
    } = arrived;
    let exchange = Exchange {
        model,
        request_bytes: bytes.remaining(),
        received: record.received(),
        deadline: None,
        record,
    };
    let tensors = app.front.limits().tensors;
    let asked = Arc::clone(&exchange.model);
    let decode = move || match json_length {
        Some(0) => decode_raw(bytes, &asked.metadata().inputs, tensors),
        _ => decode_request(bytes, json_length, tensors),
    };
    let encode = move |answer: Answer, format: AnswerFormat| {
        let Encoded { body, json_length } = encode_answer(answer, &format)?;
        let (body, encoding) = compression::compress(answer_encoding, body)?;
        Ok((Encoded { body, json_length }, encoding))
    };
    let (encoded, encoding) = exchange.run(app.front.codecs(), decode, encode).await?;
    drop(held);
    Ok(respond(encoded, encoding))
}

pub(super) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
    let mut values = headers.get_all(JSON_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let only = values.next().is_none();
    let number = body::number(value).filter(|_| only);
    number.map(Some).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            "wrong_header",
            format!("the header `{JSON_LENGTH_HEADER}` is not a number of bytes"),
        )
        .with_hint("send the number of bytes of the JSON before the tensors, once")
    })
}

fn respond(encoded: Encoded<Pieces>, encoding: Option<Encoding>) -> Response {
    let Encoded { body, json_length } = encoded;
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    match json_length {
        None => headers.insert(header::CONTENT_TYPE, JSON),
        Some(length) => {
            headers.insert(JSON_LENGTH, HeaderValue::from(length));
            headers.insert(header::CONTENT_TYPE, BINARY)
        }
    };
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, compression::name(encoding));
    }
    response
}
