//! The whole way of a graph model by commands: a graph, embeddings, a profile, a server, and queries that say what they need.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::Value;
use std::fs;
use support::{Server, run_err, run_ok, text};
use tempfile::TempDir;

const MODEL: &str = "pyg_sage_mean_undirected";

#[test]
fn from_a_generated_graph_to_answers_that_keep_a_minimum() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    // The widths of the fixture's weights.
    run_ok(&[
        "generate",
        "reddit-like",
        "--scale",
        "0.01",
        "--edges",
        "1000000",
        "--features",
        "7",
        "--classes",
        "5",
        "--out",
        text(&data),
    ]);
    let model = dir.path().join("models").join(MODEL);
    fs::create_dir_all(model.join("1")).unwrap();
    for file in ["model.toml", "1/weights.safetensors"] {
        fs::copy(support::fixture(MODEL).join(file), model.join(file)).unwrap();
    }
    fs::rename(data.join("graph"), model.join("graph")).unwrap();
    let queries = data.join("queries.safetensors");
    run_ok(&["precompute", text(&model)]);
    run_ok(&["verify", text(&model)]);

    let query = |server: &Server, more: &[&str]| -> Vec<String> {
        let url = server.url();
        let asked = [
            "query",
            "--url",
            &url,
            "--model",
            MODEL,
            "--queries",
            text(&queries),
            "--rows",
            "0..16",
        ];
        [&asked[..], more]
            .concat()
            .iter()
            .map(|&arg| arg.to_owned())
            .collect()
    };
    let answered = |args: &[String]| -> Value {
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--json"]).collect();
        serde_json::from_str(&run_ok(&args)).unwrap()
    };
    let refused = |args: &[String]| run_err(&args.iter().map(String::as_str).collect::<Vec<_>>());

    let models = dir.path().join("models");
    let server = Server::start(&models);
    let exact = answered(&query(&server, &["--plan", "exact"]));
    assert_eq!(exact["parameters"]["plan"], "exact");
    assert_eq!(exact["answers"].as_array().unwrap().len(), 16);
    let said = refused(&query(&server, &["--min-fidelity", "0.5"]));
    assert!(
        said.contains("400") && said.contains("satisfice profile"),
        "{said}"
    );
    server.stop();

    let profiled = run_ok(&[
        "profile",
        text(&model),
        "--queries",
        text(&queries),
        "--quick",
        "--plans",
        "pe,recompute:25%",
        "--batches",
        "16,64",
        "--json",
    ]);
    serde_json::from_str::<Value>(&profiled).unwrap();
    let server = Server::start(&models);
    let answer = answered(&query(
        &server,
        &[
            "--min-fidelity",
            "0.3",
            "--deadline-ms",
            "60000",
            "--priority",
            "1",
        ],
    ));
    let parameters = &answer["parameters"];
    assert!(
        parameters["fidelity_lower_bound"].as_f64().unwrap() >= 0.3,
        "{parameters}"
    );
    assert!(
        parameters["deadline_left_ms"].as_f64().unwrap() > 0.0,
        "{parameters}"
    );
    // What only the dearest plan can promise, it answers.
    let all = answered(&query(&server, &["--min-fidelity", "1"]));
    assert_eq!(all["parameters"]["plan"], "exact");
    assert_eq!(all["answers"], exact["answers"]);
    server.stop();

    // A loss of everything is allowed: the smallest is kept, and it is what the profile is of.
    let choose = |more: &str| {
        let queries = text(&queries);
        let model = text(&model);
        [
            "profile",
            model,
            "--queries",
            queries,
            "--quick",
            "--plans",
            "pe",
            "--json",
            more,
        ]
        .map(str::to_owned)
    };
    let chosen: Value = serde_json::from_str(&run_ok(
        &choose("--choose-storage=1").each_ref().map(|a| &**a),
    ))
    .unwrap();
    assert_eq!(chosen["stored_as"], "int8");
    assert_eq!(chosen["storage"].as_array().unwrap().len(), 9);
    let kept = fs::read_to_string(model.join("1/embeddings/manifest.toml")).unwrap();
    assert!(
        kept.contains("precision = \"int8\"") && kept.contains("s1."),
        "{kept}"
    );
    assert!(!model.join("1/embeddings.trial").exists());
    let server = Server::start(&models);
    let answer = answered(&query(&server, &["--min-fidelity", "0.3"]));
    assert!(
        answer["parameters"]["fidelity_lower_bound"]
            .as_f64()
            .unwrap()
            >= 0.3
    );
    server.stop();
    // None allowed: as they were, sums left out as they were left out.
    run_ok(&["precompute", text(&model), "--no-sums"]);
    let chosen: Value = serde_json::from_str(&run_ok(
        &choose("--choose-storage=0").each_ref().map(|a| &**a),
    ))
    .unwrap();
    let kept = fs::read_to_string(model.join("1/embeddings/manifest.toml")).unwrap();
    let named = chosen["stored_as"].as_str().unwrap();
    assert!(
        kept.contains(&format!("precision = \"{named}\"")) && !kept.contains("s1."),
        "{kept}"
    );
    let both = [
        "profile",
        text(&model),
        "--queries",
        text(&queries),
        "--choose-storage",
        "--dry-run",
    ];
    assert!(run_err(&both).contains("cannot be used with"));
}
