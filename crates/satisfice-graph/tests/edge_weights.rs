//! A graph whose edges have weights is refused by models that would not read them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_graph::{GnnModel, GraphEngine, GraphError, ModelDir, PrecomputeOptions, precompute};
use satisfice_store::{Check, GraphStore, ImportOptions, NoProgress, Source, Tables, import};
use std::{fs, sync::Arc};

#[test]
fn weights_are_never_left_unread() {
    let fixtures = support::fixtures();
    let is = |dir: &&std::path::PathBuf| dir.ends_with("pyg_gcn_3_layers_directed");
    let case = fixtures.iter().find(is).unwrap();
    let ready = support::prepare(case, &case.join("graph.safetensors"));
    let model_dir = ModelDir::open(ready.dir.path(), None).unwrap();
    let model = GnnModel::load(model_dir.config(), &model_dir.weights_path()).unwrap();
    let [nodes, edges] = ["nodes.csv", "edges.csv"].map(|name| ready.dir.path().join(name));
    fs::write(&nodes, "id,a\n0,0.5\n1,2\n").unwrap();
    fs::write(&edges, "source,target,weight\n0,1,0.1\n").unwrap();
    let tables = Tables {
        nodes,
        edges,
        ..Tables::default()
    };
    let options = ImportOptions {
        overwrite: true,
        ..ImportOptions::default()
    };
    let out = model_dir.store_path();
    import(&Source::Tables(tables), &options, &out, &NoProgress).unwrap();
    let store = Arc::new(GraphStore::open(&out, Check::Checksums).unwrap());
    let options = PrecomputeOptions::default();
    let computed = precompute(&model_dir, &model, &store, options, &NoProgress);
    let opened = GraphEngine::open(&model_dir, store, Check::Checksums);
    for error in [computed.unwrap_err(), opened.unwrap_err()] {
        assert!(matches!(error, GraphError::Config { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("edges have weights"), "{message}");
        assert!(message.contains("--ignore-column"), "{message}");
    }
}
