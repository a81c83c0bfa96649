//! The first words between two nodes: who calls, and whether both mean the same group, graph, model
//! and partitioning.

use crate::{
    forward::Forwarded,
    stream::{Network, NodeStream},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

/// What every connection of a cluster begins with.
const MAGIC: [u8; 8] = *b"SATISFCL";

/// Version of the words and of the messages between workers.
pub(crate) const VERSION: u32 = 5;

/// Longest text of one word.
const WORD_MAX: usize = 1 << 16;

/// What two nodes must agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub version: u32,
    pub group: String,
    pub nodes: usize,
    pub workers: usize,
    pub wire: String,
    /// Fingerprint of the graph store.
    pub store: String,
    /// Fingerprint of the weights and layers.
    pub model: String,
    /// Checksum of the owners of all nodes.
    pub map: String,
    /// Layers whose sums are kept.
    pub sums: Vec<usize>,
}

impl Identity {
    /// The first thing in which another node differs, in words.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let differ = |what: &str, ours: &dyn std::fmt::Display, theirs: &dyn std::fmt::Display| {
            let (ours, theirs) = (ours.to_string(), theirs.to_string());
            (ours != theirs).then(|| format!("{what} is {theirs} there and {ours} here"))
        };
        differ("the version of the protocol", &self.version, &other.version)
            .or_else(|| differ("the group", &self.group, &other.group))
            .or_else(|| differ("the number of nodes", &self.nodes, &other.nodes))
            .or_else(|| differ("the number of parts", &self.workers, &other.workers))
            .or_else(|| differ("the precision between workers", &self.wire, &other.wire))
            .or_else(|| differ("the graph store", &self.store, &other.store))
            .or_else(|| differ("the model", &self.model, &other.model))
            .or_else(|| differ("the partition map", &self.map, &other.map))
            .or_else(|| {
                let [ours, theirs] = [self, other].map(|side| format!("{:?}", side.sums));
                differ("the list of layers whose sums are kept", &ours, &theirs)
            })
    }
}

/// Why a connection is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hello {
    /// A node joins the group that the first node calls together.
    Join {
        node: usize,
        identity: Identity,
        /// The process's own number. Older versions, which are refused by their version, say none.
        #[serde(default)]
        incarnation: u64,
    },
    /// A node joins another one, as the first node told both.
    Meet { node: usize, generation: u64 },
    /// The first node wants to know which process it reaches by an address.
    Identify,
    /// Somebody wants to know how the node is.
    Status,
    /// A node of another replica hands a batch on.
    Forward(Forwarded),
}

/// What is said while a group forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    Welcome,
    Refused {
        message: String,
    },
    Identified {
        incarnation: u64,
    },
    /// All are there: meet each other under this number.
    Form {
        generation: u64,
    },
    /// All others have been met.
    Met,
    /// Everybody has met everybody.
    Start,
}

/// Sends one word.
pub(crate) fn say(stream: &mut NodeStream, word: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(word)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&text);
    stream.write_all(&bytes)
}

/// Hears one word within `time`; whatever is no word is an error that names the caller.
pub(crate) fn hear<T: DeserializeOwned>(stream: &mut NodeStream, time: Duration) -> io::Result<T> {
    let peer = stream.tcp().peer_addr()?;
    let deadline = Instant::now() + time;
    let mut head = [0; 12];
    read_until(stream, &mut head, deadline)?;
    let garbage = |what: &str| {
        let message = format!("{peer} does not speak the cluster's protocol: {what}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    if head[..8] != MAGIC {
        return Err(garbage("it begins with other bytes"));
    }
    let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
    if len > WORD_MAX {
        return Err(garbage("it announces too long a word"));
    }
    let mut text = vec![0; len];
    read_until(stream, &mut text, deadline)?;
    stream.tcp().set_read_timeout(None)?;
    serde_json::from_slice(&text).map_err(|e| garbage(&e.to_string()))
}

/// Fills `bytes` before the deadline, however slowly they come.
fn read_until(stream: &mut NodeStream, bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.tcp().set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Connects to a node and says why.
pub(crate) fn call(network: &Network, address: &str, hello: &Hello) -> io::Result<NodeStream> {
    let mut stream = network.connect(address)?;
    say(&mut stream, hello)?;
    Ok(stream)
}
