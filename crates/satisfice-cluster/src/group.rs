//! A node of a group: it forms the group with the others, keeps its workers as long as the group is
//! whole, and forms it anew when it is not.
//!
//! A formed group shares its fate: when one node is gone all others tear their links down and form it anew with
//! whoever comes back. Processes, and what they serve besides, go on.

mod callers;
mod form;

use crate::{
    ClusterConfig, ClusterError,
    config::{Place, resolve},
    crew::{Crew, check_part},
    health::Health,
    hello::{Identity, VERSION},
    link::{Link, LinkBytes, Peer},
    part::Part,
    run::Counters,
    stream::{Network, NodeStream, STEP},
};
use callers::{Caller, hear_callers};
use form::{Formed, form};
use satisfice_core::Readiness;
use std::{
    collections::BTreeMap,
    io,
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use timely::communication::{
    Hooks,
    allocator::{
        AllocatorBuilder, ProcessBuilder, zero_copy::initialize::initialize_networking_from_sockets,
    },
};

/// Time between two looks at whether the group is whole, and between two tries.
const LOOK: Duration = Duration::from_millis(20);

/// Time between two tries to join.
const RETRY: Duration = Duration::from_millis(100);

/// Callers that wait to be let in at once.
const CALLERS_MAX: usize = 64;

/// How a node's group is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum GroupState {
    /// It is not whole; batches wait or are refused.
    Forming {
        /// Who is missing, or why the last try failed.
        why: String,
    },
    /// It is whole and answers.
    Ready {
        /// Number of the group, another one each time it is formed.
        generation: u64,
    },
    /// The node answers, but something is missing or slow that answers do without for now: its own group,
    /// for which another replica answers; another replica; or the pace of a peer.
    Degraded {
        /// What it is.
        why: String,
    },
    /// The node is leaving.
    Stopped,
}

impl GroupState {
    /// What it means for requests.
    pub fn readiness(&self) -> Readiness {
        match self {
            Self::Forming { .. } => Readiness::Forming,
            Self::Ready { .. } => Readiness::Ready,
            Self::Degraded { .. } => Readiness::Degraded,
            Self::Stopped => Readiness::Draining,
        }
    }
}

/// What the threads of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: ClusterConfig,
    pub node: usize,
    /// Drawn when the process started, so that two with the same number are told apart.
    pub incarnation: u64,
    pub identity: Identity,
    pub network: Network,
    pub parts: Vec<Arc<Part>>,
    pub counters: Arc<Counters>,
    pub link_bytes: Arc<LinkBytes>,
    /// Addresses of the nodes of other replicas.
    pub others: BTreeMap<usize, Vec<String>>,
    pub health: Health,
    /// Times that the group has been formed.
    pub formed: AtomicU64,
    /// Why the group has to be formed anew, if somebody noticed.
    suspect: Mutex<Option<String>>,
    stop: AtomicBool,
    /// Callers that are being heard.
    hearing: AtomicUsize,
    view: Mutex<View>,
    changed: Condvar,
}

#[derive(Debug)]
struct View {
    state: GroupState,
    crew: Option<Arc<Crew>>,
    since: Instant,
}

