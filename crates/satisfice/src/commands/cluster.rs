use super::Output;
use crate::cli::{Cluster, ClusterCommand};
use anyhow::{Result, bail};
use satisfice_cluster::{ClusterConfig, GroupState, NodeStatus, node_status};
use serde::Serialize;
use std::{fmt::Write, path::Path};

pub(crate) fn run(args: &Cluster, output: Output) -> Result<()> {
    match &args.command {
        ClusterCommand::Status { cluster } => status(cluster, output),
    }
}

/// One node's answer, or why there is none.
#[derive(Serialize)]
struct Line {
    node: usize,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<NodeStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Line {
    fn is_ready(&self) -> bool {
        let state = self.status.as_ref().map(|status| &status.state);
        matches!(state, Some(GroupState::Ready { .. }))
    }

    fn text(&self) -> String {
        let Self { node, address, .. } = self;
        let Some(status) = &self.status else {
            let error = self.error.as_deref().unwrap_or_default();
            return format!("node {node} at {address}: no answer ({error})");
        };
        let state = match &status.state {
            GroupState::Ready { generation } => format!("ready (group {generation})"),
            GroupState::Degraded { why } => format!("degraded: {why}"),
            GroupState::Forming { why } => format!("forming: {why}"),
            GroupState::Stopped => "leaving".to_owned(),
        };
        let slowest = status.waits.iter().max_by_key(|(_, waits)| waits.waited_us);
        let waits = slowest.map_or(String::new(), |(worker, waits)| {
            let ms = waits.waited_us / 1000;
            format!(
                ", waited most for worker {worker} ({ms} ms in {} rounds)",
                waits.rounds
            )
        });
        format!(
            "node {node} at {address}: {state} for {} s, formed {} times, {} batches, {} bytes sent, {} rows sent{waits}",
            status.for_ms / 1000,
            status.formed,
            status.batches,
            status.link_bytes_sent,
            status.rows_sent,
        )
    }
}

fn status(path: &Path, output: Output) -> Result<()> {
    let config = ClusterConfig::read(path)?;
    let line = |(node, address): (usize, String)| {
        let status = node_status(&config, node);
        let error = status.as_ref().err().map(ToString::to_string);
        Line {
            node,
            address,
            status: status.ok(),
            error,
        }
    };
    let addresses = config.nodes.iter().map(|node| node.address.clone());
    let lines: Vec<Line> = addresses.enumerate().map(line).collect();
    output.print(&lines, || {
        lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{}", line.text());
            text
        })
    })?;
    let ready = lines.iter().filter(|line| line.is_ready()).count();
    if ready < lines.len() {
        bail!("{ready} of {} nodes are ready", lines.len());
    }
    Ok(())
}
