//! Graphs that may be written to: those that the models served answer from.

use super::{
    Service,
    contract::Contract,
    not_found,
    plan_times::{Histogram, Seen},
};
use crate::{Record, Stage, clip};
use satisfice_core::{
    ApplyRequest, ApplyResponse, Error, ErrorKind, GraphStatus, WritableGraph,
    parameters::{self, ACK, APPLY, Place},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Writes to one graph that run at once. Those that wait for the disk share its next turn, so that more of
/// them are not slower.
const WRITES_MAX: usize = 64;
/// Bytes of these, as they came over the wire.
const WRITE_BYTES_MAX: usize = 1 << 30;
/// When to come again with a write for which there was no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One write as a transport hands it over.
#[derive(Debug)]
pub(crate) struct WriteCall {
    /// What is written.
    pub request: ApplyRequest,
    /// Room for it, which it keeps until it has ended.
    pub place: WritePlace,
    /// When the request began to arrive; deadlines count from here.
    pub received: Instant,
    /// When the transport gives the request up, if it has said so.
    pub deadline: Option<Instant>,
    /// What is known of the request, for logs and traces.
    pub record: Arc<Record>,
}

/// Room for one write; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct WritePlace {
    _write: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

/// A graph that may be written to, as it is served.
#[derive(Clone)]
pub(crate) struct ServedGraph {
    graph: Arc<dyn WritableGraph>,
    /// Names of the models that answer from it.
    models: Vec<String>,
    desk: Arc<Desk>,
}

/// What is kept of a graph's writes, whatever models come and go.
#[derive(Debug)]
pub(super) struct Desk {
    writes: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    stats: WriteStats,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            bytes: Arc::new(Semaphore::new(WRITE_BYTES_MAX)),
            stats: WriteStats::default(),
        }
    }
}

/// What writes to a graph have done, in counters.
#[derive(Debug, Default)]
pub(crate) struct WriteStats {
    repeated: AtomicU64,
    nodes_added: AtomicU64,
    nodes_deleted: AtomicU64,
    edges_added: AtomicU64,
    edges_deleted: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    durable: Histogram,
    visible: Histogram,
}

