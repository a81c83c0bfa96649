//! Values of every stored node after each layer, computed once and kept.

use crate::{
    GraphError, ModelDir,
    model::GnnModel,
    run::{GraphView, LayerPass},
};
use bytemuck::cast_slice;
use half::{f16, slice::HalfFloatSliceExt};
use satisfice_kernels::Rows;
use satisfice_store::{
    Check, DType, FileRecord, GraphStore, Progress, TensorFile, TensorSpec, TensorWriter,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
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
const TENSOR: &str = "h";

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
    /// The finished levels, in the order in which they were computed.
    #[serde(default)]
    levels: Vec<LevelRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LevelRecord {
    level: usize,
    file: FileRecord,
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

/// The levels that a model keeps: level 0 where it is not the features, then 1 .. K-1.
fn kept_levels(model: &GnnModel) -> std::ops::Range<usize> {
    usize::from(!model.has_input())..model.layers()
}

/// What a precomputation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrecomputeSummary {
    /// Levels computed now.
    pub computed: Vec<usize>,
    /// Levels that an earlier run had finished, checked and kept.
    pub kept: Vec<usize>,
    /// Bytes of all levels on disk.
    pub bytes: u64,
}

/// Computes the embeddings of every stored node, layer by layer, on all cores, and writes each
/// level when it is whole. Levels that an interrupted run has finished are kept when they belong to
/// the same graph, weights, layers and precision; anything else there is replaced.
///
/// Memory: the level read is mapped; a chunk of the level written, and for layers that make
/// messages of values (GAT, GATv2, GraphSAGE with a projection) all messages, are held.
///
/// # Errors
/// [`GraphError`], with the file or tensor at fault.
pub fn precompute(
    model_dir: &ModelDir,
    model: &GnnModel,
    store: &GraphStore,
    precision: Precision,
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
        precision,
        levels: Vec::new(),
    };
    manifest.levels = finished_levels(&dir, &manifest);
    let kept: Vec<usize> = manifest.levels.iter().map(|record| record.level).collect();
    let loops: Vec<(u32, u32)> = store.self_loops().collect();
    let pass = Pass {
        dir: &dir,
        model,
        store,
        graph: graph_view(store, &loops),
        precision,
        progress,
    };
    let mut computed = Vec::new();
    for level in kept_levels(model).filter(|level| !kept.contains(level)) {
        let file = pass.level(level)?;
        manifest.levels.push(LevelRecord { level, file });
        manifest.write(&dir)?;
        computed.push(level);
    }
    if computed.is_empty() {
        manifest.write(&dir)?;
    }
    Ok(PrecomputeSummary {
        computed,
        kept,
        bytes: manifest.levels.iter().map(|record| record.file.bytes).sum(),
    })
}

/// The first levels, in order, that a run with the same manifest has finished and that are whole.
fn finished_levels(dir: &Path, wanted: &Manifest) -> Vec<LevelRecord> {
    let Ok(found) = Manifest::read(dir) else {
        return Vec::new();
    };
    let same = Manifest {
        levels: Vec::new(),
        ..found.clone()
    } == *wanted;
    if !same {
        return Vec::new();
    }
    found
        .levels
        .into_iter()
        .take_while(|record| record.file.verify(dir).is_ok())
        .collect()
}

fn level_path(dir: &Path, level: usize) -> PathBuf {
    dir.join(format!("h{level}.safetensors"))
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
    precision: Precision,
    progress: &'a dyn Progress,
}

/// Stored nodes computed between two writes.
const CHUNK_NODES: usize = 16_384;

