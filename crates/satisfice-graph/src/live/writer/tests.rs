#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use super::*;
use satisfice_core::{ByteStrings, NamedTensor, Parameter};
use satisfice_store::{Check, ImportOptions, NoProgress, Source, Tables, import};
use std::{fs, time::Instant};
use tempfile::TempDir;

const TEXT: &str = "id,label,f0,f1\na,0,1,2\nb,1,3,4\nc,0,5,6\n";
const NUMBERS: &str = "id,label,f0,f1\n10,0,1,2\n20,1,3,4\n30,0,5,6\n";

/// Three nodes with the edges 0 -> 1 and 1 -> 2.
fn writer(nodes: &str) -> (TempDir, GraphWriter) {
    let dir = TempDir::new().unwrap();
    let id = |row: usize| nodes.lines().nth(row).unwrap().split(',').next().unwrap();
    let edges = format!("source,target\n{},{}\n{},{}\n", id(1), id(2), id(2), id(3));
    let (node_file, edge_file) = (dir.path().join("n.csv"), dir.path().join("e.csv"));
    fs::write(&node_file, nodes).unwrap();
    fs::write(&edge_file, edges).unwrap();
    let source = Source::Tables(Tables {
        edges: edge_file,
        nodes: node_file,
        ..Tables::default()
    });
    let store = dir.path().join("store");
    import(&source, &ImportOptions::default(), &store, &NoProgress).unwrap();
    let graph = LiveGraph::open(&store, Check::Checksums).unwrap();
    (dir, GraphWriter::new("store", graph))
}

fn tensor(name: &str, shape: &[usize], data: TensorData) -> NamedTensor {
    NamedTensor {
        name: name.to_owned(),
        tensor: Tensor::new(shape.to_vec(), data).unwrap(),
    }
}

fn texts(name: &str, shape: &[usize], values: &[&str]) -> NamedTensor {
    let strings: ByteStrings = values.iter().map(|value| value.as_bytes()).collect();
    tensor(name, shape, TensorData::Bytes(strings))
}

fn ints(name: &str, shape: &[usize], values: &[i64]) -> NamedTensor {
    tensor(name, shape, TensorData::Int64(values.to_vec()))
}

fn floats(name: &str, shape: &[usize], values: &[f32]) -> NamedTensor {
    tensor(name, shape, TensorData::Fp32(values.to_vec()))
}

fn request(inputs: Vec<NamedTensor>) -> ApplyRequest {
    ApplyRequest {
        inputs,
        ..ApplyRequest::default()
    }
}

fn with(mut request: ApplyRequest, parameters: &[(&str, Parameter)]) -> ApplyRequest {
    let parameters = parameters.iter();
    let parameters = parameters.map(|(name, value)| ((*name).to_owned(), value.clone()));
    request.parameters = parameters.collect();
    request
}

#[test]
fn one_write_deletes_and_puts_in_its_order() {
    let (_dir, writer) = writer(TEXT);
    let answer = writer
        .apply(&request(vec![
            texts("edge_index", &[2, 2], &["d", "a", "a", "c"]),
            texts("node_ids", &[2], &["d", "a"]),
            floats("x", &[2, 2], &[7.0, 8.0, 9.0, 10.0]),
            ints("y", &[2], &[1, -1]),
            texts("delete_nodes", &[1], &["b"]),
            texts("delete_edges", &[2, 1], &["a", "b"]),
        ]))
        .unwrap();
    assert_eq!(answer.version, 1);
    assert!(!answer.repeated);
    assert_eq!((answer.nodes_added, answer.nodes_deleted), (1, 1));
    assert_eq!((answer.edges_added, answer.edges_deleted), (2, 2));
    let snapshot = writer.graph().snapshot();
    let node = |id: &str| snapshot.position_of_text(id);
    let (a, c, d) = (node("a").unwrap(), node("c").unwrap(), node("d").unwrap());
    assert_eq!(node("b"), None);
    assert_eq!(snapshot.in_neighbors(a), [d]);
    assert_eq!(snapshot.in_neighbors(c), [a]);
    assert_eq!(snapshot.feature_patch(d), Some(&[7.0, 8.0][..]));
    assert_eq!(snapshot.feature_patch(a), Some(&[9.0, 10.0][..]));
    assert_eq!((snapshot.label(d), snapshot.label(a)), (1, -1));
    let status = writer.status();
    assert_eq!((status.version, status.nodes, status.edges), (1, 3, 2));
    assert_eq!((status.features, status.directed), (2, true));
    assert!(status.log_bytes > 0 && status.failed.is_none());
}

