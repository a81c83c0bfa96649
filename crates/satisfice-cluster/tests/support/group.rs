//! Groups of nodes in the test's process.

use super::address::free_address;
use satisfice_cluster::{ClusterConfig, ClusterNode, NodeConfig};
use satisfice_store::Check;
use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// Longest wait for anything: the machine may be busy.
pub const MINUTE: Duration = Duration::from_mins(1);

pub fn eventually(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < MINUTE, "it has not come about");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A group of nodes with `per_node` parts each, which waits for whatever takes its time.
pub fn config(group: &str, dirs: &[PathBuf], per_node: usize) -> ClusterConfig {
    let node = |parts: &[PathBuf]| NodeConfig {
        address: free_address(),
        listen: None,
        replica: 0,
        parts: parts.to_vec(),
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.toml");
    std::fs::write(
        &path,
        format!("group = \"{group}\"\nretry_ms = 60000\nround_max_ms = 60000\nslow_ms = 60000\n[[node]]\naddress = \"x\"\nparts = [\"y\"]\n"),
    )
    .unwrap();
    let mut config = ClusterConfig::read(&path).unwrap();
    config.nodes = dirs.chunks(per_node).map(node).collect();
    config
}

/// The nodes, when their group is whole.
pub fn start(config: &ClusterConfig) -> Vec<ClusterNode> {
    let start = |node| ClusterNode::start(config, node, Check::Checksums).unwrap();
    let nodes: Vec<ClusterNode> = (0..config.nodes.len()).map(start).collect();
    nodes.iter().for_each(|node| node.wait(MINUTE).unwrap());
    nodes
}