impl WriteStats {
    fn applied(&self, response: &ApplyResponse, visible: bool, took: Duration) {
        let times = match visible {
            true => &self.visible,
            false => &self.durable,
        };
        times.add(took);
        if response.repeated {
            self.repeated.fetch_add(1, Ordering::Relaxed);
            return;
        }
        for (counter, count) in [
            (&self.nodes_added, response.nodes_added),
            (&self.nodes_deleted, response.nodes_deleted),
            (&self.edges_added, response.edges_added),
            (&self.edges_deleted, response.edges_deleted),
        ] {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Writes that had been done before.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// What was added and deleted, by name.
    pub(crate) fn changes(&self) -> [(&'static str, u64); 4] {
        [
            ("nodes_added", &self.nodes_added),
            ("nodes_deleted", &self.nodes_deleted),
            ("edges_added", &self.edges_added),
            ("edges_deleted", &self.edges_deleted),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }

    /// Refused writes by code.
    pub(crate) fn refused(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.refused).clone()
    }

    /// Times of writes by what they waited for.
    pub(crate) fn times(&self) -> [(&'static str, Seen); 2] {
        [
            ("durable", self.durable.seen()),
            ("visible", self.visible.seen()),
        ]
    }
}

impl ServedGraph {
    /// The graph's name.
    pub(crate) fn name(&self) -> &str {
        self.graph.name()
    }

    /// Names of the models that answer from it.
    pub(crate) fn models(&self) -> &[String] {
        &self.models
    }

    /// How it stands.
    pub(crate) fn status(&self) -> GraphStatus {
        self.graph.status()
    }

    /// What writes have done.
    pub(crate) fn stats(&self) -> &WriteStats {
        &self.desk.stats
    }

    /// A write was refused.
    pub(crate) fn refused(&self, error: &Error) {
        *lock(&self.desk.stats.refused)
            .entry(error.code())
            .or_default() += 1;
    }

    /// Room for a write of so many bytes, or a refusal at once.
    pub(crate) fn enter(&self, bytes: usize) -> Result<WritePlace, Error> {
        if bytes > WRITE_BYTES_MAX {
            let message =
                format!("the write has {bytes} bytes, but a graph takes {WRITE_BYTES_MAX} at once");
            return Err(Error::new(
                ErrorKind::TooLarge,
                "request_too_large",
                message,
            ));
        }
        let full = |_: TryAcquireError| {
            Error::new(
                ErrorKind::Unavailable,
                "queue_full",
                "too many writes are waiting for this graph",
            )
            .with_hint("send the write again later")
            .with_retry_after(RETRY_AFTER)
        };
        let counted = u32::try_from(bytes).unwrap_or(u32::MAX);
        Ok(WritePlace {
            _write: Arc::clone(&self.desk.writes)
                .try_acquire_owned()
                .map_err(full)?,
            bytes: Arc::clone(&self.desk.bytes)
                .try_acquire_many_owned(counted)
                .map_err(full)?,
        })
    }

    /// Does a write, off the async threads. It is done to its end when the future is dropped.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] for parameters that nobody reads, and what the graph refuses.
    /// - [`ErrorKind::DeadlineExceeded`] when the deadline has passed before.
    /// - [`ErrorKind::Internal`] with code `write_panicked`.
    pub(crate) async fn apply(&self, call: WriteCall) -> Result<ApplyResponse, Error> {
        let WriteCall {
            mut request,
            place,
            received,
            deadline,
            record,
        } = call;
        parameters::check(&mut request.parameters, &APPLY.iter(), Place::Write)?;
        request.deadline = Contract::take(&mut request.parameters, received, deadline)?.deadline;
        if request
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "deadline_exceeded",
                "the deadline passed before the write began; nothing was written",
            ));
        }
        let visible = ACK.text(&request.parameters)? == Some("visible");
        record.is_for_graph(self.name(), place.bytes.num_permits());
        let start = Instant::now();
        let graph = Arc::clone(&self.graph);
        let write = move || {
            let result = graph.apply(&request);
            drop(place);
            result
        };
        let result = tokio::task::spawn_blocking(write).await;
        record.stage(Stage::Execute, start);
        let response = result.map_err(|error| {
            tracing::error!(graph = self.name(), %error, "a write panicked");
            let message = "the write failed; whether it was done is not known";
            Error::new(ErrorKind::Internal, "write_panicked", message)
        })??;
        self.desk.stats.applied(&response, visible, start.elapsed());
        Ok(response)
    }
}

impl Service {
    /// The graphs that may be written to, by name.
    pub(crate) fn graphs(&self) -> Vec<ServedGraph> {
        let mut graphs: BTreeMap<String, ServedGraph> = BTreeMap::new();
        for model in self.versions() {
            let Some(graph) = model.graph() else {
                continue;
            };
            let name = graph.name().to_owned();
            let desk = Arc::clone(lock(&self.desks).entry(name.clone()).or_default());
            let served = graphs.entry(name).or_insert_with(|| ServedGraph {
                graph,
                models: Vec::new(),
                desk,
            });
            if served.models.last().is_none_or(|last| last != model.name()) {
                served.models.push(model.name().to_owned());
            }
        }
        graphs.into_values().collect()
    }

    /// The graph of that name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where no graph may be written to, [`ErrorKind::NotFound`] naming what there is.
    pub(crate) fn graph(&self, name: &str) -> Result<ServedGraph, Error> {
        let mut graphs = self.graphs();
        if graphs.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "writes_off",
                "no graph of this server may be written to",
            )
            .with_hint("start it with `--live`, one server a graph; a cluster takes no writes"));
        }
        if let Some(at) = graphs.iter().position(|graph| graph.name() == name) {
            return Ok(graphs.swap_remove(at));
        }
        let names = clip::list(graphs.iter().map(ServedGraph::name));
        let message = format!("no graph `{}`", clip::clip(name));
        Err(not_found("graph_not_found", message).with_hint(format!("graphs: {names}")))
    }
}

/// Nothing that is done under the locks can panic half-way.
fn lock<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
