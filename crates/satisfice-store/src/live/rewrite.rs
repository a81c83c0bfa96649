//! A snapshot as files of a store.

use super::Snapshot;
use crate::{
    FileRecord, Manifest, NodeId, NodeIdKind, Progress, StoreError, TensorSpec, TensorWriter,
    error::At,
    graph_store::{FEATURES, IDS, LABELS, TOPOLOGY},
    node_ids::{Ids, Strings},
};
use bytemuck::cast_slice;
use half::f16;
use safetensors::Dtype;
use satisfice_kernels::{Rows, quantize_row};
use std::{fs, path::Path};

const EXTENSION: &str = ".safetensors";

/// Name of a file of the store that a compaction at `version` makes; nobody else's file has it.
fn file_name(role: &str, version: u64) -> String {
    format!("{}-{version}{EXTENSION}", role.trim_end_matches(EXTENSION))
}

/// Whether `name` is the imported file `role`, or one that took its place.
pub(crate) fn has_role(name: &str, role: &str) -> bool {
    let rest = name.strip_prefix(role.trim_end_matches(EXTENSION));
    match rest.and_then(|rest| rest.strip_suffix(EXTENSION)) {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix('-')
            .is_some_and(|version| version.parse::<u64>().is_ok()),
        None => false,
    }
}

/// Removes files of the store in the directory `path` that its manifest does not list.
pub(super) fn remove_unlisted(path: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    for entry in fs::read_dir(path).at(path, "look into it")? {
        let name = entry.at(path, "look into it")?.file_name();
        let name = name.to_string_lossy();
        let whole = name.trim_end_matches(".partial");
        let is_file = [TOPOLOGY, FEATURES, LABELS, IDS]
            .iter()
            .any(|role| has_role(whole, role));
        if is_file && !manifest.files.iter().any(|file| file.name == name) {
            let file = path.join(&*name);
            fs::remove_file(&file).at(&file, "remove it")?;
        }
    }
    Ok(())
}

