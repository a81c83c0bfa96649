//! Values of every stored node after each layer, computed once and kept.

use crate::{GraphError, ModelDir, model::GnnModel, run::GraphView};
use satisfice_kernels::{NewFile, Rows};
use satisfice_store::{Check, FileRecord, GraphStore, TensorFile};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::xxh3_64;

/// Precision in which embeddings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats: the `exact` plan is exact.
    F32,
    /// 16-bit floats: half the memory; values the batch does not change are rounded.
    F16,
    /// 8-bit integers with a scale a row: a quarter of the memory; rounded more.
    Int8,
}

impl Precision {
    /// `"f32"`, `"f16"` or `"int8"`, as files and commands name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

const FORMAT: u32 = 1;

/// One kept table, `[nodes, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Values after a layer; of level 0, before the first.
    Values(usize),
    /// What each node sends as a source of a layer, where that is not its value.
    Messages(usize),
    /// What a layer reduces the sources of each node to: a sum, a maximum, or the parts of a softmax.
    Sums(usize),
    /// What the first layer adds of each node's own value.
    Own,
}

impl Table {
    /// All tables of a model in the order in which they are computed: values of level 0 where they
    /// are not the features; then of each layer its messages, where they are not the values below,
    /// and, but for the last layer, its values. Before those, where wanted, what only recomputation
    /// reads: its sums, and the first layer's terms of the nodes' own values, where it has them.
    pub(crate) fn all(model: &GnnModel, with_sums: bool) -> Vec<Self> {
        let mut tables = Vec::new();
        if model.has_input() {
            tables.push(Self::Values(0));
        }
        for layer in 1..=model.layers() {
            if model.layers[layer - 1].makes_messages() {
                tables.push(Self::Messages(layer));
            }
            if layer == model.layers() {
                break;
            }
            if with_sums {
                tables.push(Self::Sums(layer));
            }
            if with_sums && layer == 1 && model.kept_own().is_some() {
                tables.push(Self::Own);
            }
            tables.push(Self::Values(layer));
        }
        tables
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Values(level) => format!("h{level}"),
            Self::Messages(layer) => format!("m{layer}"),
            Self::Sums(layer) => format!("s{layer}"),
            Self::Own => "o1".to_owned(),
        }
    }

    /// Name of the tensor in its file.
    pub(crate) fn tensor(self) -> &'static str {
        match self {
            Self::Values(_) => "h",
            Self::Messages(_) => "m",
            Self::Sums(_) => "s",
            Self::Own => "o",
        }
    }

    pub(crate) fn width(self, model: &GnnModel) -> usize {
        match self {
            Self::Values(level) => model.level_width(level),
            Self::Messages(layer) => model.message_width(layer),
            Self::Sums(layer) => model.reduction_width(layer),
            Self::Own => model.layers[0].conv.width(),
        }
    }

    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.safetensors", self.name()))
    }

    pub(crate) fn open(self, dir: &Path) -> Result<OpenTable, GraphError> {
        Ok(OpenTable {
            table: self,
            file: TensorFile::open(&self.path(dir))?,
        })
    }
}

/// A kept table, mapped.
#[derive(Debug)]
pub(crate) struct OpenTable {
    table: Table,
    file: TensorFile,
}

impl OpenTable {
    pub(crate) fn rows(&self) -> Result<Rows<'_>, GraphError> {
        Ok(self.file.rows(self.table.tensor())?)
    }
}

/// `embeddings/manifest.toml`: what is there, and what it was computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub format: u32,
    /// Fingerprint of the graph store.
    pub store: String,
    /// Fingerprint of the weights and layers.
    pub model: String,
    pub precision: Precision,
    /// The finished tables, in the order in which they were computed.
    #[serde(default)]
    pub tables: Vec<FileRecord>,
}

impl Manifest {
    /// With no table yet.
    pub(crate) fn new(store: String, model: String, precision: Precision) -> Self {
        Self {
            format: FORMAT,
            store,
            model,
            precision,
            tables: Vec::new(),
        }
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("manifest.toml")
    }

