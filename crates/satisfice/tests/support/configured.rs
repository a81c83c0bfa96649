//! A server whose log is read.

use super::{satisfice, text};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// A configured server, and the lines of its log.
pub struct Configured {
    pub child: Child,
    pub address: String,
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Configured {
    pub fn start(config: &Path) -> Self {
        Self::start_with(&["--config", text(config)])
    }

    pub fn start_with(args: &[&str]) -> Self {
        let mut child = satisfice()
            .arg("serve")
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("serving on http://");
        let address = address
            .unwrap_or_else(|| panic!("{line}: {log:?}"))
            .to_owned();
        Self {
            child,
            address,
            log,
        }
    }

    pub fn get(&self, path: &str, headers: &str) -> u16 {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
        self.ask(request.as_bytes()).0
    }

    /// The status and the body of the answer.
    pub fn infer(&self, model: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "POST /v2/models/{model}/infer HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, text) = self.ask(request.as_bytes());
        (status, serde_json::from_str(&text).unwrap())
    }

    fn ask(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        super::split(&answer)
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// The first line of the log that holds all of this.
    #[track_caller]
    pub fn wait_logged(&self, wanted: &[&str]) -> String {
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            let log = self.log.lock().unwrap();
            let found = log
                .iter()
                .find(|line| wanted.iter().all(|part| line.contains(part)));
            if let Some(line) = found {
                return line.clone();
            }
            assert!(Instant::now() < end, "no {wanted:?} in {log:#?}");
            drop(log);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
