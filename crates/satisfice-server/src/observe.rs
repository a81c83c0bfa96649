//! What is noted of requests: a line in the log, a trace, counters of refusals.

mod exporter;
mod log_settings;
mod record;
mod trace_settings;

pub use exporter::TraceError;
pub(crate) use log_settings::LogSettings;
pub(crate) use record::TRACE_PARENT;
pub use record::{Record, Stage};

use crate::config;
use exporter::Exporter;
use opentelemetry::trace::SpanContext;
use record::Facts;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};
use trace_settings::TraceSettings;

/// Sets the least grave level that is logged.
type SetLevel = Box<dyn Fn(config::Level) + Send + Sync>;

/// What is noted of requests, and the settings of that.
pub struct Observer {
    log: RwLock<config::Log>,
    set_level: Option<SetLevel>,
    traces: Mutex<TraceSettings>,
    exporter: Option<Exporter>,
    refusals: Mutex<BTreeMap<(&'static str, String), u64>>,
    started: Instant,
}

/// A request that has come to its end.
pub(crate) struct Finished<'a> {
    pub transport: &'static str,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    /// The error's code, if there was an error.
    pub code: Option<&'a str>,
    pub client: Option<std::net::SocketAddr>,
    pub response_bytes: Option<u64>,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            log: RwLock::default(),
            set_level: None,
            traces: Mutex::new(TraceSettings::new(false, config::Trace::default().rate)),
            exporter: None,
            refusals: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl Observer {
    /// Notes what `log` says; `set_level` is called when a client or [`set_log`](Self::set_log)
    /// changes the level.
    pub fn new(
        log: config::Log,
        set_level: impl Fn(config::Level) + Send + Sync + 'static,
    ) -> Self {
        Self {
            log: RwLock::new(log),
            set_level: Some(Box::new(set_level)),
            ..Self::default()
        }
    }

    /// The same with traces for a collector, if one is named.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn with_traces(self, trace: &config::Trace) -> Result<Self, TraceError> {
        let exporter = Exporter::new(trace)?;
        Ok(Self {
            traces: Mutex::new(TraceSettings::new(exporter.is_some(), trace.rate)),
            exporter,
            ..self
        })
    }

    /// Notes from now on what `log` says.
    pub fn set_log(&self, log: config::Log) {
        if let Some(set_level) = &self.set_level
            && log.level != self.log().level
        {
            set_level(log.level);
        }
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = log;
    }

    /// Traces one request in `rate` from now on.
    pub fn set_trace_rate(&self, rate: u32) {
        lock(&self.traces).set_rate(rate);
    }

    /// Sends the traces that wait. Blocks, for some seconds if the collector does not answer.
    pub fn flush(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.shutdown();
        }
    }

    /// How long the server has run.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Refused requests by transport and code.
    pub(crate) fn refusals(&self) -> BTreeMap<(&'static str, String), u64> {
        lock(&self.refusals).clone()
    }

    pub(crate) fn log_settings(&self) -> Result<LogSettings, satisfice_core::Error> {
        match self.set_level {
            Some(_) => Ok(LogSettings::new(self.log().level)),
            None => Err(log_settings::fixed()),
        }
    }

    /// Changes log settings and gives those in force.
    pub(crate) fn change_log(
        &self,
        changes: &Map<String, Value>,
    ) -> Result<LogSettings, satisfice_core::Error> {
        let settings = self.log_settings()?.changed(changes)?;
        let log = config::Log {
            level: settings.level(),
            ..self.log()
        };
        self.set_log(log);
        tracing::warn!(level = log.level.name(), "log level changed");
        Ok(settings)
    }

    /// Changes trace settings, of a model if one is given, and gives those in force.
    pub(crate) fn change_traces(
        &self,
        model: Option<&str>,
        changes: &Map<String, Value>,
    ) -> Result<Map<String, Value>, satisfice_core::Error> {
        let mut traces = lock(&self.traces);
        traces.change(model, changes)?;
        Ok(traces.show(model))
    }

    fn log(&self) -> config::Log {
        *self.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, transport: &'static str, code: &str) {
        let mut refusals = lock(&self.refusals);
        *refusals.entry((transport, code.to_owned())).or_default() += 1;
    }

    /// Notes the end of a request. The context is that of its trace, if it is traced.
    pub(crate) fn finish(&self, record: &Record, end: &Finished<'_>) -> Option<SpanContext> {
        let facts = record.facts();
        if let Some(code) = end.code {
            self.refused(end.transport, code);
        }
        let context = self.export(record, &facts, end);
        self.write_line(record, &facts, end, context.as_ref());
        context
    }

    fn export(&self, record: &Record, facts: &Facts, end: &Finished<'_>) -> Option<SpanContext> {
        let exporter = self.exporter.as_ref()?;
        let model = facts.model.as_deref();
        let chosen = lock(&self.traces).sample(model, record.parent().is_sampled());
        chosen.then(|| exporter.export(record, facts, end))
    }

    fn write_line(
        &self,
        record: &Record,
        facts: &Facts,
        end: &Finished<'_>,
        context: Option<&SpanContext>,
    ) {
        let log = self.log();
        let duration = record.received().elapsed();
        let slow = log.slow_ms > 0 && duration >= Duration::from_millis(log.slow_ms);
        if !slow && !log.access {
            return;
        }
        let trace = context.unwrap_or(record.parent());
        let trace_id = trace.is_valid().then(|| trace.trace_id().to_string());
        let client = end.client.filter(|_| log.client_address);
        let stage = |stage| facts.stage(stage).map(|time| time.as_micros() as u64);
        macro_rules! line {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    target: "satisfice_server::access",
                    id = record.id(),
                    transport = end.transport,
                    method = end.method,
                    path = end.path,
                    status = end.status,
                    code = end.code,
                    model = facts.model,
                    graph = facts.graph,
                    version = facts.version,
                    plan = facts.plan,
                    caller = facts.caller,
                    client = client.map(tracing::field::display),
                    request_bytes = facts.request_bytes,
                    response_bytes = end.response_bytes.or(facts.response_bytes),
                    duration_us = duration.as_micros() as u64,
                    decode_us = stage(Stage::Decode),
                    queue_us = stage(Stage::Queue),
                    execute_us = stage(Stage::Execute),
                    encode_us = stage(Stage::Encode),
                    trace_id,
                    $message
                )
            };
        }
        if slow {
            line!(warn, "slow request");
        } else {
            line!(info, "request");
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("log", &self.log())
            .field("exporter", &self.exporter)
            .finish_non_exhaustive()
    }
}

/// Nothing that is done under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
