//! `satisfice config`, `satisfice token`, and a configured server from outside.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use std::{
    fs,
    net::TcpStream,
    time::{Duration, Instant},
};
use support::{configured::Configured, run_err, run_ok, satisfice, text};
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

    // What would open the server by the way is refused as a whole, and says how to mean it.
    let whole = fs::read_to_string(&path)
        .unwrap()
        .replace("[limits]\nbody = 1\n", "");
    let closed = "[auth]\nfile = \"tokens.toml\"\n";
    let fewer_words = whole
        .replace(closed, "")
        .replace("access = true", "access = false");
    for (file, says) in [
        (fewer_words, "`mode = \\\"open\\\"`"),
        (
            whole.replacen("127.0.0.1:0", "0.0.0.0:0", 1),
            "`http.listen` would reach further",
        ),
    ] {
        fs::write(&path, file).unwrap();
        server.signal("HUP");
        server.wait_logged(&["ERROR", "everything is as it was", says]);
        assert_eq!(server.get(&model, ""), 401);
    }
    server.wait_logged(&["\"code\":\"token_missing\"", "\"status\":401"]);

    // A new one: another token, another level; limits wait for a restart.
    let (second, entry) = token(&["--name", "second", "--models", MODEL]);
    fs::write(dir.path().join("tokens.toml"), &entry).unwrap();
    config("level = \"debug\"", "[limits]\nheaders_max = 50\n");
    server.signal("HUP");
    server.wait_logged(&["needs a restart", "limits"]);
    assert_eq!(server.get(&model, &bearer(&first)), 401);
    assert_eq!(server.get(&model, &bearer(&second)), 200);
    server.wait_logged(&["DEBUG", "unknown_token"]);

    // Opened on purpose.
    fs::write(&path, whole.replace(closed, "[auth]\nmode = \"open\"\n")).unwrap();
    server.signal("HUP");
    server.wait_logged(&["WARN", "everybody may ask"]);
    assert_eq!(server.get(&model, ""), 200);
    for line in server.log.lock().unwrap().iter() {
        assert!(!line.contains(&first) && !line.contains(&second), "{line}");
    }
}

#[test]
fn a_token_that_ends_is_shown_and_warned_about() {
    let models = support::repository(&[MODEL]);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("satisfice.toml");
    let (token, entry) = token(&["--name", "soon", "--models", "*", "--expires", "3d"]);
    assert!(entry.contains("\nexpires = \"2"), "{entry}");
    fs::write(dir.path().join("tokens.toml"), &entry).unwrap();
    let file = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[repository]\npath = \"{}\"\n[auth]\nfile = \"tokens.toml\"\n",
        models.path().display()
    );
    fs::write(&path, file).unwrap();
    let shown = run_ok(&["config", "show", "--config", text(&path)]);
    let line = shown
        .lines()
        .find(|line| line.contains("\"soon\" expires = \"2"));
    assert!(
        line.is_some_and(|line| line.ends_with("tokens.toml")),
        "{shown}"
    );
    let server = Configured::start(&path);
    server.wait_logged(&["WARN", "a token expires soon", "soon"]);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(server.get("/v2", &bearer), 200);
    let refused = support::run(&["token", "new", "--name", "a", "--expires", "2020-01-01"]);
    assert_eq!(refused.status.code(), Some(2));
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
