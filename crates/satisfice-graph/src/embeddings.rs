//! Values of every stored node after each layer, computed once and kept.

use crate::{
    GraphError, ModelDir,
    model::GnnModel,
    run::{GraphView, Kept, LayerPass},
};
use bytemuck::cast_slice;
use half::{f16, slice::HalfFloatSliceExt};
use satisfice_kernels::Rows;
use satisfice_store::{
    Check, DType, FileRecord, GraphStore, Progress, TensorFile, TensorSpec, TensorWriter,
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Precision in which embeddings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats: the `exact` plan is exact.
    F32,
    /// 16-bit floats: half the memory; values the batch does not change are rounded.
    F16,
}

const FORMAT: u32 = 1;

/// One kept table, `[nodes, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    /// Values after a layer; of level 0, before the first.
    Values(usize),
    /// What each node sends as a source of a layer, where that is not its value.
    Messages(usize),
    /// What a layer sums over the sources of each node.
    Sums(usize),
}

impl Table {
    /// All tables of a model in the order in which they are computed: values of level 0 where they
    /// are not the features; then of each layer its messages, where they are not the values below,
    /// and, but for the last layer, its sums, where wanted and where it has some, and its values.
    fn all(model: &GnnModel, with_sums: bool) -> Vec<Self> {
        let mut tables = Vec::new();
        if model.has_input() {
            tables.push(Self::Values(0));
        }
        for layer in 1..=model.layers() {
            let conv = &model.layers[layer - 1].conv;
            if !conv.message().is_empty() {
                tables.push(Self::Messages(layer));
            }
            if layer == model.layers() {
                break;
            }
            if with_sums && conv.source_sum().is_some() {
                tables.push(Self::Sums(layer));
            }
            tables.push(Self::Values(layer));
        }
        tables
    }

    fn name(self) -> String {
        match self {
            Self::Values(level) => format!("h{level}"),
            Self::Messages(layer) => format!("m{layer}"),
            Self::Sums(layer) => format!("s{layer}"),
        }
    }

    /// Name of the tensor in its file.
    fn tensor(self) -> &'static str {
        match self {
            Self::Values(_) => "h",
            Self::Messages(_) => "m",
            Self::Sums(_) => "s",
        }
    }

    fn width(self, model: &GnnModel) -> usize {
        match self {
            Self::Values(level) => model.level_width(level),
            Self::Messages(layer) | Self::Sums(layer) => model.message_width(layer),
        }
    }

    fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.safetensors", self.name()))
    }

    fn open(self, dir: &Path) -> Result<OpenTable, GraphError> {
        Ok(OpenTable {
            table: self,
            file: TensorFile::open(&self.path(dir))?,
        })
    }
}

/// A kept table, mapped.
#[derive(Debug)]
struct OpenTable {
    table: Table,
    file: TensorFile,
}

impl OpenTable {
    fn rows(&self) -> Result<Rows<'_>, GraphError> {
        Ok(self.file.rows(self.table.tensor())?)
    }
}

/// `embeddings/manifest.toml`: what is there, and what it was computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    /// Fingerprint of the graph store.
    store: String,
    /// Fingerprint of the weights and layers.
    model: String,
    precision: Precision,
    /// The finished tables, in the order in which they were computed.
    #[serde(default)]
    tables: Vec<FileRecord>,
}

impl Manifest {
    fn path(dir: &Path) -> PathBuf {
        dir.join("manifest.toml")
    }

    fn read(dir: &Path) -> Result<Self, GraphError> {
        let path = Self::path(dir);
        let text = fs::read_to_string(&path).map_err(|e| GraphError::Embeddings {
            path: dir.to_owned(),
            message: format!("no embeddings ({e})"),
        })?;
        let manifest: Self = toml::from_str(&text).map_err(|e| GraphError::Embeddings {
            path: path.clone(),
            message: e.to_string(),
        })?;
        if manifest.format == FORMAT {
            Ok(manifest)
        } else {
            Err(GraphError::Embeddings {
                path,
                message: format!("format {} is not known", manifest.format),
            })
        }
    }

