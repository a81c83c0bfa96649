use super::{Output, settings};
use crate::cli::{ConfigCheck, ConfigCommand, ConfigShow};
use anyhow::{Result, bail};
use satisfice_server::{
    Access, Tls,
    access::Expiry,
    config::{Config, Layers, Source},
};
use serde::Serialize;
use std::fmt::Write;

pub(crate) fn run(command: &ConfigCommand, output: Output) -> Result<()> {
    match command {
        ConfigCommand::Check(args) => check(args, output),
        ConfigCommand::Show(args) => show(args, output),
    }
}

fn check(args: &ConfigCheck, output: Output) -> Result<()> {
    let mut layers = Layers::new();
    layers.file(&args.file)?;
    let config = layers.finish()?.config;
    check_files(&config)?;
    let document = serde_json::json!({ "file": args.file, "ok": true });
    output.print(&document, || format!("{}: ok\n", args.file.display()))
}

/// Reads what the configuration names.
fn check_files(config: &Config) -> Result<()> {
    Access::open(config)?;
    Tls::open(&config.tls)?;
    match &config.repository.path {
        Some(path) if !path.is_dir() => {
            bail!("`repository.path`: {} is not a directory", path.display())
        }
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct Entry {
    key: String,
    value: toml::Value,
    source: Source,
}

/// When the tokens of the configuration's file end. What is wrong with the file, `config check` says.
fn expiries(config: &Config) -> Vec<Entry> {
    let (Some(file), Ok(access)) = (&config.auth.file, Access::open(config)) else {
        return Vec::new();
    };
    let entry = |(name, expires): (String, Expiry)| Entry {
        key: format!("auth.file: token {name:?} expires"),
        value: expires.to_string().into(),
        source: Source::File(file.clone()),
    };
    access.expiries().into_iter().map(entry).collect()
}

fn show(args: &ConfigShow, output: Output) -> Result<()> {
    let loaded = settings::layers(args.config.as_deref())?.finish()?;
    let entries = loaded.entries().into_iter();
    let mut entries: Vec<Entry> = entries
        .map(|(key, value, source)| Entry { key, value, source })
        .collect();
    entries.extend(expiries(&loaded.config));
    output.print(&entries, || {
        let lines = entries
            .iter()
            .map(|entry| format!("{} = {}", entry.key, entry.value));
        let lines: Vec<String> = lines.collect();
        let width = lines.iter().map(|line| line.chars().count()).max();
        let mut text = String::new();
        for (line, entry) in lines.iter().zip(&entries) {
            let width = width.unwrap_or(0);
            writeln!(text, "{line:width$}  # {}", entry.source)
                .expect("invariant: writing to a String does not fail");
        }
        text
    })
}
