//! Who calls a node, and who of them is let in.

use super::{LOOK, Shared};
use crate::{
    forward::take_on,
    hello::{Hello, Word, call, hear, say},
    stream::{NodeStream, STEP},
};
use std::{
    io,
    net::{TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering, mpsc::SyncSender},
    thread,
};

/// Callers that are heard at once; more are hung up on.
const HEARD_MAX: usize = 256;

/// Somebody who called and is let in.
pub(super) struct Caller {
    pub node: usize,
    /// Nothing for a node that joins.
    pub generation: Option<u64>,
    pub stream: NodeStream,
}

/// Hears callers until the node stops; lets in whoever belongs to the group.
pub(super) fn hear_callers(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    callers: &SyncSender<Caller>,
) {
    for stream in listener.incoming() {
        if shared.stopped() {
            return;
        }
        let Ok(stream) = stream else {
            thread::sleep(LOOK);
            continue;
        };
        if shared.hearing.fetch_add(1, Ordering::AcqRel) >= HEARD_MAX {
            shared.hearing.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (shared, callers) = (Arc::clone(shared), callers.clone());
        let again = Arc::clone(&shared);
        // A caller that says nothing holds up nobody else, and not for long.
        let hearing = thread::Builder::new().name("cluster:hear".to_owned());
        let heard = hearing.spawn(move || {
            if let Err(error) = let_in(&shared, stream, &callers) {
                tracing::warn!(node = shared.node, "a caller is dropped: {error}");
            }
            shared.hearing.fetch_sub(1, Ordering::AcqRel);
        });
        if heard.is_err() {
            again.hearing.fetch_sub(1, Ordering::AcqRel);
            thread::sleep(LOOK);
        }
    }
}

fn let_in(shared: &Shared, stream: TcpStream, callers: &SyncSender<Caller>) -> io::Result<()> {
    let mut stream = shared.network.accept(stream)?;
    let (node, generation, problem) = match hear(&mut stream, STEP)? {
        Hello::Status => return say(&mut stream, &shared.status()),
        Hello::Forward(forwarded) => return take_on(shared, stream, &forwarded),
        Hello::Identify => {
            let incarnation = shared.incarnation;
            return say(&mut stream, &Word::Identified { incarnation });
        }
        Hello::Join {
            node,
            identity,
            incarnation,
        } => {
            let place = match shared.node {
                0 => None,
                other => Some(format!("node {other} does not call the group together")),
            };
            let problem = shared.identity.difference(&identity).or(place);
            let problem = problem.or_else(|| stranger(shared, node));
            let problem = problem.or_else(|| impostor(shared, node, incarnation));
            (node, None, problem)
        }
        Hello::Meet { node, generation } => (node, Some(generation), None),
    };
    if let Some(message) = problem.or_else(|| stranger(shared, node)) {
        tracing::warn!(node = shared.node, "node {node} is refused: {message}");
        return say(&mut stream, &Word::Refused { message });
    }
    say(&mut stream, &Word::Welcome)?;
    let caller = Caller {
        node,
        generation,
        stream,
    };
    callers
        .try_send(caller)
        .map_err(|_| io::Error::other("too many callers wait"))
}

fn stranger(shared: &Shared, node: usize) -> Option<String> {
    (node >= shared.config.nodes.len() || node == shared.node)
        .then(|| format!("there is no other node {node}"))
}

/// Why the process that calls itself `node` is not the one that others reach by the node's address, if so. Only one of
/// two processes with the same number can be.
fn impostor(shared: &Shared, node: usize, incarnation: u64) -> Option<String> {
    let name = shared.name_of(node);
    let address = &shared.config.nodes[node].address;
    let answer = call(&shared.network, address, &Hello::Identify)
        .and_then(|mut stream| hear(&mut stream, STEP / 2));
    match answer {
        Ok(Word::Identified { incarnation: there }) if there == incarnation => None,
        Ok(Word::Identified { .. }) => Some(format!(
            "another process is {name}: two were started with the number {node}, or with different addresses of it"
        )),
        Ok(other) => Some(format!("{name} says {other:?} when it is asked who it is")),
        Err(error) => Some(format!("{name} cannot be reached there: {error}")),
    }
}
