//! Measurements of the whole system.

mod multimodal;

use super::Output;
use crate::cli::BenchCommand;
use anyhow::Result;

pub(crate) fn run(command: &BenchCommand, output: Output) -> Result<()> {
    match command {
        BenchCommand::Multimodal(args) => multimodal::execute(args, output),
    }
}
