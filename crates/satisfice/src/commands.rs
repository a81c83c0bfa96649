//! What the commands do.

mod bench;
mod bundle;
mod cluster;
mod compact;
mod config;
mod demo;
mod evaluate;
mod generate;
mod import;
mod import_hf;
mod inspect;
mod partition;
mod plans;
mod precompute;
mod profile;
mod query;
mod serve;
mod settings;
mod snapshot;
mod token;
mod verify;

use crate::cli::{Cli, Command};
use anyhow::Result;
use satisfice_kernels::LostFile;
use serde::Serialize;
use std::io::{self, Write};

pub(crate) fn run(cli: &Cli) -> Result<()> {
    let output = Output { json: cli.json };
    match &cli.command {
        Command::Import(args) => import::run(args, output),
        Command::Verify(args) => verify::run(args, output),
        Command::Compact(args) => compact::run(args, output),
        Command::Snapshot(args) => snapshot::run(args, output),
        Command::ImportHf(args) => import_hf::run(args, output),
        Command::Inspect(args) => inspect::run(args, output),
        Command::Precompute(args) => precompute::run(args, output),
        Command::Partition(args) => partition::run(args, output),
        Command::Cluster(args) => cluster::run(args, output),
        Command::Evaluate(args) => evaluate::run(args, output),
        Command::Profile(args) => profile::run(args, output),
        Command::Serve(args) => serve::run(args),
        Command::Config(command) => config::run(command, output),
        Command::Token(command) => token::run(command, output),
        Command::Query(args) => query::run(args, output),
        Command::Plans(args) => plans::run(args, output),
        Command::Bench(args) => bench::run(args, output),
        Command::Demo(args) => demo::run(args, output),
        Command::Generate(args) => generate::run(args, output),
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub json: bool,
}

impl Output {
    /// Prints a result as one JSON document, or as `text`; not a result that a lost file may have made.
    fn print(self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if let Some(lost) = LostFile::first() {
            return Err(lost.into());
        }
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, document)?;
            writeln!(out)?;
        } else {
            out.write_all(text().as_bytes())?;
        }
        Ok(out.flush()?)
    }

    /// Prints a line for people, at once; nothing where a program reads.
    fn say(self, line: &str) -> Result<()> {
        if !self.json {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}")?;
            out.flush()?;
        }
        Ok(())
    }
}
