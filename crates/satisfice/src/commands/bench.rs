//! Measurements: one command a claim.

mod child;
mod cluster;
mod graph;
mod kernels;
mod live;
mod machine;
mod multimodal;
mod overload;
mod planner;
mod reading;
mod server;
mod sharing;
mod soak;

use super::Output;
use crate::cli::{Bench, BenchCommand};
use anyhow::Result;

pub(crate) fn run(args: &Bench, output: Output) -> Result<()> {
    match &args.command {
        BenchCommand::Graph(args) => graph::run(args, output),
        BenchCommand::Kernels(args) => kernels::run(args, output),
        BenchCommand::Planner(args) => planner::run(args, output),
        BenchCommand::Server(args) => server::run(args, output),
        BenchCommand::Overload(args) => overload::run(args, output),
        BenchCommand::Sharing(args) => sharing::run(args, output),
        BenchCommand::Live(args) => live::run(args, output),
        BenchCommand::Soak(args) => soak::run(args, output),
        BenchCommand::Multimodal(args) => multimodal::execute(args, output),
        BenchCommand::Cluster(args) => cluster::run(args, output),
        BenchCommand::ServeIdentity(args) => child::serve_identity(args),
        BenchCommand::ServeModels(args) => child::serve_models(args),
        BenchCommand::ServeEcho => child::serve_echo(),
    }
}
