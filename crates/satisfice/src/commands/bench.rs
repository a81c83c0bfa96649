//! Measurements: one command a claim.

mod cluster;
mod planner;

use super::Output;
use crate::cli::{Bench, BenchCommand};
use anyhow::Result;

pub(crate) fn run(args: &Bench, output: Output) -> Result<()> {
    match &args.command {
        BenchCommand::Planner(args) => planner::run(args, output),
        BenchCommand::Cluster(args) => cluster::run(args, output),
    }
}
