//! Loading and unloading models while the server runs.

use crate::client::{Answer, Server};
use crate::engines::{Echo, Failing, eventually};
use crate::grpc::client;
use satisfice_core::{Error, ErrorKind};
use satisfice_server::{
    Admission, Limits, LoadedVersions, Loader,
    grpc::proto::{
        RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    },
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex},
};
use tonic::Code;

/// Has `gate`, `new`, `broken` and `slow`; `slow` loads when it is told to.
#[derive(Default)]
struct Shelf {
    go: Mutex<bool>,
    gone: Condvar,
}

impl Loader for Shelf {
    fn list(&self) -> Result<BTreeSet<String>, Error> {
        let names = ["broken", "gate", "new", "panics", "slow"];
        Ok(names.map(str::to_owned).into())
    }

    fn load(&self, name: &str) -> Result<LoadedVersions, Error> {
        match name {
            "broken" => Err(Error::new(ErrorKind::Internal, "load_failed", "no weights")),
            "panics" => panic!("asked for"),
            "gate" => Ok(vec![(2, Failing::new())]),
            "slow" => {
                let go = self.go.lock().unwrap();
                drop(self.gone.wait_while(go, |go| !*go).unwrap());
                Ok(vec![(1, Echo::new())])
            }
            _ => Ok(vec![(1, Echo::new()), (3, Echo::new())]),
        }
    }
}

fn server() -> (Arc<Shelf>, Server) {
    let shelf = Arc::new(Shelf::default());
    let loader: Arc<dyn Loader> = shelf.clone();
    let server = Server::controlled(Admission::default(), Limits::default(), Some(loader));
    (shelf, server)
}

fn control(server: &Server, model: &str, what: &str) -> Answer {
    let path = format!("/v2/repository/models/{model}/{what}");
    server.post(&path, "", b"")
}

fn index(server: &Server, name: &str) -> Vec<Value> {
    let answer = server.post("/v2/repository/index", "", b"");
    assert_eq!(answer.status, 200);
    let mut entries = answer.json().as_array().unwrap().clone();
    entries.retain(|entry| entry["name"] == name);
    entries
}

#[test]
fn models_come_and_go() {
    let (_, server) = server();
    let body = r#"{"inputs":[]}"#;
    let unloaded = json!({"name": "new", "state": "UNAVAILABLE", "reason": "not loaded"});
    assert_eq!(index(&server, "new"), [unloaded]);
    assert_eq!(index(&server, "echo").len(), 2);
    server.infer("new", body).refused(404, "model_not_found");
    assert_eq!(control(&server, "new", "load").status, 200);
    assert_eq!(server.infer("new", body).json()["model_version"], "3");
    let ready = json!({"name": "new", "version": "1", "state": "READY", "reason": ""});
    assert_eq!(index(&server, "new")[0], ready);
    assert_eq!(control(&server, "new", "unload").status, 200);
    server.infer("new", body).refused(404, "model_not_found");
    control(&server, "new", "unload").refused(404, "model_not_found");

    let answer = server.post("/v2/repository/index", "", br#"{"ready":true}"#);
    let entries = answer.json();
    assert!(
        entries
            .as_array()
            .unwrap()
            .iter()
            .all(|entry| entry["state"] == "READY")
    );
    let path = "/v2/repository/models/new/load";
    let config = br#"{"parameters":{"config":"{}"}}"#;
    server
        .post(path, "", config)
        .refused(501, "unsupported_parameter");
    server.post(path, "", b"[").refused(400, "invalid_json");
}

#[test]
fn running_requests_end_where_they_began() {
    let (_, server) = server();
    let mut running = server.begin("gate", r#"{"inputs":[]}"#);
    server.gate.wait_started(1);
    assert_eq!(control(&server, "gate", "load").status, 200);
    let answer = server.infer("gate", r#"{"inputs":[]}"#);
    assert_eq!(answer.json()["model_version"], "2");
    assert_eq!(control(&server, "gate", "unload").status, 200);
    server.gate.open();
    let answer = Answer::read(&mut running);
    assert_eq!(
        (answer.status, &answer.json()["model_version"]),
        (200, &"1".into())
    );
}

#[test]
fn a_failed_load_changes_nothing_and_is_told() {
    let (_, server) = server();
    for (model, code, reason) in [
        ("broken", "load_failed", "no weights"),
        ("panics", "load_failed", "loading failed"),
    ] {
        control(&server, model, "load").refused(500, code);
        let entry = &index(&server, model)[0];
        assert_eq!(
            (&entry["state"], &entry["reason"]),
            (&"UNAVAILABLE".into(), &reason.into())
        );
    }
    control(&server, "nobody", "load").refused(404, "model_not_found");
    for name in ["..", "..%2f..", ".git", "a%00b"] {
        control(&server, name, "load").refused(400, "wrong_name");
        control(&server, name, "unload").refused(400, "wrong_name");
    }
    assert_eq!(control(&server, "new", "load").status, 200);
}

#[test]
fn one_model_is_loaded_at_a_time() {
    let (shelf, server) = server();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| control(&server, "slow", "load").status);
        eventually(|| index(&server, "slow")[0]["state"] == "LOADING");
        control(&server, "new", "load").refused(503, "load_running");
        *shelf.go.lock().unwrap() = true;
        shelf.gone.notify_all();
        assert_eq!(slow.join().unwrap(), 200);
    });
    assert_eq!(index(&server, "slow")[0]["state"], "READY");
}

#[test]
fn without_a_loader_nothing_is_loaded() {
    let server = Server::start();
    for what in ["load", "unload"] {
        let message = control(&server, "echo", what).refused(400, "model_control_off");
        assert!(message.contains("--model-control explicit"), "{message}");
    }
    assert_eq!(index(&server, "echo").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_over_grpc() {
    let (_, server) = server();
    let mut client = client(&server).await;
    let load = |model: &str| RepositoryModelLoadRequest {
        model_name: model.to_owned(),
        ..RepositoryModelLoadRequest::default()
    };
    client.repository_model_load(load("new")).await.unwrap();
    let refusal = client.repository_model_load(load("broken")).await;
    assert_eq!(refusal.unwrap_err().code(), Code::Internal);
    let index = client.repository_index(RepositoryIndexRequest {
        ready: true,
        ..RepositoryIndexRequest::default()
    });
    let models = index.await.unwrap().into_inner().models;
    let new = models.iter().filter(|model| model.name == "new");
    assert_eq!(new.map(|model| &*model.version).collect::<String>(), "13");
    assert!(models.iter().all(|model| model.state == "READY"));
    let unload = RepositoryModelUnloadRequest {
        model_name: "new".to_owned(),
        ..RepositoryModelUnloadRequest::default()
    };
    client
        .repository_model_unload(unload.clone())
        .await
        .unwrap();
    let refusal = client.repository_model_unload(unload).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound);
}
