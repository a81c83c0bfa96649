//! Arrays and exports that are wrong: a typed error with the place, and nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use half::f16;
use satisfice_store::{DType, FeatureDType, ImportOptions, Source};
use std::fs;
use support::{
    EXPORT, Graph, PLAIN, Tensor, Workshop, arrays, bytes_of, export_tensors, npy, npz, refused,
    safetensors, string_ids,
};
use zip::CompressionMethod;

/// The sample's arrays with some of them replaced, as an `.npz` file.
fn npz_with(workshop: &Workshop, replaced: &[(&'static str, Vec<u8>)]) -> Source {
    let mut all = arrays(&Graph::sample());
    all.retain(|(name, _)| replaced.iter().all(|(other, _)| other != name));
    all.extend(
        replaced
            .iter()
            .filter(|(_, bytes)| !bytes.is_empty())
            .cloned(),
    );
    let path = workshop.path("g.npz");
    npz(&path, &all, CompressionMethod::Deflated);
    Source::Arrays(path)
}

#[test]
fn arrays_that_are_wrong() {
    let edges = |descr: &str, shape: &[usize], bytes: &[u8]| {
        ("edge_index", npy(descr, false, shape, bytes))
    };
    let pair = |a: i64, b: i64| edges("<i8", &[2, 1], &bytes_of(&[a, b]));
    let x =
        |descr: &str, shape: &[usize], bytes: &[u8]| ("node_feat", npy(descr, false, shape, bytes));
    let y = |shape: &[usize], values: &[f64]| {
        ("node_label", npy("<f8", false, shape, &bytes_of(values)))
    };
    let mut nan = Graph::sample().flat();
    nan[7] = f32::NAN;
    let cases = [
        (
            pair(0, 7),
            "edge 0 (counted from 0) names node 7, but there are 7 nodes",
        ),
        (pair(-1, 0), "names node -1"),
        (pair(i64::MIN, 0), "names node -9223372036854775808"),
        (
            edges("<u8", &[2, 1], &[0xff; 16]),
            "names node 9223372036854775807",
        ),
        (edges("<f4", &[2, 1], &[0; 8]), "integers are needed"),
        (edges("<i8", &[1, 2], &[0; 16]), "transpose it"),
        (edges("<i8", &[2], &[0; 16]), "edges are [2, edges]"),
        (edges("<i8", &[2, 2], &[0; 16]), "cut off"),
        (edges("<i8", &[2, usize::MAX], &[0; 16]), "cut off"),
        (edges("|O", &[2, 1], b"pickle"), "Python objects"),
        (edges(">i8", &[2, 1], &[0; 16]), "big-endian"),
        (("edge_index", Vec::new()), "no array `edge_index`"),
        (("node_feat", Vec::new()), "no array `node_feat` or `x`"),
        (("edge_index", b"not an array".to_vec()), "no .npy file"),
        (x("<f4", &[7], &[0; 28]), "features are [nodes, features]"),
        (x("<f4", &[7, 0], &[]), "no features"),
        (x("<f4", &[0, 3], &[]), "0 nodes"),
        (
            x("<f4", &[usize::MAX, 0], &[]),
            "18446744073709551615 nodes",
        ),
        (
            x("<f4", &[7, 3], &bytes_of(&nan)),
            "node 2 (counted from 0), feature 1: not a finite F32",
        ),
        (
            x("<f8", &[7, 1], &bytes_of(&[1e300_f64; 7])),
            "node 0 (counted from 0), feature 0",
        ),
        (x("<U8", &[7, 1], &[0; 224]), "elements of type"),
        (y(&[6], &[0.0; 6]), "labels are one class a node"),
        (y(&[7, 2], &[0.0; 14]), "labels are one class a node"),
        (
            y(&[7], &[0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]),
            "node 1 (counted from 0) has the label 0.5",
        ),
        (y(&[7], &[-2.0; 7]), "has the label -2"),
        (y(&[7], &[f64::INFINITY; 7]), "has the label inf"),
        (
            ("num_nodes", npy("<i8", false, &[], &bytes_of(&[8_i64]))),
            "features of 7 nodes",
        ),
        (
            ("num_nodes", npy("<i8", false, &[2], &[0; 16])),
            "it is one number",
        ),
    ];
    let workshop = Workshop::new();
    for (array, wanted) in cases {
        let source = npz_with(&workshop, &[array]);
        let message = refused(&workshop, &source, &PLAIN, wanted);
        assert!(
            message.contains("g.npz"),
            "the archive is named, not a copy: {message}"
        );
    }
}

#[test]
fn arrays_and_tensors_that_are_not_read_are_named() {
    let workshop = Workshop::new();
    let floats = || npy("<f4", false, &[11], &[0; 44]);
    for name in ["edge_attr", "affinity_weights"] {
        let source = npz_with(&workshop, &[(name, floats())]);
        refused(
            &workshop,
            &source,
            &PLAIN,
            &format!("array `{name}` would be lost"),
        );
        let options = ImportOptions {
            ignored_columns: vec![name.to_owned()],
            ..PLAIN
        };
        let (_, summary) = workshop.import(&source, &options).unwrap();
        assert_eq!(summary.skipped_columns, [name]);
    }
    let source = npz_with(&workshop, &[("x", floats()), ("year", floats())]);
    let (_, summary) = workshop.import(&source, &PLAIN).unwrap();
    assert_eq!(summary.skipped_columns, ["x", "year"]);
    let mut tensors = export_tensors(&Graph::sample());
    tensors.push(("edge_time", DType::F32, vec![11], vec![0; 44]));
    let path = workshop.path("t.safetensors");
    safetensors(&path, &tensors, &[EXPORT]);
    refused(
        &workshop,
        &Source::Export(path),
        &PLAIN,
        "tensor `edge_time` would be lost",
    );
}

#[test]
fn archives_that_are_cut_off_never_panic() {
    let workshop = Workshop::new();
    let source = npz_with(&workshop, &[]);
    let path = workshop.path("g.npz");
    let bytes = fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(11) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(workshop.import(&source, &PLAIN).is_err(), "{length}");
    }
    for at in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, damaged).unwrap();
        if let Ok((out, _)) = workshop.import(&source, &PLAIN) {
            fs::remove_dir_all(out).unwrap();
        }
    }
}

