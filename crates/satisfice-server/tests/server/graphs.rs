//! Writes to graphs, and how graphs stand, over both transports.

use crate::{
    client::{Answer, Server},
    engines::{Echo, eventually},
    grpc::{channel, parameter, text, typed},
};
use flate2::{Compression, write::GzEncoder};
use satisfice_core::{
    ApplyRequest, ApplyResponse, Engine, Error, ErrorKind, GraphStatus, InferRequest,
    InferResponse, ModelMetadata, Parameter, WritableGraph,
};
use satisfice_server::{
    Access, Front, Limits, Models,
    access::new_token,
    config::Config,
    grpc::proto::{
        ApplyRequest as Apply, GraphRequest, GraphsRequest,
        graph_service_client::GraphServiceClient, infer_parameter::ParameterChoice,
    },
};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    sync::{Arc, Condvar, Mutex, atomic::AtomicUsize, atomic::Ordering},
};
use tempfile::TempDir;
use tonic::Code;

/// Counts writes, and does what the `request_id` says: `panic`, `refuse`, or `wait` until it is opened.
#[derive(Default)]
struct Counting {
    name: &'static str,
    last: Mutex<ApplyRequest>,
    version: AtomicUsize,
    waiting: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Counting {
    fn named(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            ..Self::default()
        })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl WritableGraph for Counting {
    fn name(&self) -> &str {
        self.name
    }

    fn apply(&self, request: &ApplyRequest) -> Result<ApplyResponse, Error> {
        match request.parameters.get("request_id") {
            Some(Parameter::String(word)) if word == "panic" => panic!("as asked"),
            Some(Parameter::String(word)) if word == "refuse" => {
                let message = "operation 0: there is no node `x`";
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "wrong_operation",
                    message,
                ));
            }
            Some(Parameter::String(word)) if word == "wait" => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let open = self.open.lock().unwrap();
                drop(self.opened.wait_while(open, |open| !*open).unwrap());
            }
            _ => {}
        }
        *self.last.lock().unwrap() = request.clone();
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(ApplyResponse {
            version: version as u64,
            nodes_added: request.input("x").map_or(0, |x| x.shape()[0]),
            ..ApplyResponse::default()
        })
    }

    fn status(&self) -> GraphStatus {
        GraphStatus {
            version: self.version.load(Ordering::SeqCst) as u64,
            nodes: 5,
            log_bytes: 7,
            ..GraphStatus::default()
        }
    }
}

/// An engine of a graph.
struct Of {
    echo: Arc<Echo>,
    graph: Arc<Counting>,
}

impl Engine for Of {
    fn metadata(&self) -> &ModelMetadata {
        self.echo.metadata()
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        self.echo.infer(request)
    }

    fn graph(&self) -> Option<Arc<dyn WritableGraph>> {
        Some(self.graph.clone())
    }
}

/// Models `a` and `b` of the graph `debian`, and `c` of `other`.
fn models() -> (Models, Arc<Counting>) {
    let (debian, other) = (Counting::named("debian"), Counting::named("other"));
    let of = |graph: &Arc<Counting>| {
        Arc::new(Of {
            echo: Echo::new(),
            graph: graph.clone(),
        })
    };
    let mut models = Models::new();
    models.insert("a", 1, of(&debian)).unwrap();
    models.insert("a", 2, of(&debian)).unwrap();
    models.insert("b", 1, of(&debian)).unwrap();
    models.insert("c", 1, of(&other)).unwrap();
    (models, debian)
}

fn start() -> (Server, Arc<Counting>) {
    let (models, debian) = models();
    (
        Server::serving(Front::new(Limits::default()), models),
        debian,
    )
}

fn apply(server: &Server, graph: &str, headers: &str, body: &[u8]) -> Answer {
    server.post(&format!("/v2/graphs/{graph}/apply"), headers, body)
}

fn body(parameters: &Value) -> Vec<u8> {
    let x = json!({"name": "x", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]});
    json!({"id": "7", "inputs": [x], "parameters": parameters})
        .to_string()
        .into_bytes()
}