/// A node's threads: one hears callers, one looks after the group, one sees what is missing or slow.
#[derive(Debug)]
pub(crate) struct Group {
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    /// Begins to form the group. Returns at once.
    ///
    /// # Errors
    /// The parts are not those that the node needs, or its address cannot be listened on.
    pub(crate) fn start(place: Place, parts: Vec<Arc<Part>>) -> Result<Self, ClusterError> {
        let Place {
            config,
            node,
            others,
        } = place;
        let (per_node, workers) = (config.parts_per_node(), config.workers());
        for (place, part) in parts.iter().enumerate() {
            check_part(part, node * per_node + place, workers, &parts[0])?;
        }
        let network = Network::of(&config)?;
        let incarnation = getrandom::u64().map_err(|e| ClusterError::Forming {
            message: format!("no random number: {e}"),
        })?;
        let own = &config.nodes[node];
        let listen = own.listen.as_ref().unwrap_or(&own.address);
        let listener = TcpListener::bind(resolve(listen)?).map_err(|e| ClusterError::Network {
            address: listen.clone(),
            message: format!("cannot listen for other nodes: {e}"),
        })?;
        if !network.is_encrypted() && !is_loopback(&listener) {
            tracing::warn!(
                "what nodes say to each other at {listen} is not encrypted, and whoever reaches it is believed: \
                 put it on a network that only nodes reach, or name certificates in `[tls]`"
            );
        }
        let manifest = parts[0].manifest();
        let identity = Identity {
            version: VERSION,
            group: config.group.clone(),
            nodes: config.nodes.len(),
            workers,
            wire: format!("{:?}", config.wire).to_lowercase(),
            store: manifest.store.clone(),
            model: manifest.model.clone(),
            map: manifest.map.clone(),
            sums: parts[0].kept_layers(),
        };
        let shared = Arc::new(Shared {
            counters: Arc::default(),
            link_bytes: Arc::default(),
            others,
            health: Health::default(),
            formed: AtomicU64::new(0),
            suspect: Mutex::new(None),
            stop: AtomicBool::new(false),
            hearing: AtomicUsize::new(0),
            view: Mutex::new(View {
                state: GroupState::Forming {
                    why: "it has just been started".to_owned(),
                },
                crew: None,
                since: Instant::now(),
            }),
            changed: Condvar::new(),
            config,
            node,
            incarnation,
            identity,
            network,
            parts,
        });
        let (callers, heard) = sync_channel(CALLERS_MAX);
        let (hearing, looking) = (Arc::clone(&shared), Arc::clone(&shared));
        let watching = Arc::clone(&shared);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned());
            thread.spawn(work).map_err(|e| ClusterError::Forming {
                message: format!("no thread: {e}"),
            })
        };
        let threads = vec![
            spawn(
                "cluster:listen",
                Box::new(move || hear_callers(&hearing, &listener, &callers)),
            )?,
            spawn(
                "cluster:group",
                Box::new(move || look_after(&looking, &heard)),
            )?,
            spawn("cluster:health", Box::new(move || Health::watch(&watching)))?,
        ];
        Ok(Self { shared, threads })
    }
}

