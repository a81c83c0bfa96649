//! Graphs that are written to while `satisfice serve --live` answers from them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_store::{Check, GraphStore};
use serde_json::{Value, json};
use std::{fmt::Write as _, fs, path::Path, time::Duration};
use support::{Server, fixture, repository, run_ok, text};
use tempfile::TempDir;

const MODEL: &str = "pyg_sage_mean_undirected";
const FEATURES: usize = 7;
const NEW: [f32; FEATURES] = [0.5, -1.0, 0.25, 2.0, -0.75, 1.5, 0.125];

fn live(models: &Path) -> Server {
    Server::start_with(models, &["--live"])
}

fn apply(server: &Server, body: &Value) -> (u16, Value) {
    let path = "/v2/graphs/graph/apply";
    let (status, text) = server.post(path, &[], body.to_string().as_bytes());
    (status, serde_json::from_str(&text).unwrap())
}

fn tensor(name: &str, datatype: &str, shape: &[usize], data: &Value) -> Value {
    json!({"name": name, "datatype": datatype, "shape": shape, "data": data})
}

/// Node `id` with edges to nodes 0 and 1, and no edge between 0 and its first neighbour.
fn write(id: usize, gone: u32) -> Value {
    json!({
        "inputs": [
            tensor("node_ids", "INT64", &[1], &json!([id])),
            tensor("x", "FP32", &[1, FEATURES], &json!(NEW)),
            tensor("edge_index", "INT64", &[2, 2], &json!([id, id, 0, 1])),
            tensor("delete_edges", "INT64", &[2, 1], &json!([0, gone])),
        ],
        "parameters": {"ack": "visible", "request_id": "first"},
    })
}

/// The answer to a node with edges to `stored`.
fn ask(server: &Server, stored: &[usize], parameters: &Value) -> (u16, Value) {
    let edges = stored.len();
    let ends: Vec<usize> = std::iter::repeat_n(0, edges)
        .chain(stored.iter().copied())
        .collect();
    let body = json!({
        "inputs": [
            tensor("x", "FP32", &[1, FEATURES], &json!(vec![1.0; FEATURES])),
            tensor("edge_index", "INT64", &[2, edges], &json!(ends)),
        ],
        "parameters": parameters,
    });
    server.infer(MODEL, &body)
}

