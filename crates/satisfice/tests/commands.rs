//! The commands from outside: what they print and how they fail.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::Value;
use std::{fs, path::Path};
use support::{add_model, fixture, run_err, run_ok, text};
use tempfile::TempDir;

const MODEL: &str = "pyg_gcn2_undirected";

#[test]
fn import_precompute_and_verify_tell_what_they_did() {
    let dir = TempDir::new().unwrap();
    let model = add_model(dir.path(), "pyg_gcn_3_layers_directed");
    let export = fixture("pyg_gcn_3_layers_directed").join("graph.safetensors");
    let graph = model.join("graph");

    let refused = run_err(&["import", "--from", text(&export), "--out", text(&graph)]);
    assert!(refused.contains("overwrite"), "{refused}");
    let again = run_ok(&[
        "--json",
        "import",
        "--from",
        text(&export),
        "--out",
        text(&graph),
        "--overwrite",
    ]);
    let summary: Value = serde_json::from_str(&again).unwrap();
    assert!(summary["duplicates"].as_u64().unwrap() > 0, "{summary}");
    assert!(summary["self_loops"].as_u64().unwrap() > 0, "{summary}");
    assert!(summary["isolated"].as_u64().unwrap() > 0, "{summary}");

    assert!(run_ok(&["verify", text(&graph)]).contains("every checksum is right"));
    assert!(run_ok(&["verify", text(&model)]).contains("version 1"));
    let kept: Value =
        serde_json::from_str(&run_ok(&["--json", "precompute", text(&model)])).unwrap();
    assert_eq!(kept["computed"], serde_json::json!([]));
    assert_eq!(
        kept["kept"],
        serde_json::json!(["s1", "h1", "s2", "h2", "m3"])
    );
}

#[test]
fn columns_that_would_be_lost_are_named_and_those_left_out_are_listed() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("nodes.csv"), "person,age\n4,31\n7,28\n").unwrap();
    fs::write(path("edges.csv"), "from,to,trust\n4,7,0.5\n").unwrap();
    let [nodes, edges, out] = [path("nodes.csv"), path("edges.csv"), path("graph")];
    let mut import = vec!["import", "--nodes", text(&nodes), "--edges", text(&edges)];
    import.extend(["--out", text(&out)]);
    let refused = run_err(&import);
    assert!(refused.contains("--id-column"), "{refused}");
    import.extend(["--id-column", "person"]);
    let refused = run_err(&import);
    assert!(refused.contains("--ignore-column trust"), "{refused}");
    import.extend(["--ignore-column", "trust"]);
    assert!(run_ok(&import).contains("left out: trust"));
}

#[test]
fn an_interrupted_precomputation_goes_on_where_it_stopped() {
    let dir = TempDir::new().unwrap();
    let model = add_model(dir.path(), "pyg_gcn_3_layers_directed");
    let embeddings = model.join("1/embeddings");
    let whole = fs::read(embeddings.join("m3.safetensors")).unwrap();
    // As a kill during the last layer leaves it: all but the last table finished and recorded.
    let manifest = fs::read_to_string(embeddings.join("manifest.toml")).unwrap();
    let second = manifest.rfind("[[tables]]").unwrap();
    fs::write(embeddings.join("manifest.toml"), &manifest[..second]).unwrap();
    fs::remove_file(embeddings.join("m3.safetensors")).unwrap();

    let refused = run_err(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--models",
        text(dir.path()),
    ]);
    assert!(
        refused.contains("m3") && refused.contains("precompute"),
        "{refused}"
    );
    let summary: Value =
        serde_json::from_str(&run_ok(&["--json", "precompute", text(&model)])).unwrap();
    assert_eq!(summary["computed"], serde_json::json!(["m3"]));
    assert_eq!(summary["kept"], serde_json::json!(["s1", "h1", "s2", "h2"]));
    assert_eq!(fs::read(embeddings.join("m3.safetensors")).unwrap(), whole);
}

/// Every file below `dir`.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_flipped_byte_and_a_truncated_file_are_found_and_named() {
    let dir = TempDir::new().unwrap();
    let model = add_model(dir.path(), "pyg_gcn_3_layers_directed");
    let tensors = files(&model)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .filter(|path| !path.ends_with("weights.safetensors"));
    for path in tensors {
        let whole = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut flipped = whole.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        for damaged in [&flipped[..], &whole[..whole.len() / 2], &whole[..4], &[]] {
            fs::write(&path, damaged).unwrap();
            let said = run_err(&["verify", text(&model)]);
            assert!(said.contains(name), "{name}: {said}");
            let said = run_err(&[
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--models",
                text(dir.path()),
            ]);
            assert!(said.contains(name), "{name}: {said}");
        }
        fs::write(&path, whole).unwrap();
    }
    run_ok(&["verify", text(&model)]);
}

