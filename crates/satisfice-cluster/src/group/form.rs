//! How a group forms.
//!
//! The first node calls it together: the others join it, it tells them a number under which they meet each
//! other, and when everybody has met everybody it lets them start. A connection of an earlier try does
//! not know the number and is dropped, so a group is never made of two tries.

use super::{Caller, RETRY, Shared, lock};
use crate::{
    hello::{Hello, Word, call, hear, say},
    stream::{NodeStream, STEP},
};
use std::{
    io,
    sync::{
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Links to all other nodes, by node; none to itself.
pub(super) struct Formed {
    pub generation: u64,
    pub links: Vec<Option<NodeStream>>,
}

/// Forms the group, or says why not.
pub(super) fn form(
    shared: &Shared,
    callers: &Receiver<Caller>,
    early: &mut Vec<Caller>,
) -> Result<Formed, String> {
    lock(&shared.suspect).take();
    match shared.node {
        0 => call_together(shared, callers, early),
        _ => join(shared, callers),
    }
}

/// The first node's way: waits for everybody, numbers the try, and lets everybody start.
fn call_together(
    shared: &Shared,
    callers: &Receiver<Caller>,
    early: &mut Vec<Caller>,
) -> Result<Formed, String> {
    let nodes = shared.config.nodes.len();
    let mut links: Vec<Option<NodeStream>> = (0..nodes).map(|_| None).collect();
    for caller in early.drain(..) {
        links[caller.node] = Some(caller.stream);
    }
    loop {
        if shared.stopped() {
            return Err("the node is leaving".to_owned());
        }
        if let Some(lost) = shared.lost() {
            return Err(lost);
        }
        for link in &mut links[1..] {
            if link.as_ref().is_some_and(NodeStream::has_hung_up) {
                *link = None;
            }
        }
        let missing: Vec<String> = (1..nodes)
            .filter(|&node| links[node].is_none())
            .map(|node| shared.name_of(node))
            .collect();
        if missing.is_empty() {
            break;
        }
        shared.forming(format!("waiting for {}", missing.join(", ")));
        match callers.recv_timeout(RETRY) {
            Ok(caller) if caller.generation.is_none() => links[caller.node] = Some(caller.stream),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("the node is leaving".to_owned()),
        }
    }
    let generation = new_generation(shared);
    let each = |links: &mut [Option<NodeStream>],
                step: &mut dyn FnMut(&mut NodeStream) -> io::Result<()>| {
        for (node, link) in links.iter_mut().enumerate() {
            if let Some(stream) = link {
                step(stream).map_err(|e| format!("{}: {e}", shared.name_of(node)))?;
            }
        }
        Ok::<(), String>(())
    };
    each(&mut links, &mut |stream| {
        say(stream, &Word::Form { generation })
    })?;
    each(&mut links, &mut |stream| expect(stream, &Word::Met))?;
    each(&mut links, &mut |stream| say(stream, &Word::Start))?;
    Ok(Formed { generation, links })
}

/// A number that no other try has: of the time and of how often this process tried.
fn new_generation(shared: &Shared) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = now.map_or(0, |since| since.as_micros() as u64);
    micros.wrapping_add(shared.formed.load(Ordering::Relaxed))
}

fn expect(stream: &mut NodeStream, wanted: &Word) -> io::Result<()> {
    let heard: Word = hear(stream, STEP)?;
    match heard == *wanted {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "it said {heard:?}, not {wanted:?}"
        ))),
    }
}

/// Every other node's way.
fn join(shared: &Shared, callers: &Receiver<Caller>) -> Result<Formed, String> {
    let nodes = shared.config.nodes.len();
    let of = |node: usize| move |e: io::Error| format!("{}: {e}", shared.name_of(node));
    let call = |node: usize, hello: &Hello| {
        let called = call(&shared.network, &shared.config.nodes[node].address, hello);
        called.map_err(of(node))
    };
    let hello = Hello::Join {
        node: shared.node,
        identity: shared.identity.clone(),
        incarnation: shared.incarnation,
    };
    let mut first = call(0, &hello)?;
    welcomed(&mut first).map_err(of(0))?;
    shared.forming("waiting for the first node to have all others");
    // Others may be told the number, and come, before it is told here.
    let mut met = Vec::new();
    let generation = loop {
        if shared.stopped() {
            return Err("the node is leaving".to_owned());
        }
        if let Some(lost) = shared.lost() {
            return Err(lost);
        }
        keep_latest(callers, &mut met);
        if !first.has_come(RETRY).map_err(of(0))? {
            continue;
        }
        match hear(&mut first, STEP).map_err(of(0))? {
            Word::Form { generation } => break generation,
            other => return Err(format!("{} said {other:?}", shared.name_of(0))),
        }
    };
    let mut links: Vec<Option<NodeStream>> = (0..nodes).map(|_| None).collect();
    for (node, link) in links.iter_mut().enumerate().take(shared.node).skip(1) {
        let hello = Hello::Meet {
            node: shared.node,
            generation,
        };
        let mut stream = call(node, &hello)?;
        welcomed(&mut stream).map_err(of(node))?;
        *link = Some(stream);
    }
    keep_latest(callers, &mut met);
    for caller in met {
        if caller.generation == Some(generation) {
            links[caller.node] = Some(caller.stream);
        }
    }
    let deadline = Instant::now() + STEP;
    while let Some(missing) = (shared.node + 1..nodes).find(|&node| links[node].is_none()) {
        let left = deadline.saturating_duration_since(Instant::now());
        let caller = callers.recv_timeout(left);
        let caller = caller.map_err(|_| format!("{} did not come", shared.name_of(missing)))?;
        if caller.generation == Some(generation) {
            links[caller.node] = Some(caller.stream);
        }
    }
    say(&mut first, &Word::Met).map_err(of(0))?;
    expect(&mut first, &Word::Start).map_err(of(0))?;
    links[0] = Some(first);
    Ok(Formed { generation, links })
}

/// Takes in who has called, the latest call of each node.
fn keep_latest(callers: &Receiver<Caller>, kept: &mut Vec<Caller>) {
    while let Ok(caller) = callers.try_recv() {
        kept.retain(|other| other.node != caller.node);
        kept.push(caller);
    }
}

fn welcomed(stream: &mut NodeStream) -> io::Result<()> {
    match hear(stream, STEP)? {
        Word::Welcome => Ok(()),
        Word::Refused { message } => Err(io::Error::other(format!("refused: {message}"))),
        other => Err(io::Error::other(format!("it said {other:?}"))),
    }
}
