//! `satisfice config`, `satisfice token`, and a configured server from outside.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use support::{run_err, run_ok, satisfice, text};
use tempfile::TempDir;

const MODEL: &str = "pyg_sage_mean_undirected";

#[test]
fn check_names_line_column_and_the_nearest_key() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("satisfice.toml");
    fs::write(&path, "[limits]\nheaders_maxx = 3\n").unwrap();
    let error = run_err(&["config", "check", text(&path)]);
    assert!(
        error.contains("satisfice.toml:2:1: unknown field `headers_maxx`"),
        "{error}"
    );
    assert!(error.contains("did you mean `headers_max`?"), "{error}");

    fs::write(&path, "[auth]\nfile = \"tokens.toml\"\n").unwrap();
    let error = run_err(&["config", "check", text(&path)]);
    assert!(error.contains("tokens.toml"), "{error}");
    fs::write(dir.path().join("tokens.toml"), "tokens = []\n").unwrap();
    assert!(run_ok(&["config", "check", text(&path)]).ends_with(": ok\n"));
    assert!(
        run_ok(&[
            "config",
            "check",
            text(&support::workspace().join("docs/satisfice.example.toml"))
        ])
        .ends_with("ok\n")
    );
}

#[test]
fn show_says_where_a_value_came_from_and_hides_secrets() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("satisfice.toml");
    let file = "[limits]\nheaders_max = 7\n[trace.headers]\nkey = \"hush\"\n";
    fs::write(&path, file).unwrap();
    let show = |arguments: &[&str]| {
        let output = satisfice()
            .args(["config", "show", "--config", text(&path)])
            .args(arguments)
            .env("SATISFICE_LOG__LEVEL", "warn")
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = show(&[]);
    let line = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap();
    assert!(
        line("limits.headers_max = 7 ").ends_with("satisfice.toml"),
        "{shown}"
    );
    assert!(
        line("log.level = \"warn\"").ends_with("# SATISFICE_LOG__LEVEL"),
        "{shown}"
    );
    assert!(
        line("http.listen = \"127.0.0.1:8000\"").ends_with("# default"),
        "{shown}"
    );
    assert!(!shown.contains("hush"), "{shown}");
    let json: Value = serde_json::from_str(&show(&["--json"])).unwrap();
    let entries = json.as_array().unwrap();
    let level = entries
        .iter()
        .find(|entry| entry["key"] == "log.level")
        .unwrap();
    assert_eq!(
        *level,
        json!({"key": "log.level", "value": "warn",
               "source": {"from": "environment", "name": "SATISFICE_LOG__LEVEL"}})
    );
}

/// A configured server, and the lines of its log.
struct Configured {
    child: Child,
    address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Configured {
    fn start(config: &Path) -> Self {
        let mut child = satisfice()
            .args(["serve", "--config", text(config)])
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

    fn get(&self, path: &str, headers: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
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
    fn wait_logged(&self, wanted: &[&str]) -> String {
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

/// A new token and its entry.
fn token(arguments: &[&str]) -> (String, String) {
    let output = support::run(&[&["token", "new"], arguments].concat());
    let shown = String::from_utf8(output.stderr).unwrap();
    let token = shown
        .trim()
        .strip_prefix("the token, for the client alone: ");
    (
        token.unwrap().to_owned(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_server_as_configured_reads_its_configuration_anew() {
    let models = support::repository(&[MODEL]);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("satisfice.toml");
    let config = |log: &str, more: &str| {
        let file = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[grpc]\nlisten = \"127.0.0.1:0\"\n\
             [repository]\npath = \"{}\"\n[auth]\nfile = \"tokens.toml\"\n\
             [log]\nformat = \"json\"\naccess = true\n{log}\n{more}",
            models.path().display()
        );
        fs::write(&path, file).unwrap();
    };
    let (first, entry) = token(&["--name", "first", "--models", "pyg*"]);
    fs::write(dir.path().join("tokens.toml"), &entry).unwrap();
    config("", "");
    let server = Configured::start(&path);
    let model = format!("/v2/models/{MODEL}");
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\nX-Request-Id: mine\r\n");
    assert_eq!(server.get("/v2/health/ready", ""), 200);
    assert_eq!(server.get(&model, ""), 401);
    assert_eq!(server.get(&model, &bearer(&first)), 200);
    let line = server.wait_logged(&["\"caller\":\"first\"", "\"id\":\"mine\""]);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["status"], &line["path"]),
        (&json!(200), &json!(model))
    );
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    server.wait_logged(&["\"code\":\"token_missing\"", "\"status\":401"]);

    // A broken file leaves everything as it was, and is named.
    config("", "[limits]\nbody = 1\n");
    server.signal("HUP");
    server.wait_logged(&["everything is as it was", "satisfice.toml:14:1"]);
    assert_eq!(server.get(&model, &bearer(&first)), 200);

    // A new one: another token, another level; limits wait for a restart.
    let (second, entry) = token(&["--name", "second", "--models", MODEL]);
    fs::write(dir.path().join("tokens.toml"), &entry).unwrap();
    config("level = \"debug\"", "[limits]\nheaders_max = 50\n");
    server.signal("HUP");
    server.wait_logged(&["needs a restart", "limits"]);
    assert_eq!(server.get(&model, &bearer(&first)), 401);
    assert_eq!(server.get(&model, &bearer(&second)), 200);
    server.wait_logged(&["DEBUG", "unknown_token"]);
    for line in server.log.lock().unwrap().iter() {
        assert!(!line.contains(&first) && !line.contains(&second), "{line}");
    }
}

#[test]
fn readiness_says_no_before_the_listener_closes() {
    let models = support::repository(&[MODEL]);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("satisfice.toml");
    let file = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[repository]\npath = \"{}\"\n[limits]\ndrain_delay_ms = 3000\n",
        models.path().display()
    );
    fs::write(&path, file).unwrap();
    let mut server = Configured::start(&path);
    assert_eq!(server.get("/v2/health/ready", ""), 200);
    server.signal("TERM");
    let end = Instant::now() + Duration::from_secs(3);
    while server.get("/v2/health/ready", "") != 400 {
        assert!(Instant::now() < end);
    }
    assert_eq!(server.get(&format!("/v2/models/{MODEL}"), ""), 200);
    assert!(server.child.wait().unwrap().success());
    assert!(TcpStream::connect(&server.address).is_err());
}
