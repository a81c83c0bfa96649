//! The protocol's endpoints.

use super::{
    App,
    body::{self, HeldBody},
    error::HttpError,
};
use crate::{
    protocol::{
        Answer, Encoded, JSON_LENGTH_HEADER, decode_request, encode_answer, encode_metadata,
    },
    service::{Call, ServedModel},
};
use axum::{
    body::Body,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use satisfice_core::{Error, ErrorKind, InferResponse, TensorData};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Instant};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON_LENGTH: HeaderName = HeaderName::from_static(JSON_LENGTH_HEADER);

/// Messages up to this length are decoded and encoded where they are; larger ones would keep an
/// async thread from other connections.
const INLINE_BYTES_MAX: usize = 64 << 10;

#[derive(Deserialize)]
pub(super) struct ModelPath {
    model: String,
    version: Option<String>,
}

impl FromRequestParts<Arc<App>> for ModelPath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, HttpError> {
        match Path::from_request_parts(parts, app).await {
            Ok(Path(path)) => Ok(path),
            Err(rejection) => {
                Err(Error::new(ErrorKind::InvalidInput, "wrong_path", rejection.body_text()).into())
            }
        }
    }
}

impl ModelPath {
    fn find(&self, app: &App) -> Result<Arc<ServedModel>, Error> {
        app.service.find(&self.model, self.version.as_deref())
    }
}

pub(super) async fn live() -> StatusCode {
    StatusCode::OK
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> StatusCode {
    readiness(app.service.is_ready())
}

pub(super) async fn model_ready(State(app): State<Arc<App>>, path: ModelPath) -> StatusCode {
    readiness(app.service.is_ready() && path.find(&app).is_ok())
}

fn readiness(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::BAD_REQUEST
    }
}

#[derive(Serialize)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 1],
}

pub(super) async fn server_metadata() -> Response {
    axum::Json(ServerMetadata {
        name: "satisfice",
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["binary_tensor_data"],
    })
    .into_response()
}

pub(super) async fn model_metadata(
    State(app): State<Arc<App>>,
    path: ModelPath,
) -> Result<Response, HttpError> {
    let description = path.find(&app)?.describe();
    let body = encode_metadata(&description)?;
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

pub(super) async fn infer(
    State(app): State<Arc<App>>,
    path: ModelPath,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, HttpError> {
    let received = Instant::now();
    match take_in(&app, &path, &headers, &mut body).await {
        Ok(arrived) => answer(&app, arrived, received).await,
        Err(error) => {
            body::discard(body, &headers, &error);
            Err(error)
        }
    }
}

/// A request whose bytes are all here.
struct Arrived {
    model: Arc<ServedModel>,
    json_length: Option<usize>,
    body: HeldBody,
}

/// Reads the body, unless there is a reason not to.
async fn take_in(
    app: &App,
    path: &ModelPath,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Arrived, HttpError> {
    let model = path.find(app)?;
    body::check_encoding(headers)?;
    let json_length = json_length(headers)?;
    let announced = body::announced_length(headers, app.limits.body_bytes_max)?;
    model.check_room(announced.unwrap_or(0))?;
    Ok(Arrived {
        model,
        json_length,
        body: body::read(app, body, announced).await?,
    })
}

async fn answer(app: &App, arrived: Arrived, received: Instant) -> Result<Response, HttpError> {
    let Arrived {
        model,
        json_length,
        body: HeldBody { bytes, held },
    } = arrived;
    let request_bytes = bytes.len();
    let tensors = app.limits.tensors;
    let decode = move || decode_request(&bytes, json_length, tensors);
    let decoded = off_thread(app, request_bytes, decode).await??;

    let call = Call {
        request: decoded.request,
        request_bytes,
        received,
    };
    let response = model.infer(call).await?;

    let response_bytes = size(&response);
    let answer = Answer {
        model: model.name().to_owned(),
        version: Some(model.version().to_owned()),
        id: decoded.id,
        response,
    };
    let encode = move || encode_answer(&answer, &decoded.format);
    let encoded = off_thread(app, response_bytes, encode).await??;
    drop(held);
    Ok(respond(encoded))
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
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
    })
}

/// Decodes or encodes `bytes` bytes: on a blocking thread if they are many, and then as many at
/// once as there are cores.
async fn off_thread<T: Send + 'static>(
    app: &App,
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if bytes <= INLINE_BYTES_MAX {
        return Ok(work());
    }
    let codec = Arc::clone(&app.codecs)
        .acquire_owned()
        .await
        .expect("invariant: the semaphore is never closed");
    let task = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(codec);
        result
    });
    task.await
        .map_err(|error| Error::new(ErrorKind::Internal, "codec_failed", error.to_string()))
}

/// About the bytes that an answer takes.
fn size(response: &InferResponse) -> usize {
    let tensors = response.outputs.iter().map(|output| output.tensor.data());
    tensors
        .map(|data| match data {
            TensorData::Bytes(strings) => strings.iter().map(|string| 4 + string.len()).sum(),
            _ => data.len() * data.datatype().size_bytes().unwrap_or(1),
        })
        .sum()
}

fn respond(encoded: Encoded) -> Response {
    let Encoded { body, json_length } = encoded;
    match json_length {
        None => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
        Some(length) => {
            let headers = [
                (header::CONTENT_TYPE, BINARY),
                (JSON_LENGTH, HeaderValue::from(length)),
            ];
            (headers, body).into_response()
        }
    }
}
