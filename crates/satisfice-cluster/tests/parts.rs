//! Parts at rest: the same bytes again, every edge with its source, and each enough for itself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_cluster::{ClusterError, Method, Part, PartManifest, PartitionOptions, partition};
use satisfice_store::{Check, GraphStore, ImportOptions, NoProgress, Source, Tables, import};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use support::{fixture, fixture_dir};

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).unwrap().to_owned();
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}

fn copy(files: &BTreeMap<PathBuf, Vec<u8>>, to: &Path) {
    for (name, bytes) in files {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn parts_are_the_same_bytes_again_and_each_can_be_copied_alone() {
    for method in [Method::Hash, Method::Random, Method::Ldg] {
        let (ready, _) = fixture(&fixture_dir("pyg_gat_directed"));
        let dirs = ready.cut(3, method);
        let first: Vec<_> = dirs.iter().map(|dir| files(dir)).collect();
        fs::remove_dir_all(dirs[0].parent().unwrap()).unwrap();
        let again = ready.cut(3, method);
        let again: Vec<_> = again.iter().map(|dir| files(dir)).collect();
        assert!(first == again, "{method}");
        fs::remove_dir_all(dirs[0].parent().unwrap()).unwrap();
        let (mut nodes, mut edges) = (0, 0);
        for (at, part) in first.iter().enumerate() {
            let alone = tempfile::tempdir().unwrap();
            copy(part, alone.path());
            let opened = Part::open(alone.path(), Check::Checksums).unwrap();
            assert!(opened.missing_tables().is_empty());
            let manifest: PartManifest = opened.manifest().clone();
            assert_eq!((manifest.part, manifest.parts), (at, 3));
            nodes += manifest.nodes;
            edges += manifest.edges;
        }
        assert_eq!(nodes, ready.store.topology().nodes());
        assert_eq!(edges, ready.store.topology().edges());
    }
}

#[test]
fn a_changed_byte_of_any_file_is_found() {
    let (ready, _) = fixture(&fixture_dir("pyg_gcn_2_layers_directed"));
    let part = files(&ready.cut(2, Method::Hash)[1]);
    for (name, bytes) in &part {
        let dir = tempfile::tempdir().unwrap();
        copy(&part, dir.path());
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(dir.path().join(name), changed).unwrap();
        let Err(error) = Part::open(dir.path(), Check::Checksums) else {
            panic!("{}: a changed byte is not found", name.display());
        };
        let named = error.to_string();
        let file = name.file_name().unwrap().to_string_lossy();
        // The model's own files have one checksum.
        let found = named.contains(&*file) || named.contains("another model");
        assert!(found, "{file}: {named}");
    }
}

#[test]
fn a_graph_with_weights_is_not_cut() {
    let (ready, _) = fixture(&fixture_dir("pyg_gat_directed"));
    let [nodes, edges] = ["nodes.csv", "edges.csv"].map(|name| ready.dir.path().join(name));
    fs::write(&nodes, "id,a\n0,0.5\n1,2\n").unwrap();
    fs::write(&edges, "source,target,weight\n0,1,0.1\n").unwrap();
    let tables = Tables {
        nodes,
        edges,
        ..Tables::default()
    };
    let weighted = ready.dir.path().join("weighted");
    let options = ImportOptions::default();
    import(&Source::Tables(tables), &options, &weighted, &NoProgress).unwrap();
    let store = GraphStore::open(&weighted, Check::Checksums).unwrap();
    for embeddings in [false, true] {
        let options = PartitionOptions {
            parts: 2,
            method: Method::Hash,
            seed: 1,
            embeddings,
        };
        let out = ready.dir.path().join("parts");
        let to = (options, out.as_path());
        let made = partition(&ready.model_dir, &ready.model, &store, to, &NoProgress);
        let error = made.unwrap_err();
        assert!(matches!(error, ClusterError::Config { .. }), "{error}");
        assert!(error.to_string().contains("edges have weights"), "{error}");
        assert!(!out.exists());
    }
}