fn logits(answer: &(u16, Value)) -> Vec<f64> {
    assert_eq!(answer.0, 200, "{}", answer.1);
    let outputs = answer.1["outputs"].as_array().unwrap();
    let logits = outputs.iter().find(|output| output["name"] == "logits");
    let data = logits.unwrap()["data"].as_array().unwrap();
    data.iter().map(|value| value.as_f64().unwrap()).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

/// Where the fixture's graph stands, and the first neighbour of node 0.
fn at_rest(models: &TempDir) -> (GraphStore, u32) {
    let path = models.path().join(MODEL).join("graph");
    let store = GraphStore::open(&path, Check::Checksums).unwrap();
    let gone = store
        .topology()
        .in_neighbors(0)
        .iter()
        .copied()
        .find(|&n| n != 0);
    let gone = gone.unwrap();
    (store, gone)
}

/// A repository whose graph was imported as the write leaves it.
fn imported_anew(store: &GraphStore, gone: u32) -> TempDir {
    let dir = TempDir::new().unwrap();
    let (width, count) = (store.feature_width(), store.nodes());
    let mut nodes = "id".to_owned();
    for column in 0..width {
        write!(nodes, ",f{column}").unwrap();
    }
    let mut row = vec![0.0; width];
    for node in 0..=count {
        match node == count {
            true => row.copy_from_slice(&NEW),
            false => store.features().read(node, &mut row),
        }
        write!(nodes, "\n{node}").unwrap();
        for value in &row {
            write!(nodes, ",{value:?}").unwrap();
        }
    }
    let mut edges = "source,target\n".to_owned();
    for target in 0..count as u32 {
        for &source in store.topology().in_neighbors(target) {
            if (source, target) != (0, gone) && (source, target) != (gone, 0) {
                writeln!(edges, "{source},{target}").unwrap();
            }
        }
    }
    for stored in 0..2 {
        write!(edges, "{count},{stored}\n{stored},{count}\n").unwrap();
    }
    let (node_file, edge_file) = (dir.path().join("n.csv"), dir.path().join("e.csv"));
    fs::write(&node_file, nodes + "\n").unwrap();
    fs::write(&edge_file, edges).unwrap();
    let to = dir.path().join("models").join(MODEL);
    fs::create_dir_all(to.join("1")).unwrap();
    for file in ["model.toml", "1/weights.safetensors"] {
        fs::copy(fixture(MODEL).join(file), to.join(file)).unwrap();
    }
    let graph = to.join("graph");
    run_ok(&[
        "import",
        "--edges",
        text(&edge_file),
        "--nodes",
        text(&node_file),
        "--undirected",
        "--out",
        text(&graph),
    ]);
    run_ok(&["precompute", text(&to)]);
    dir
}

#[test]
fn answers_change_as_a_fresh_import_would_change_them_and_nothing_is_lost() {
    let models = repository(&[MODEL]);
    let (store, gone) = at_rest(&models);
    let nodes = store.nodes();
    let fresh = imported_anew(&store, gone);
    let expected: Vec<Vec<f64>> = {
        let server = Server::start(&fresh.path().join("models"));
        let of = |stored: &[usize]| logits(&ask(&server, stored, &json!({"plan": "exact"})));
        vec![of(&[0]), of(&[0, nodes]), of(&[1, gone as usize])]
    };
    drop(store);
    let server = live(models.path());
    let exact = json!({"plan": "exact"});
    let before = ask(&server, &[0], &exact);
    assert_eq!(before.1["parameters"]["version"], 0);
    assert_eq!(
        ask(&server, &[0, nodes], &exact).0,
        400,
        "there is no such node yet"
    );
    let (status, answer) = apply(&server, &write(nodes, gone));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (
            &answer["version"],
            &answer["nodes_added"],
            &answer["edges_added"],
            &answer["edges_deleted"]
        ),
        (&json!(1), &json!(1), &json!(4), &json!(2))
    );
    let check = |server: &Server, parameters: &Value| {
        let asked = [vec![0], vec![0, nodes], vec![1, gone as usize]];
        for (stored, expected) in asked.iter().zip(&expected) {
            let answer = ask(server, stored, parameters);
            let far = distance(&logits(&answer), expected);
            assert!(far < 1e-4, "{stored:?}: {far}");
            assert_eq!(answer.1["parameters"]["version"], 1);
        }
    };
    let at_1 = json!({"plan": "exact", "min_version": 1});
    check(&server, &at_1);
    assert!(
        distance(&logits(&before), &expected[0]) > 1e-3,
        "the write changes the answer"
    );
    // A kill, not an end: what was acknowledged is there.
    drop(server);
    let server = live(models.path());
    check(&server, &at_1);
    let (status, answer) = apply(&server, &write(nodes, gone));
    assert_eq!(
        (status, &answer["repeated"], &answer["version"]),
        (200, &json!(true), &json!(1))
    );
    let (status, answer) = ask(&server, &[0], &json!({"min_version": 2}));
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("version_not_there"))
    );
    let state: Value = serde_json::from_str(&server.get("/v2/graphs/graph").1).unwrap();
    assert_eq!(state["nodes"], nodes + 1);
    assert_eq!(
        (&state["pending"], &state["models"]),
        (&json!(0), &json!([MODEL]))
    );
}

