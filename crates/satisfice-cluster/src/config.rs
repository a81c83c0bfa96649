//! `cluster.toml`: the nodes of a group and how they treat each other.

use crate::{
    Choice, ClusterError, Compression, LinkCosts, TlsFiles, Wire, WorkerOptions, error::io,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

/// Largest number of nodes in a group.
const NODES_MAX: usize = 256;

/// `cluster.toml`. The same file on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Name of the group: nodes of another one are refused.
    pub group: String,
    /// Precision of partial results between workers.
    #[serde(default)]
    pub wire: Wire,
    /// Whether what goes from node to node is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// What workers exchange; `"partials"` keeps rows of features and embeddings on their machines.
    #[serde(default)]
    pub exchange: Choice,
    /// What a link carries, in megabits a second: with `round_us`, what `exchange = "auto"` reckons with.
    #[serde(default = "default_link_mbits")]
    pub link_mbits: u64,
    /// One exchange of small messages, in microseconds.
    #[serde(default = "default_round_us")]
    pub round_us: u64,
    /// How long a request may wait for the group to be whole, and be tried anew, in milliseconds.
    #[serde(default = "default_retry_ms")]
    pub retry_ms: u64,
    /// Whether workers look for messages without a pause, each on a core of its own.
    #[serde(default)]
    pub spin: bool,
    /// Rounds that take longer, in milliseconds, are slow: a peer that is slow again and again makes its
    /// group degraded.
    #[serde(default = "default_slow_ms")]
    pub slow_ms: u64,
    /// Longest wait for a peer in one round, in milliseconds: then the group is formed anew.
    #[serde(default = "default_round_max_ms")]
    pub round_max_ms: u64,
    /// Longest wait for the answer of a batch, in milliseconds.
    #[serde(default = "default_batch_max_ms")]
    pub batch_max_ms: u64,
    /// Certificates, if nodes are to speak TLS with each other; found from the directory of `cluster.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// The nodes; the first one calls the others together.
    #[serde(rename = "node")]
    pub nodes: Vec<NodeConfig>,
}

/// A node among the others.
#[derive(Debug)]
pub(crate) struct Place {
    /// The configuration of its replica alone.
    pub config: ClusterConfig,
    /// Its place in the replica.
    pub node: usize,
    /// Addresses of the nodes of the other replicas.
    pub others: BTreeMap<usize, Vec<String>>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Where the other nodes reach it, `address:port`.
    pub address: String,
    /// Where it listens for them, if not there: `0.0.0.0:7000` in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Which replica of the graph it belongs to: each has all parts and forms a group of its own, and answers
    /// for another one that is not whole.
    #[serde(default)]
    pub replica: usize,
    /// Directories of its parts on its machine, from the directory of `cluster.toml`; every node has
    /// as many.
    pub parts: Vec<PathBuf>,
}

fn default_link_mbits() -> u64 {
    1_000
}

fn default_round_us() -> u64 {
    300
}

fn default_retry_ms() -> u64 {
    4_000
}

fn default_slow_ms() -> u64 {
    200
}

fn default_round_max_ms() -> u64 {
    2_000
}

fn default_batch_max_ms() -> u64 {
    30_000
}

