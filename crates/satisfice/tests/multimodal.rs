//! `satisfice profile` and `satisfice serve` with multi-modal models, from outside.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};
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
    let mut args = vec![
        "profile",
        text(model),
        "--quick",
        "--all-variants",
        "--data",
        text(&data),
    ];
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

/// Audited inputs within which a plan is noticed that promises to be as all modalities on 99 of 100
/// inputs, and gives every input the same answer.
const NOTICED_WITHIN: usize = 30;

/// Has the profile of `model` say that the picture alone is as good as everything, and all else ten
/// times as slow as it is.
fn falsify(model: &Path) {
    let path = model.join("1/profile.json");
    let mut profile: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for strategy in profile["strategies"].as_array_mut().unwrap() {
        if strategy["name"] == "image" {
            strategy["fidelity"] = json!({ "expected": 0.995, "lower": 0.99, "lower_alone": 0.99 });
            continue;
        }
        for latency in strategy["latency"].as_array_mut().unwrap() {
            for key in ["p50_seconds", "p90_seconds", "planned_seconds"] {
                latency[key] = (10.0 * latency[key].as_f64().unwrap()).into();
            }
        }
    }
    fs::write(&path, profile.to_string()).unwrap();
}

/// A counter of the picture's strategy, as the metrics have it.
fn of_picture(server: &Server, counter: &str) -> usize {
    let (_, metrics) = server.get("/metrics");
    let is = |line: &&str| line.starts_with(counter) && line.contains("plan=\"image\"");
    let line = metrics.lines().find(is);
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or(0)
}

#[test]
fn a_wrong_profile_is_noticed() {
    let models = repository("fused");
    let model = models.path().join("fused");
    profile(&model, &[]);
    falsify(&model);
    let server = Server::start_with(models.path(), &["--audit-share", "1"]);
    // A grey picture says nothing, the text everything.
    let grey = json!({
        "name": "image", "datatype": "FP32", "shape": [1, 3, 8, 8], "data": vec![0.5; 192],
    });
    let ask = |i: usize| {
        let words = ["red", "green", "blue"][i % 3];
        let mut body = caption(words, &json!({ "min_fidelity": 0.6 }));
        body["inputs"].as_array_mut().unwrap().push(grey.clone());
        let (status, answer) = server.infer("fused", &body);
        assert_eq!(status, 200, "{answer}");
        answer["parameters"]["plan"].as_str().unwrap().to_owned()
    };
    let noticed = (0..NOTICED_WITHIN).find(|&i| {
        if ask(i) != "image" {
            return true;
        }
        let is_audited = |_| {
            std::thread::sleep(Duration::from_millis(5));
            of_picture(&server, "satisfice_audited_inputs_total{") > i
        };
        assert!((0..2000).any(is_audited), "request {i} was not audited");
        false
    });
    println!("noticed by request {noticed:?}");
    assert!(noticed.is_some_and(|i| i > 0), "{noticed:?}");
    assert_eq!(of_picture(&server, "satisfice_broken_promises_total{"), 1);
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

/// The example on the page: where it is sent, and what.
fn example(line: &str) -> (String, Vec<u8>) {
    let path = |line: &str| {
        let (_, rest) = line.split_once("curl http://test/").unwrap();
        format!("/{}", rest.split_once(' ').unwrap().0)
    };
    if let Some((_, body)) = line.split_once(" -d '") {
        let body = body.strip_suffix('\'').unwrap().replace("'\\''", "'");
        return (path(line), body.into_bytes());
    }
    let (command, _) = line.split_once(" | curl").unwrap();
    let mut shell = std::process::Command::new("sh");
    let made = shell.args(["-c", command]).output().unwrap();
    assert!(made.status.success(), "{command}");
    (path(line), made.stdout)
}

#[test]
fn every_example_that_the_page_shows_is_answered() {
    let graph = "pyg_sage_mean_directed";
    let models = support::repository(&[graph]);
    for model in ["fused", "joint", "per_subset"] {
        let of_one = repository(model);
        fs::rename(of_one.path().join(model), models.path().join(model)).unwrap();
    }
    let server = Server::start(models.path());
    let (status, page) = server.get("/");
    assert_eq!(status, 200, "{page}");
    let examples = page.split("<pre>").skip(1);
    let examples = examples.map(|rest| rest.split_once("</pre>").unwrap().0);
    let examples: Vec<String> = examples
        .map(|text| {
            text.replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&amp;", "&")
        })
        .collect();
    assert_eq!(examples.len(), 4, "{page}");
    for line in &examples {
        let (path, body) = example(line);
        let (status, answer) = server.post(&path, &[], &body);
        assert_eq!(status, 200, "{line}: {answer}");
    }
}

#[test]
fn what_optimum_exported_is_imported_and_served() {
    let models = tempfile::tempdir().unwrap();
    let out = models.path().join("opinions");
    let from = fixtures().join("huggingface/classifier");
    let import = ["import-hf", text(&from), "--out", text(&out)];
    let said = run_ok(&import);
    assert!(
        said.contains("runs in") && said.contains("48 tokens, of 48"),
        "{said}"
    );
    assert!(run_err(&import).contains("is there already"));
    let other = models.path().join("other");
    let nothing = run_err(&["import-hf", text(models.path()), "--out", text(&other)]);
    assert!(
        nothing.contains("no model.onnx") && !other.exists(),
        "{nothing}"
    );
    let server = Server::start(models.path());
    let body = json!({
        "inputs": [{ "name": "text", "datatype": "BYTES", "shape": [1], "data": ["a red cat"] }],
        "outputs": [{ "name": "class_name" }],
    });
    let (status, answer) = server.infer("opinions", &body);
    assert_eq!(status, 200, "{answer}");
    let class = answer["outputs"][0]["data"][0].as_str().unwrap();
    assert!(["bad", "good", "so so"].contains(&class), "{answer}");
}