/// Writes a snapshot without the positions of deleted nodes.
pub(super) struct Rewrite<'a> {
    snapshot: &'a Snapshot,
    /// New positions by old ones; empty where they are the same.
    moved: Vec<u32>,
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let mut moved = Vec::new();
        if snapshot.live_nodes() < snapshot.nodes() {
            let mut next = 0;
            moved.extend((0..snapshot.nodes() as u32).map(|node| {
                let position = next;
                next += u32::from(!snapshot.is_deleted(node));
                position
            }));
        }
        Self { snapshot, moved }
    }

    /// Whether nodes whose ids were positions need ids now.
    pub(super) fn makes_ids(&self) -> bool {
        self.snapshot.id_kind() == NodeIdKind::Position && !self.moved.is_empty()
    }

    /// Writes the files in the directory `dir`; returns their manifest, which is not written.
    pub(super) fn write(
        &self,
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<Manifest, StoreError> {
        let old = self.snapshot.base().manifest();
        let (topology, self_loops) = self.write_topology(dir)?;
        let mut files = vec![topology, self.write_features(dir, progress)?];
        if self.snapshot.base().labels().is_some() {
            files.push(self.write_labels(dir)?);
        }
        let ids = match old.ids {
            NodeIdKind::Position if self.makes_ids() => NodeIdKind::Int64,
            kind => kind,
        };
        if ids != NodeIdKind::Position {
            files.push(self.write_ids(dir)?);
        }
        Ok(Manifest {
            nodes: self.snapshot.live_nodes(),
            edges: self.snapshot.edges(),
            self_loops,
            ids,
            files,
            ..old.clone()
        })
    }

    fn nodes(&self) -> impl Iterator<Item = u32> {
        (0..self.snapshot.nodes() as u32).filter(|&node| !self.snapshot.is_deleted(node))
    }

    fn create(
        &self,
        dir: &Path,
        role: &str,
        tensors: &[TensorSpec],
    ) -> Result<TensorWriter, StoreError> {
        TensorWriter::create(&dir.join(file_name(role, self.snapshot.version())), tensors)
    }

    fn write_topology(&self, dir: &Path) -> Result<(FileRecord, u64), StoreError> {
        let snapshot = self.snapshot;
        let loops = self.nodes().map(|node| snapshot.self_loops(node));
        let loops: Vec<(u32, u32)> = (0..).zip(loops).filter(|&(_, count)| count > 0).collect();
        let nodes = snapshot.live_nodes();
        let vector = |name: &str, dtype, len| TensorSpec::new(name, dtype, vec![len]);
        let specs = [
            vector("indptr", Dtype::U64, nodes + 1),
            vector("indices", Dtype::U32, snapshot.edges()),
            vector("out_degree", Dtype::U32, nodes),
            vector("loop_nodes", Dtype::U32, loops.len()),
            vector("loop_counts", Dtype::U32, loops.len()),
        ];
        let mut writer = self.create(dir, TOPOLOGY, &specs)?;
        let mut end = 0_u64;
        writer.append(&end.to_le_bytes())?;
        for node in self.nodes() {
            end += u64::from(snapshot.in_degree(node));
            writer.append(&end.to_le_bytes())?;
        }
        let mut sources = Vec::new();
        for node in self.nodes() {
            let old = snapshot.in_neighbors(node);
            sources.clear();
            match self.moved.is_empty() {
                true => sources.extend_from_slice(old),
                false => sources.extend(old.iter().map(|&source| self.moved[source as usize])),
            }
            writer.append(cast_slice(&sources))?;
        }
        for node in self.nodes() {
            writer.append(&snapshot.out_degree(node).to_le_bytes())?;
        }
        for &(node, _) in &loops {
            writer.append(&node.to_le_bytes())?;
        }
        for &(_, count) in &loops {
            writer.append(&count.to_le_bytes())?;
        }
        let self_loops = loops.iter().map(|&(_, count)| u64::from(count)).sum();
        Ok((writer.finish()?, self_loops))
    }

    fn write_features(
        &self,
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<FileRecord, StoreError> {
        let (rows, dtype) = (
            self.snapshot.base().features(),
            self.snapshot.base().feature_dtype(),
        );
        let columns = rows.row_bytes() / (dtype.bitsize() / 8);
        let nodes = self.snapshot.live_nodes();
        let spec = TensorSpec::new("x", dtype, vec![nodes, columns]);
        let mut writer = self.create(dir, FEATURES, &[spec])?;
        progress.start("writing features", Some(nodes as u64));
        let mut bytes = Vec::new();
        for (written, node) in self.nodes().enumerate() {
            match self.snapshot.feature_patch(node) {
                Some(row) => {
                    encode_row(row, dtype, &mut bytes);
                    writer.append(&bytes)?;
                }
                None => writer.append(rows.bytes(node as usize))?,
            }
            if written % 4096 == 4095 {
                progress.advance(4096);
            }
        }
        progress.finish();
        writer.finish()
    }

    fn write_labels(&self, dir: &Path) -> Result<FileRecord, StoreError> {
        let spec = TensorSpec::new("y", Dtype::I32, vec![self.snapshot.live_nodes()]);
        let mut writer = self.create(dir, LABELS, &[spec])?;
        for node in self.nodes() {
            writer.append(&self.snapshot.label(node).to_le_bytes())?;
        }
        writer.finish()
    }

    fn write_ids(&self, dir: &Path) -> Result<FileRecord, StoreError> {
        let (mut integers, mut offsets, mut bytes) = (Vec::new(), vec![0_u64], Vec::new());
        for node in self.nodes() {
            match self.snapshot.id_of(node) {
                NodeId::Int(id) => integers.push(id),
                NodeId::Str(id) => {
                    bytes.extend_from_slice(id.as_bytes());
                    offsets.push(bytes.len() as u64);
                }
            }
        }
        let is_text = self.snapshot.id_kind() == NodeIdKind::String;
        let strings = Strings {
            offsets: &offsets,
            bytes: &bytes,
        };
        let ids = match is_text {
            true => Ids::Str(strings),
            false => Ids::Int(&integers),
        };
        let slots = ids
            .slots()
            .map_err(|(first, second)| StoreError::DuplicateId {
                path: dir.to_owned(),
                id: crate::error::shown(&ids.text(first)),
                first,
                second,
            })?;
        let vector = |name: &str, dtype, len| TensorSpec::new(name, dtype, vec![len]);
        let slots_spec = vector("slots", Dtype::U32, slots.len());
        let specs = match is_text {
            true => vec![
                vector("id_offsets", Dtype::U64, offsets.len()),
                slots_spec,
                vector("id_bytes", Dtype::U8, bytes.len()),
            ],
            false => vec![vector("ids", Dtype::I64, integers.len()), slots_spec],
        };
        let mut writer = self.create(dir, IDS, &specs)?;
        match is_text {
            true => writer.append(cast_slice(&offsets))?,
            false => writer.append(cast_slice(&integers))?,
        }
        writer.append(cast_slice(&slots))?;
        if is_text {
            writer.append(&bytes)?;
        }
        writer.finish()
    }
}

/// A row as the store keeps it; it was rounded to that when it was put.
fn encode_row(row: &[f32], dtype: Dtype, bytes: &mut Vec<u8>) {
    bytes.clear();
    match dtype {
        Dtype::F16 => bytes.extend(row.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes())),
        Dtype::I8 => {
            let quantized = quantized(row);
            bytes.extend_from_slice(cast_slice(&quantized));
        }
        _ => bytes.extend_from_slice(cast_slice(row)),
    }
}

/// The 8-bit integers and scale that `row` was rounded to. The scale that is found of its largest value may be off
/// by its last digit.
fn quantized(row: &[f32]) -> Vec<i8> {
    let mut found = Vec::new();
    quantize_row(row, &mut found);
    let scale = f32::from_le_bytes([0, 1, 2, 3].map(|byte| found[byte] as u8));
    let mut read = vec![0.0; row.len()];
    for scale in [scale, scale.next_down(), scale.next_up()] {
        for (byte, of_scale) in found.iter_mut().zip(scale.to_le_bytes()) {
            *byte = of_scale as i8;
        }
        Rows::i8(&found, row.len()).read(0, &mut read);
        if read == row {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_row_of_bytes_is_found_again(
            values in prop::collection::vec(-1.0_f32..1.0, 1..5),
            exponent in -146_i32..126,
        ) {
            let values: Vec<f32> = values.iter().map(|v| v * 2.0_f32.powi(exponent)).collect();
            let mut bytes = Vec::new();
            quantize_row(&values, &mut bytes);
            let mut row = vec![0.0; values.len()];
            Rows::i8(&bytes, row.len()).read(0, &mut row);
            let mut again = vec![0.0; row.len()];
            Rows::i8(&quantized(&row), row.len()).read(0, &mut again);
            prop_assert_eq!(row, again);
        }
    }
}
