//! `satisfice profile` and `satisfice serve` with multi-modal models, from outside.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use std::{fs, path::Path};
use support::{Server, run_err, run_ok, text, workspace};

fn fixtures() -> std::path::PathBuf {
    workspace().join("crates/satisfice-multimodal/tests/fixtures")
}

/// A model repository with one multi-modal model.
fn repository(model: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (fixtures().join(model), dir.path().join(model));
    fs::create_dir_all(to.join("1")).unwrap();
    fs::copy(from.join("model.toml"), to.join("model.toml")).unwrap();
    for entry in fs::read_dir(from.join("1")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join("1").join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn profile(model: &Path, extra: &[&str]) -> String {
    let data = fixtures().join("calibration.safetensors");
    let mut args = vec!["profile", text(model), "--quick", "--data", text(&data)];
    args.extend(extra);
    run_ok(&args)
}

fn caption(words: &str, parameters: &Value) -> Value {
    json!({
        "parameters": parameters,
        "inputs": [{ "name": "caption", "datatype": "BYTES", "shape": [1], "data": [words] }],
        "outputs": [{ "name": "class_name" }, { "name": "logits" }],
    })
}

#[test]
fn a_profiled_model_promises_what_was_measured() {
    let models = repository("fused");
    let model = models.path().join("fused");
    let report = models.path().join("report");
    let data = fixtures().join("calibration.safetensors");
    let text = profile(
        &model,
        &["--report", text(&report), "--held-out", text(&data)],
    );
    assert!(
        text.contains("| image+text+sensor") && text.contains("held-out %"),
        "{text}"
    );
    assert!(
        fs::read_to_string(report.join("profile.md"))
            .unwrap()
            .contains("| image@int8")
    );
    assert!(
        fs::read_to_string(report.join("profile.svg"))
            .unwrap()
            .ends_with("</svg>\n")
    );

    let server = Server::start(models.path());
    let (_, metadata) = server.get("/v2/models/fused");
    assert!(
        metadata.contains("satisfice_multimodal") && metadata.contains("caption"),
        "{metadata}"
    );
    let (status, answer) = server.infer("fused", &caption("a very blue thing", &json!({})));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["outputs"][0]["data"][0], "blue");
    let parameters = &answer["parameters"];
    assert_eq!(parameters["strategies"], "text=1");
    assert!(parameters["accuracy_lower_bound"].as_f64() < parameters["expected_accuracy"].as_f64());
    let body = caption("red", &json!({ "plan": "text@int8" }));
    assert_eq!(
        server.infer("fused", &body).1["parameters"]["plan"],
        "text@int8"
    );
    let body = caption("red", &json!({ "plan": "image" }));
    let (status, answer) = server.infer("fused", &body);
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["error"]
            .to_string()
            .contains("the request brings text"),
        "{answer}"
    );
}

#[test]
fn json_has_the_profile_and_the_held_out_inputs() {
    let models = repository("per_subset");
    let data = fixtures().join("calibration.safetensors");
    let printed = profile(
        &models.path().join("per_subset"),
        &["--json", "--held-out", text(&data)],
    );
    let document: Value = serde_json::from_str(&printed).unwrap();
    let strategies = document["profile"]["strategies"].as_array().unwrap();
    assert_eq!(
        document["held_out"].as_array().unwrap().len(),
        strategies.len()
    );
    assert_eq!(document["profile"]["groups"], 120);
}

#[test]
fn models_that_cannot_be_served_are_named() {
    let models = repository("joint");
    let sidecar = models.path().join("joint/model.toml");
    let whole = fs::read_to_string(&sidecar).unwrap();
    let serve = || {
        run_err(&[
            "serve",
            "--models",
            text(models.path()),
            "--listen",
            "127.0.0.1:0",
        ])
    };
    fs::write(&sidecar, whole.replace("multimodal", "telepathic")).unwrap();
    assert!(serve().contains("kind is `telepathic`"));
    fs::write(&sidecar, whole.replace("joint.onnx", "other.onnx")).unwrap();
    assert!(serve().contains("other.onnx"));
}
