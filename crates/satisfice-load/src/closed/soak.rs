//! Mixed load with clients that behave badly, for a long time.

use crate::{
    LoadError,
    closed::{self, HttpRequest},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// Time within which every request of a good client has to be answered or refused.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Time between two bursts, and how many connections are in one.
const BURST_EVERY: Duration = Duration::from_secs(20);
const BURST_CONNECTIONS: usize = 320;

/// What is sent, and how long.
#[derive(Debug, Clone)]
pub struct Soak {
    /// The server.
    pub address: SocketAddr,
    /// Requests that good clients send in turn, each on every connection.
    pub requests: Vec<HttpRequest>,
    /// Connections of good clients.
    pub connections: usize,
    /// How long.
    pub duration: Duration,
}

/// What became of every request.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SoakReport {
    /// Whole requests sent.
    pub sent: u64,
    /// Answers by status.
    pub answered: BTreeMap<u16, u64>,
    /// Requests that their clients left before the answer.
    pub left: u64,
    /// Requests that were not answered whole until the connection ended, by what ended it.
    pub broken: BTreeMap<String, u64>,
    /// Requests of which nothing was heard within a minute.
    pub stuck: u64,
    /// Connections that sent no request but garbage, or half of one.
    pub garbage: u64,
    /// Connections that read their answers a few bytes at a time.
    pub slow: u64,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    left: AtomicU64,
    stuck: AtomicU64,
    garbage: AtomicU64,
    slow: AtomicU64,
    answered: Mutex<BTreeMap<u16, u64>>,
    broken: Mutex<BTreeMap<String, u64>>,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn add_by<K: Ord>(counters: &Mutex<BTreeMap<K, u64>>, key: K) {
        *lock(counters).entry(key).or_default() += 1;
    }

    fn report(&self) -> SoakReport {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SoakReport {
            sent: get(&self.sent),
            answered: lock(&self.answered).clone(),
            left: get(&self.left),
            broken: lock(&self.broken).clone(),
            stuck: get(&self.stuck),
            garbage: get(&self.garbage),
            slow: get(&self.slow),
        }
    }
}

fn lock<T>(counters: &Mutex<T>) -> MutexGuard<'_, T> {
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends good and bad load until the time is over, and waits for every answer that is owed.
///
/// # Errors
/// When the server cannot be reached at the start.
///
/// # Panics
/// Where the runtime ends meanwhile.
pub async fn soak(soak: Soak) -> Result<SoakReport, LoadError> {
    let Soak { address, .. } = soak;
    let reached = TcpStream::connect(address).await;
    drop(reached.map_err(|source| LoadError::Io { address, source })?);
    let counts = Arc::new(Counts::default());
    let soak = Arc::new(soak);
    let end = Instant::now() + soak.duration;
    let mut clients = JoinSet::new();
    for seed in 0..soak.connections {
        clients.spawn(good(Arc::clone(&soak), Arc::clone(&counts), end, seed));
    }
    for kind in [
        Bad::Leaves,
        Bad::Leaves,
        Bad::Garbage,
        Bad::HalfSent,
        Bad::ReadsSlowly,
    ] {
        clients.spawn(bad(Arc::clone(&soak), Arc::clone(&counts), end, kind));
    }
    clients.spawn(bursts(Arc::clone(&soak), Arc::clone(&counts), end));
    while let Some(client) = clients.join_next().await {
        client.expect("invariant: a client does not panic");
    }
    Ok(counts.report())
}

async fn good(soak: Arc<Soak>, counts: Arc<Counts>, end: Instant, seed: usize) {
    let mut turn = seed;
    while Instant::now() < end {
        let Ok(mut stream) = TcpStream::connect(soak.address).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // A new connection now and then.
        for _ in 0..100 {
            if Instant::now() >= end {
                return;
            }
            turn += 1;
            let request = &soak.requests[turn % soak.requests.len()];
            if !exchange(&mut stream, request, &counts).await {
                break;
            }
        }
    }
}

/// One request and its answer; whether the connection goes on.
async fn exchange(stream: &mut TcpStream, request: &HttpRequest, counts: &Counts) -> bool {
    Counts::add(&counts.sent);
    let mut buffer = vec![0; 16 << 10];
    let answer = closed::exchange(stream, request, &mut buffer);
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Err(_) => Counts::add(&counts.stuck),
        Ok(Err(error)) => Counts::add_by(&counts.broken, error.to_string()),
        Ok(Ok(reply)) => {
            Counts::add_by(&counts.answered, reply.status);
            if reply.status != 200 {
                // Who is refused waits before he tries again.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            return !reply.closes;
        }
    }
    false
}

#[derive(Clone, Copy)]
enum Bad {
    Leaves,
    Garbage,
    HalfSent,
    ReadsSlowly,
}

async fn bad(soak: Arc<Soak>, counts: Arc<Counts>, end: Instant, kind: Bad) {
    let mut turn = 0_usize;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
        turn += 1;
        let request = &soak.requests[turn % soak.requests.len()];
        if let Ok(stream) = TcpStream::connect(soak.address).await {
            misbehave(stream, request, &counts, kind).await;
        }
    }
}

async fn misbehave(mut stream: TcpStream, request: &HttpRequest, counts: &Counts, kind: Bad) {
    let bytes = request.bytes();
    match kind {
        Bad::Leaves => {
            if stream.write_all(bytes).await.is_ok() {
                Counts::add(&counts.sent);
                Counts::add(&counts.left);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Bad::Garbage => {
            Counts::add(&counts.garbage);
            let _ = stream
                .write_all(&[0x16, 3, 1, 0, 0xff, b'\r', b'\n', b'\r', b'\n'])
                .await;
            let mut rest = [0; 1024];
            let read = stream.read(&mut rest);
            let _ = tokio::time::timeout(Duration::from_secs(1), read).await;
        }
        Bad::HalfSent => {
            Counts::add(&counts.garbage);
            let _ = stream.write_all(&bytes[..bytes.len() / 2]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Bad::ReadsSlowly => {
            if stream.write_all(bytes).await.is_ok() {
                Counts::add(&counts.sent);
                Counts::add(&counts.left);
                Counts::add(&counts.slow);
                let mut few = [0; 7];
                for _ in 0..20 {
                    let _ = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut few))
                        .await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// Many connections at once, each with one request, again and again.
async fn bursts(soak: Arc<Soak>, counts: Arc<Counts>, end: Instant) {
    while Instant::now() + BURST_EVERY < end {
        tokio::time::sleep(BURST_EVERY).await;
        let mut burst = JoinSet::new();
        for turn in 0..BURST_CONNECTIONS {
            let (soak, counts) = (Arc::clone(&soak), Arc::clone(&counts));
            burst.spawn(async move {
                if let Ok(mut stream) = TcpStream::connect(soak.address).await {
                    let request = &soak.requests[turn % soak.requests.len()];
                    exchange(&mut stream, request, &counts).await;
                }
            });
        }
        while burst.join_next().await.is_some() {}
    }
}
