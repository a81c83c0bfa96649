//! Traces arrive at a collector with the client's trace id.

use crate::client::Server;
use crate::engines::eventually;
use crate::grpc::{client, request};
use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use satisfice_server::{
    Front, Limits, Observer,
    config::{Log, Trace},
};
use std::sync::{Arc, Mutex};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector that keeps what it is sent.
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    headers: Arc<Mutex<Option<HeaderMap>>>,
    endpoint: String,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Self {
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let headers: Arc<Mutex<Option<HeaderMap>>> = Arc::default();
        let (kept, kept_headers) = (Arc::clone(&spans), Arc::clone(&headers));
        let take = move |headers: HeaderMap, body: Bytes| async move {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            let scopes = request
                .resource_spans
                .into_iter()
                .flat_map(|r| r.scope_spans);
            kept.lock()
                .unwrap()
                .extend(scopes.flat_map(|scope| scope.spans));
            *kept_headers.lock().unwrap() = Some(headers);
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take));
        runtime.spawn(async move {
            let routes = hyper_util::service::TowerToHyperService::new(router);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = hyper_util::rt::TokioIo::new(stream);
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(stream, routes.clone()));
            }
        });
        Self {
            spans,
            headers,
            endpoint,
            _runtime: runtime,
        }
    }

    fn wait(&self, count: usize) -> Vec<Span> {
        eventually(|| self.spans.lock().unwrap().len() >= count);
        self.spans.lock().unwrap().clone()
    }
}

/// A server that traces one request in `rate`, and its observer.
fn server(collector: &Collector, rate: u32) -> (Server, Arc<Observer>) {
    let config: Trace = toml::from_str(&format!(
        "endpoint = \"{}\"\nrate = {rate}\n[headers]\nx-key = \"hush\"\n",
        collector.endpoint
    ))
    .unwrap();
    let observer = Observer::new(Log::default(), |_| {})
        .with_traces(&config)
        .unwrap();
    let observer = Arc::new(observer);
    let front = Front::new(Limits::default()).with_observer(Arc::clone(&observer));
    (Server::behind(front), observer)
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}

/// Checks that these are one request with its stages, in order, below the client's span.
#[track_caller]
fn check(spans: &[Span]) -> Span {
    let named = |name: &str| {
        let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name} in {spans:?}");
        found[0].clone()
    };
    let request = named("request");
    assert_eq!(hex(&request.trace_id), TRACE_ID);
    assert_eq!(hex(&request.parent_span_id), "b7ad6b7169203331");
    assert_eq!(request.kind, SpanKind::Server as i32);
    let mut end = request.start_time_unix_nano;
    for name in ["decode", "queue", "execute", "encode"] {
        let stage = named(name);
        assert_eq!(
            (&stage.trace_id, &stage.parent_span_id),
            (&request.trace_id, &request.span_id)
        );
        assert!(stage.start_time_unix_nano <= stage.end_time_unix_nano);
        assert!(end <= stage.start_time_unix_nano + 1_000, "{name}");
        end = stage.end_time_unix_nano;
    }
    assert!(end <= request.end_time_unix_nano);
    request
}

#[test]
fn over_http() {
    let collector = Collector::start();
    let (server, observer) = server(&collector, 0);
    let body = br#"{"inputs":[]}"#;
    let answer = server.post(
        "/v2/models/echo/infer",
        &format!("traceparent: {PARENT}\r\n"),
        body,
    );
    let returned = answer.header("traceparent").unwrap().to_owned();
    // Clients that do not sample are not traced here.
    let untraced = server.post("/v2/models/echo/infer", "", body);
    assert_eq!(untraced.header("traceparent"), None);
    let unsampled = PARENT.replace("-01", "-00");
    let untraced = server.post(
        "/v2/models/echo/infer",
        &format!("traceparent: {unsampled}\r\n"),
        body,
    );
    assert_eq!(untraced.header("traceparent"), None);
    observer.flush();
    let spans = collector.wait(5);
    assert_eq!(spans.len(), 5);
    let request = check(&spans);
    assert_eq!(
        returned,
        format!("00-{TRACE_ID}-{}-01", hex(&request.span_id))
    );
    let attribute = |name: &str| {
        let found = request
            .attributes
            .iter()
            .find(|attribute| attribute.key == name);
        format!("{:?}", found.unwrap().value)
    };
    assert!(attribute("satisfice.model").contains("echo"));
    assert!(attribute("http.response.status_code").contains("200"));
    let headers = collector.headers.lock().unwrap().clone().unwrap();
    assert_eq!(headers["x-key"], "hush");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_grpc() {
    let collector = tokio::task::spawn_blocking(Collector::start).await.unwrap();
    let (server, observer) = server(&collector, 0);
    let mut client = client(&server).await;
    let mut message = tonic::Request::new(request("echo", vec![]));
    message
        .metadata_mut()
        .insert("traceparent", PARENT.parse().unwrap());
    let answer = client.model_infer(message).await.unwrap();
    let returned = answer.metadata().get("traceparent").unwrap().clone();
    tokio::task::spawn_blocking(move || {
        observer.flush();
        let request = check(&collector.wait(5));
        let span = hex(&request.span_id);
        assert_eq!(returned, format!("00-{TRACE_ID}-{span}-01").as_str());
    })
    .await
    .unwrap();
}

#[test]
fn one_request_in_so_many_and_errors_too() {
    let collector = Collector::start();
    let (server, observer) = server(&collector, 3);
    for _ in 0..6 {
        let body = br#"{"inputs":[],"parameters":{"do":"Unavailable"}}"#;
        server
            .post("/v2/models/failing/infer", "", body)
            .refused(503, "asked_for");
    }
    observer.flush();
    let spans = collector.wait(2);
    let requests: Vec<_> = spans.iter().filter(|span| span.name == "request").collect();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.status.as_ref().unwrap().message, "asked_for");
    }
}