impl ClusterConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, or does not describe a group; what is wrong, and what to write.
    pub fn read(path: &Path) -> Result<Self, ClusterError> {
        let text = fs::read_to_string(path).map_err(io(path))?;
        let config = toml::from_str(&text).map_err(|e| e.to_string());
        let mut config = config
            .and_then(|config: Self| config.check().map(|()| config))
            .map_err(|message| ClusterError::Config {
                place: path.display().to_string(),
                message,
            })?;
        let dir = path.parent().unwrap_or(Path::new("."));
        for part in config.nodes.iter_mut().flat_map(|node| &mut node.parts) {
            *part = dir.join(&*part);
        }
        for file in config.tls.iter_mut().flat_map(TlsFiles::all) {
            *file = dir.join(&*file);
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.group.is_empty() || self.group.len() > 64 {
            return Err("`group` is a name of 1 to 64 bytes".to_owned());
        }
        if !(1..=NODES_MAX).contains(&self.nodes.len()) {
            return Err(format!("a group has 1 to {NODES_MAX} [[node]]s"));
        }
        let parts = self.nodes[0].parts.len();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.parts.len() != parts || parts == 0 {
                return Err(format!(
                    "node {index} has {} parts and node 0 {parts}: every node has as many, at least one",
                    node.parts.len()
                ));
            }
            if self.nodes[..index]
                .iter()
                .any(|other| other.address == node.address)
            {
                return Err(format!("two nodes have the address {}", node.address));
            }
        }
        let size_of = |replica: usize| {
            let of_replica = self.nodes.iter().filter(|node| node.replica == replica);
            of_replica.count()
        };
        for (index, node) in self.nodes.iter().enumerate() {
            let (found, first) = (size_of(node.replica), size_of(self.nodes[0].replica));
            if found != first {
                return Err(format!(
                    "node {index}'s replica has {found} nodes and node 0's {first}: every replica has as many"
                ));
            }
        }
        for (name, value) in [
            ("slow_ms", self.slow_ms),
            ("round_max_ms", self.round_max_ms),
            ("batch_max_ms", self.batch_max_ms),
            ("link_mbits", self.link_mbits),
        ] {
            if !(1..=3_600_000).contains(&value) {
                return Err(format!("`{name}` is 1 to 3600000"));
            }
        }
        if self.retry_ms > 3_600_000 {
            return Err("`retry_ms` is 0 to 3600000".to_owned());
        }
        Ok(())
    }

    /// A node's place in its replica, and what is beside it.
    ///
    /// # Panics
    /// When there is no such node.
    pub(crate) fn place_of(&self, node: usize) -> Place {
        let replica = self.nodes[node].replica;
        let is_own = |at: &NodeConfig| at.replica == replica;
        let mut config = self.clone();
        config.nodes.retain(is_own);
        let mut others: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for other in self.nodes.iter().filter(|at| !is_own(at)) {
            let addresses = others.entry(other.replica).or_default();
            addresses.push(other.address.clone());
        }
        Place {
            node: self.nodes[..node].iter().filter(|at| is_own(at)).count(),
            config,
            others,
        }
    }

    /// A node's entry.
    pub(crate) fn node(&self, node: usize) -> Result<&NodeConfig, ClusterError> {
        self.nodes.get(node).ok_or_else(|| ClusterError::Config {
            place: "--node".to_owned(),
            message: format!("{node}, but the nodes are 0 to {}", self.nodes.len() - 1),
        })
    }

    /// Parts of each node.
    pub fn parts_per_node(&self) -> usize {
        self.nodes[0].parts.len()
    }

    /// Workers of one replica: one a part.
    pub(crate) fn workers(&self) -> usize {
        self.nodes.len() * self.parts_per_node()
    }

    /// What moving bytes is taken to cost.
    pub fn link_costs(&self) -> LinkCosts {
        LinkCosts {
            bytes_per_second: self.link_mbits as f64 * 1e6 / 8.0,
            round_seconds: self.round_us as f64 / 1e6,
        }
    }

    pub(crate) fn worker_options(&self) -> WorkerOptions {
        WorkerOptions {
            wire: self.wire,
            spin: self.spin,
            slow: Duration::from_millis(self.slow_ms),
            round_max: Duration::from_millis(self.round_max_ms),
            batch_max: Duration::from_millis(self.batch_max_ms),
            ..WorkerOptions::default()
        }
    }
}

/// The first address that a name stands for.
pub(crate) fn resolve(address: &str) -> Result<SocketAddr, ClusterError> {
    let network = |message: String| ClusterError::Network {
        address: address.to_owned(),
        message,
    };
    let mut found = address
        .to_socket_addrs()
        .map_err(|e| network(e.to_string()))?;
    found
        .next()
        .ok_or_else(|| network("the name stands for no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ClusterConfig, ClusterError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.toml");
        fs::write(&path, text).unwrap();
        ClusterConfig::read(&path)
    }

    const GOOD: &str = "
        group = \"papers\"
        wire = \"f16\"
        [[node]]
        address = \"10.0.0.1:7000\"
        parts = [\"part-000\"]
        [[node]]
        address = \"10.0.0.2:7000\"
        listen = \"0.0.0.0:7000\"
        parts = [\"/srv/part-001\"]
    ";

    #[test]
    fn parts_are_found_from_the_file() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.place_of(1).config.workers(), 2);
        assert!(config.nodes[0].parts[0].is_absolute());
        assert_eq!(config.nodes[1].parts[0], Path::new("/srv/part-001"));
    }

    #[test]
    fn what_describes_no_group_is_refused_with_what_is_wrong() {
        for (from, to, says) in [
            ("group = \"papers\"", "group = \"\"", "`group`"),
            ("10.0.0.2:7000\"\n", "10.0.0.1:7000\"\n", "two nodes"),
            ("[\"part-000\"]", "[]", "parts"),
            ("[\"part-000\"]", "[\"a\", \"b\"]", "as many"),
            ("wire", "wires", "unknown field"),
            ("wire", "round_max_ms = 0\nwire", "round_max_ms"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let error = read(&text).unwrap_err().to_string();
            assert!(
                error.contains(says) && error.contains("cluster.toml"),
                "{error}"
            );
        }
    }
}
