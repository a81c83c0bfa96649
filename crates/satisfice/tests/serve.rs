//! `satisfice serve` from outside: right answers, and typed errors for wrong requests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use std::{fmt::Write as _, fs};
use support::Server;

const UNDIRECTED: &str = "pyg_sage_mean_undirected";
const DIRECTED: &str = "pyg_sage_mean_directed";

fn server() -> (tempfile::TempDir, Server) {
    let models = support::repository(&[UNDIRECTED, DIRECTED]);
    let server = Server::start(models.path());
    (models, server)
}

/// The width of the model's features, as its metadata says.
fn width(server: &Server, model: &str) -> usize {
    let (status, text) = server.get(&format!("/v2/models/{model}"));
    assert_eq!(status, 200);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    metadata["inputs"][0]["shape"][1].as_u64().unwrap() as usize
}

fn request(x: &[f32], width: usize, edges: &Value, parameters: &Value) -> Value {
    let count = edges[0].as_array().map_or(0, Vec::len);
    json!({
        "id": "42",
        "parameters": parameters,
        "inputs": [
            { "name": "x", "datatype": "FP32", "shape": [x.len() / width, width], "data": x },
            { "name": "edge_index", "datatype": "INT64", "shape": [2, count], "data": edges },
        ],
    })
}

#[test]
fn a_batch_is_answered_with_what_was_done() {
    let (_models, server) = server();
    let width = width(&server, UNDIRECTED);
    for plan in ["pe", "recompute:50%", "exact"] {
        let mut body = request(
            &vec![0.5; 2 * width],
            width,
            &json!([[0, 0, 1], [3, 4, 4]]),
            &json!({ "plan": plan }),
        );
        body["outputs"] = json!([{ "name": "logits" }, { "name": "class" }]);
        let (status, answer) = server.infer(UNDIRECTED, &body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["id"], "42");
        assert_eq!(answer["model_name"], UNDIRECTED);
        assert_eq!(answer["parameters"]["plan"], plan);
        assert_eq!(answer["parameters"]["candidates"], 2);
        assert_eq!(answer["parameters"]["batch_edges"], 6);
        let recomputed = match plan {
            "pe" => 0,
            "exact" => 2,
            _ => 1,
        };
        assert_eq!(answer["parameters"]["recomputed_nodes"], recomputed);
        for stage in ["decode_us", "select_us", "layers_us", "head_us"] {
            assert!(answer["parameters"][stage].is_u64(), "{answer}");
        }
        assert_eq!(answer["outputs"][0]["shape"], json!([2, 5]));
        assert_eq!(answer["outputs"][1]["datatype"], "INT64");
        // Deterministic to the bit.
        let (_, again) = server.infer(UNDIRECTED, &body);
        assert_eq!(answer["outputs"], again["outputs"]);
    }
}

#[test]
fn wrong_requests_get_typed_errors() {
    let (_models, server) = server();
    let width = width(&server, UNDIRECTED);
    let x = &vec![0.5; width][..];
    let none = &json!([[], []]);
    let cases = [
        (
            "unknown_node",
            request(x, width, &json!([[0], [1_000_000]]), &json!({})),
        ),
        (
            "unknown_node",
            request(x, width, &json!([[0], [-1]]), &json!({})),
        ),
        (
            "edge_out_of_range",
            request(x, width, &json!([[1], [0]]), &json!({})),
        ),
        (
            "edge_out_of_range",
            request(x, width, &json!([[-1], [0]]), &json!({})),
        ),
        (
            "wrong_feature_width",
            request(&vec![0.5; width + 1], width + 1, none, &json!({})),
        ),
        ("empty_batch", request(&[], width, none, &json!({}))),
        (
            "unknown_plan",
            request(x, width, none, &json!({ "plan": "best" })),
        ),
        (
            "unknown_plan",
            request(x, width, none, &json!({ "plan": 7 })),
        ),
        ("missing_input", {
            let mut body = request(x, width, none, &json!({}));
            body["inputs"].as_array_mut().unwrap().pop();
            body
        }),
        ("unknown_output", {
            let mut body = request(x, width, none, &json!({}));
            body["outputs"] = json!([{ "name": "class_names" }]);
            body
        }),
        ("wrong_datatype", {
            let mut body = request(x, width, &json!([[0], [0]]), &json!({}));
            body["inputs"][1]["datatype"] = json!("FP32");
            body
        }),
        ("wrong_shape", {
            let mut body = request(x, width, none, &json!({}));
            body["inputs"][1]["shape"] = json!([3, 1]);
            body["inputs"][1]["data"] = json!([0, 0, 0]);
            body
        }),
    ];
    for (code, body) in cases {
        let (status, answer) = server.infer(UNDIRECTED, &body);
        assert_eq!(
            (status, answer["code"].as_str()),
            (400, Some(code)),
            "{answer}"
        );
        assert!(!answer["error"].as_str().unwrap().is_empty());
    }
    let (status, answer) =
        server.infer(DIRECTED, &request(x, width, &json!([[0], [0]]), &json!({})));
    assert_eq!(
        (status, answer["code"].as_str()),
        (400, Some("direction_missing")),
        "{answer}"
    );
    for (direction, wanted) in [("in", 200), ("out", 200), ("both", 200), ("up", 400)] {
        let parameters = json!({ "edge_direction": direction });
        let (status, _) = server.infer(
            DIRECTED,
            &request(x, width, &json!([[0], [0]]), &parameters),
        );
        assert_eq!(status, wanted, "{direction}");
    }
    // The server is none the worse for it.
    let (status, _) = server.infer(
        UNDIRECTED,
        &request(x, width, &json!([[0], [0]]), &json!({})),
    );
    assert_eq!(status, 200);
}

