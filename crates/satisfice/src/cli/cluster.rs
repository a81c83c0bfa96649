//! One graph on several machines.

use clap::{Args, Subcommand};
use satisfice_cluster::Method;
use std::path::PathBuf;

/// Cut a model with its graph and embeddings into parts, one for each worker of a cluster.
///
/// Every edge goes to its source's part, features and embeddings to their node's. A part is a directory
/// that its machine needs alone:
///   satisfice partition models/papers --parts 2 --out parts
///   scp -r parts/part-001 10.0.0.2:papers
/// What to write in cluster.toml then, and how to start the nodes, is in docs/cluster.md.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Partition {
    /// A model directory (with model.toml) whose embeddings are there.
    pub model: PathBuf,
    /// Version of the model; the highest one when absent.
    #[arg(long)]
    pub model_version: Option<u64>,
    /// Number of parts.
    #[arg(long)]
    pub parts: usize,
    /// How nodes are spread: `hash`, `random` (parts equal to a node), or `ldg` (also `metis-like`): greedy passes
    /// that keep neighbours together where they can.
    #[arg(long, default_value = "hash")]
    pub method: Method,
    /// Seed of the method.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Leave the embeddings out: the cluster computes them itself by `satisfice precompute --cluster`.
    #[arg(long)]
    pub without_embeddings: bool,
    /// Directory to make.
    #[arg(long)]
    pub out: PathBuf,
}

/// Look at a cluster.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    pub command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Ask every node how it is: its group, batches, bytes, and for whom it had to wait.
    ///
    /// Fails when a node does not answer or its group is not whole.
    Status {
        /// The cluster's file.
        cluster: PathBuf,
    },
}
