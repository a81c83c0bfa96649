//! Loading and unloading models while the server runs.

use crate::client::{Answer, Server};
use crate::engines::{Echo, Failing, eventually};
use crate::grpc::client;
use satisfice_core::{Engine, Error, ErrorKind};
use satisfice_server::{
    Admission, Limits, LoadedVersions, Loader, Models, Service,
    grpc::proto::{
        RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    },
    service::Polling,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
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
        let names = ["broken", "echo", "gate", "new", "panics", "slow"];
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

/// Models by name, each with a fingerprint and its versions; no versions is a broken model.
#[derive(Default)]
struct Changing(Mutex<BTreeMap<String, (u64, Vec<u64>)>>);

impl Changing {
    fn put(&self, name: &str, fingerprint: u64, versions: &[u64]) {
        let entry = (fingerprint, versions.to_vec());
        self.0.lock().unwrap().insert(name.to_owned(), entry);
    }
}

impl Loader for Changing {
    fn list(&self) -> Result<BTreeSet<String>, Error> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }

    fn load(&self, name: &str) -> Result<LoadedVersions, Error> {
        let (_, versions) = self.0.lock().unwrap()[name].clone();
        if versions.is_empty() {
            return Err(Error::new(
                ErrorKind::Internal,
                "load_failed",
                "half written",
            ));
        }
        let version = |version| -> (u64, Arc<dyn Engine>) { (version, Echo::new()) };
        Ok(versions.into_iter().map(version).collect())
    }

    fn fingerprint(&self, name: &str) -> Result<u64, Error> {
        Ok(self.0.lock().unwrap()[name].0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_changes_is_followed() {
    let repository = Arc::new(Changing::default());
    let service = Service::new(Models::new(), Admission::default());
    let service = Arc::new(service.with_loader(repository.clone()));
    let mut polling = Polling::default();
    let served = async |polling: &mut Polling| {
        service.poll_once(polling).await.unwrap();
        let versions = service.versions();
        let versions = versions
            .iter()
            .map(|m| format!("{}/{}", m.name(), m.version()));
        versions.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(served(&mut polling).await, "");
    repository.put("a", 1, &[1]);
    repository.put("b", 1, &[]);
    assert_eq!(served(&mut polling).await, "a/1");
    // A broken new version leaves the old one, until it is whole.
    repository.put("a", 2, &[]);
    repository.put("b", 2, &[4]);
    assert_eq!(served(&mut polling).await, "a/1 b/4");
    let entry = service.index().await.unwrap().remove(0);
    assert_eq!(
        (entry.state.name(), &*entry.reason),
        ("READY", "half written")
    );
    repository.put("a", 3, &[2, 3]);
    assert_eq!(served(&mut polling).await, "a/2 a/3 b/4");
    // What a client unloads stays so until its files change.
    service.unload("b").unwrap();
    assert_eq!(served(&mut polling).await, "a/2 a/3");
    repository.0.lock().unwrap().remove("a");
    repository.put("b", 5, &[5]);
    assert_eq!(served(&mut polling).await, "b/5");
}

#[test]
fn a_hundred_swaps_under_load_fail_no_request() {
    let (_, server) = server();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answered = 0;
                    while !done.load(Ordering::SeqCst) {
                        let answer = server.infer("echo", r#"{"inputs":[]}"#);
                        assert_eq!(answer.status, 200, "{answer:?}");
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        for _ in 0..100 {
            assert_eq!(control(&server, "echo", "load").status, 200);
        }
        done.store(true, Ordering::SeqCst);
        let answered: u32 = clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum();
        assert!(answered > 0);
    });
    assert_eq!(server.service.find("echo", None).unwrap().version(), "3");
}
