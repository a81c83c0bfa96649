//! Writes to graphs, and how they stand.

use super::{
    App,
    body::{self, HeldBody},
    compression,
    error::HttpError,
    handlers::json_length,
};
use crate::{
    edge::Asked,
    inflate::Encoding,
    observe::Stage,
    protocol::graphs::{GraphAnswer, GraphList, WriteAnswer, decode_write},
    service::{ServedGraph, WriteCall, WritePlace},
};
use axum::{
    body::Body,
    extract::{Extension, FromRequestParts, Path, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Buf;
use satisfice_core::{Error, ErrorKind};
use serde::Deserialize;
use std::{sync::Arc, time::Instant};

#[derive(Deserialize)]
pub(super) struct GraphPath {
    graph: String,
}

impl<S: Send + Sync> FromRequestParts<S> for GraphPath {
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

fn described(graph: &ServedGraph, asked: &Asked) -> GraphAnswer {
    let models = graph.models().iter();
    let seen = models.filter(|model| asked.caller.sees(model)).cloned();
    GraphAnswer::new(graph.name(), seen.collect(), graph.status())
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
) -> axum::Json<GraphList> {
    let graphs = app.service.graphs();
    let seen = graphs
        .iter()
        .filter(|graph| asked.caller.sees_graph(graph.name(), graph.models()));
    axum::Json(GraphList {
        graphs: seen.map(|graph| described(graph, &asked)).collect(),
    })
}

pub(super) async fn status(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    path: GraphPath,
) -> Result<axum::Json<GraphAnswer>, HttpError> {
    let found = app.service.graph(&path.graph);
    let models = found.as_ref().map_or(&[][..], ServedGraph::models);
    asked.caller.check_graph(&path.graph, models)?;
    let graph = found.map_err(|error| asked.caller.without_names(error))?;
    Ok(axum::Json(described(&graph, &asked)))
}

pub(super) async fn apply(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    path: GraphPath,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, HttpError> {
    let arrived = match find(&app, &asked, &path.graph) {
        Ok(graph) => take_in(&app, graph, &headers, &mut body).await,
        Err(error) => Err(error.into()),
    };
    match arrived {
        Ok(arrived) => answer(&app, arrived, asked).await,
        Err(error) => {
            body::discard(body, &headers, &error);
            Err(error)
        }
    }
}

/// The graph, for who may write to it.
fn find(app: &App, asked: &Asked, name: &str) -> Result<ServedGraph, Error> {
    let address = asked.peer.map(|peer| peer.listener);
    let place = app.front.access().write_at(address);
    asked.caller.check_write(place, name)?;
    let found = app.service.graph(name);
    found.map_err(|error| asked.caller.without_names(error))
}

/// A write whose bytes are all here.
struct Arrived {
    graph: ServedGraph,
    json_length: Option<usize>,
    body: HeldBody,
    place: WritePlace,
    answer_encoding: Option<Encoding>,
}

/// Reads the body, unless there is a reason not to.
async fn take_in(
    app: &App,
    graph: ServedGraph,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Arrived, HttpError> {
    let taken = read(app, &graph, headers, body).await;
    let (json_length, body, place) = taken.inspect_err(|error| graph.refused(error.error()))?;
    Ok(Arrived {
        graph,
        json_length,
        body,
        place,
        answer_encoding: compression::of_answer(headers),
    })
}

async fn read(
    app: &App,
    graph: &ServedGraph,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<(Option<usize>, HeldBody, WritePlace), HttpError> {
    let encoding = compression::of_request(headers)?;
    let json_length = json_length(headers)?;
    if json_length == Some(0) {
        let message = "a write names its tensors: its JSON has more than 0 bytes";
        return Err(Error::new(ErrorKind::InvalidInput, "wrong_json_length", message).into());
    }
    let announced = body::announced_length(headers, app.front.limits().body_bytes_max)?;
    drop(graph.enter(announced.unwrap_or(0))?);
    let mut body = body::read(app, body).await?;
    if let Some(encoding) = encoding {
        let (limits, bodies) = (app.front.limits(), Arc::clone(app.front.bodies()));
        let decompress = move || compression::decompress(encoding, body, limits, &bodies);
        body = app.front.codecs().elsewhere(decompress).await??;
    }
    let place = graph.enter(body.bytes.remaining())?;
    Ok((json_length, body, place))
}

async fn answer(app: &App, arrived: Arrived, asked: Asked) -> Result<Response, HttpError> {
    let Arrived {
        graph,
        json_length,
        body: HeldBody { bytes, held },
        place,
        answer_encoding,
    } = arrived;
    let limits = app.front.limits().tensors;
    let record = asked.record;
    let done = async {
        let start = Instant::now();
        let length = bytes.remaining();
        let decode = move || decode_write(bytes, json_length, limits);
        let decoded = app.front.codecs().decode(length, decode).await??;
        record.stage(Stage::Decode, start);
        let call = WriteCall {
            request: decoded.request,
            place,
            received: record.received(),
            deadline: None,
            record: Arc::clone(&record),
        };
        let response = graph.apply(call).await?;
        Ok(WriteAnswer::new(graph.name(), decoded.id, response))
    };
    let written: Result<WriteAnswer, Error> = done.await;
    drop(held);
    let written = written.inspect_err(|error| graph.refused(error))?;
    let body = serde_json::to_vec(&written)
        .map_err(|error| Error::new(ErrorKind::Internal, "encoding_failed", error.to_string()))?;
    let (body, encoding) = compression::compress(answer_encoding, body.into())?;
    let json = HeaderValue::from_static("application/json");
    let mut response = ([(header::CONTENT_TYPE, json)], Body::new(body)).into_response();
    if let Some(encoding) = encoding {
        let name = compression::name(encoding);
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, name);
    }
    Ok(response)
}