#[test]
fn kills_between_writes_lose_nothing_that_was_acknowledged() {
    let models = repository(&[MODEL]);
    let nodes = at_rest(&models).0.nodes();
    for round in 0..4_usize {
        let server = live(models.path());
        for at in 0..3_usize {
            let id = nodes + round * 3 + at;
            let (status, answer) = apply(
                &server,
                &json!({"inputs": [
                    tensor("node_ids", "INT64", &[1], &json!([id])),
                    tensor("x", "FP32", &[1, FEATURES], &json!(vec![id as f32; FEATURES])),
                    tensor("edge_index", "INT64", &[2, 1], &json!([id, 0])),
                ]}),
            );
            assert_eq!(
                (status, &answer["version"]),
                (200, &json!(round * 3 + at + 1)),
                "{answer}"
            );
        }
        drop(server);
    }
    let server = live(models.path());
    let state: Value = serde_json::from_str(&server.get("/v2/graphs/graph").1).unwrap();
    assert_eq!(
        (&state["version"], &state["nodes"]),
        (&json!(12), &json!(nodes + 12))
    );
    assert_eq!(
        ask(&server, &[nodes + 11], &json!({"min_version": 12})).0,
        200
    );
}

#[test]
fn a_wrong_write_is_refused_whole() {
    let models = repository(&[MODEL]);
    let nodes = at_rest(&models).0.nodes();
    let server = live(models.path());
    let put = tensor("node_ids", "INT64", &[1], &json!([nodes]));
    let x = tensor("x", "FP32", &[1, FEATURES], &json!(NEW));
    let nowhere = tensor("edge_index", "INT64", &[2, 1], &json!([nodes, nodes + 7]));
    let narrow = tensor("x", "FP32", &[1, 2], &json!([1.0, 2.0]));
    for (inputs, code) in [
        (json!([put, x, nowhere]), "wrong_operation"),
        (json!([put, narrow]), "wrong_operation"),
        (json!([put]), "wrong_operation"),
        (json!([x]), "missing_input"),
        (json!([]), "nothing_written"),
    ] {
        let (status, answer) = apply(&server, &json!({ "inputs": inputs }));
        assert_eq!((status, &answer["code"]), (400, &json!(code)), "{answer}");
    }
    let state: Value = serde_json::from_str(&server.get("/v2/graphs/graph").1).unwrap();
    assert_eq!(
        (&state["version"], &state["nodes"]),
        (&json!(0), &json!(nodes))
    );
}

#[test]
fn without_live_nothing_is_written() {
    let models = repository(&[MODEL]);
    let server = Server::start(models.path());
    let (status, answer) = apply(&server, &json!({"inputs": []}));
    assert_eq!((status, &answer["code"]), (501, &json!("writes_off")));
    assert!(
        answer["hint"].as_str().unwrap().contains("--live"),
        "{answer}"
    );
    let (status, answer) = ask(&server, &[0], &json!({"min_version": 0}));
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("unknown_parameter"))
    );
}

#[test]
fn a_growing_log_is_no_changed_model_and_a_model_loaded_again_shares_the_graph() {
    let models = repository(&[MODEL]);
    let nodes = at_rest(&models).0.nodes();
    let server = Server::start_with(
        models.path(),
        &["--live", "--model-control", "poll", "--poll-interval", "1"],
    );
    let loaded = |server: &Server| {
        let (_, text) = server.get("/metrics");
        let line = text
            .lines()
            .find(|line| line.starts_with("nv_model_load_duration_secs{"));
        line.unwrap().to_owned()
    };
    let first = loaded(&server);
    let put = |id: usize| {
        json!({"inputs": [
            tensor("node_ids", "INT64", &[1], &json!([id])),
            tensor("x", "FP32", &[1, FEATURES], &json!(NEW)),
        ], "parameters": {"ack": "visible"}})
    };
    assert_eq!(apply(&server, &put(nodes)).0, 200);
    std::thread::sleep(Duration::from_millis(3500));
    assert_eq!(loaded(&server), first, "the model was loaded again");
    assert_eq!(ask(&server, &[nodes], &json!({"min_version": 1})).0, 200);
    let load = format!("/v2/repository/models/{MODEL}/load");
    let (status, text) = server.post(&load, &[], b"");
    assert_eq!(status, 200, "{text}");
    assert_ne!(loaded(&server), first);
    assert_eq!(apply(&server, &put(nodes + 1)).0, 200);
    let answer = ask(&server, &[nodes, nodes + 1], &json!({"min_version": 2}));
    assert_eq!(
        (answer.0, &answer.1["parameters"]["version"]),
        (200, &json!(2))
    );
}
