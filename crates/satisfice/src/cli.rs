//! What a person may type: a file for each thing that one wants to do.

mod ask;
mod bench;
mod cluster;
mod plans;
mod serve;
mod store;

pub(crate) use ask::*;
pub(crate) use bench::*;
pub(crate) use cluster::*;
pub(crate) use plans::*;
pub(crate) use serve::*;
pub(crate) use store::*;

use clap::{Parser, Subcommand};

/// Serve a trained graph neural network on new nodes of a large graph, at the least cost that meets
/// the need.
///
/// The way from a trained model to answers:
///   1. export the model and graph from Python (`satisfice.export_pyg`, `export_dgl`), or bring a
///      graph as CSV, Parquet or NumPy files
///   2. `satisfice import`      makes a graph store of it
///   3. `satisfice precompute`  computes the embeddings of every stored node, once
///   4. `satisfice evaluate`    shows what each plan costs and how close it comes
///   5. `satisfice profile`     measures what each plan may promise, so that requests can ask for a minimum
///   6. `satisfice serve`       answers new nodes over HTTP and gRPC
///
/// `satisfice demo` does all of that on a real graph.
#[derive(Debug, Parser)]
#[command(version, about, verbatim_doc_comment, propagate_version = true)]
pub(crate) struct Cli {
    /// Print one JSON document on standard output instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Import(Import),
    Verify(Verify),
    Compact(Compact),
    Snapshot(Snapshot),
    ImportHf(ImportHf),
    Inspect(Inspect),
    Precompute(Precompute),
    Partition(Partition),
    Cluster(Cluster),
    Evaluate(Evaluate),
    Profile(Profile),
    Serve(Serve),
    /// Check or show the configuration of a server.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make tokens for clients of a server.
    #[command(subcommand)]
    Token(TokenCommand),
    Query(Query),
    Plans(Plans),
    Demo(Demo),
    Bench(Bench),
    Generate(Generate),
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().unwrap_or(f64::NAN);
    match (0.0..=1.0).contains(&share) {
        true => Ok(share),
        false => Err(format!("`{text}` is not a share from 0 to 1")),
    }
}

fn batch_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a batch holds one query at least".to_owned()),
        Ok(size) => Ok(size),
    }
}
