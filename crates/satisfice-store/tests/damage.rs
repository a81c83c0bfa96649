//! Damaged stores: whatever byte has changed, the file and tensor are named.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use satisfice_store::{Check, GraphStore, ImportOptions, Queries, Source, StoreError, verify};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use support::{EXPORT, Graph, Workshop, export_tensors, files, safetensors, string_ids};

/// A store with all four files.
fn store(workshop: &Workshop) -> PathBuf {
    let mut tensors = export_tensors(&Graph::sample());
    tensors.extend(string_ids(&[
        "bash", "libc6", "zsh", "fish", "", "dash", "ksh",
    ]));
    let export = workshop.path("g.safetensors");
    let metadata = [EXPORT, ("class_names", r#"["a", "b", "c"]"#)];
    safetensors(&export, &tensors, &metadata);
    workshop
        .import(&Source::Export(export), &ImportOptions::default())
        .unwrap()
        .0
}

/// Where the header and each tensor of a safetensors file are.
fn parts(bytes: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let (json, header) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
    let start = 8 + json;
    let mut parts = vec![("header".to_owned(), 0..start)];
    for (name, info) in header.tensors() {
        let (from, to) = info.data_offsets;
        parts.push((name, start + from..start + to));
    }
    parts
}

fn with(dir: &Path, name: &str, bytes: &[u8], look: impl FnOnce()) {
    let path = dir.join(name);
    let before = fs::read(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    look();
    fs::write(&path, before).unwrap();
}

#[test]
fn every_flipped_byte_is_found_and_its_tensor_named() {
    let workshop = Workshop::new();
    let dir = store(&workshop);
    let mut flips = BTreeMap::new();
    for (name, bytes) in files(&dir) {
        let parts = match name.as_str() {
            "manifest.toml" => vec![(String::new(), 0..bytes.len())],
            _ => parts(&bytes),
        };
        for (part, range) in parts {
            for at in range {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                with(&dir, &name, &damaged, || {
                    let error = verify(&dir).expect_err(&format!("{name} {part} {at}"));
                    let message = error.to_string();
                    assert!(message.contains(&name), "{at}: {message}");
                    assert!(message.contains(&part), "{name} {part} {at}: {message}");
                    let _ = GraphStore::open(&dir, Check::Structure);
                });
                *flips.entry((name.clone(), part.clone())).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(flips.len(), 15, "{flips:?}");
    verify(&dir).unwrap();
}

#[test]
fn a_flipped_byte_names_what_was_written_and_what_is_there() {
    let workshop = Workshop::new();
    let dir = store(&workshop);
    let mut bytes = files(&dir)["features.safetensors"].clone();
    *bytes.last_mut().unwrap() ^= 1;
    with(&dir, "features.safetensors", &bytes, || {
        match verify(&dir) {
            Err(StoreError::Checksum {
                path,
                part,
                expected,
                found,
            }) => {
                assert!(path.ends_with("features.safetensors"));
                assert_eq!(part, "x");
                assert_eq!((expected.len(), found.len()), (16, 16));
                assert_ne!(expected, found);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn files_that_are_cut_off_or_gone_are_typed_errors() {
    let workshop = Workshop::new();
    let dir = store(&workshop);
    for (name, bytes) in files(&dir) {
        for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            with(&dir, &name, &bytes[..length], || {
                for check in [Check::Structure, Check::Checksums] {
                    let error =
                        GraphStore::open(&dir, check).expect_err(&format!("{name} {length}"));
                    assert!(error.to_string().contains(&name), "{length}: {error}");
                }
            });
        }
        let longer = [&bytes[..], b"x"].concat();
        with(&dir, &name, &longer, || {
            assert!(verify(&dir).is_err(), "{name}");
        });
        fs::remove_file(dir.join(&name)).unwrap();
        assert!(matches!(
            verify(&dir),
            Err(StoreError::Io { .. } | StoreError::NotAStore { .. })
        ));
        fs::write(dir.join(&name), bytes).unwrap();
    }
    verify(&dir).unwrap();
}

/// A manifest of other text, with a checksum that is right.
fn manifest(dir: &Path, edit: impl Fn(&str) -> String) -> Vec<u8> {
    let text = fs::read_to_string(dir.join("manifest.toml")).unwrap();
    let rest = edit(text.split_once('\n').unwrap().1);
    let checksum = xxhash_rust::xxh3::xxh3_64(rest.as_bytes());
    format!("checksum = \"{checksum:016x}\"\n{rest}").into_bytes()
}

#[test]
fn manifests_that_contradict_the_files_are_refused_without_checksums_too() {
    let workshop = Workshop::new();
    let dir = store(&workshop);
    let cases = [
        ("format = 1", "format = 2", "format 2"),
        ("nodes = 7", "nodes = 8", "indptr"),
        ("nodes = 7", "nodes = 0", "0 nodes"),
        ("nodes = 7", "nodes = 4294967295", "4294967295 nodes"),
        ("nodes = 7", "nodes = -7", "invalid value"),
        ("edges = 11", "edges = 12", "indices"),
        ("features = 3", "features = 4", "`x`"),
        ("self_loops = 3", "self_loops = 4", "loop_counts"),
        ("ids = \"string\"", "ids = \"int64\"", "no tensor `ids`"),
        ("ids = \"string\"", "ids = \"uuid\"", "uuid"),
        (
            "classes = [\"a\", \"b\", \"c\"]",
            "classes = [\"a\"]",
            "no class",
        ),
        ("duplicates = \"kept\"", "duplicates = \"lost\"", "lost"),
        (
            "name = \"features.safetensors\"",
            "name = \"other\"",
            "features.safetensors",
        ),
    ];
    for (from, to, wanted) in cases {
        let edited = manifest(&dir, |text| {
            assert!(text.contains(from), "{from} in {text}");
            text.replacen(from, to, 1)
        });
        with(&dir, "manifest.toml", &edited, || {
            let error = GraphStore::open(&dir, Check::Structure).expect_err(to);
            assert!(error.to_string().contains(wanted), "{to}: {error}");
        });
    }
}

/// Replaces one tensor and opens the store without checksums.
fn open_with(dir: &Path, file: &str, tensor: &str, edit: impl Fn(&mut [u8])) -> StoreError {
    let mut bytes = files(dir)[file].clone();
    let range = parts(&bytes)
        .into_iter()
        .find(|(name, _)| name == tensor)
        .unwrap()
        .1;
    edit(&mut bytes[range]);
    let mut error = None;
    with(dir, file, &bytes, || {
        error = Some(GraphStore::open(dir, Check::Structure).expect_err(tensor));
    });
    error.unwrap()
}

type Edit = fn(&mut [u8]);

#[test]
fn structure_is_checked_without_checksums() {
    let workshop = Workshop::new();
    let dir = store(&workshop);
    let cases: [(&str, &str, Edit); 12] = [
        ("topology", "indptr", |b| b[0] = 1),
        ("topology", "indptr", |b| b[8] = 200),
        ("topology", "indptr", |b| b[56] = 12),
        ("topology", "indices", |b| b[0] = 7),
        ("topology", "indices", |b| b[0..4].fill(0xff)),
        ("topology", "out_degree", |b| b[0] += 1),
        ("topology", "loop_nodes", |b| b[0..4].fill(0xff)),
        ("topology", "loop_counts", |b| b[0] += 1),
        ("labels", "y", |b| b[0] = 3),
        ("ids", "id_offsets", |b| b[8] = 255),
        ("ids", "id_bytes", |b| b[0] = 0xff),
        ("ids", "slots", |b| b.fill(0xff)),
    ];
    for (file, tensor, edit) in cases {
        let file = format!("{file}.safetensors");
        let error = open_with(&dir, &file, tensor, edit);
        assert!(
            matches!(error, StoreError::Inconsistent { .. }),
            "{file} {tensor}: {error}"
        );
        assert!(error.to_string().contains(&file), "{error}");
    }
    // A table without an empty slot must not be searched for ever.
    open_with(&dir, "ids.safetensors", "slots", |b| b.fill(0));
}

#[test]
fn a_directory_without_a_manifest_is_no_store() {
    let workshop = Workshop::new();
    let error = GraphStore::open(workshop.0.path(), Check::Structure).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }));
    assert!(error.to_string().contains("satisfice import"));
}

#[test]
fn damaged_queries_are_typed_errors() {
    let workshop = Workshop::new();
    let path = workshop.path("q.safetensors");
    support::queries_file(&path);
    let bytes = fs::read(&path).unwrap();
    Queries::open(&path).unwrap();
    for length in (0..bytes.len()).step_by(5) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(Queries::open(&path).is_err(), "{length}");
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x80;
        fs::write(&path, damaged).unwrap();
        if let Ok(queries) = Queries::open(&path) {
            let _ = queries.batch(0..queries.len());
            let _ = queries.name(0);
        }
    }
}
