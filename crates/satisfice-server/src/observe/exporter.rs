//! Requests as OpenTelemetry spans, sent to a collector in batches.

use super::{
    Finished, Record,
    record::{Facts, Times},
};
use crate::config;
use opentelemetry::{
    Context, KeyValue,
    trace::{Span, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Traces that cannot be sent: the operator's mistake.
#[derive(Debug, thiserror::Error)]
#[error("`trace`: {0}")]
pub struct TraceError(#[from] ExporterBuildError);

/// The way to the collector. Spans wait in a bounded queue; what does not fit is dropped.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Exporter {
    /// Nothing without an endpoint.
    pub(super) fn new(trace: &config::Trace) -> Result<Option<Self>, TraceError> {
        let Some(endpoint) = &trace.endpoint else {
            return Ok(None);
        };
        let headers = trace.headers.iter();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new())
            .with_headers(
                headers
                    .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
                    .collect(),
            )
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(SEND_TIMEOUT)
            .build()?;
        let resource = Resource::builder().with_service_name(trace.service_name.clone());
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("satisfice");
        Ok(Some(Self { provider, tracer }))
    }

    /// The request and its stages as spans; the context of the request's.
    pub(super) fn export(&self, record: &Record, facts: &Facts, end: &Finished<'_>) -> SpanContext {
        let Times {
            start,
            end: ended,
            stages,
        } = record.times(facts);
        let parent = Context::new().with_remote_span_context(record.parent().clone());
        let mut request = SpanBuilder::from_name("request")
            .with_kind(SpanKind::Server)
            .with_start_time(start)
            .with_attributes(attributes(record, facts, end))
            .start_with_context(&self.tracer, &parent);
        let context = request.span_context().clone();
        let inside = Context::new().with_remote_span_context(context.clone());
        for (stage, start, end) in stages {
            SpanBuilder::from_name(stage.name())
                .with_start_time(start)
                .start_with_context(&self.tracer, &inside)
                .end_with_timestamp(end);
        }
        if let Some(code) = end.code {
            request.set_status(Status::error(code.to_owned()));
        }
        request.end_with_timestamp(ended);
        context
    }

    pub(super) fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn attributes(record: &Record, facts: &Facts, end: &Finished<'_>) -> Vec<KeyValue> {
    let text = |key, value: Option<&str>| value.map(|value| KeyValue::new(key, value.to_owned()));
    let number = |key, value: Option<u64>| value.map(|value| KeyValue::new(key, value as i64));
    let status = match end.transport {
        "http" => "http.response.status_code",
        _ => "rpc.grpc.status_code",
    };
    [
        text("request.id", Some(record.id())),
        text("http.request.method", Some(end.method)),
        text("url.path", Some(end.path)),
        number(status, Some(u64::from(end.status))),
        text("error.type", end.code),
        text("satisfice.model", facts.model.as_deref()),
        text("satisfice.graph", facts.graph.as_deref()),
        text("satisfice.version", facts.version.as_deref()),
        text("satisfice.plan", facts.plan.as_deref()),
        number("satisfice.request_bytes", facts.request_bytes),
        number(
            "satisfice.response_bytes",
            end.response_bytes.or(facts.response_bytes),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The collector, asked from the exporter's own thread, which may block.
#[derive(Debug)]
struct Collector {
    agent: ureq::Agent,
    /// Whether the last batch did not arrive; said once, not for every batch.
    down: AtomicBool,
}

impl Collector {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(SEND_TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.into(),
            down: AtomicBool::new(false),
        }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.to_vec());
        let (parts, mut body) = self.agent.run(request)?.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(parts, Bytes::from(body)))
    }
}

#[tonic::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request);
        let problem = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answers {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        match (
            &problem,
            self.down.swap(problem.is_some(), Ordering::Relaxed),
        ) {
            (Some(problem), false) => tracing::warn!(problem, "traces cannot be sent"),
            (None, true) => tracing::info!("traces can be sent again"),
            _ => {}
        }
        Ok(answer?)
    }
}