    pub(crate) fn read(dir: &Path) -> Result<Self, GraphError> {
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

    pub(crate) fn table(&self, table: Table) -> Option<&FileRecord> {
        let name = format!("{}.safetensors", table.name());
        self.tables.iter().find(|file| file.name == name)
    }

    /// Replaces the file as a whole: a kill leaves the old one or the new one.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), GraphError> {
        let path = Self::path(dir);
        let text = toml::to_string(self).map_err(|e| GraphError::Embeddings {
            path: path.clone(),
            message: e.to_string(),
        })?;
        NewFile::write(&path, text.as_bytes()).map_err(|source| GraphError::Io { path, source })
    }
}

/// A hash that changes with any value kept in the directory of embeddings `dir`.
pub(crate) fn fingerprint(dir: &Path) -> Result<String, GraphError> {
    let path = Manifest::path(dir);
    match fs::read(&path) {
        Ok(manifest) => Ok(format!("{:016x}", xxh3_64(&manifest))),
        // A model may need none.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok("none".to_owned()),
        Err(source) => Err(GraphError::Io { path, source }),
    }
}

/// The stored graph as the layers read it.
pub(crate) fn graph_view<'a>(store: &'a GraphStore, loops: &'a [(u32, u32)]) -> GraphView<'a> {
    GraphView::new(store.topology(), store.out_degree(), loops)
}

/// Refuses a graph that the model does not fit.
pub(crate) fn check_graph(
    model: &GnnModel,
    store: &GraphStore,
    model_dir: &ModelDir,
) -> Result<(), GraphError> {
    if store.edge_weights().is_some() {
        return Err(GraphError::Config {
            path: model_dir.store_path(),
            message: "its edges have weights, which no layer reads yet; if the model was trained without them, import the \
                      graph again with `--ignore-column` and the name of the weights (`weight` in a table, \
                      `edge_weight` among arrays and in an export)"
                .to_owned(),
        });
    }
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

/// All tables that a model reads while it serves.
#[derive(Debug)]
pub struct Embeddings {
    tables: Vec<OpenTable>,
}

impl Embeddings {
    /// Opens the embeddings of a model and checks that they belong to its graph and weights. Sums
    /// are read where they are kept.
    ///
    /// # Errors
    /// [`GraphError::Embeddings`] where they are missing or belong to something else.
    pub fn open(
        model_dir: &ModelDir,
        model: &GnnModel,
        store: &GraphStore,
        check: Check,
    ) -> Result<Self, GraphError> {
        check_graph(model, store, model_dir)?;
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
                if let Table::Sums(_) | Table::Own = table {
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

    /// Whether everything that was read of the tables so far was theirs.
    ///
    /// # Errors
    /// [`StoreError::Lost`](satisfice_store::StoreError::Lost) once a file was truncated or changed in place.
    pub fn check_files(&self) -> Result<(), GraphError> {
        for open in &self.tables {
            open.file.check()?;
        }
        Ok(())
    }

    /// The values of the levels 0 .. K-1.
    ///
    /// # Errors
    /// [`GraphError::Store`] when a file is not what it was.
    pub fn levels<'a>(
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
    ///
    /// # Errors
    /// [`GraphError::Store`] when a file is not what it was.
    pub fn messages(&self, model: &GnnModel) -> Result<Vec<Option<Rows<'_>>>, GraphError> {
        self.of_layers(model, Table::Messages)
    }

    /// For each layer: what it reduces the sources of each node to, where it is kept.
    ///
    /// # Errors
    /// [`GraphError::Store`] when a file is not what it was.
    pub fn reduced(&self, model: &GnnModel) -> Result<Vec<Option<Rows<'_>>>, GraphError> {
        self.of_layers(model, Table::Sums)
    }

    /// What the first layer adds of the nodes' own values, where it is kept.
    ///
    /// # Errors
    /// [`GraphError::Store`] when a file is not what it was.
    pub fn own(&self) -> Result<Option<Rows<'_>>, GraphError> {
        let open = self.tables.iter().find(|open| open.table == Table::Own);
        open.map(OpenTable::rows).transpose()
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