#[test]
fn a_write_is_done_whatever_form_it_comes_in() {
    let (server, debian) = start();
    let plain = body(&json!({"ack": "visible", "source": "s", "offset": 3.0}));
    let answer = apply(&server, "debian", "", &plain);
    let expected = |version: u64| {
        json!({"graph_name": "debian", "id": "7", "version": version, "repeated": false,
               "nodes_added": 2, "nodes_deleted": 0, "edges_added": 0, "edges_deleted": 0})
    };
    assert_eq!((answer.status, answer.json()), (200, expected(1)));
    let first = debian.last.lock().unwrap().clone();
    assert_eq!(first.parameters["offset"], Parameter::Int(3));
    assert_eq!(first.deadline, None);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&plain).unwrap();
    let zipped = encoder.finish().unwrap();
    let answer = apply(&server, "debian", "Content-Encoding: gzip\r\n", &zipped);
    assert_eq!((answer.status, answer.json()), (200, expected(2)));
    assert_eq!(*debian.last.lock().unwrap(), first);
    let mut binary = json!({"id": "7", "parameters": {"ack": "visible", "source": "s", "offset": 3},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]})
    .to_string()
    .into_bytes();
    let header = format!("Inference-Header-Content-Length: {}\r\n", binary.len());
    binary.extend([1.0_f32, 2.0].into_iter().flat_map(f32::to_le_bytes));
    let answer = apply(&server, "debian", &header, &binary);
    assert_eq!((answer.status, answer.json()), (200, expected(3)));
    assert_eq!(*debian.last.lock().unwrap(), first);
    apply(
        &server,
        "debian",
        "",
        &body(&json!({"deadline_ms": 60_000})),
    );
    assert!(debian.last.lock().unwrap().deadline.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_over_grpc_is_the_same() {
    let (server, debian) = start();
    let mut client = GraphServiceClient::new(channel(&server).await);
    let message = Apply {
        graph_name: "debian".to_owned(),
        id: "7".to_owned(),
        parameters: [("request_id".to_owned(), text("r"))].into(),
        inputs: vec![typed("x", &[1.0, 2.0])],
        ..Apply::default()
    };
    let answer = client.apply(message.clone()).await.unwrap().into_inner();
    assert_eq!(
        (answer.graph_name.as_str(), answer.id.as_str()),
        ("debian", "7")
    );
    assert_eq!((answer.version, answer.nodes_added), (1, 2));
    let of_grpc = debian.last.lock().unwrap().clone();
    apply(&server, "debian", "", &body(&json!({"request_id": "r"})));
    assert_eq!(*debian.last.lock().unwrap(), of_grpc);
    let state = client.graph(GraphRequest {
        name: "debian".to_owned(),
    });
    let state = state.await.unwrap().into_inner();
    assert_eq!(
        (state.version, state.models),
        (2, vec!["a".into(), "b".into()])
    );
    let graphs = client.graphs(GraphsRequest {}).await.unwrap().into_inner();
    assert_eq!(graphs.graphs.len(), 2);
    let wrong = Apply {
        parameters: [(
            "offset".to_owned(),
            parameter(ParameterChoice::Int64Param(-1)),
        )]
        .into(),
        ..message.clone()
    };
    let refused = client.apply(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let nowhere = Apply {
        graph_name: "nowhere".to_owned(),
        ..message
    };
    let refused = client.apply(nowhere).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("debian"), "{refused}");
}

#[test]
fn graphs_say_how_they_stand() {
    let (server, _) = start();
    apply(&server, "debian", "", &body(&json!({})));
    let state = server.get("/v2/graphs/debian").json();
    assert_eq!(
        state,
        json!({"name": "debian", "models": ["a", "b"], "version": 1, "visible_version": 0,
               "pending": 1, "nodes": 5, "edges": 0, "features": 0, "directed": false, "log_bytes": 7})
    );
    let list = server.get("/v2/graphs").json();
    assert_eq!(list["graphs"][0], state);
    assert_eq!(list["graphs"][1]["name"], "other");
    server
        .get("/v2/graphs/nowhere")
        .refused(404, "graph_not_found");
}

#[test]
fn wrong_writes_are_refused_and_counted() {
    let (server, debian) = start();
    let ask = |parameters: Value| apply(&server, "debian", "", &body(&parameters));
    let hint = ask(json!({"ak": "visible"})).refused(400, "unknown_parameter");
    assert!(hint.contains("`ack`"), "{hint}");
    ask(json!({"plan": "exact"})).refused(400, "unknown_parameter");
    ask(json!({"ack": "settled"})).refused(400, "wrong_parameter");
    ask(json!({"if_version": -1})).refused(400, "wrong_parameter");
    ask(json!({"deadline_ms": 0.000_001})).refused(504, "deadline_exceeded");
    ask(json!({"request_id": "refuse"})).refused(400, "wrong_operation");
    ask(json!({"request_id": "panic"})).refused(500, "write_panicked");
    let outputs = br#"{"inputs":[],"outputs":[{"name":"y"}]}"#;
    apply(&server, "debian", "", outputs).refused(400, "unknown_output");
    apply(&server, "nowhere", "", &body(&json!({}))).refused(404, "graph_not_found");
    let raw = "Inference-Header-Content-Length: 0\r\n";
    apply(&server, "debian", raw, b"12345678").refused(400, "wrong_json_length");
    assert_eq!(debian.version.load(Ordering::SeqCst), 0);
    assert_eq!(ask(json!({})).status, 200);
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    for line in [
        "satisfice_graph_version{graph=\"debian\"} 1",
        "satisfice_graph_log_bytes{graph=\"other\"} 7",
        "satisfice_graph_changes_total{graph=\"debian\",kind=\"nodes_added\"} 2",
        "satisfice_graph_refused_writes_total{graph=\"debian\",code=\"unknown_parameter\"} 2",
        "satisfice_graph_refused_writes_total{graph=\"debian\",code=\"wrong_operation\"} 1",
        "satisfice_graph_write_duration_seconds_count{graph=\"debian\",ack=\"durable\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn without_such_a_graph_there_is_nothing_to_write_to() {
    let server = Server::start();
    apply(&server, "debian", "", &body(&json!({}))).refused(501, "writes_off");
    assert_eq!(server.get("/v2/graphs").json(), json!({ "graphs": [] }));
}

#[test]
fn writes_that_wait_are_bounded() {
    let (server, debian) = start();
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let answer = apply(&server, "debian", "", &body(&json!({"request_id": "wait"})));
                assert_eq!(answer.status, 200);
            });
        }
        eventually(|| debian.waiting.load(Ordering::SeqCst) == 64);
        apply(&server, "debian", "", &body(&json!({}))).refused(503, "queue_full");
        let other = apply(&server, "other", "", &body(&json!({})));
        assert_eq!(other.status, 200, "another graph has room of its own");
        assert_eq!(server.get("/v2/health/live").status, 200);
        debian.open();
    });
    assert_eq!(debian.version.load(Ordering::SeqCst), 64);
    eventually(|| apply(&server, "debian", "", &body(&json!({}))).status == 200);
}