    fn table(&self, table: Table) -> Option<&FileRecord> {
        let name = format!("{}.safetensors", table.name());
        self.tables.iter().find(|file| file.name == name)
    }

    /// Replaces the file as a whole: a kill leaves the old one or the new one.
    fn write(&self, dir: &Path) -> Result<(), GraphError> {
        let path = Self::path(dir);
        let partial = path.with_extension("partial");
        let text = toml::to_string(self).map_err(|e| GraphError::Embeddings {
            path: path.clone(),
            message: e.to_string(),
        })?;
        fs::write(&partial, text)
            .and_then(|()| fs::File::open(&partial)?.sync_all())
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|source| GraphError::Io { path, source })
    }
}

/// What to keep, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrecomputeOptions {
    /// Precision of the values.
    pub precision: Precision,
    /// Whether each node's sum over its sources is kept too, in f32: recomputation then reads what
    /// changed instead of every source.
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
/// the same graph, weights, layers and precision; anything else there is replaced.
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
    check_features(model, store, model_dir)?;
    let dir = model_dir.embeddings_path();
    fs::create_dir_all(&dir).map_err(|source| GraphError::Io {
        path: dir.clone(),
        source,
    })?;
    let mut manifest = Manifest {
        format: FORMAT,
        store: store.fingerprint(),
        model: model_dir.fingerprint()?,
        precision: options.precision,
        tables: Vec::new(),
    };
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

/// The stored graph as the layers read it.
pub(crate) fn graph_view<'a>(store: &'a GraphStore, loops: &'a [(u32, u32)]) -> GraphView<'a> {
    GraphView {
        topology: store.topology(),
        out_degree: store.out_degree(),
        loops,
    }
}

