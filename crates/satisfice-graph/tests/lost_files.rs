//! A file that is lost while something is made of it: nothing is made, and the file is named.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_graph::{GnnModel, GraphError, ModelDir, Plan, PrecomputeOptions, precompute};
use satisfice_store::{NoProgress, StoreError};
use std::{
    fs::{self, OpenOptions},
    path::Path,
};

fn truncate(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(0).unwrap();
}

#[test]
fn nothing_is_answered_or_written_of_a_lost_file() {
    let fixtures = support::fixtures();
    let is = |dir: &&std::path::PathBuf| dir.ends_with("pyg_gcn_3_layers_directed");
    let case = fixtures.iter().find(is).unwrap();
    let ready = support::prepare(case, &case.join("graph.safetensors"));
    let batch = ready.engine.attach(support::case(case)).unwrap();
    let model_dir = ModelDir::open(ready.dir.path(), None).unwrap();
    let model = GnnModel::load(model_dir.config(), &model_dir.weights_path()).unwrap();
    fs::remove_dir_all(model_dir.embeddings_path()).unwrap();
    ready.engine.answer(&batch, Plan::Exact).unwrap();

    let lost = model_dir.store_path().join("features.safetensors");
    truncate(&lost);
    for plan in [Plan::Precomputed, Plan::Exact] {
        let error = ready.engine.answer(&batch, plan).unwrap_err();
        let GraphError::Store(StoreError::Lost(found)) = &error else {
            panic!("{error}");
        };
        assert_eq!(found.path, lost);
    }
    let options = PrecomputeOptions::default();
    let error = precompute(&model_dir, &model, &ready.store, options, &NoProgress).unwrap_err();
    let named = error.to_string().contains(lost.to_str().unwrap());
    assert!(named, "{error}");
    let entries = fs::read_dir(model_dir.embeddings_path()).unwrap();
    let tables: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "manifest.toml")
        .collect();
    assert!(tables.is_empty(), "{tables:?}");
}
