//! `satisfice bench`.

mod cluster;

use super::Output;
use crate::cli::{Bench, BenchCommand};
use anyhow::Result;

pub(crate) fn run(args: &Bench, output: Output) -> Result<()> {
    match &args.command {
        BenchCommand::Cluster(args) => cluster::run(args, output),
    }
}
