//! What hostile bytes are thrown at. None of these functions may panic, hang or take memory out of
//! proportion, whatever the bytes; what they refuse, they refuse with an error.
//!
//! `fuzz/` runs them under libFuzzer (`scripts/fuzz`); the test of this crate runs them over the
//! same corpus and random changes of it, on any toolchain.

use bytes::Bytes;
use satisfice_core::InferResponse;
use satisfice_graph::ModelConfig;
use satisfice_server::{
    grpc,
    protocol::{Answer, TensorLimits, client, decode_request, encode_answer},
};
use satisfice_store::{Queries, TensorFile};
use std::{fs, path::Path};

/// A function and the name of its corpus, `fuzz/corpus/<name>`.
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "json_request",
        run: json_request,
    },
    Target {
        name: "json_answer",
        run: json_answer,
    },
    Target {
        name: "grpc_request",
        run: grpc_request,
    },
    Target {
        name: "tensor_file",
        run: tensor_file,
    },
    Target {
        name: "queries_file",
        run: queries_file,
    },
    Target {
        name: "model_toml",
        run: model_toml,
    },
];

/// Enough for the ways to be wrong, and little enough to be quick.
const LIMITS: TensorLimits = TensorLimits {
    tensors_max: 16,
    elements_max: 1 << 16,
    rank_max: 8,
};

/// The length of the JSON document, if it is to have one, and the message: the first two bytes say
/// which, so that fuzzers may change them.
fn message(data: &[u8]) -> (Option<usize>, &[u8]) {
    match data {
        [low, high, body @ ..] => {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            (Some(length).filter(|&length| length != 0), body)
        }
        _ => (None, data),
    }
}

/// A request over HTTP: JSON, or JSON and binary tensors. What is understood can be answered with,
/// and that answer is understood.
///
/// # Panics
/// When an answer made of what was understood is not.
pub fn json_request(data: &[u8]) {
    let (json_length, body) = message(data);
    let Ok(decoded) = decode_request(body, json_length, LIMITS) else {
        return;
    };
    let answer = Answer {
        model: "model".to_owned(),
        version: None,
        id: decoded.id,
        response: InferResponse {
            outputs: decoded.request.inputs,
            parameters: decoded.request.parameters,
        },
    };
    if let Ok(encoded) = encode_answer(answer.clone(), &decoded.format) {
        let again = client::decode_answer(encoded.body, encoded.json_length, LIMITS);
        assert!(again.is_ok(), "{:?} of {answer:?}", again.err());
    }
}

/// An answer over HTTP, as a client reads it.
pub fn json_answer(data: &[u8]) {
    let (json_length, body) = message(data);
    drop(client::decode_answer(body, json_length, LIMITS));
    drop(client::decode_metadata(body));
    drop(client::decode_refusal(body));
}

/// A request over gRPC.
pub fn grpc_request(data: &[u8]) {
    drop(grpc::decode_request(Bytes::copy_from_slice(data), LIMITS));
}

/// A safetensors file, as stores, weights and embeddings are kept in.
pub fn tensor_file(data: &[u8]) {
    with_file(data, |path| {
        let Ok(file) = TensorFile::open(path) else {
            return;
        };
        for name in file.names() {
            drop((file.shape(name), file.dtype(name)));
            drop(file.bytes(name));
            drop(file.slice::<f32>(name));
            drop(file.slice::<u64>(name));
            drop(file.rows(name));
        }
    });
}

/// A file of queries.
pub fn queries_file(data: &[u8]) {
    with_file(data, |path| {
        let Ok(queries) = Queries::open(path) else {
            return;
        };
        for query in 0..queries.len().min(16) {
            drop(queries.batch(query..query + 1));
            let _ = queries.name(query);
        }
    });
}

/// `model.toml`.
pub fn model_toml(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        drop(ModelConfig::parse(text).map(|config| config.default_plan()));
    }
}

/// Hands a file with these bytes over.
///
/// # Panics
/// When there is no place for temporary files.
fn with_file(data: &[u8], read: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let path = dir.path().join("file.safetensors");
    fs::write(&path, data).expect("temporary files can be written");
    read(&path);
}