/// A model of the fixtures on a graph from tables, whose node ids are `id(0)`, `id(1)`, ...
fn add_model_on_tables(models: &std::path::Path, name: &str, id: impl Fn(usize) -> String) {
    let model = support::add_model(models, UNDIRECTED);
    let renamed = models.join(name);
    fs::rename(&model, &renamed).unwrap();
    let (mut nodes, mut edges) = (
        String::from("id,a,b,c,d,e,f,g\n"),
        String::from("source,target\n"),
    );
    for node in 0..12 {
        let features: Vec<String> = (0..7)
            .map(|f| format!("{}.5", (node * 7 + f) % 5))
            .collect();
        writeln!(nodes, "{},{}", id(node), features.join(",")).unwrap();
        writeln!(edges, "{},{}", id(node), id((node * 5 + 1) % 12)).unwrap();
    }
    let (nodes_path, edges_path) = (renamed.join("nodes.csv"), renamed.join("edges.csv"));
    fs::write(&nodes_path, nodes).unwrap();
    fs::write(&edges_path, edges).unwrap();
    let graph = renamed.join("graph");
    support::run_ok(&[
        "import",
        "--undirected",
        "--overwrite",
        "--nodes",
        support::text(&nodes_path),
        "--edges",
        support::text(&edges_path),
        "--out",
        support::text(&graph),
    ]);
    support::run_ok(&["precompute", support::text(&renamed)]);
}

#[test]
fn nodes_are_named_by_their_own_ids() {
    let models = tempfile::TempDir::new().unwrap();
    add_model_on_tables(models.path(), "positions", |node| node.to_string());
    add_model_on_tables(models.path(), "integers", |node| {
        (1_000 - 10 * node).to_string()
    });
    add_model_on_tables(models.path(), "strings", |node| format!("node {node}"));
    let server = Server::start(models.path());
    let ask = |model: &str, datatype: &str, edges: Value| {
        let mut body = request(&[0.5; 14], 7, &edges, &json!({ "plan": "exact" }));
        body["inputs"][1]["datatype"] = json!(datatype);
        server.infer(model, &body)
    };
    let (status, wanted) = ask("positions", "INT64", json!([[0, 0, 1], [3, 4, 11]]));
    assert_eq!(status, 200, "{wanted}");
    for (model, datatype, edges) in [
        ("integers", "INT64", json!([[0, 0, 1], [970, 960, 890]])),
        (
            "integers",
            "BYTES",
            json!([["0", "0", "1"], ["970", "960", "890"]]),
        ),
        (
            "strings",
            "BYTES",
            json!([["0", "0", "1"], ["node 3", "node 4", "node 11"]]),
        ),
        ("strings", "INT64", json!([[0, 0, 1], [3, 4, 11]])),
        (
            "positions",
            "BYTES",
            json!([["0", "0", "1"], ["3", "4", "11"]]),
        ),
    ] {
        let (status, answer) = ask(model, datatype, edges);
        assert_eq!(status, 200, "{model} {datatype}: {answer}");
        assert_eq!(answer["outputs"], wanted["outputs"], "{model} {datatype}");
    }
    for model in ["positions", "integers", "strings"] {
        let edges = json!([[0, 0, 1], [3, 4, 11]]);
        let parameters = json!({ "plan": "exact", "node_ids": "position" });
        let (status, answer) = server.infer(model, &request(&[0.5; 14], 7, &edges, &parameters));
        assert_eq!(status, 200, "{model}: {answer}");
        assert_eq!(answer["outputs"], wanted["outputs"], "{model} by position");
    }
    let parameters = json!({ "node_ids": "name" });
    let body = request(&[0.5; 7], 7, &json!([[0], [3]]), &parameters);
    let (status, answer) = server.infer("integers", &body);
    assert_eq!((status, &answer["code"]), (400, &json!("unknown_node_ids")));
    for (model, datatype, edges) in [
        ("integers", "INT64", json!([[0], [3]])),
        ("strings", "BYTES", json!([["0"], ["3"]])),
        ("positions", "INT64", json!([[0], [12]])),
    ] {
        let (status, answer) = ask(model, datatype, edges);
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("unknown_node")),
            "{answer}"
        );
    }
}

