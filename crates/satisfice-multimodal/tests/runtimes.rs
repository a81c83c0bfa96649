//! Which runtime executes a model, and what happens where it is missing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use satisfice_multimodal::{ModelDir, MultimodalEngine, MultimodalError, OpenOptions};
use std::{fs, path::Path};
use support::{copy, edit};

fn open_with(dir: &Path, library: &Path) -> Result<MultimodalEngine, MultimodalError> {
    let options = OpenOptions {
        onnxruntime: Some(library.to_owned()),
        ..OpenOptions::default()
    };
    MultimodalEngine::open(&ModelDir::open(dir, None).unwrap(), &options)
}

#[test]
fn a_library_that_is_none() {
    let dir = copy("joint");
    let nothing = dir.path().join("libonnxruntime.so");
    let text = dir.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    for library in [&nothing, &text] {
        // What the model leaves open is executed by tract.
        let engine = open_with(dir.path(), library).unwrap();
        assert!(engine.runtime().starts_with("tract"));
    }
    edit(
        dir.path(),
        "[output]",
        "runtime = \"onnxruntime\"\n[output]",
    );
    for library in [&nothing, &text] {
        let error = open_with(dir.path(), library).unwrap_err();
        let MultimodalError::Runtime { message, hint } = &error else {
            panic!("{error}")
        };
        assert!(message.contains(library.to_str().unwrap()), "{message}");
        assert!(hint.contains("scripts/onnxruntime"), "{hint}");
    }
}

#[test]
fn the_library_that_the_environment_names() {
    let engine = support::engine("joint");
    match std::env::var_os("ORT_DYLIB_PATH") {
        Some(_) => assert!(engine.runtime().starts_with("ONNX Runtime 1.")),
        None => assert!(engine.runtime().starts_with("tract")),
    }
}
