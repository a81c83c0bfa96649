//! One node of a cluster, as who serves it sees it.

use crate::{
    BatchAnswer, ClusterConfig, ClusterError, Exchange, GroupState, Part, PartPrecision, Waits,
    error::io,
    forward::hand_on,
    group::{Group, Shared},
    hello::{Hello, call, hear},
    job::{Head, scatter},
    manifest::MANIFEST,
    stream::{Network, STEP},
};
use satisfice_graph::{Plan, QueryBatch};
use satisfice_kernels::WriteLock;
use satisfice_store::Check;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How a node is, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its place in the group.
    pub node: usize,
    /// Name of the group.
    pub group: String,
    /// How the node is.
    #[serde(flatten)]
    pub state: GroupState,
    /// Whether its own group is whole.
    pub whole: bool,
    /// For how long its own group has been so, in milliseconds.
    pub for_ms: u64,
    /// Times that the group has been formed since the node started.
    pub formed: u64,
    /// Batches that its workers took part in.
    pub batches: u64,
    /// Bytes that it sent to other nodes, frames and all.
    pub link_bytes_sent: u64,
    /// Bytes that came from other nodes.
    pub link_bytes_received: u64,
    /// Rows of features and embeddings that its workers sent to others.
    pub rows_sent: u64,
    /// Other replicas whose groups are whole.
    pub replicas_whole: usize,
    /// For whom its workers had to wait, by worker.
    pub waits: BTreeMap<usize, Waits>,
}

impl Shared {
    pub(crate) fn status(&self) -> NodeStatus {
        let (state, time) = self.state();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NodeStatus {
            node: self.node,
            group: self.config.group.clone(),
            whole: matches!(state, GroupState::Ready { .. }),
            state: self.health.state(state),
            for_ms: time.as_millis() as u64,
            formed: count(&self.formed),
            batches: self.counters.batches(),
            link_bytes_sent: count(&self.link_bytes.sent),
            link_bytes_received: count(&self.link_bytes.received),
            rows_sent: self.counters.sent_rows(),
            replicas_whole: self.health.replicas_whole(),
            waits: self.counters.waits(),
        }
    }
}

/// Asks a node how it is.
///
/// # Errors
/// [`ClusterError::Config`] when there is no such node, or the cluster's certificates cannot be read;
/// [`ClusterError::Network`] when it does not answer within two seconds.
pub fn node_status(config: &ClusterConfig, node: usize) -> Result<NodeStatus, ClusterError> {
    let address = &config.node(node)?.address;
    let status = call(&Network::of(config)?, address, &Hello::Status)
        .and_then(|mut stream| hear(&mut stream, STEP));
    status.map_err(|e| ClusterError::Network {
        address: address.clone(),
        message: e.to_string(),
    })
}

/// How long a precomputation waits for the group before it looks whether it is done.
const FORMING_MAX: Duration = Duration::from_secs(1);

/// One node of a cluster with its parts. Answers may be asked for from several threads at once.
///
/// Dropping it leaves the group.
#[derive(Debug)]
pub struct ClusterNode {
    group: Group,
    retries: AtomicU64,
    handed_on: AtomicU64,
}

impl ClusterNode {
    /// Opens the node's parts and begins to form the group with the others. Returns before the group is
    /// whole.
    ///
    /// # Errors
    /// [`ClusterError`]: a part is damaged or not the node's, or its address cannot be listened on.
    pub fn start(config: &ClusterConfig, node: usize, check: Check) -> Result<Self, ClusterError> {
        let parts = config.node(node)?.parts.iter();
        let parts = parts.map(|dir| Ok(Arc::new(Part::open(dir, check)?)));
        let parts = parts.collect::<Result<Vec<_>, ClusterError>>()?;
        Ok(Self {
            group: Group::start(config.place_of(node), parts)?,
            retries: AtomicU64::new(0),
            handed_on: AtomicU64::new(0),
        })
    }

    /// The node's first part: model, ids and facts of the whole graph are the same in all.
    pub fn part(&self) -> &Part {
        &self.group.shared.parts[0]
    }

    /// The configuration of its group.
    pub fn config(&self) -> &ClusterConfig {
        &self.group.shared.config
    }

    /// How the node is.
    pub fn status(&self) -> NodeStatus {
        self.group.shared.status()
    }

    /// Batches that were begun anew because the group fell apart under them.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Batches that another replica answered while this node's group was not whole.
    pub fn handed_on(&self) -> u64 {
        self.handed_on.load(Ordering::Relaxed)
    }

    /// Waits until the group is whole.
    ///
    /// # Errors
    /// [`ClusterError::Forming`] when it is not in time.
    pub fn wait(&self, time: Duration) -> Result<(), ClusterError> {
        self.group.shared.crew(Instant::now() + time).map(drop)
    }

