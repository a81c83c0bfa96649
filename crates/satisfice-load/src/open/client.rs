use crate::LoadError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Uri, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use satisfice_server::protocol::{Encoded, JSON_LENGTH_HEADER, client::Format};
use tokio::sync::Semaphore;

/// Connections at once. Jobs beyond wait here; their time runs all the same.
const CONNECTIONS_MAX: usize = 512;
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 26;

/// A client of one model, for many requests at once.
#[derive(Debug)]
pub struct Client {
    http: HyperClient<HttpConnector, Full<Bytes>>,
    infer: Uri,
    pub(crate) format: Format,
    connections: Semaphore,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status of HTTP.
    pub status: u16,
    /// Length of the JSON before binary tensors, if there are any.
    pub json_length: Option<usize>,
    /// The whole body.
    pub body: Bytes,
}

impl Client {
    /// A client of the model `model` of the server at `url`, such as `http://127.0.0.1:8000`, which takes
    /// tensors in that format.
    ///
    /// # Errors
    /// [`LoadError::Address`].
    pub fn new(url: &str, model: &str, format: Format) -> Result<Self, LoadError> {
        let infer = format!("{}/v2/models/{model}/infer", url.trim_end_matches('/'));
        let infer: Uri = infer.parse().map_err(|error| LoadError::Address {
            url: url.to_owned(),
            reason: format!("{error}"),
        })?;
        if infer.scheme_str() != Some("http") || infer.host().is_none() {
            return Err(LoadError::Address {
                url: url.to_owned(),
                reason: "it must be http://HOST:PORT".to_owned(),
            });
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            http: HyperClient::builder(TokioExecutor::new()).build(connector),
            infer,
            format,
            connections: Semaphore::new(CONNECTIONS_MAX),
        })
    }

    /// Sends one request and reads the whole answer; says why where there is none.
    pub async fn infer(&self, request: Encoded) -> Result<Reply, String> {
        let _connection = self.connections.acquire().await.map_err(text)?;
        let mut post = Request::post(self.infer.clone());
        post = match request.json_length {
            None => post.header(CONTENT_TYPE, "application/json"),
            Some(length) => post
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(JSON_LENGTH_HEADER, length),
        };
        let post = post.body(Full::new(Bytes::from(request.body)));
        let answer = self.http.request(post.map_err(text)?).await.map_err(text)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        Ok(Reply {
            status: head.status.as_u16(),
            json_length: head
                .headers
                .get(JSON_LENGTH_HEADER)
                .and_then(|value| value.to_str().ok()?.parse().ok()),
            body: body.map_err(|error| error.to_string())?.to_bytes(),
        })
    }
}

fn text(error: impl std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