#[test]
fn who_writes_needs_a_token_for_it() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("tokens.toml");
    let mut file = String::new();
    let mut add = |entry: &str| {
        let (token, digest) = new_token().unwrap();
        file.push_str("[[tokens]]\nsha256 = \"");
        file.extend([&*digest, "\"\n", entry, "\n"]);
        format!("Authorization: Bearer {token}\r\n")
    };
    let writer = add("name = \"w\"\nwrite = [\"deb*\"]");
    let reader = add("name = \"r\"\nmodels = [\"a\"]");
    let admin = add("name = \"a\"\nadmin = true");
    fs::write(&path, file).unwrap();
    let mut config = Config::default();
    config.auth.file = Some(path);
    let access = Arc::new(Access::open(&config).unwrap());
    let (models, debian) = models();
    let server = Server::serving(Front::new(Limits::default()).with_access(access), models);
    let write = |graph: &str, token: &str| apply(&server, graph, token, &body(&json!({})));
    write("debian", "").refused(401, "token_missing");
    for token in [&reader, &admin] {
        let message = write("debian", token).refused(403, "write_forbidden");
        assert!(message.contains("`write`"), "{message}");
    }
    write("other", &writer).refused(403, "write_forbidden");
    assert_eq!(debian.version.load(Ordering::SeqCst), 0);
    assert_eq!(write("debian", &writer).status, 200);
    let get = |path: &str, token: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{token}\r\n");
        server.raw(text.as_bytes())
    };
    let names = |token: &str| {
        let list = get("/v2/graphs", token).json();
        let graphs = list["graphs"].as_array().unwrap().clone();
        let name = |graph: Value| (graph["name"].clone(), graph["models"].clone());
        graphs.into_iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&writer), [(json!("debian"), json!([]))]);
    assert_eq!(names(&reader), [(json!("debian"), json!(["a"]))]);
    assert_eq!(names(&admin), []);
    get("/v2/graphs/other", &reader).refused(403, "graph_forbidden");
    get("/v2/graphs/nowhere", &writer).refused(403, "graph_forbidden");
    assert_eq!(get("/v2/graphs/debian", &reader).status, 200);
}