impl Pass<'_> {
    /// Computes and writes a level.
    fn level(&self, level: usize) -> Result<FileRecord, GraphError> {
        let nodes = self.store.nodes();
        let width = self.model.level_width(level);
        let dtype = match self.precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
        };
        let spec = TensorSpec::new(TENSOR, dtype, vec![nodes, width]);
        let mut writer = TensorWriter::create(&level_path(self.dir, level), &[spec])?;
        self.progress.start(
            &format!("level {level} of {}", self.model.layers() - 1),
            Some(nodes as u64),
        );
        match level {
            0 => self.input_level(&mut writer)?,
            _ => self.layer_level(level, &mut writer)?,
        }
        self.progress.finish();
        Ok(writer.finish()?)
    }

    fn input_level(&self, writer: &mut TensorWriter) -> Result<(), GraphError> {
        let features = self.store.features();
        for nodes in chunks(self.store.nodes()) {
            let mut rows = vec![0.0; nodes.len() * features.width()];
            for (row, &node) in rows.chunks_exact_mut(features.width()).zip(&nodes) {
                features.read(node as usize, row);
            }
            self.write(writer, &self.model.apply_input(rows), nodes.len())?;
        }
        Ok(())
    }

    fn layer_level(&self, level: usize, writer: &mut TensorWriter) -> Result<(), GraphError> {
        let first = kept_levels(self.model).start;
        let open = |level: usize| match level >= first {
            true => Level::open(&level_path(self.dir, level)).map(Some),
            false => Ok(None),
        };
        let (initial, below) = (open(0)?, open(level - 1)?);
        let initial = self.rows(initial.as_ref())?;
        let below = self.rows(below.as_ref())?;
        let layer = &self.model.layers[level - 1];
        let pass = LayerPass::new(layer, self.graph, initial, below);
        for nodes in chunks(self.store.nodes()) {
            self.write(writer, &pass.values(&nodes), nodes.len())?;
        }
        Ok(())
    }

    /// The rows of a kept level, or the features.
    fn rows<'r>(&'r self, level: Option<&'r Level>) -> Result<Rows<'r>, GraphError> {
        match level {
            Some(level) => level.rows(),
            None => Ok(self.store.features()),
        }
    }

    fn write(
        &self,
        writer: &mut TensorWriter,
        values: &[f32],
        nodes: usize,
    ) -> Result<(), GraphError> {
        match self.precision {
            Precision::F32 => writer.append(cast_slice(values))?,
            Precision::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                writer.append(cast_slice(&halves))?;
            }
        }
        self.progress.advance(nodes as u64);
        Ok(())
    }
}

fn chunks(nodes: usize) -> impl Iterator<Item = Vec<u32>> {
    (0..nodes)
        .step_by(CHUNK_NODES)
        .map(move |start| (start as u32..nodes.min(start + CHUNK_NODES) as u32).collect())
}

/// One level on disk, mapped.
#[derive(Debug)]
struct Level(TensorFile);

impl Level {
    fn open(path: &Path) -> Result<Self, GraphError> {
        Ok(Self(TensorFile::open(path)?))
    }

    fn rows(&self) -> Result<Rows<'_>, GraphError> {
        Ok(self.0.rows(TENSOR)?)
    }
}

/// All levels that a model reads while it serves.
#[derive(Debug)]
pub(crate) struct Embeddings {
    levels: Vec<Level>,
}

impl Embeddings {
    /// Opens the embeddings of a model and checks that they belong to its graph and weights.
    pub(crate) fn open(
        model_dir: &ModelDir,
        model: &GnnModel,
        store: &GraphStore,
        check: Check,
    ) -> Result<Self, GraphError> {
        check_features(model, store, model_dir)?;
        let dir = model_dir.embeddings_path();
        if kept_levels(model).is_empty() {
            return Ok(Self { levels: Vec::new() });
        }
        let manifest = Manifest::read(&dir)?;
        let stale = |what: &str| GraphError::Embeddings {
            path: dir.clone(),
            message: format!("they were computed from {what}"),
        };
        if manifest.store != store.fingerprint() {
            return Err(stale("another graph store"));
        }
        if manifest.model != model_dir.fingerprint()? {
            return Err(stale("other weights or layers"));
        }
        let mut levels = Vec::new();
        for level in kept_levels(model) {
            let record = manifest.levels.iter().find(|record| record.level == level);
            let Some(record) = record else {
                return Err(GraphError::Embeddings {
                    path: dir,
                    message: format!("level {level} is not there: a run was interrupted"),
                });
            };
            if check == Check::Checksums {
                record.file.verify(&dir)?;
            }
            let path = level_path(&dir, level);
            let file = Level::open(&path)?;
            let rows = file.rows()?;
            let shape = [store.nodes(), model.level_width(level)];
            if [rows.len(), rows.width()] != shape {
                return Err(GraphError::Embeddings {
                    path,
                    message: format!(
                        "shape [{}, {}], but the model and graph need {shape:?}",
                        rows.len(),
                        rows.width()
                    ),
                });
            }
            levels.push(file);
        }
        Ok(Self { levels })
    }

    /// The levels 0 .. K-1 as a run reads them.
    pub(crate) fn levels<'a>(
        &'a self,
        model: &GnnModel,
        store: &'a GraphStore,
    ) -> Result<Vec<Rows<'a>>, GraphError> {
        let mut rows = Vec::with_capacity(model.layers());
        if !model.has_input() {
            rows.push(store.features());
        }
        for level in &self.levels {
            rows.push(level.rows()?);
        }
        Ok(rows)
    }
}
