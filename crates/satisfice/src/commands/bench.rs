mod child;
mod overload;
mod server;
mod soak;

use super::Output;
use crate::cli::BenchCommand;
use anyhow::Result;

pub(crate) fn run(command: &BenchCommand, output: Output) -> Result<()> {
    match command {
        BenchCommand::Server(args) => server::run(args, output),
        BenchCommand::Overload(args) => overload::run(args, output),
        BenchCommand::Soak(args) => soak::run(args, output),
        BenchCommand::ServeIdentity(args) => child::serve_identity(args),
        BenchCommand::ServeEcho => child::serve_echo(),
    }
}
