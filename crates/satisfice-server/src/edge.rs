//! The outermost layer of both transports: who asks, a name for every request, and what is noted at
//! its end.

use crate::{
    access::Caller,
    front::{Front, Peer},
    observe::{Finished, Record, TRACE_PARENT},
};
use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method, Uri},
    response::Response,
};
use opentelemetry::trace::SpanContext;
use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ID_BYTES_MAX: usize = 128;

/// The code of an error, beside the answer that it became.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorCode(pub &'static str);

/// What this layer has.
#[derive(Clone)]
pub(crate) struct Edge {
    pub front: Front,
    pub transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    Grpc,
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }

    /// The status and the error's code that an answer bears.
    fn outcome(self, response: &Response) -> (u16, Option<&str>) {
        let header = |name| response.headers().get(name)?.to_str().ok();
        match self {
            Self::Http => {
                let code = response.extensions().get::<ErrorCode>();
                (response.status().as_u16(), code.map(|code| code.0))
            }
            // An answer without an error bears its status at its end.
            Self::Grpc => {
                let status = header("grpc-status").and_then(|status| status.parse().ok());
                let status = status.unwrap_or(0);
                let code = header("error-code").or((status != 0).then_some("refused"));
                (status, code)
            }
        }
    }

    /// The status of a request whose client has gone.
    fn canceled(self) -> u16 {
        match self {
            Self::Http => 499,
            Self::Grpc => tonic::Code::Cancelled as u16,
        }
    }
}

/// What is known of a request before it is read.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub caller: Caller,
    pub record: Arc<Record>,
    /// Where it came from, if by a connection of ours.
    pub peer: Option<Peer>,
}

impl Edge {
    /// Finds out who asks, names the request, has it answered and notes its end.
    pub(crate) async fn observe<F: Future<Output = Response>>(
        &self,
        request: Request,
        peer: Option<Peer>,
        answer: impl FnOnce(Request, Asked) -> F,
    ) -> Response {
        let id = match request.headers().get(REQUEST_ID).map(HeaderValue::to_str) {
            Some(Ok(id)) if id.len() <= ID_BYTES_MAX => id.to_owned(),
            _ => next_id(),
        };
        let record = Arc::new(Record::begin(id, request.headers()));
        let caller = self.front.access().caller(request.headers());
        if let Some(name) = caller.name() {
            record.set_caller(name);
        }
        let span = tracing::info_span!(
            "request",
            id = record.id(),
            method = %request.method(),
            path = request.uri().path(),
        );
        let ending = Ending {
            edge: self,
            record: Some(Arc::clone(&record)),
            method: request.method().clone(),
            uri: request.uri().clone(),
            client: peer.map(|peer| peer.client),
        };
        let asked = Asked {
            caller,
            record: Arc::clone(&record),
            peer,
        };
        let mut response = answer(request, asked).instrument(span).await;
        let context = ending.finish(&response);
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(record.id()) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(context) = context {
            headers.insert(TRACE_PARENT, trace_parent(&context));
        }
        response
    }
}

/// Notes the end of a request, also when its client goes away.
struct Ending<'a> {
    edge: &'a Edge,
    record: Option<Arc<Record>>,
    method: Method,
    uri: Uri,
    client: Option<SocketAddr>,
}

impl Ending<'_> {
    fn finish(mut self, response: &Response) -> Option<SpanContext> {
        let record = self.record.take()?;
        let (status, code) = self.edge.transport.outcome(response);
        let bytes = axum::body::HttpBody::size_hint(response.body()).exact();
        self.note(&record, status, code, bytes.filter(|_| status != 0))
    }

    fn note(
        &self,
        record: &Record,
        status: u16,
        code: Option<&str>,
        response_bytes: Option<u64>,
    ) -> Option<SpanContext> {
        let end = Finished {
            transport: self.edge.transport.name(),
            method: self.method.as_str(),
            path: self.uri.path(),
            status,
            code,
            client: self.client,
            response_bytes,
        };
        self.edge.front.observer().finish(record, &end)
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            let status = self.edge.transport.canceled();
            self.note(&record, status, Some("canceled"), None);
        }
    }
}

/// Different in every process and for every request.
pub(crate) fn next_id() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u8));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}-{count}", *PROCESS)
}

/// The header that names a span, as W3C Trace Context has it.
fn trace_parent(context: &SpanContext) -> HeaderValue {
    let (trace, span) = (context.trace_id(), context.span_id());
    let flags = context.trace_flags().to_u8();
    HeaderValue::from_str(&format!("00-{trace}-{span}-{flags:02x}"))
        .expect("invariant: hexadecimal digits and dashes are a header value")
}