#[test]
fn exports_that_are_wrong() {
    let replaced = |tensor: Tensor| {
        let mut tensors = export_tensors(&Graph::sample());
        tensors.retain(|t| t.0 != tensor.0);
        tensors.push(tensor);
        tensors
    };
    let strings = |ids: &[&str]| {
        let mut tensors = export_tensors(&Graph::sample());
        tensors.extend(string_ids(ids));
        tensors
    };
    let twice = [5_i64, 6, 7, 8, 9, 10, 6];
    let cases = [
        (
            replaced(("x", DType::F64, vec![7, 1], vec![0; 56])),
            "holds F64, but F32 or F16",
        ),
        (
            replaced(("x", DType::F32, vec![7], vec![0; 28])),
            "features are [nodes, features]",
        ),
        (
            replaced(("y", DType::I32, vec![7], vec![0; 28])),
            "holds I32, but I64",
        ),
        (
            replaced(("y", DType::I64, vec![6], vec![0; 48])),
            "one class a node",
        ),
        (
            replaced(("y", DType::I64, vec![7], bytes_of(&[3_i64; 7]))),
            "there are 3 class names",
        ),
        (
            replaced(("edge_index", DType::F32, vec![2, 1], vec![0; 8])),
            "holds F32",
        ),
        (
            replaced(("ids", DType::I64, vec![7], bytes_of(&twice))),
            "nodes 1 and 6",
        ),
        (
            replaced(("ids", DType::I64, vec![6], vec![0; 48])),
            "`ids` has shape [6]",
        ),
        (
            strings(&["a", "b", "c", "d", "e", "a", "f"]),
            "nodes 0 and 5",
        ),
        (strings(&["a", "b"]), "`id_offsets` has shape [3]"),
    ];
    let workshop = Workshop::new();
    let path = workshop.path("g.safetensors");
    let source = Source::Export(path.clone());
    let classes = ("class_names", r#"["a", "b", "c"]"#);
    for (tensors, wanted) in cases {
        safetensors(&path, &tensors, &[EXPORT, classes]);
        refused(&workshop, &source, &PLAIN, wanted);
    }
    let whole = export_tensors(&Graph::sample());
    let metadata: [(&[(&str, &str)], &str); 5] = [
        (&[], "says no format"),
        (&[("format", "satisfice-graph-9")], "satisfice-graph-9"),
        (&[EXPORT, ("undirected", "maybe")], "maybe"),
        (&[EXPORT, ("class_names", "a, b")], "JSON list"),
        (&[EXPORT, ("undirected", "true")], "stands twice"),
    ];
    for (metadata, wanted) in metadata {
        safetensors(&path, &whole, metadata);
        refused(&workshop, &source, &PLAIN, wanted);
    }
    safetensors(&path, &whole[1..], &[EXPORT]);
    refused(
        &workshop,
        &source,
        &PLAIN,
        "no tensor `edge_index`; there are `x`, `y`",
    );
}

#[test]
fn features_too_large_for_half_precision_are_named() {
    let workshop = Workshop::new();
    let mut graph = Graph::sample();
    graph.x[5][2] = f16::MAX.to_f32() * 2.0;
    let path = workshop.path("g.safetensors");
    safetensors(&path, &export_tensors(&graph), &[EXPORT]);
    let options = ImportOptions {
        feature_dtype: Some(FeatureDType::F16),
        ..PLAIN
    };
    refused(
        &workshop,
        &Source::Export(path),
        &options,
        "node 5 (counted from 0), feature 2",
    );
}