#[test]
fn numbers_come_as_numbers_or_as_decimal_text() {
    let (_dir, writer) = writer(NUMBERS);
    let put = request(vec![ints("edge_index", &[2, 1], &[30, 10])]);
    assert_eq!(writer.apply(&put).unwrap().edges_added, 1);
    let delete = request(vec![texts("delete_edges", &[2, 1], &["30", "10"])]);
    assert_eq!(writer.apply(&delete).unwrap().edges_deleted, 1);
    let nodes = tensor("delete_nodes", &[1], TensorData::Int32(vec![30]));
    let answer = writer.apply(&request(vec![nodes])).unwrap();
    assert_eq!((answer.nodes_deleted, answer.edges_deleted), (1, 1));
}

#[test]
fn a_wrong_write_changes_nothing_and_names_what_is_wrong() {
    let (_dir, writer) = writer(TEXT);
    let nodes = || texts("node_ids", &[2], &["d", "e"]);
    for (inputs, code, words) in [
        (vec![], "nothing_written", "holds nothing"),
        (vec![ints("nodes", &[1], &[1])], "unknown_input", "`nodes`"),
        (
            vec![floats("x", &[1, 2], &[0.0; 2])],
            "missing_input",
            "`node_ids`",
        ),
        (
            vec![nodes(), floats("x", &[1, 2], &[0.0; 2])],
            "wrong_shape",
            "1 nodes",
        ),
        (
            vec![nodes(), floats("x", &[4], &[0.0; 4])],
            "wrong_shape",
            "[4]",
        ),
        (
            vec![nodes(), floats("x", &[2, 3], &[0.0; 6])],
            "wrong_operation",
            "3 features",
        ),
        (
            vec![nodes(), floats("x", &[2, 2], &[0.0, 0.0, 0.0, f32::NAN])],
            "wrong_operation",
            "operation 1",
        ),
        (
            vec![
                nodes(),
                floats("x", &[2, 2], &[0.0; 4]),
                ints("y", &[2], &[0, 1 << 40]),
            ],
            "wrong_label",
            "element 1",
        ),
        (
            vec![nodes(), ints("y", &[2], &[0, 0])],
            "wrong_operation",
            "needs features",
        ),
        (
            vec![ints("delete_nodes", &[1], &[0])],
            "wrong_datatype",
            "BYTES",
        ),
        (
            vec![texts("delete_nodes", &[1, 1], &["a"])],
            "wrong_shape",
            "[1, 1]",
        ),
        (
            vec![texts("edge_index", &[1, 2], &["a", "b"])],
            "wrong_shape",
            "[1, 2]",
        ),
        (
            vec![texts("edge_index", &[2, 2], &["a", "a", "c", "nobody"])],
            "wrong_operation",
            "`nobody`",
        ),
    ] {
        let error = writer.apply(&request(inputs)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.code(), code, "{text}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        assert!(text.contains(words), "{words} is not in: {text}");
    }
    let strings: ByteStrings = [&[0xff_u8][..]].into_iter().collect();
    let wrong = request(vec![tensor(
        "delete_nodes",
        &[1],
        TensorData::Bytes(strings),
    )]);
    assert_eq!(writer.apply(&wrong).unwrap_err().code(), "wrong_node_id");
    let snapshot = writer.graph().snapshot();
    assert_eq!(
        (snapshot.version(), snapshot.live_nodes(), snapshot.edges()),
        (0, 3, 2)
    );
}

#[test]
fn parameters_say_when_a_write_is_done() {
    let (_dir, writer) = writer(TEXT);
    let put = || request(vec![texts("edge_index", &[2, 1], &["c", "a"])]);
    let apply = |parameters: &[(&str, Parameter)]| writer.apply(&with(put(), parameters));
    let code = |parameters: &[(&str, Parameter)]| apply(parameters).unwrap_err().code();
    assert_eq!(code(&[("source", "s".into())]), "wrong_parameter");
    assert_eq!(code(&[("offset", 1_i64.into())]), "wrong_parameter");
    assert_eq!(code(&[("if_version", 1_i64.into())]), "version_moved");
    let first = apply(&[("request_id", "r".into()), ("if_version", 0_i64.into())]).unwrap();
    assert_eq!(
        (first.version, first.repeated, first.edges_added),
        (1, false, 1)
    );
    let again = apply(&[("request_id", "r".into())]).unwrap();
    assert_eq!((again.version, again.repeated), (1, true));
    let other = with(
        request(vec![texts("edge_index", &[2, 1], &["b", "a"])]),
        &[("request_id", "r".into())],
    );
    let reused = writer.apply(&other).unwrap_err();
    assert_eq!(reused.code(), "request_id_reused");
    let of_source = |offset: i64| apply(&[("source", "s".into()), ("offset", offset.into())]);
    assert!(!of_source(5).unwrap().repeated);
    assert!(of_source(5).unwrap().repeated);
    assert!(of_source(4).unwrap().repeated);
    assert!(!of_source(6).unwrap().repeated);
    let mut visible = with(put(), &[("ack", "visible".into())]);
    visible.deadline = Some(Instant::now() + Duration::from_mins(1));
    assert_eq!(
        writer.apply(&visible).unwrap().version,
        writer.status().version
    );
    assert_eq!(writer.status().pending(), 0);
}
