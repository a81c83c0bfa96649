//! One graph over many machines.
//!
//! [`partition`] cuts a graph store with its model into parts that can be copied to their machines;
//! every edge lies with its source's owner. For a batch of new nodes each worker builds its part of
//! the computation from what it holds: per layer it reduces the sources that it has for every target,
//! sends the partial results to the targets' owners, and completes the rows of its own targets
//! (computation graph parallelism, arXiv 2501.08547). Rows of features and embeddings stay where they are.
//!
//! This is the only crate that knows the dataflow engine. Everything that a worker does between two
//! exchanges is in [`satisfice_graph`]'s split layers; nothing here knows HTTP.

mod assign;
mod choice;
mod chooser;
mod compress;
mod config;
mod crew;
mod crossing;
mod engine;
mod error;
mod forward;
mod group;
mod health;
mod hello;
mod job;
mod link;
mod mail;
mod manifest;
mod node;
mod part;
mod partition;
mod run;
mod slab;
mod stream;
mod tls;
mod worker;

pub use assign::{Method, PARTS_MAX, assign};
pub use choice::{Choice, Cost, LinkCosts, predict};
pub use chooser::Chooser;
pub use compress::Compression;
pub use config::{ClusterConfig, NodeConfig};
pub use crew::{Crew, WorkerOptions};
pub use engine::ClusterEngine;
pub use error::ClusterError;
pub use group::GroupState;
pub use job::Exchange;
pub use manifest::PartManifest;
pub use node::{ClusterNode, NodeStatus, node_status};
pub use part::Part;
pub use partition::{PartSummary, PartitionOptions, PartitionSummary, part_dir, partition};
pub use run::{BatchAnswer, Counters, Waits};
pub use slab::{PartPrecision, Wire};
pub use tls::TlsFiles;
pub use worker::quiet_engine_panics;
