//! What is known of one request, as it becomes known.

use axum::http::{HeaderMap, HeaderName};
use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use satisfice_core::{InferResponse, Parameter};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// The header that names a client's span, as W3C Trace Context has it.
pub(crate) const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// A part of the time that a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes to tensors.
    Decode,
    /// Waiting for the engine.
    Queue,
    /// In the engine.
    Execute,
    /// Tensors to bytes.
    Encode,
}

impl Stage {
    /// The stage's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Queue => "queue",
            Self::Execute => "execute",
            Self::Encode => "encode",
        }
    }
}

/// What is known of one request, as it becomes known. Shared by whoever works on it.
#[derive(Debug)]
pub struct Record {
    id: String,
    parent: SpanContext,
    received: Instant,
    received_at: SystemTime,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
pub(super) struct Facts {
    pub model: Option<String>,
    pub graph: Option<String>,
    pub version: Option<String>,
    pub plan: Option<String>,
    pub caller: Option<String>,
    pub request_bytes: Option<u64>,
    pub response_bytes: Option<u64>,
    stages: Vec<(Stage, Instant, Duration)>,
}

impl Facts {
    /// The time that a stage took.
    pub(super) fn stage(&self, wanted: Stage) -> Option<Duration> {
        let found = self.stages.iter().find(|(stage, ..)| *stage == wanted);
        found.map(|&(_, _, duration)| duration)
    }
}

impl Default for Record {
    /// A request without an id that begins now.
    fn default() -> Self {
        Self::new(String::new(), SpanContext::empty_context())
    }
}

impl Record {
    fn new(id: String, parent: SpanContext) -> Self {
        Self {
            id,
            parent,
            received: Instant::now(),
            received_at: SystemTime::now(),
            facts: Mutex::default(),
        }
    }

    /// A request that begins now, with these headers.
    pub(crate) fn begin(id: String, headers: &HeaderMap) -> Self {
        let parent = match headers.contains_key(TRACE_PARENT) {
            true => {
                let headers = HeaderExtractor(headers);
                let context =
                    TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
                context.span().span_context().clone()
            }
            false => SpanContext::empty_context(),
        };
        Self::new(id, parent)
    }

    /// Another request that begins now and came by the same way, as one of a stream's.
    pub(crate) fn sibling(&self) -> Self {
        let sibling = Self::new(self.id.clone(), self.parent.clone());
        sibling.lock().caller.clone_from(&self.lock().caller);
        sibling
    }

    /// The request's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it began.
    pub(crate) fn received(&self) -> Instant {
        self.received
    }

    /// The client's span, if it has one.
    pub(super) fn parent(&self) -> &SpanContext {
        &self.parent
    }

    /// A stage that began at `start` is over.
    pub fn stage(&self, stage: Stage, start: Instant) {
        self.stage_until(stage, start, Instant::now());
    }

    /// A stage began at `start` and was over at `end`.
    pub(crate) fn stage_until(&self, stage: Stage, start: Instant, end: Instant) {
        let took = end.saturating_duration_since(start);
        self.lock().stages.push((stage, start, took));
    }

    /// The engine has answered.
    pub fn answered(&self, response: &InferResponse) {
        if let Some(Parameter::String(plan)) = response.parameters.get("plan") {
            self.lock().plan = Some(plan.clone());
        }
    }

    pub(crate) fn is_for(&self, model: &str, version: &str, request_bytes: usize) {
        let mut facts = self.lock();
        facts.model = Some(model.to_owned());
        facts.version = Some(version.to_owned());
        facts.request_bytes = Some(request_bytes as u64);
    }

    /// It is a write to a graph.
    pub(crate) fn is_for_graph(&self, graph: &str, request_bytes: usize) {
        let mut facts = self.lock();
        facts.graph = Some(graph.to_owned());
        facts.request_bytes = Some(request_bytes as u64);
    }

    pub(crate) fn set_caller(&self, name: &str) {
        self.lock().caller = Some(name.to_owned());
    }

    pub(crate) fn set_response_bytes(&self, bytes: usize) {
        self.lock().response_bytes = Some(bytes as u64);
    }

    /// What is known now; nothing more becomes known until this is dropped.
    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.lock()
    }

    /// The times at which the request and its stages began and ended, by the calendar.
    pub(super) fn times(&self, facts: &Facts) -> Times {
        let at =
            |instant: Instant| self.received_at + instant.saturating_duration_since(self.received);
        let stages = facts.stages.iter();
        Times {
            start: self.received_at,
            end: at(Instant::now()),
            stages: stages
                .map(|&(stage, start, duration)| (stage, at(start), at(start + duration)))
                .collect(),
        }
    }

    /// Nothing that is done under the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Times {
    pub start: SystemTime,
    pub end: SystemTime,
    pub stages: Vec<(Stage, SystemTime, SystemTime)>,
}
