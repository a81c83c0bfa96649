//! What `inspect` guesses of a network is a model that opens and answers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use satisfice_multimodal::inspect;
use std::{collections::BTreeMap, fs, path::Path};
use support::{copy, open};

/// A model directory with the network and the guessed sidecar.
fn guessed(model: &str, file: &str) -> (tempfile::TempDir, satisfice_multimodal::Inspection) {
    let files = copy(model);
    let network = files.path().join(file);
    let inspection = inspect(&network, &BTreeMap::new()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.toml"), &inspection.model_toml).unwrap();
    fs::rename(network.parent().unwrap(), dir.path().join("1")).unwrap();
    fs::create_dir_all(network.parent().unwrap()).unwrap();
    (dir, inspection)
}

#[test]
fn guesses_are_models() {
    for (model, file, pieces) in [
        (
            "per_subset",
            "1/image_text_sensor.onnx",
            &["name = \"image\"", "shape = [3, 8, 8] }"][..],
        ),
        (
            "joint",
            "1/joint.onnx",
            &["type = \"text\", input = \"caption\", ids = \"ids\", mask = \"ids_mask\""],
        ),
        (
            "networks/words",
            "net.onnx",
            &["shape = [128] }, # guessed: the length of words"],
        ),
        (
            "networks/all-free",
            "net.onnx",
            &["guessed: the length of dimension 1, dimension 2"],
        ),
        (
            "networks/outputs",
            "net.onnx",
            &["name = \"serving_default_x:0\""],
        ),
        ("networks/half", "net.onnx", &["datatype = \"FP32\""]),
        (
            "networks/state",
            "net.onnx",
            &[
                "name = \"state\", datatype = \"FP32\", shape = [2, \"batch\", 3] }",
                "[[constants]]\nname = \"rate\"\ndatatype = \"INT64\"\nshape = []\nvalue = 16000.0 # guessed",
            ],
        ),
        ("networks/map", "net.onnx", &["task = \"values\" # guessed"]),
    ] {
        let (dir, inspection) = guessed(model, file);
        for piece in pieces {
            assert!(
                inspection.model_toml.contains(piece),
                "{}",
                inspection.model_toml
            );
        }
        if let Some(problem) = &inspection.problem {
            // Two colours where three are usual: said, not hidden.
            assert!(model == "networks/all-free", "{model}: {problem}");
            continue;
        }
        assert!(inspection.runs_in.is_some());
        open(dir.path()).unwrap_or_else(|e| panic!("{model}: {e}\n{}", inspection.model_toml));
    }
}

#[test]
fn what_cannot_be_served_is_said() {
    let fixture = |name: &str| {
        support::fixtures()
            .join("networks")
            .join(name)
            .join("net.onnx")
    };
    let none = BTreeMap::new();
    let tokens = inspect(&fixture("tokens"), &none).unwrap();
    assert_eq!(tokens.outputs[0], "`tokens` FP32 [b, t, 4]");
    assert_eq!(tokens.operators["Gather"], 1);
    assert!(inspect(Path::new("nothing.onnx"), &none).is_err());
    let fixed = inspect(&fixture("four-rows"), &none).unwrap();
    assert!(fixed.problem.unwrap().contains("dynamic batch dimension"));
}

#[test]
fn lengths_that_are_known_are_not_guessed() {
    let network = support::fixtures().join("networks/words/net.onnx");
    let lengths = BTreeMap::from([("words".to_owned(), 11)]);
    let inspection = inspect(&network, &lengths).unwrap();
    let toml = &inspection.model_toml;
    assert!(
        toml.contains("shape = [11] },\n") && !toml.contains("length of words"),
        "{toml}"
    );
}
