//! Directories as Optimum exports them answer as Transformers does; `bench/parity/multimodal/make_huggingface.py`
//! makes them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use satisfice_core::{Engine, InferRequest};
use satisfice_multimodal::{Imported, MultimodalEngine, import_huggingface};
use serde::Deserialize;
use std::{env, fs, path::Path};
use support::{bytes, copy, fixtures, largest_difference, logits, named, open};

#[derive(Debug, Deserialize)]
struct Case {
    directory: String,
    #[serde(default)]
    texts: Vec<String>,
    #[serde(default)]
    pictures: usize,
    answers: Vec<Vec<f32>>,
}

impl Case {
    fn all() -> Vec<Self> {
        let json = fs::read(fixtures().join("huggingface/cases.json")).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    fn request(&self) -> InferRequest {
        let picture = |i: usize| fs::read(fixtures().join(format!("huggingface/pictures/{i}.png")));
        let input = match self.texts.as_slice() {
            [] => named(
                "picture",
                bytes((0..self.pictures).map(|i| picture(i).unwrap())),
            ),
            texts => named("text", bytes(texts)),
        };
        InferRequest {
            inputs: vec![input],
            ..InferRequest::default()
        }
    }
}

fn opened(imported: &Imported, runtime: &str) -> MultimodalEngine {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("1")).unwrap();
    let toml = format!("runtime = \"{runtime}\"\n{}", imported.model_toml);
    fs::write(dir.path().join("model.toml"), &toml).unwrap();
    for (from, name) in &imported.files {
        fs::copy(from, dir.path().join("1").join(name)).unwrap();
    }
    open(dir.path()).unwrap_or_else(|e| panic!("{e}\n{toml}"))
}

#[test]
fn exported_directories_answer_as_transformers() {
    let mut runtimes = vec!["tract"];
    runtimes.extend(env::var_os("ORT_DYLIB_PATH").map(|_| "onnxruntime"));
    for case in Case::all() {
        let dir = fixtures().join("huggingface").join(&case.directory);
        let tokens = (!case.texts.is_empty()).then_some(12);
        let imported = import_huggingface(&dir, tokens).unwrap();
        for runtime in &runtimes {
            let engine = opened(&imported, runtime);
            let off = largest_difference(&logits(&engine, &case.request()), &case.answers.concat());
            println!("{} in {runtime}: off by {off}", case.directory);
            assert!(
                off < 1e-4,
                "{} in {runtime}: off by {off}\n{}",
                case.directory,
                imported.model_toml
            );
            let classes = engine.classes();
            match case.directory.as_str() {
                "classifier" => assert_eq!(classes, ["bad", "good", "so so"]),
                "sentences" => assert!(classes.is_empty() && engine.metadata().outputs.len() == 1),
                _ => assert_eq!(classes, ["cat", "dog", "bird"]),
            }
        }
    }
}

/// What refuses a copy of a directory with a piece of a file replaced.
fn refusal(directory: &str, change: impl FnOnce(&Path)) -> String {
    let dir = copy(&format!("huggingface/{directory}"));
    change(dir.path());
    import_huggingface(dir.path(), None)
        .unwrap_err()
        .to_string()
}

fn replaced(file: &'static str, from: &'static str, to: &'static str) -> impl FnOnce(&Path) {
    move |dir| {
        let text = fs::read_to_string(dir.join(file)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(dir.join(file), text.replacen(from, to, 1)).unwrap();
    }
}

#[test]
fn what_is_not_served_is_named() {
    let pictures = "preprocessor_config.json";
    for (directory, file, from, to, message) in [
        (
            "vit",
            pictures,
            "\"resample\": 2",
            "\"resample\": 0",
            "resample 0 is none of",
        ),
        (
            "vit",
            pictures,
            "\"height\": 16",
            "\"longest_edge\": 16",
            "preprocessor_config.json",
        ),
        (
            "vit",
            pictures,
            "\"do_resize\": true",
            "\"do_resize\": false",
            "do_resize = false",
        ),
        (
            "clip",
            pictures,
            "\"do_center_crop\": true",
            "\"do_center_crop\": false",
            "shortest_edge without",
        ),
        (
            "clip",
            pictures,
            "\"shortest_edge\": 18",
            "\"shortest_edge\": 15",
            "filled with black",
        ),
        (
            "classifier",
            "config.json",
            "ForSequenceClassification",
            "ForMaskedLM",
            "BertForMaskedLM",
        ),
        (
            "sentences",
            "1_Pooling/config.json",
            "\"pooling_mode_mean_tokens\": true",
            "\"pooling_mode_max_tokens\": true",
            "pooling_mode_max_tokens",
        ),
        ("classifier", "config.json", "{", "", "config.json"),
    ] {
        let refusal = refusal(directory, replaced(file, from, to));
        assert!(refusal.contains(message), "{refusal}");
    }
    let gone = |file: &'static str| move |dir: &Path| fs::remove_file(dir.join(file)).unwrap();
    assert!(refusal("classifier", gone("tokenizer.json")).contains("save_pretrained"));
    assert!(refusal("classifier", gone("model.onnx")).contains("optimum-cli export onnx"));
    assert!(refusal("vit", gone(pictures)).contains("which is not there"));
    let writes = |dir: &Path| fs::write(dir.join("decoder_model.onnx"), "").unwrap();
    assert!(refusal("classifier", writes).contains("generate text are not served"));
    let dir = fixtures().join("huggingface/classifier");
    let too_long = import_huggingface(&dir, Some(49)).unwrap_err().to_string();
    assert!(too_long.contains("at most 48 tokens"), "{too_long}");
}

#[test]
fn what_is_taken_instead_is_noted() {
    let dir = copy("huggingface/sentences");
    fs::remove_file(dir.path().join("1_Pooling/config.json")).unwrap();
    fs::create_dir(dir.path().join("onnx")).unwrap();
    fs::rename(
        dir.path().join("model.onnx"),
        dir.path().join("onnx/model.onnx"),
    )
    .unwrap();
    fs::copy(
        dir.path().join("onnx/model.onnx"),
        dir.path().join("onnx/model_quantized.onnx"),
    )
    .unwrap();
    let imported = import_huggingface(dir.path(), None).unwrap();
    let notes = imported.notes.join("\n");
    assert!(
        notes.contains("48 tokens, of 48") && notes.contains("pool = \"mean\""),
        "{notes}"
    );
    let engine = opened(&imported, "tract");
    let names: Vec<_> = engine
        .batching()
        .unwrap()
        .strategies()
        .iter()
        .map(|s| &s.name)
        .collect();
    assert_eq!(names, ["text", "text@int8"]);
    let labels = r#""problem_type": "multi_label_classification","#;
    let dir = copy("huggingface/classifier");
    let path = dir.path().join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        config
            .replacen('{', &format!("{{{labels}"), 1)
            .replace("\"problem_type\": null,", ""),
    )
    .unwrap();
    let imported = import_huggingface(dir.path(), Some(12)).unwrap();
    assert!(imported.notes.concat().contains("several labels may hold"));
    assert!(imported.model_toml.contains("task = \"values\""));
}
