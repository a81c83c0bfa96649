//! `satisfice serve` in a process of its own.

use anyhow::{Context, Result, bail};
use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// What the server prints before its address.
const ADDRESS: &str = "serving on ";

/// A server that ends with this value.
pub(super) struct Server {
    child: Child,
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
        let stdout = child.stdout.take();
        let mut server = Self {
            child,
            url: String::new(),
        };
        for line in stdout
            .into_iter()
            .flat_map(|out| BufReader::new(out).lines())
        {
            if let Some(url) = line?.strip_prefix(ADDRESS) {
                url.clone_into(&mut server.url);
                return Ok(server);
            }
        }
        let status = server.child.wait()?;
        bail!("the server stopped before it answered: {status}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have stopped by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
