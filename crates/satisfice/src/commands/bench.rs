//! Benchmarks: one command a claim.

mod graph;
mod kernels;
mod machine;

use super::Output;
use crate::cli::{Bench, BenchCommand};
use anyhow::Result;

pub(crate) fn run(args: &Bench, output: Output) -> Result<()> {
    match &args.command {
        BenchCommand::Graph(args) => graph::run(args, output),
        BenchCommand::Kernels(args) => kernels::run(args, output),
    }
}
