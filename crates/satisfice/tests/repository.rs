//! Models that come and go under a running `satisfice serve`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::Value;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use support::Server;

const MODEL: &str = "pyg_sage_mean_undirected";

fn index(server: &Server) -> Vec<Value> {
    let (status, text) = server.post("/v2/repository/index", &[], b"");
    assert_eq!(status, 200, "{text}");
    serde_json::from_str::<Value>(&text)
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

/// Waits until the model is served in these versions.
fn eventually(server: &Server, versions: &[&str]) {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let index = index(server);
        let ready = index.iter().filter(|entry| entry["state"] == "READY");
        let served: Vec<&str> = ready
            .filter_map(|entry| entry["version"].as_str())
            .collect();
        if served == versions {
            return;
        }
        assert!(Instant::now() < end, "{index:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}

#[test]
fn an_empty_repository_is_polled() {
    let elsewhere = support::repository(&[MODEL]);
    let models = tempfile::tempdir().unwrap();
    let model = models.path().join(MODEL);
    let poll = [
        "--model-control",
        "poll",
        "--poll-interval",
        "1",
        "--versions",
        "latest:2",
    ];
    let server = Server::start_with(models.path(), &poll);
    eventually(&server, &[]);
    copy(&elsewhere.path().join(MODEL), &model);
    eventually(&server, &["1"]);
    // A broken version does not take the place of the one that is served.
    fs::create_dir(model.join("2")).unwrap();
    fs::write(model.join("2/weights.safetensors"), b"half").unwrap();
    let end = Instant::now() + Duration::from_mins(1);
    while index(&server)[0]["reason"] == "" {
        assert!(Instant::now() < end, "{:?}", index(&server));
        std::thread::sleep(Duration::from_millis(50));
    }
    eventually(&server, &["1"]);
    // A whole one is served beside it.
    fs::remove_dir_all(model.join("2")).unwrap();
    copy(&model.join("1"), &model.join("2"));
    eventually(&server, &["1", "2"]);
    fs::remove_dir_all(&model).unwrap();
    eventually(&server, &[]);
}

#[test]
fn a_version_that_fails_its_warm_up_is_not_served() {
    let models = support::repository(&[MODEL]);
    let file = models.path().join(MODEL).join("warmup.json");
    let serve = |extra: &[&str]| {
        let mut args = vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--models",
            support::text(models.path()),
        ];
        args.extend(extra);
        support::run_err(&args)
    };
    fs::write(
        &file,
        br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[1]}]}"#,
    )
    .unwrap();
    assert!(serve(&[]).contains("warmup.json"));
    fs::write(&file, b"{").unwrap();
    assert!(serve(&[]).contains("warmup.json"));
    fs::remove_file(&file).unwrap();
    assert!(serve(&["--versions", "3"]).contains("no version 3"));
    let server = Server::start_with(models.path(), &["--warm-up"]);
    eventually(&server, &["1"]);
}

#[test]
fn one_broken_model_does_not_keep_the_others_from_being_served() {
    let models = support::repository(&[MODEL]);
    let broken = models.path().join("broken");
    copy(&models.path().join(MODEL), &broken);
    fs::remove_file(broken.join("1/weights.safetensors")).unwrap();
    for control in ["none", "explicit"] {
        let server = Server::start_with(models.path(), &["--model-control", control]);
        eventually(&server, &["1"]);
        let entry = &index(&server)[0];
        assert_eq!(entry["state"], "UNAVAILABLE", "{entry}");
        let reason = entry["reason"].as_str().unwrap();
        assert!(reason.contains("weights.safetensors"), "{reason}");
        assert_eq!(reason.matches("os error 2").count(), 1, "{reason}");
        let (status, ready) = server.get("/v2/health/ready");
        assert!(status == 200 && ready.contains("degraded"), "{ready}");
        assert_eq!(server.get(&format!("/v2/models/{MODEL}/ready")).0, 200);
        let (status, ready) = server.get("/v2/models/broken/ready");
        assert!(status == 400 && ready.contains("failed"), "{ready}");
        let (status, answer) = server.infer("broken", &serde_json::json!({"inputs": []}));
        assert_eq!(
            (status, &answer["code"]),
            (503, &"model_unavailable".into())
        );
        if control == "explicit" {
            // Mended, it is served.
            copy(&models.path().join(MODEL).join("1"), &broken.join("1"));
            let (status, text) = server.post("/v2/repository/models/broken/load", &[], b"");
            assert_eq!(status, 200, "{text}");
            let (_, ready) = server.get("/v2/health/ready");
            assert!(ready.contains("\"ready\""), "{ready}");
            fs::remove_file(broken.join("1/weights.safetensors")).unwrap();
        }
    }
    let strict = Server::start_with(models.path(), &["--strict-readiness"]);
    assert_eq!(strict.get("/v2/health/ready").0, 400);
    drop(strict);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--models"];
    let fails = |extra: &[&str]| {
        support::run_err(&[&serve[..], &[support::text(models.path())], extra].concat())
    };
    let error = fails(&["--exit-on-error"]);
    assert!(
        error.contains("`broken`") && error.contains("exit_on_error"),
        "{error}"
    );
    fs::remove_file(models.path().join(MODEL).join("1/weights.safetensors")).unwrap();
    let error = fails(&[]);
    assert!(
        error.contains("no model of") && error.contains("weights.safetensors"),
        "{error}"
    );
}
