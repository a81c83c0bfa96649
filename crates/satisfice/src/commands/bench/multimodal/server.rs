//! `satisfice serve` in a process of its own.

use anyhow::{Context, Result, bail};
use std::{
    env,
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

/// What the server prints before its address.
const ADDRESS: &str = "serving on ";

/// A server that ends with this value.
pub(super) struct Server {
    child: Child,
    /// Kept open: a server that cannot print stops.
    _printed: Lines<BufReader<ChildStdout>>,
    /// `http://HOST:PORT`.
    pub url: String,
}

impl Server {
    /// Serves the model repository `models` on a free port of loopback.
    pub(super) fn start(models: &Path) -> Result<Self> {
        let program = env::current_exe()?;
        let mut child = Command::new(&program)
            .arg("serve")
            .arg("--models")
            .arg(models)
            .args(["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"])
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}", program.display()))?;
        let stdout = child.stdout.take().expect("invariant: it is piped");
        let mut printed = BufReader::new(stdout).lines();
        let address = printed.find_map(|line| {
            let line = line.ok()?;
            line.strip_prefix(ADDRESS).map(str::to_owned)
        });
        let Some(url) = address else {
            let status = child.wait()?;
            bail!("the server stopped before it answered: {status}")
        };
        Ok(Self {
            child,
            _printed: printed,
            url,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have stopped by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
