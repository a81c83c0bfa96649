//! One pass over the stored graph: the embeddings of every node, layer by layer.

use crate::{
    GraphError, ModelDir,
    embeddings::{Manifest, OpenTable, Precision, Table, check_graph, graph_view},
    model::GnnModel,
    run::{GraphView, Kept, LayerPass, Stored},
};
use bytemuck::cast_slice;
use half::{f16, slice::HalfFloatSliceExt};
use satisfice_kernels::{Rows, WriteLock, quantize_row};
use satisfice_store::{DType, FileRecord, GraphStore, Progress, TensorSpec, TensorWriter};
use serde::Serialize;
use std::{fs, io, path::Path};

/// What to keep, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrecomputeOptions {
    /// Precision of the values.
    pub precision: Precision,
    /// Whether each node's sum over its sources is kept too, in f32, and what the first layer adds of
    /// its own value: recomputation then reads what changed instead of every source, and has no
    /// dense product at the first layer.
    pub sums: bool,
}

impl Default for PrecomputeOptions {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            sums: true,
        }
    }
}

impl PrecomputeOptions {
    /// How a model's embeddings are kept now.
    ///
    /// # Errors
    /// [`GraphError::Embeddings`] where there are none.
    pub fn kept(model_dir: &ModelDir, model: &GnnModel) -> Result<Self, GraphError> {
        let manifest = Manifest::read(&model_dir.embeddings_path())?;
        let of_recomputation = |table: &Table| matches!(table, Table::Sums(_) | Table::Own);
        Ok(Self {
            precision: manifest.precision,
            sums: Table::all(model, true)
                .into_iter()
                .filter(of_recomputation)
                .all(|table| manifest.table(table).is_some()),
        })
    }
}

/// What a precomputation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrecomputeSummary {
    /// Tables computed now: `h1` holds the values after layer 1, `m1` and `s1` the messages and sums that
    /// went into them.
    pub computed: Vec<String>,
    /// Tables that an earlier run had finished, checked and kept.
    pub kept: Vec<String>,
    /// Bytes of all tables on disk.
    pub bytes: u64,
}

/// Computes the embeddings of every stored node, layer by layer, on all cores, and writes each
/// table when it is whole. Tables that an interrupted run has finished are kept when they belong to
/// the same graph, weights, layers and precision; anything else there is replaced. One process at a time may do so.
///
/// Memory: the tables read are mapped; a chunk of the table written is held.
///
/// # Errors
/// [`GraphError`], with the file or tensor at fault.
pub fn precompute(
    model_dir: &ModelDir,
    model: &GnnModel,
    store: &GraphStore,
    options: PrecomputeOptions,
    progress: &dyn Progress,
) -> Result<PrecomputeSummary, GraphError> {
    check_graph(model, store, model_dir)?;
    let dir = model_dir.embeddings_path();
    let _lock = lock(&dir)?;
    fs::create_dir_all(&dir).map_err(|source| GraphError::Io {
        path: dir.clone(),
        source,
    })?;
    let model_fingerprint = model_dir.fingerprint()?;
    let mut manifest = Manifest::new(store.fingerprint(), model_fingerprint, options.precision);
    let wanted = Table::all(model, options.sums);
    manifest.tables = finished_tables(&dir, &manifest, &wanted);
    let kept = manifest.tables.len();
    let loops: Vec<(u32, u32)> = store.self_loops().collect();
    let mut pass = Pass {
        dir: &dir,
        model,
        store,
        graph: graph_view(store, &loops),
        options,
        progress,
        finished: wanted[..kept].to_vec(),
    };
    manifest.write(&dir)?;
    for &table in &wanted[kept..] {
        manifest.tables.push(pass.compute(table)?);
        manifest.write(&dir)?;
        pass.finished.push(table);
    }
    for table in Table::all(model, true) {
        if !wanted.contains(&table) {
            remove_if_there(&table.path(&dir))?;
        }
    }
    let names = |tables: &[Table]| tables.iter().map(|table| table.name()).collect();
    Ok(PrecomputeSummary {
        computed: names(&wanted[kept..]),
        kept: names(&wanted[..kept]),
        bytes: manifest.tables.iter().map(|file| file.bytes).sum(),
    })
}

/// The right to write the embeddings in `dir`.
pub(crate) fn lock(dir: &Path) -> Result<WriteLock, GraphError> {
    WriteLock::take(dir).map_err(|source| GraphError::Io {
        path: dir.to_owned(),
        source,
    })
}

fn remove_if_there(path: &Path) -> Result<(), GraphError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(GraphError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Of the tables wanted, the first ones that a run with the same manifest has finished and that are
/// whole.
fn finished_tables(dir: &Path, manifest: &Manifest, wanted: &[Table]) -> Vec<FileRecord> {
    let Ok(found) = Manifest::read(dir) else {
        return Vec::new();
    };
    let same = Manifest {
        tables: Vec::new(),
        ..found.clone()
    } == *manifest;
    let tables = wanted.iter().map_while(|table| found.table(*table));
    match same {
        true => tables
            .take_while(|file| file.verify(dir).is_ok())
            .cloned()
            .collect(),
        false => Vec::new(),
    }
}

/// One pass over the stored graph.
struct Pass<'a> {
    dir: &'a Path,
    model: &'a GnnModel,
    store: &'a GraphStore,
    graph: GraphView<'a>,
    options: PrecomputeOptions,
    progress: &'a dyn Progress,
    /// The tables that are there.
    finished: Vec<Table>,
}

/// Stored nodes computed between two writes.
const CHUNK_NODES: usize = 16_384;

