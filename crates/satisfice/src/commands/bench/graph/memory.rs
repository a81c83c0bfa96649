//! A server of one model in a process of its own, and the memory that it takes.

use anyhow::{Context, Result, bail};
use satisfice_graph::ModelDir;
use serde::Serialize;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Memory of a server after it answered, in bytes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Memory {
    /// Most memory that was resident at a time, mapped files included.
    pub resident_peak: u64,
    /// Of what is resident now, what belongs to the process alone.
    pub anonymous: u64,
    /// Of what is resident now, pages of mapped files, which the system may drop and read again.
    pub mapped: u64,
    /// Files of the graph's topology.
    pub topology: u64,
    /// Files of the graph's features.
    pub features: u64,
    /// Files of the model's embeddings.
    pub embeddings: u64,
}

impl Memory {
    /// Bytes of all files that are served.
    pub(crate) fn at_rest(&self) -> u64 {
        self.topology + self.features + self.embeddings
    }
}

/// `satisfice serve` with one model; stopped when dropped.
#[derive(Debug)]
pub(super) struct ServedModel {
    child: Child,
    address: String,
    name: String,
    /// A repository that holds a link to the model.
    _repository: TempDir,
}

impl ServedModel {
    /// Starts a server of the model in the directory `model`.
    pub(super) fn start(model: &Path, threads: usize) -> Result<Self> {
        let repository = TempDir::new().context("cannot make a temporary directory")?;
        let model = fs::canonicalize(model).with_context(|| model.display().to_string())?;
        let name = model
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        symlink(&model, repository.path().join(&name)).context("cannot link the model")?;
        let child = Command::new(env::current_exe()?)
            .arg("serve")
            .arg("--models")
            .arg(repository.path())
            .args(["--listen", "127.0.0.1:0", "--skip-checksums"])
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a server")?;
        let mut served = Self {
            child,
            address: String::new(),
            name,
            _repository: repository,
        };
        // The pipe stays open: the server has more to say than its first line.
        let mut line = String::new();
        if let Some(stdout) = &mut served.child.stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim().strip_prefix("serving on http://") {
            Some(address) => address.clone_into(&mut served.address),
            None => bail!(
                "the server did not say where it listens, but `{}`",
                line.trim()
            ),
        }
        Ok(served)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the server took so far.
    pub(super) fn memory(&self, model_dir: &ModelDir) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| path.clone())?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes =
                line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            let value = kibibytes.map(|kibibytes| kibibytes * 1024);
            value.with_context(|| format!("{path} has no {name}"))
        };
        let store = model_dir.store_path();
        Ok(Memory {
            resident_peak: field("VmHWM:")?,
            anonymous: field("RssAnon:")?,
            mapped: field("RssFile:")?,
            topology: bytes(&store.join("topology.safetensors"))?,
            features: bytes(&store.join("features.safetensors"))?,
            embeddings: directory_bytes(&model_dir.embeddings_path())?,
        })
    }
}

impl Drop for ServedModel {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(metadata.len())
}

fn directory_bytes(path: &Path) -> Result<u64> {
    let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
    entries.map(|entry| bytes(&entry?.path())).sum()
}
