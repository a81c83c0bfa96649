//! HTTP requests that are sent when they are due, whatever became of those before.

use super::Traffic;
use crate::{
    LoadError,
    closed::{HttpRequest, Measured, connect, exchange},
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

/// Requests of one stream under way at once, at most: what is due beyond that counts as broken.
const UNDER_WAY_MAX: usize = 1024;

/// Largest head of an answer that is read, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// One request that is sent again and again.
#[derive(Debug, Clone)]
pub struct Stream {
    /// What is sent.
    pub request: HttpRequest,
    /// When.
    pub traffic: Traffic,
}

/// Sends the requests of all streams at once. Times count from when a request was due.
///
/// # Errors
/// Traffic that cannot be drawn.
pub async fn streams(address: SocketAddr, streams: &[Stream]) -> Result<Vec<Measured>, LoadError> {
    let mut all = Vec::with_capacity(streams.len());
    let begun = Instant::now();
    for stream in streams {
        let arrivals = stream.traffic.draw()?;
        let connections = Connections {
            address,
            idle: Arc::default(),
        };
        let request = stream.request.clone();
        all.push(tokio::spawn(async move {
            let mut under_way = JoinSet::new();
            let (mut answers, mut broken) = (Vec::with_capacity(arrivals.len()), 0);
            for arrival in arrivals {
                let due = begun + arrival.at;
                tokio::time::sleep_until(due).await;
                while let Some(answer) = under_way.try_join_next() {
                    take_in(answer.ok().flatten(), &mut answers, &mut broken);
                }
                if under_way.len() >= UNDER_WAY_MAX {
                    broken += 1;
                    continue;
                }
                let (connections, request) = (connections.clone(), request.clone());
                under_way.spawn(async move {
                    let status = connections.ask(&request).await.ok()?;
                    Some((status, due.elapsed()))
                });
            }
            while let Some(answer) = under_way.join_next().await {
                take_in(answer.ok().flatten(), &mut answers, &mut broken);
            }
            (answers, broken)
        }));
    }
    let mut measured = Vec::with_capacity(all.len());
    for (stream, task) in streams.iter().zip(all) {
        // A stream's task does not panic; were it to, all of it would have broken.
        let (answers, broken) = task.await.unwrap_or_default();
        measured.push(Measured::of(answers, broken, stream.traffic.length));
    }
    Ok(measured)
}

/// Status of an answer, and how long after its request was due it was there.
type Answer = (u16, Duration);

fn take_in(answer: Option<Answer>, answers: &mut Vec<Answer>, broken: &mut u64) {
    match answer {
        Some(answer) => answers.push(answer),
        None => *broken += 1,
    }
}

/// Connections to one server, kept for later requests.
#[derive(Debug, Clone)]
struct Connections {
    address: SocketAddr,
    idle: Arc<Mutex<Vec<TcpStream>>>,
}

impl Connections {
    async fn ask(&self, request: &HttpRequest) -> Result<u16, LoadError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let mut stream = match kept {
            Some(stream) => stream,
            None => connect(self.address).await?,
        };
        let mut buffer = vec![0; HEAD_BYTES_MAX];
        let reply = exchange(&mut stream, request, &mut buffer).await?;
        if !reply.closes {
            idle().push(stream);
        }
        Ok(reply.status)
    }
}