impl Pass<'_> {
    /// Computes and writes a table.
    fn compute(&self, table: Table) -> Result<FileRecord, GraphError> {
        let nodes = self.store.nodes();
        let precision = match table {
            Table::Values(_) | Table::Messages(_) | Table::Own => self.options.precision,
            Table::Sums(_) => Precision::F32,
        };
        let width = table.width(self.model);
        let (dtype, columns) = match precision {
            Precision::F32 => (DType::F32, width),
            Precision::F16 => (DType::F16, width),
            Precision::Int8 => (DType::I8, size_of::<f32>() + width),
        };
        let spec = TensorSpec::new(table.tensor(), dtype, vec![nodes, columns]);
        let mut writer = TensorWriter::create(&table.path(self.dir), &[spec])?;
        let task = match table {
            Table::Values(level) => format!("layer {level} of {}", self.model.layers() - 1),
            Table::Messages(layer) => format!("messages of layer {layer}"),
            Table::Sums(layer) => format!("sums of layer {layer}"),
            Table::Own => "own terms of layer 1".to_owned(),
        };
        self.progress.start(&task, Some(nodes as u64));
        let mut write = |values: &[f32], nodes: usize| -> Result<(), GraphError> {
            append(&mut writer, precision, values, width)?;
            self.progress.advance(nodes as u64);
            Ok(())
        };
        match table {
            Table::Values(0) => self.input(&mut write)?,
            Table::Values(layer) => self.with_layer(layer, |pass, kept, nodes| {
                write(&pass.values(nodes, kept)?, nodes.len())
            })?,
            Table::Messages(layer) => self.with_layer(layer, |pass, _, nodes| {
                write(&pass.messages(nodes)?, nodes.len())
            })?,
            Table::Sums(layer) => self.with_layer(layer, |pass, kept, nodes| {
                write(&pass.reduced(nodes, kept)?, nodes.len())
            })?,
            Table::Own => self.with_layer(1, |pass, _, nodes| {
                write(&pass.own(nodes)?.unwrap_or_default(), nodes.len())
            })?,
        }
        self.progress.finish();
        Ok(writer.finish()?)
    }

    fn input(&self, write: &mut Write<'_>) -> Result<(), GraphError> {
        let features = self.store.features();
        for nodes in chunks(self.store.nodes()) {
            let mut rows = vec![0.0; nodes.len() * features.width()];
            for (row, &node) in rows.chunks_exact_mut(features.width()).zip(&nodes) {
                features.read(node as usize, row);
            }
            write(&self.model.apply_input(rows), nodes.len())?;
        }
        Ok(())
    }

    /// Goes over all stored nodes, chunk by chunk, with a layer and what is kept of it already.
    fn with_layer(
        &self,
        layer: usize,
        mut chunk: impl FnMut(&LayerPass<'_>, Kept<'_>, &[u32]) -> Result<(), GraphError>,
    ) -> Result<(), GraphError> {
        let values = |level: usize| match level == 0 && !self.model.has_input() {
            true => Ok(None),
            false => Table::Values(level).open(self.dir).map(Some),
        };
        let (initial, below) = (values(0)?, values(layer - 1)?);
        let initial = self.rows(initial.as_ref())?;
        let below = self.rows(below.as_ref())?;
        let messages = self.open_kept(Table::Messages(layer))?;
        let reduced = self.open_kept(Table::Sums(layer))?;
        let own = match layer {
            1 => self.open_kept(Table::Own)?,
            _ => None,
        };
        let kept = Kept {
            own: stored(own.as_ref())?,
            messages: stored(messages.as_ref())?,
            reduced: stored(reduced.as_ref())?,
        };
        let pass = LayerPass::new(&self.model.layers[layer - 1], self.graph, initial, below);
        for nodes in chunks(self.store.nodes()) {
            chunk(&pass, kept, &nodes)?;
        }
        Ok(())
    }

    /// A table of the model that this run, or the one that it goes on from, has finished.
    fn open_kept(&self, table: Table) -> Result<Option<OpenTable>, GraphError> {
        match self.finished.contains(&table) {
            true => table.open(self.dir).map(Some),
            false => Ok(None),
        }
    }

    /// The rows of a table, or the features.
    fn rows<'r>(&'r self, table: Option<&'r OpenTable>) -> Result<Rows<'r>, GraphError> {
        match table {
            Some(table) => table.rows(),
            None => Ok(self.store.features()),
        }
    }
}

fn stored(table: Option<&OpenTable>) -> Result<Option<Stored<'_>>, GraphError> {
    let rows = table.map(OpenTable::rows).transpose()?;
    Ok(rows.map(Into::into))
}

/// Takes the values of some more nodes, and how many nodes.
type Write<'a> = dyn FnMut(&[f32], usize) -> Result<(), GraphError> + 'a;

fn append(
    writer: &mut TensorWriter,
    precision: Precision,
    values: &[f32],
    width: usize,
) -> Result<(), GraphError> {
    match precision {
        Precision::F32 => writer.append(cast_slice(values))?,
        Precision::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            writer.append(cast_slice(&halves))?;
        }
        Precision::Int8 => {
            if values.iter().any(|value| !value.is_finite()) {
                return Err(not_finite(writer.path()));
            }
            let mut bytes = Vec::new();
            for row in values.chunks_exact(width) {
                quantize_row(row, &mut bytes);
            }
            writer.append(cast_slice(&bytes))?;
        }
    }
    Ok(())
}

fn not_finite(path: &Path) -> GraphError {
    GraphError::Embeddings {
        path: path.to_owned(),
        message: "a value is not finite, and int8 has no such value: keep f32".to_owned(),
    }
}

fn chunks(nodes: usize) -> impl Iterator<Item = Vec<u32>> {
    (0..nodes)
        .step_by(CHUNK_NODES)
        .map(move |start| (start as u32..nodes.min(start + CHUNK_NODES) as u32).collect())
}
