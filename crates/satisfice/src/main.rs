//! The `satisfice` command.

mod cli;
mod commands;
mod http_client;
mod logging;
mod measure;
mod model_kind;
mod progress;
mod report;
mod repository;

use clap::Parser;
use satisfice_kernels::{LostFile, while_whole};
use std::{io, process::ExitCode};

/// Buffers of all sizes are made on one thread and given back on another; what the system's allocator
/// makes of that is slow, and keeps growing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // A server logs as it is configured.
    if !matches!(cli.command, cli::Command::Serve(_)) {
        logging::init("warn,satisfice_cluster=info");
    }
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !closed_pipe(&error) {
                eprintln!("error: {}", report::causes(&error));
            }
            ExitCode::FAILURE
        }
    }
}

/// What comes of a lost file may be any error, or a panic: the file is what to tell. A server tells it by itself.
fn run(cli: &cli::Cli) -> anyhow::Result<()> {
    let serves = matches!(cli.command, cli::Command::Serve(_));
    let check = || match LostFile::first().filter(|_| !serves) {
        None => Ok(()),
        Some(lost) => Err(lost.into()),
    };
    while_whole(check, || commands::run(cli))
}

/// Whether the reader of our output has gone, as `head` does: nothing to complain of.
fn closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
