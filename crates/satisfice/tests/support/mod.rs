//! The real binary, a model repository made by it, and a raw HTTP client.

#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses a part of it; a test may panic"
)]

pub mod configured;
pub mod spaces;

use satisfice_core::parameters::ANSWER;
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;

pub fn satisfice() -> Command {
    Command::new(env!("CARGO_BIN_EXE_satisfice"))
}

pub fn run(args: &[&str]) -> Output {
    satisfice().args(args).output().unwrap()
}

pub fn run_ok(args: &[&str]) -> String {
    let output = run(args);
    assert!(
        output.status.success(),
        "satisfice {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What a failing command says at its end, after what it may have logged.
pub fn run_err(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(
        output.status.code(),
        Some(1),
        "satisfice {}",
        args.join(" ")
    );
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    let mut lines = text.split_inclusive('\n');
    let logged: usize = lines
        .by_ref()
        .take_while(|line| !line.starts_with("error: "))
        .map(str::len)
        .sum();
    assert!(logged < text.len(), "{text}");
    text[logged..].to_owned()
}

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn fixture(name: &str) -> PathBuf {
    workspace()
        .join("crates/satisfice-graph/tests/fixtures")
        .join(name)
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A model repository with fixture models, each with its graph imported and precomputed.
pub fn repository(models: &[&str]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for model in models {
        add_model(dir.path(), model);
    }
    dir
}

pub fn add_model(repository: &Path, name: &str) -> PathBuf {
    let (from, to) = (fixture(name), repository.join(name));
    fs::create_dir_all(to.join("1")).unwrap();
    for file in ["model.toml", "1/weights.safetensors"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    let graph = to.join("graph");
    let export = from.join("graph.safetensors");
    run_ok(&["import", "--from", text(&export), "--out", text(&graph)]);
    run_ok(&["precompute", text(&to)]);
    to
}

/// `satisfice serve` on a free port; killed when dropped.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    pub fn start(models: &Path) -> Self {
        Self::start_with(models, &[])
    }

    pub fn start_with(models: &Path, args: &[&str]) -> Self {
        let mut child = satisfice()
            .args(["serve", "--listen", "127.0.0.1:0", "--models", text(models)])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("serving on http://").unwrap();
        Self {
            address: address.to_owned(),
            child,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks the server to stop and waits for it.
    pub fn stop(mut self) -> std::process::ExitStatus {
        Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        self.child.wait().unwrap()
    }

    /// Sends raw bytes and reads whatever comes back until the server closes.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.send(bytes);
        let mut answer = Vec::new();
        // The server may close before it has read all.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends raw bytes; dropping the stream closes the connection.
    pub fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        // The server may answer and close before it has read all.
        let _ = stream.write_all(bytes);
        stream
    }

    /// Posts a body with extra header lines; the status and the body of the answer.
    pub fn post(&self, path: &str, headers: &[(&str, String)], body: &[u8]) -> (u16, String) {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        request.push_str("\r\n");
        split(&self.raw(&[request.as_bytes(), body].concat()))
    }

    pub fn infer(&self, model: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
        let path = format!("/v2/models/{model}/infer");
        let (status, text) = self.post(&path, &[], body.to_string().as_bytes());
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        // What answers say is documented.
        for name in answer["parameters"].as_object().into_iter().flatten() {
            let known = ANSWER.iter().any(|spec| spec.name == name.0);
            assert!(known, "{name:?} is not in the table of parameters");
        }
        (status, answer)
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        split(&self.raw(request.as_bytes()))
    }
}

fn split(answer: &str) -> (u16, String) {
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (
        status.unwrap_or_else(|| panic!("no status in {answer:?}")),
        body.to_owned(),
    )
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