fn is_loopback(listener: &TcpListener) -> bool {
    listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback())
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // The listener sleeps until somebody calls.
        let own = &self.shared.config.nodes[self.shared.node];
        if let Ok(address) = resolve(own.listen.as_ref().unwrap_or(&own.address)) {
            let _ = TcpStream::connect_timeout(&address, STEP);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// How the group is, and for how long.
    pub(crate) fn state(&self) -> (GroupState, Duration) {
        let view = lock(&self.view);
        (view.state.clone(), view.since.elapsed())
    }

    /// Says that a peer does not answer: the group is formed anew.
    pub(crate) fn suspect(&self, why: String) {
        lock(&self.suspect).get_or_insert(why);
    }

    /// The workers, when the group is whole before the deadline.
    pub(crate) fn crew(&self, deadline: Instant) -> Result<Arc<Crew>, ClusterError> {
        let mut view = lock(&self.view);
        loop {
            if let Some(crew) = &view.crew {
                return Ok(Arc::clone(crew));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || view.state == GroupState::Stopped {
                let message = match &view.state {
                    GroupState::Forming { why } => why.clone(),
                    _ => "the node is leaving".to_owned(),
                };
                return Err(ClusterError::Forming { message });
            }
            let waited = self.changed.wait_timeout(view, left);
            view = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn set(&self, state: GroupState, crew: Option<Arc<Crew>>) {
        let mut view = lock(&self.view);
        if view.state != state {
            view.since = Instant::now();
            match &state {
                GroupState::Forming { why } => tracing::warn!(node = self.node, "forming: {why}"),
                GroupState::Ready { generation } => {
                    tracing::info!(node = self.node, generation, "the group is whole");
                }
                GroupState::Degraded { .. } | GroupState::Stopped => {}
            }
        }
        view.state = state;
        view.crew = crew;
        drop(view);
        self.changed.notify_all();
    }

    /// What became of a file of the node's parts, if one is lost: the node takes part in nothing any more.
    fn lost(&self) -> Option<String> {
        let mut checks = self.parts.iter().map(|part| part.check_files());
        checks.find_map(|check| check.err().map(|lost| lost.to_string()))
    }

    fn forming(&self, why: impl Into<String>) {
        self.set(GroupState::Forming { why: why.into() }, None);
    }

    fn name_of(&self, node: usize) -> String {
        format!("node {node} at {}", self.config.nodes[node].address)
    }
}

/// Forms the group, watches it, and forms it anew, until the node stops.
fn look_after(shared: &Arc<Shared>, callers: &Receiver<Caller>) {
    let mut early = Vec::new();
    while !shared.stopped() {
        if let Some(lost) = shared.lost() {
            shared.forming(lost);
            while callers.try_recv().is_ok() {} // hung up on, to look for this node again
            thread::sleep(RETRY);
            continue;
        }
        match form(shared, callers, &mut early) {
            Ok(formed) => watch(shared, callers, formed, &mut early),
            Err(why) => {
                shared.forming(why);
                thread::sleep(RETRY);
            }
        }
    }
    shared.set(GroupState::Stopped, None);
}

/// Lets the workers work until the group is not whole any more.
fn watch(
    shared: &Arc<Shared>,
    callers: &Receiver<Caller>,
    formed: Formed,
    early: &mut Vec<Caller>,
) {
    let generation = formed.generation;
    let handles: Vec<NodeStream> = formed
        .links
        .iter()
        .flatten()
        .filter_map(|link| link.try_clone().ok())
        .collect();
    let crew = match start_crew(shared, formed.links) {
        Ok(crew) => Arc::new(crew),
        Err(error) => return shared.forming(error.to_string()),
    };
    shared.formed.fetch_add(1, Ordering::Relaxed);
    shared.set(GroupState::Ready { generation }, Some(Arc::clone(&crew)));
    let why = loop {
        if shared.stopped() {
            break None;
        }
        if let Some(why) = lock(&shared.suspect).take().or_else(|| crew.suspicion()) {
            break Some(why);
        }
        if let Some(lost) = shared.lost() {
            break Some(lost);
        }
        if crew.has_ended() {
            break Some("a peer is gone".to_owned());
        }
        if let Ok(caller) = callers.recv_timeout(LOOK) {
            // Whoever joins has no group any more.
            if caller.generation.is_none() {
                let why = format!("{} joins anew", shared.name_of(caller.node));
                early.push(caller);
                break Some(why);
            }
        }
    };
    shared.forming(
        why.clone()
            .unwrap_or_else(|| "the node is leaving".to_owned()),
    );
    crew.stop();
    handles.iter().for_each(NodeStream::shutdown);
    if let Some(said) = crew.join() {
        tracing::debug!(node = shared.node, "the workers ended: {said}");
        if let Some(why) = why {
            shared.forming(format!("{why}: {said}"));
        }
    }
}

fn start_crew(shared: &Shared, links: Vec<Option<NodeStream>>) -> Result<Crew, ClusterError> {
    let (per_node, options) = (
        shared.config.parts_per_node(),
        shared.config.worker_options(),
    );
    let hooks = Hooks::default();
    let local =
        ProcessBuilder::new_typed_vector(per_node, hooks.refill.clone(), hooks.spill.clone());
    let link = |(node, stream): (usize, Option<NodeStream>)| {
        let stream = stream?;
        let _ = stream.tcp().set_read_timeout(None);
        let _ = stream.tcp().set_write_timeout(None);
        let peer = Peer {
            name: shared.name_of(node).into(),
            bytes: Arc::clone(&shared.link_bytes),
            compression: shared.config.compression,
        };
        Some(Link::new(stream, peer))
    };
    let links = links.into_iter().enumerate();
    let links: io::Result<Vec<Option<Link>>> =
        links.map(|link_to| link(link_to).transpose()).collect();
    let built = links.and_then(|links| {
        initialize_networking_from_sockets(local, links, shared.node, per_node, hooks)
    });
    let (builders, guard) = built.map_err(|e| ClusterError::Forming {
        message: e.to_string(),
    })?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    let place = (shared.node * per_node, shared.config.workers());
    let parts = shared.parts.clone();
    Crew::start(
        (builders, Box::new(guard)),
        parts,
        place,
        options,
        &shared.counters,
    )
}