fn check_features(
    model: &GnnModel,
    store: &GraphStore,
    model_dir: &ModelDir,
) -> Result<(), GraphError> {
    if model.features() == store.features().width() {
        return Ok(());
    }
    Err(GraphError::Config {
        path: model_dir.store_path(),
        message: format!(
            "the model reads features of width {}, but the store's have width {}: it was trained on \
             another graph",
            model.features(),
            store.features().width()
        ),
    })
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
        let dtype = match (table, self.options.precision) {
            (Table::Values(_) | Table::Messages(_), Precision::F16) => DType::F16,
            _ => DType::F32,
        };
        let shape = vec![nodes, table.width(self.model)];
        let spec = TensorSpec::new(table.tensor(), dtype, shape);
        let mut writer = TensorWriter::create(&table.path(self.dir), &[spec])?;
        let task = match table {
            Table::Values(level) => format!("layer {level} of {}", self.model.layers() - 1),
            Table::Messages(layer) => format!("messages of layer {layer}"),
            Table::Sums(layer) => format!("sums of layer {layer}"),
        };
        self.progress.start(&task, Some(nodes as u64));
        let mut write = |values: &[f32], nodes: usize| -> Result<(), GraphError> {
            append(&mut writer, dtype, values)?;
            self.progress.advance(nodes as u64);
            Ok(())
        };
        match table {
            Table::Values(0) => self.input(&mut write)?,
            Table::Values(layer) => self.with_layer(layer, |pass, kept, nodes| {
                write(&pass.values(nodes, kept), nodes.len())
            })?,
            Table::Messages(layer) => self.with_layer(layer, |pass, _, nodes| {
                write(&pass.messages(nodes), nodes.len())
            })?,
            Table::Sums(layer) => self.with_layer(layer, |pass, kept, nodes| {
                let sums = pass.sums(nodes, kept).unwrap_or_default();
                write(&sums, nodes.len())
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
        let sums = self.open_kept(Table::Sums(layer))?;
        let kept = Kept {
            messages: messages.as_ref().map(OpenTable::rows).transpose()?,
            sums: sums.as_ref().map(OpenTable::rows).transpose()?,
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

/// Takes the values of some more nodes, and how many nodes.
type Write<'a> = dyn FnMut(&[f32], usize) -> Result<(), GraphError> + 'a;

fn append(writer: &mut TensorWriter, dtype: DType, values: &[f32]) -> Result<(), GraphError> {
    if dtype == DType::F16 {
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        writer.append(cast_slice(&halves))?;
    } else {
        writer.append(cast_slice(values))?;
    }
    Ok(())
}

fn chunks(nodes: usize) -> impl Iterator<Item = Vec<u32>> {
    (0..nodes)
        .step_by(CHUNK_NODES)
        .map(move |start| (start as u32..nodes.min(start + CHUNK_NODES) as u32).collect())
}

/// All tables that a model reads while it serves.
#[derive(Debug)]
pub(crate) struct Embeddings {
    tables: Vec<OpenTable>,
}

impl Embeddings {
    /// Opens the embeddings of a model and checks that they belong to its graph and weights. Sums
    /// are read where they are kept.
    pub(crate) fn open(
        model_dir: &ModelDir,
        model: &GnnModel,
        store: &GraphStore,
        check: Check,
    ) -> Result<Self, GraphError> {
        check_features(model, store, model_dir)?;
        let dir = model_dir.embeddings_path();
        if Table::all(model, true).is_empty() {
            return Ok(Self { tables: Vec::new() });
        }
        let manifest = Manifest::read(&dir)?;
        let wrong = |message: String| GraphError::Embeddings {
            path: dir.clone(),
            message,
        };
        if manifest.store != store.fingerprint() {
            return Err(wrong(
                "they were computed from another graph store".to_owned(),
            ));
        }
        if manifest.model != model_dir.fingerprint()? {
            return Err(wrong(
                "they were computed from other weights or layers".to_owned(),
            ));
        }
        let mut tables = Vec::new();
        for table in Table::all(model, true) {
            let Some(file) = manifest.table(table) else {
                if let Table::Sums(_) = table {
                    continue;
                }
                let name = table.name();
                return Err(wrong(format!("{name} is not there: a run was interrupted")));
            };
            if check == Check::Checksums {
                file.verify(&dir)?;
            }
            let open = table.open(&dir)?;
            let (rows, shape) = (open.rows()?, [store.nodes(), table.width(model)]);
            if [rows.len(), rows.width()] != shape {
                return Err(GraphError::Embeddings {
                    path: table.path(&dir),
                    message: format!(
                        "shape [{}, {}], but the model and graph need {shape:?}",
                        rows.len(),
                        rows.width()
                    ),
                });
            }
            tables.push(open);
        }
        Ok(Self { tables })
    }

    /// The values of the levels 0 .. K-1.
    pub(crate) fn levels<'a>(
        &'a self,
        model: &GnnModel,
        store: &'a GraphStore,
    ) -> Result<Vec<Rows<'a>>, GraphError> {
        let mut rows = Vec::with_capacity(model.layers());
        if !model.has_input() {
            rows.push(store.features());
        }
        for open in &self.tables {
            if let Table::Values(_) = open.table {
                rows.push(open.rows()?);
            }
        }
        Ok(rows)
    }

    /// For each layer: its messages, where they are not the values.
    pub(crate) fn messages(&self, model: &GnnModel) -> Result<Vec<Option<Rows<'_>>>, GraphError> {
        self.of_layers(model, Table::Messages)
    }

    /// For each layer: its sums, where they are kept.
    pub(crate) fn sums(&self, model: &GnnModel) -> Result<Vec<Option<Rows<'_>>>, GraphError> {
        self.of_layers(model, Table::Sums)
    }

    fn of_layers(
        &self,
        model: &GnnModel,
        table: impl Fn(usize) -> Table,
    ) -> Result<Vec<Option<Rows<'_>>>, GraphError> {
        let of_layer = |layer: usize| {
            let open = self.tables.iter().find(|open| open.table == table(layer));
            open.map(OpenTable::rows).transpose()
        };
        (1..=model.layers()).map(of_layer).collect()
    }
}
