//! The files of a store.

use super::{
    GraphInput, ImportOptions, ImportSummary,
    adjacency::{Adjacency, SelfLoops},
    edge_list::EdgeList,
    features,
};
use crate::{
    Duplicates, FileRecord, Manifest, NodeIdKind, Progress, StoreError, TensorSpec, TensorWriter,
    graph_store::{FEATURES, IDS, LABELS, TOPOLOGY},
    node_ids::Ids,
};
use bytemuck::cast_slice;
use safetensors::Dtype;
use std::path::Path;

/// Writes a store in the directory `dir`.
pub(crate) fn write(
    dir: &Path,
    input: &GraphInput,
    edges: &EdgeList,
    adjacency: &Adjacency,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<ImportSummary, StoreError> {
    let loops = adjacency.self_loops();
    let out_degree = adjacency.out_degree(edges)?;
    let mut files = vec![write_topology(dir, adjacency, &out_degree, &loops)?];
    files.push(write_features(dir, input, options, progress)?);
    if let Some(labels) = &input.labels {
        files.push(write_labels(dir, labels)?);
    }
    files.extend(write_ids(dir, input)?);
    let [nodes, features] = features::shape(&input.features)?;
    let undirected = options.undirected || input.undirected;
    let merged = undirected || options.merge_duplicates;
    let manifest = Manifest {
        format: Manifest::FORMAT,
        nodes,
        edges: adjacency.indices.len(),
        features,
        undirected,
        weighted: adjacency.weights.is_some(),
        duplicates: if merged {
            Duplicates::Merged
        } else {
            Duplicates::Kept
        },
        self_loops: loops.counts.iter().map(|&count| u64::from(count)).sum(),
        ids: input.ids.kind(),
        classes: input.classes.clone(),
        files,
    };
    manifest.write(dir)?;
    let isolated = (0..nodes)
        .filter(|&node| {
            adjacency.indptr[node] == adjacency.indptr[node + 1] && out_degree[node] == 0
        })
        .count();
    Ok(ImportSummary {
        edges_read: edges.len() as u64,
        duplicates: adjacency.duplicates,
        isolated,
        skipped_columns: input.skipped_columns.clone(),
        ..ImportSummary::new(&manifest)
    })
}

/// Writes `topology.safetensors` in the directory `dir`.
pub(crate) fn write_topology(
    dir: &Path,
    adjacency: &Adjacency,
    out_degree: &[u32],
    loops: &SelfLoops,
) -> Result<FileRecord, StoreError> {
    let edges = adjacency.indices.len();
    let mut specs = vec![
        TensorSpec::new("indptr", Dtype::U64, vec![adjacency.indptr.len()]),
        TensorSpec::new("indices", Dtype::U32, vec![edges]),
        TensorSpec::new("out_degree", Dtype::U32, vec![out_degree.len()]),
        TensorSpec::new("loop_nodes", Dtype::U32, vec![loops.nodes.len()]),
        TensorSpec::new("loop_counts", Dtype::U32, vec![loops.counts.len()]),
    ];
    if adjacency.weights.is_some() {
        specs.push(TensorSpec::new("weights", Dtype::F32, vec![edges]));
    }
    let mut writer = TensorWriter::create(&dir.join(TOPOLOGY), &specs)?;
    writer.append(cast_slice(&adjacency.indptr))?;
    for values in [&adjacency.indices, out_degree, &loops.nodes, &loops.counts] {
        writer.append(cast_slice(values))?;
    }
    if let Some(weights) = &adjacency.weights {
        writer.append(cast_slice(weights))?;
    }
    writer.finish()
}

fn write_features(
    dir: &Path,
    input: &GraphInput,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<FileRecord, StoreError> {
    let array = &input.features;
    let dtype = options
        .feature_dtype
        .unwrap_or_else(|| features::own_dtype(array));
    let [nodes, width] = features::shape(array)?;
    let spec = TensorSpec::new("x", dtype.dtype(), dtype.shape(nodes, width));
    let mut writer = TensorWriter::create(&dir.join(FEATURES), &[spec])?;
    features::write(array, dtype, &mut writer, progress)?;
    writer.finish()
}

/// Writes `labels.safetensors` in the directory `dir`.
pub(crate) fn write_labels(dir: &Path, labels: &[i32]) -> Result<FileRecord, StoreError> {
    let spec = TensorSpec::new("y", Dtype::I32, vec![labels.len()]);
    let mut writer = TensorWriter::create(&dir.join(LABELS), &[spec])?;
    writer.append(cast_slice(labels))?;
    writer.finish()
}

fn write_ids(dir: &Path, input: &GraphInput) -> Result<Option<FileRecord>, StoreError> {
    if input.ids.kind() == NodeIdKind::Position {
        return Ok(None);
    }
    let slots = input.ids.slots();
    let slot_spec = TensorSpec::new("slots", Dtype::U32, vec![slots.len()]);
    let vector = |name: &str, dtype, len| TensorSpec::new(name, dtype, vec![len]);
    let path = dir.join(IDS);
    let writer = match input.ids.ids() {
        Ids::Str(ids) => {
            let specs = [
                vector("id_offsets", Dtype::U64, ids.offsets.len()),
                slot_spec,
                vector("id_bytes", Dtype::U8, ids.bytes.len()),
            ];
            let mut writer = TensorWriter::create(&path, &specs)?;
            writer.append(cast_slice(ids.offsets))?;
            writer.append(cast_slice(slots))?;
            writer.append(ids.bytes)?;
            writer
        }
        Ids::Int(ids) => {
            let specs = [vector("ids", Dtype::I64, ids.len()), slot_spec];
            let mut writer = TensorWriter::create(&path, &specs)?;
            writer.append(cast_slice(ids))?;
            writer.append(cast_slice(slots))?;
            writer
        }
        Ids::Position { .. } => return Ok(None),
    };
    writer.finish().map(Some)
}