/// A request with binary tensors.
fn binary(width: usize, x: &[f32], edges: &[i64]) -> (Vec<(&'static str, String)>, Vec<u8>) {
    let header = json!({ "inputs": [
        { "name": "x", "datatype": "FP32", "shape": [x.len() / width, width],
          "parameters": { "binary_data_size": x.len() * 4 } },
        { "name": "edge_index", "datatype": "INT64", "shape": [2, edges.len() / 2],
          "parameters": { "binary_data_size": edges.len() * 8 } },
    ]})
    .to_string();
    let mut body = header.clone().into_bytes();
    x.iter().for_each(|v| body.extend(v.to_le_bytes()));
    edges.iter().for_each(|v| body.extend(v.to_le_bytes()));
    (
        vec![("Inference-Header-Content-Length", header.len().to_string())],
        body,
    )
}

fn code(text: &str) -> String {
    let answer: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    answer["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn hostile_bodies_get_typed_errors_and_hurt_nobody_else() {
    let (_models, server) = server();
    let width = width(&server, UNDIRECTED);
    let path = format!("/v2/models/{UNDIRECTED}/infer");

    for value in [f32::NAN, f32::INFINITY] {
        let mut x = vec![0.5; width];
        x[3] = value;
        let (headers, body) = binary(width, &x, &[]);
        let (status, text) = server.post(&path, &headers, &body);
        assert_eq!(
            (status, code(&text).as_str()),
            (400, "feature_not_finite"),
            "{text}"
        );
    }

    let edges = vec![0; 2 * 10_000_000];
    let (headers, body) = binary(width, &vec![0.5; width], &edges);
    let (status, text) = server.post(&path, &headers, &body);
    assert_eq!(status, 413, "{text}");

    let (headers, body) = binary(width, &vec![0.5; width], &[0, 1]);
    for cut in [1, 9, body.len() / 2] {
        let (status, _) = server.post(&path, &headers, &body[..body.len() - cut]);
        assert_eq!(status, 400, "{cut} bytes too few");
    }
    // A client that goes away in the middle of its body: the server goes on.
    let whole =
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n{{\"inp");
    drop(server.send(whole.as_bytes()));

    let (status, _) = server.get("/v2/models/..%2f..%2fetc/ready");
    assert!((400..500).contains(&status), "{status}");
    let (status, text) = server.post("/v2/models/nobody/infer", &[], b"{\"inputs\":[]}");
    assert_eq!(status, 404, "{text}");

    let (headers, body) = binary(width, &vec![0.5; width], &[0, 1]);
    let (status, _) = server.post(&path, &headers, &body);
    assert_eq!(status, 200);
}

#[test]
fn the_server_stops_when_asked() {
    let (_models, server) = server();
    assert_eq!(server.get("/v2/health/live").0, 200);
    assert_eq!(server.get("/v2/health/ready").0, 200);
    assert!(server.stop().success());
}