#[test]
fn weights_of_another_architecture_are_refused_by_tensor() {
    let dir = TempDir::new().unwrap();
    let model = add_model(dir.path(), "pyg_sage_mean_undirected");
    let other = fixture("pyg_gat_undirected").join("1/weights.safetensors");
    fs::copy(other, model.join("1/weights.safetensors")).unwrap();
    let said = run_err(&["precompute", text(&model)]);
    assert!(
        said.contains("convs.0.lin_r.weight") && said.contains("missing"),
        "{said}"
    );

    let same = fixture("pyg_sage_mean_undirected");
    fs::copy(
        same.join("1/weights.safetensors"),
        model.join("1/weights.safetensors"),
    )
    .unwrap();
    let toml = fs::read_to_string(same.join("model.toml")).unwrap();
    fs::write(
        model.join("model.toml"),
        toml.replacen("out = 8", "out = 9", 1),
    )
    .unwrap();
    let said = run_err(&["precompute", text(&model)]);
    assert!(said.contains('8') && said.contains('9'), "{said}");
}

#[test]
fn embeddings_of_another_graph_are_refused() {
    let dir = TempDir::new().unwrap();
    let model = add_model(dir.path(), "pyg_sage_mean_undirected");
    let other = fixture("pyg_gat_undirected").join("graph.safetensors");
    let graph = model.join("graph");
    run_ok(&[
        "import",
        "--from",
        text(&other),
        "--out",
        text(&graph),
        "--overwrite",
    ]);
    let said = run_err(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--models",
        text(dir.path()),
    ]);
    assert!(
        said.contains("another graph") || said.contains("features of width"),
        "{said}"
    );
}

#[test]
fn places_where_nothing_is_are_named_with_a_hint() {
    let dir = TempDir::new().unwrap();
    let empty = text(dir.path());
    let said = run_err(&["serve", "--models", empty]);
    assert!(said.contains("model.toml"), "{said}");
    let said = run_err(&["precompute", empty]);
    assert!(said.contains("model.toml"), "{said}");
    let said = run_err(&["verify", empty]);
    assert!(said.contains("manifest.toml"), "{said}");
    let said = run_err(&[
        "query",
        "--url",
        "http://127.0.0.1:1",
        "--model",
        MODEL,
        "--queries",
        "none",
    ]);
    assert!(said.contains("none"), "{said}");
}

#[test]
fn the_demo_prints_one_json_document_with_every_plan() {
    let dir = TempDir::new().unwrap();
    let demo_dir = dir.path().join("demo");
    let bundle = support::workspace().join("examples/debian");
    let printed = run_ok(&[
        "demo",
        "--part",
        "graph",
        "--once",
        "--json",
        "--dir",
        text(&demo_dir),
        "--bundle",
        text(&bundle),
        "--listen",
        "127.0.0.1:0",
        "--limit",
        "1024",
        "--batches",
        "256",
        "--plans",
        "pe,recompute:25%,exact",
    ]);
    let document: Value = serde_json::from_str(&printed).unwrap();
    let models = document["models"].as_array().unwrap();
    assert_eq!(models.len(), 2);
    for model in models {
        let rows = model["rows"].as_array().unwrap();
        let plans: Vec<&str> = rows
            .iter()
            .map(|row| row["plan"].as_str().unwrap())
            .collect();
        assert_eq!(plans, ["pe", "recompute:25%", "exact"]);
        for row in rows {
            assert_eq!(
                (&row["batch"], &row["queries"]),
                (&256.into(), &1024.into())
            );
            let share = |name: &str| row[name].as_f64().unwrap();
            assert!(share("accuracy") > 0.5, "{row}");
            assert!(share("agreement") > 0.9, "{row}");
            assert!(share("p50_ms") <= share("p99_ms"), "{row}");
            assert!(share("edges") > 0.0, "{row}");
        }
        assert_eq!(rows[2]["agreement"], 1.0);
        assert_eq!(rows[2]["output_error"], 0.0);
        assert!(rows[0]["output_error"].as_f64() > rows[1]["output_error"].as_f64());
        assert!(rows[0]["edges"].as_f64() < rows[2]["edges"].as_f64());
    }
}