    /// Checks that all tables that the model reads are there.
    ///
    /// # Errors
    /// [`ClusterError::Part`] names those that are not.
    pub fn check_tables(&self) -> Result<(), ClusterError> {
        for part in &self.group.shared.parts {
            let missing = part.missing_tables();
            if !missing.is_empty() {
                return Err(ClusterError::Part {
                    path: part.dir().to_owned(),
                    message: format!(
                        "the tables {} are not there: run `satisfice precompute --cluster` on every node",
                        missing.join(", ")
                    ),
                });
            }
        }
        Ok(())
    }

    /// Computes with the group the tables that are not there, and names those that were computed. The
    /// first node begins; the others call it too, and take part until their tables are there. When the
    /// group falls apart it goes on once the group is whole again, with the table that it was at.
    ///
    /// # Errors
    /// [`ClusterError::Worker`] when a worker cannot go on, such as for a full disk; [`ClusterError::Io`] when another
    /// process writes the node's parts.
    pub fn precompute(&self, precision: PartPrecision) -> Result<Vec<String>, ClusterError> {
        let shared = &self.group.shared;
        let _locks = self.lock_parts()?;
        loop {
            let Ok(crew) = shared.crew(Instant::now() + FORMING_MAX) else {
                match self.check_tables() {
                    // The others have left, as everything is there.
                    Ok(()) if shared.node != 0 => return Ok(Vec::new()),
                    _ => continue,
                }
            };
            if shared.node != 0 {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            match crew.precompute(precision) {
                Err(ClusterError::Forming { .. } | ClusterError::Slow { .. }) => {}
                done => return done,
            }
        }
    }

    /// The right to write the node's parts.
    fn lock_parts(&self) -> Result<Vec<WriteLock>, ClusterError> {
        let parts = self.group.shared.parts.iter();
        parts
            .map(|part| WriteLock::take(&part.dir().join(MANIFEST)).map_err(io(part.dir())))
            .collect()
    }

    /// Answers a batch with the group. While the group is not whole, and when it falls apart under the
    /// batch, another replica answers if there is one that is whole; otherwise the batch waits and is
    /// begun anew, for as long as the configuration allows and not beyond the request's deadline.
    ///
    /// # Errors
    /// [`ClusterError::Forming`] and [`ClusterError::Slow`] when the configuration's time is over;
    /// [`ClusterError::Late`] at the deadline; [`ClusterError::Worker`] when a worker fails on the batch.
    pub fn answer(
        &self,
        batch: &QueryBatch,
        plan: Plan,
        exchange: Exchange,
        deadline: Option<Instant>,
    ) -> Result<BatchAnswer, ClusterError> {
        let shared = &self.group.shared;
        let patience = Instant::now() + Duration::from_millis(shared.config.retry_ms);
        let until = deadline.map_or(patience, |deadline| deadline.min(patience));
        let workers = shared.identity.workers;
        let head = Head::new(batch, plan, exchange, workers);
        self.part().check_plan(plan)?;
        let owners = self.part().owners()?;
        let messages = || scatter(head, batch, owners, workers);
        loop {
            let crew = shared.crew(Instant::now());
            let answer = crew.and_then(|crew| crew.answer_scattered(messages(), deadline));
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match &error {
                ClusterError::Forming { .. } => {}
                ClusterError::Slow { .. } => shared.suspect(error.to_string()),
                _ => return Err(error),
            }
            if !shared.others.is_empty()
                && let Some(answer) = self.elsewhere(&messages(), until)
            {
                return Ok(answer);
            }
            if Instant::now() >= until {
                return Err(error.or_late(deadline));
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            // The workers of a group that falls apart are gone a moment before it is known.
            std::thread::sleep(Duration::from_millis(5));
            let whole = shared.crew(until);
            drop(whole.map_err(|error| error.or_late(deadline))?);
        }
    }

    /// The answer of another replica, if one is whole.
    fn elsewhere(&self, messages: &[Vec<u8>], until: Instant) -> Option<BatchAnswer> {
        let shared = &self.group.shared;
        let others: Vec<&String> = shared.others.values().flatten().collect();
        let turn = self.handed_on.load(Ordering::Relaxed) as usize;
        for at in 0..others.len() {
            let other = others[(turn + at) % others.len()];
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            match hand_on(shared, other, messages, left) {
                Ok(answer) => {
                    self.handed_on.fetch_add(1, Ordering::Relaxed);
                    return Some(answer);
                }
                Err(error) => tracing::debug!("the replica at {other} does not answer: {error}"),
            }
        }
        None
    }
}
