//! The graph export: one safetensors file.

use super::{
    GraphInput, OwnedIds,
    array::{Array, Strided},
    features,
    ids::IdCollector,
    ignored::{self, Ignored},
    labels,
};
use crate::{StoreError, TensorFile, node_ids::Strings};
use safetensors::Dtype;
use std::path::Path;

const FORMAT: &str = "satisfice-graph-1";

/// Tensors that an export has.
const KNOWN: [&str; 7] = [
    "edge_index",
    "edge_weight",
    "x",
    "y",
    "ids",
    "id_offsets",
    "id_bytes",
];

pub(crate) fn read(path: &Path, ignored: Ignored<'_>) -> Result<GraphInput, StoreError> {
    let path = if path.is_dir() {
        path.join("graph.safetensors")
    } else {
        path.to_owned()
    };
    let file = TensorFile::open(&path)?;
    check_format(&file)?;
    let skipped_columns = left_out(&file, ignored)?;
    let weights = if file.has("edge_weight") && !ignored.has("edge_weight") {
        let array = Array::of_tensor(&file, "edge_weight", &[Dtype::F32, Dtype::F16])?;
        Some(array)
    } else {
        None
    };
    let edges = Array::of_tensor(&file, "edge_index", &[Dtype::I64, Dtype::I32])?;
    let features = Array::of_tensor(&file, "x", &[Dtype::F32, Dtype::F16])?;
    let [nodes, _] = features::shape(&features)?;
    let classes = class_names(&file)?;
    let labels = if file.has("y") {
        let array = Array::of_tensor(&file, "y", &[Dtype::I64])?;
        Some(labels::of_array(
            &array,
            nodes,
            classes.as_ref().map(Vec::len),
        )?)
    } else {
        None
    };
    Ok(GraphInput {
        nodes,
        edges,
        weights,
        features,
        labels,
        classes,
        ids: ids(&file, nodes)?,
        undirected: undirected(&file)?,
        skipped_columns,
        path,
    })
}

/// Tensors that are not read, because the caller says so.
fn left_out(file: &TensorFile, ignored: Ignored<'_>) -> Result<Vec<String>, StoreError> {
    // Weights are the one tensor that may be read and may be left out.
    let read = |name: &&str| KNOWN.contains(name) && (*name != "edge_weight" || !ignored.has(name));
    let names = file.names().filter(|name| !read(name));
    let unread: Vec<String> = names.map(str::to_owned).collect();
    match unread.iter().find(|name| !ignored.has(name)) {
        Some(name) => Err(ignored::lost(file.path(), "tensor", name, "")),
        None => Ok(unread),
    }
}

fn unsupported(file: &TensorFile, message: String, hint: &str) -> StoreError {
    StoreError::Unsupported {
        path: file.path().to_owned(),
        message,
        hint: hint.to_owned(),
    }
}

fn check_format(file: &TensorFile) -> Result<(), StoreError> {
    const HINT: &str = "write graph exports with `export_graph` of the Python package";
    match file.metadata("format") {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(unsupported(
            file,
            format!("its metadata says format = \"{found}\", not \"{FORMAT}\""),
            HINT,
        )),
        None => Err(unsupported(
            file,
            "its metadata says no format".to_owned(),
            HINT,
        )),
    }
}

fn undirected(file: &TensorFile) -> Result<bool, StoreError> {
    match file.metadata("undirected") {
        Some("true") => Ok(true),
        Some("false") | None => Ok(false),
        Some(other) => Err(unsupported(
            file,
            format!("its metadata says undirected = \"{other}\""),
            "it is \"true\" or \"false\"",
        )),
    }
}

fn class_names(file: &TensorFile) -> Result<Option<Vec<String>>, StoreError> {
    let Some(json) = file.metadata("class_names") else {
        return Ok(None);
    };
    serde_json::from_str(json).map(Some).map_err(|e| {
        unsupported(
            file,
            format!("its metadata's class_names cannot be read: {e}"),
            "they are a JSON list of strings",
        )
    })
}

fn ids(file: &TensorFile, nodes: usize) -> Result<OwnedIds, StoreError> {
    if file.has("ids") {
        file.expect_shape("ids", &[Some(nodes)])?;
        let array = Array::of_tensor(file, "ids", &[Dtype::I64])?;
        let mut ids = vec![0; nodes];
        array.read_integers(
            Strided {
                start: 0,
                stride: 1,
            },
            &mut ids,
        );
        return IdCollector::of_integers(ids).finish(file.path());
    }
    if file.has("id_offsets") {
        file.expect_shape("id_offsets", &[Some(nodes + 1)])?;
        let array = Array::of_tensor(file, "id_offsets", &[Dtype::I64])?;
        let mut offsets = vec![0; nodes + 1];
        array.read_integers(
            Strided {
                start: 0,
                stride: 1,
            },
            &mut offsets,
        );
        // A negative offset becomes one that is larger than any file.
        let offsets: Vec<u64> = offsets.into_iter().map(|offset| offset as u64).collect();
        file.expect_shape("id_bytes", &[None])?;
        let bytes = file.slice::<u8>("id_bytes")?;
        let strings = Strings {
            offsets: &offsets,
            bytes,
        };
        if let Some(problem) = strings.problem() {
            return Err(file.inconsistent("id_offsets", problem));
        }
        let bytes = bytes.to_vec();
        return IdCollector::of_strings(offsets, bytes).finish(file.path());
    }
    Ok(OwnedIds::positions(nodes))
}
