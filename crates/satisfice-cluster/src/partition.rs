//! From a graph store and a model to parts that can be copied to their machines.

use crate::{
    ClusterError,
    assign::{Method, PARTS_MAX, assign},
    error::io,
    manifest::{PartManifest, checksum},
};
use bytemuck::cast_slice;
use half::{f16, slice::HalfFloatSliceExt};
use satisfice_graph::{Embeddings, GnnModel, ModelDir};
use satisfice_kernels::{NewFile, Rows, WriteLock};
use satisfice_store::{Check, DType, FileRecord, GraphStore, Progress, TensorSpec, TensorWriter};
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) const OWNERS: &str = "owners.safetensors";
pub(crate) const DEGREES: &str = "degrees.safetensors";
pub(crate) const NODES: &str = "nodes.safetensors";
pub(crate) const EDGES: &str = "edges.safetensors";
pub(crate) const FEATURES: &str = "features.safetensors";
pub(crate) const IDS: &str = "ids.safetensors";

/// How to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOptions {
    /// Number of parts, 1 to 256.
    pub parts: usize,
    /// How nodes are spread.
    pub method: Method,
    /// Seed of the method.
    pub seed: u64,
    /// Whether embeddings are cut too; without them the cluster computes them itself.
    pub embeddings: bool,
}

/// What a partitioning made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionSummary {
    /// How nodes were spread.
    pub method: Method,
    /// Edges of the graph.
    pub edges: usize,
    /// Edges whose target another part owns.
    pub cut: usize,
    /// The same as a share, 0 to 1.
    pub cut_share: f64,
    /// Most edges in a part over the mean, at least 1.
    pub edge_imbalance: f64,
    /// The parts.
    pub parts: Vec<PartSummary>,
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartSummary {
    /// Its directory.
    pub dir: PathBuf,
    /// Nodes that it owns.
    pub nodes: usize,
    /// Edges whose source it owns.
    pub edges: usize,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Directory of a part.
pub fn part_dir(out: &Path, part: usize) -> PathBuf {
    out.join(format!("part-{part:03}"))
}

/// Cuts a graph with its model into parts under `out`, which must not exist or be empty. Every part is
/// a directory of its own: the owners, degrees and ids of all nodes, the model with its profile, and of the
/// nodes that it owns the features, embeddings and out-edges. The same input makes the same bytes.
///
/// One process at a time may do so, and one that fails leaves nothing.
///
/// Memory: 5 bytes a node and a chunk of each table; files are written as they are read.
///
/// # Errors
/// [`ClusterError`], with the file or option at fault.
pub fn partition(
    model_dir: &ModelDir,
    model: &GnnModel,
    store: &GraphStore,
    (options, out): (PartitionOptions, &Path),
    progress: &dyn Progress,
) -> Result<PartitionSummary, ClusterError> {
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).map_err(io(parent))?;
    }
    let _lock = WriteLock::take(out).map_err(io(out))?;
    check(options, store, out)?;
    let (was_there, dirs) = (out.exists(), part_dirs(out, options.parts));
    let whole = Whole {
        model_dir,
        model,
        store,
    };
    let made = whole.cut_into(&dirs, options, progress);
    if made.is_err() {
        // The error is what to tell, and nothing but parts was made here.
        for dir in &dirs {
            let _ = fs::remove_dir_all(dir);
        }
        if !was_there {
            let _ = fs::remove_dir(out);
        }
    }
    made
}

fn part_dirs(out: &Path, parts: usize) -> Vec<PathBuf> {
    (0..parts).map(|part| part_dir(out, part)).collect()
}

/// What is cut.
struct Whole<'a> {
    model_dir: &'a ModelDir,
    model: &'a GnnModel,
    store: &'a GraphStore,
}

impl Whole<'_> {
    /// Makes the parts in their directories.
    fn cut_into(
        &self,
        dirs: &[PathBuf],
        options: PartitionOptions,
        progress: &dyn Progress,
    ) -> Result<PartitionSummary, ClusterError> {
        let Self {
            model_dir,
            model,
            store,
        } = *self;
        progress.start("assigning nodes", None);
        let owners = assign(
            store.topology(),
            options.parts,
            options.method,
            options.seed,
        );
        let cut = Cut::new(store, owners, options.parts);
        progress.finish();
        for dir in dirs {
            fs::create_dir_all(dir).map_err(io(dir))?;
        }
        progress.start("writing edges", None);
        let mut files = cut.write_edges(store, dirs)?;
        progress.finish();
        for (part, files) in files.iter_mut().enumerate() {
            files.push(cut.write_owners(&dirs[part])?);
            files.push(write_degrees(store, &dirs[part])?);
            files.push(cut.write_nodes(part, &dirs[part])?);
            files.extend(copy_ids(store, model_dir, &dirs[part])?);
            copy_model(model_dir, &dirs[part])?;
        }
        cut.write_table(dirs, FEATURES, "x", store.features(), |part, record| {
            files[part].push(record);
        })?;
        let mut tables = vec![Vec::new(); options.parts];
        if options.embeddings {
            let embeddings = Embeddings::open(model_dir, model, store, Check::Checksums)?;
            for (name, tensor, rows) in stored_tables(&embeddings, model, store)? {
                progress.start(&format!("writing {name}"), None);
                let file = format!("{name}.safetensors");
                cut.write_table(dirs, &file, tensor, rows, |part, record| {
                    tables[part].push(record);
                })?;
                progress.finish();
            }
        }
        let map = checksum(&cut.owners);
        let mut parts = Vec::with_capacity(options.parts);
        for (part, (files, tables)) in files.into_iter().zip(tables).enumerate() {
            let manifest = PartManifest {
                format: PartManifest::FORMAT,
                part,
                parts: options.parts,
                method: options.method,
                seed: options.seed,
                graph_nodes: store.nodes(),
                graph_edges: store.edges(),
                nodes: cut.nodes[part].len(),
                edges: cut.edges[part],
                features: store.feature_width(),
                undirected: store.manifest().undirected,
                duplicates: store.manifest().duplicates,
                ids: store.manifest().ids,
                classes: store.manifest().classes.clone(),
                store: store.fingerprint(),
                model: model_dir.fingerprint()?,
                map: map.clone(),
                embeddings: match options.embeddings {
                    true => Some(model_dir.embeddings_fingerprint()?),
                    false => None,
                },
                files,
                tables,
            };
            manifest.write(&dirs[part])?;
            let all = manifest.files.iter().chain(&manifest.tables);
            parts.push(PartSummary {
                dir: dirs[part].clone(),
                nodes: manifest.nodes,
                edges: manifest.edges,
                bytes: all.map(|file| file.bytes).sum(),
            });
        }
        Ok(cut.summary(store, options.method, parts))
    }
}

fn check(options: PartitionOptions, store: &GraphStore, out: &Path) -> Result<(), ClusterError> {
    let wrong = |place: &str, message: String| {
        Err(ClusterError::Config {
            place: place.to_owned(),
            message,
        })
    };
    let parts = options.parts;
    if !(1..=PARTS_MAX).contains(&parts) || parts > store.nodes() {
        return wrong(
            "--parts",
            format!(
                "{parts} parts of a graph of {} nodes: there are 1 to {PARTS_MAX}, and no more than nodes",
                store.nodes()
            ),
        );
    }
    if store.edge_weights().is_some() {
        return wrong(
            "the graph",
            "its edges have weights, which parts do not carry; serve it on one machine, or import it again without them \
             (--ignore-column)"
                .to_owned(),
        );
    }
    let full = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    match full {
        true => wrong(
            "--out",
            format!("{} is not empty: name a new directory", out.display()),
        ),
        false => Ok(()),
    }
}

/// Names, tensors and rows of the tables that a cluster reads.
fn stored_tables<'a>(
    embeddings: &'a Embeddings,
    model: &GnnModel,
    store: &'a GraphStore,
) -> Result<Vec<(String, &'static str, Rows<'a>)>, ClusterError> {
    let levels = embeddings.levels(model, store)?;
    let messages = embeddings.messages(model)?;
    let reduced = embeddings.reduced(model)?;
    let mut tables = Vec::new();
    for (level, rows) in levels.into_iter().enumerate() {
        if level > 0 || model.has_input() {
            tables.push((format!("h{level}"), "h", rows));
        }
        if let Some(rows) = messages[level] {
            tables.push((format!("m{}", level + 1), "m", rows));
        }
        if let Some(rows) = reduced[level] {
            tables.push((format!("s{}", level + 1), "s", rows));
        }
    }
    if let Some(rows) = embeddings.own()? {
        tables.push(("o1".to_owned(), "o", rows));
    }
    Ok(tables)
}

fn copy_ids(
    store: &GraphStore,
    model_dir: &ModelDir,
    dir: &Path,
) -> Result<Option<FileRecord>, ClusterError> {
    let Some(record) = store.manifest().ids_file() else {
        return Ok(None);
    };
    let from = model_dir.store_path().join(&record.name);
    NewFile::copy(&from, &dir.join(IDS)).map_err(io(&from))?;
    Ok(Some(FileRecord {
        name: IDS.to_owned(),
        ..record.clone()
    }))
}

fn copy_model(model_dir: &ModelDir, dir: &Path) -> Result<(), ClusterError> {
    let to = dir.join(model_dir.version().to_string());
    fs::create_dir_all(&to).map_err(io(&to))?;
    for (from, to) in [
        (model_dir.config_path(), dir.join("model.toml")),
        (model_dir.weights_path(), to.join("weights.safetensors")),
    ] {
        NewFile::copy(&from, &to).map_err(io(&from))?;
    }
    let profile = model_dir.profile_path();
    if profile.exists() {
        NewFile::copy(&profile, &to.join("profile.json")).map_err(io(&profile))?;
    }
    Ok(())
}

/// `degrees.safetensors`: the degrees of all nodes of the graph.
fn write_degrees(store: &GraphStore, dir: &Path) -> Result<FileRecord, ClusterError> {
    let (topology, out_degree) = (store.topology(), store.out_degree());
    let (loop_nodes, loop_counts): (Vec<u32>, Vec<u32>) = store.self_loops().unzip();
    let specs = [
        TensorSpec::new("indptr", DType::U64, vec![topology.indptr.len()]),
        TensorSpec::new("out_degree", DType::U32, vec![out_degree.len()]),
        TensorSpec::new("loop_nodes", DType::U32, vec![loop_nodes.len()]),
        TensorSpec::new("loop_counts", DType::U32, vec![loop_counts.len()]),
    ];
    let mut writer = TensorWriter::create(&dir.join(DEGREES), &specs)?;
    writer.append(cast_slice(topology.indptr))?;
    for values in [out_degree, &loop_nodes, &loop_counts] {
        writer.append(cast_slice(values))?;
    }
    Ok(writer.finish()?)
}

/// A graph as it is cut.
struct Cut {
    owners: Vec<u8>,
    /// Nodes of each part, ascending.
    nodes: Vec<Vec<u32>>,
    /// Row of each node in its part.
    rows: Vec<u32>,
    /// Edges of each part.
    edges: Vec<usize>,
    /// For each part, nodes with a source in it.
    targets: Vec<usize>,
    crossing: usize,
}

impl Cut {
    fn new(store: &GraphStore, owners: Vec<u8>, parts: usize) -> Self {
        let mut nodes = vec![Vec::new(); parts];
        let mut rows = vec![0; owners.len()];
        for (node, &owner) in owners.iter().enumerate() {
            let of_part = &mut nodes[owner as usize];
            rows[node] = of_part.len() as u32;
            of_part.push(node as u32);
        }
        let mut cut = Self {
            nodes,
            rows,
            edges: vec![0; parts],
            targets: vec![0; parts],
            crossing: 0,
            owners,
        };
        let mut counts = vec![0_usize; parts];
        for target in 0..store.nodes() {
            cut.count(store, target as u32, &mut counts);
            for (part, count) in counts.iter().enumerate() {
                cut.edges[part] += count;
                cut.targets[part] += usize::from(*count > 0);
                if part != cut.owners[target] as usize {
                    cut.crossing += count;
                }
            }
        }
        cut
    }

    /// In-edges of a node from each part.
    fn count(&self, store: &GraphStore, target: u32, counts: &mut [usize]) {
        counts.fill(0);
        for &source in store.topology().in_neighbors(target) {
            counts[self.owners[source as usize] as usize] += 1;
        }
    }

    /// `edges.safetensors` of all parts: for every node with a source in the part, those sources' rows.
    fn write_edges(
        &self,
        store: &GraphStore,
        dirs: &[PathBuf],
    ) -> Result<Vec<Vec<FileRecord>>, ClusterError> {
        let mut writers = Vec::with_capacity(dirs.len());
        for (part, dir) in dirs.iter().enumerate() {
            let specs = [
                TensorSpec::new("indptr", DType::U64, vec![self.targets[part] + 1]),
                TensorSpec::new("targets", DType::U32, vec![self.targets[part]]),
                TensorSpec::new("sources", DType::U32, vec![self.edges[part]]),
            ];
            let mut writer = TensorWriter::create(&dir.join(EDGES), &specs)?;
            writer.append(&0_u64.to_le_bytes())?;
            writers.push(writer);
        }
        let parts = dirs.len();
        let mut counts = vec![0_usize; parts];
        let mut ends = vec![0_u64; parts];
        for target in 0..store.nodes() as u32 {
            self.count(store, target, &mut counts);
            for part in (0..parts).filter(|&part| counts[part] > 0) {
                ends[part] += counts[part] as u64;
                writers[part].append(&ends[part].to_le_bytes())?;
            }
        }
        for target in 0..store.nodes() as u32 {
            self.count(store, target, &mut counts);
            for part in (0..parts).filter(|&part| counts[part] > 0) {
                writers[part].append(&target.to_le_bytes())?;
            }
        }
        for target in 0..store.nodes() as u32 {
            for &source in store.topology().in_neighbors(target) {
                let row = self.rows[source as usize];
                let part = self.owners[source as usize] as usize;
                writers[part].append(&row.to_le_bytes())?;
            }
        }
        let finish = |writer: TensorWriter| Ok(vec![writer.finish()?]);
        writers.into_iter().map(finish).collect()
    }

    fn write_owners(&self, dir: &Path) -> Result<FileRecord, ClusterError> {
        let spec = TensorSpec::new("owners", DType::U8, vec![self.owners.len()]);
        let mut writer = TensorWriter::create(&dir.join(OWNERS), &[spec])?;
        writer.append(&self.owners)?;
        Ok(writer.finish()?)
    }

    /// `nodes.safetensors`: the part's nodes.
    fn write_nodes(&self, part: usize, dir: &Path) -> Result<FileRecord, ClusterError> {
        let nodes = &self.nodes[part];
        let spec = TensorSpec::new("nodes", DType::U32, vec![nodes.len()]);
        let mut writer = TensorWriter::create(&dir.join(NODES), &[spec])?;
        writer.append(cast_slice(nodes))?;
        Ok(writer.finish()?)
    }

    /// The rows of a table that each part owns, in the precision in which the table is kept.
    fn write_table(
        &self,
        dirs: &[PathBuf],
        file: &str,
        tensor: &str,
        rows: Rows<'_>,
        mut finished: impl FnMut(usize, FileRecord),
    ) -> Result<(), ClusterError> {
        let dtype = match rows.value_bytes() {
            4 => DType::F32,
            2 => DType::F16,
            _ => DType::I8,
        };
        let columns = rows.row_bytes() / rows.value_bytes();
        for (part, dir) in dirs.iter().enumerate() {
            let nodes = &self.nodes[part];
            let spec = TensorSpec::new(tensor, dtype, vec![nodes.len(), columns]);
            let mut writer = TensorWriter::create(&dir.join(file), &[spec])?;
            for &node in nodes {
                writer.append(rows.bytes(node as usize))?;
            }
            finished(part, writer.finish()?);
        }
        Ok(())
    }

    fn summary(
        &self,
        store: &GraphStore,
        method: Method,
        parts: Vec<PartSummary>,
    ) -> PartitionSummary {
        let edges = store.edges();
        let most = self.edges.iter().copied().max().unwrap_or(0);
        let mean = edges as f64 / parts.len() as f64;
        PartitionSummary {
            method,
            edges,
            cut: self.crossing,
            cut_share: self.crossing as f64 / edges.max(1) as f64,
            edge_imbalance: if edges == 0 { 1.0 } else { most as f64 / mean },
            parts,
        }
    }
}

/// Appends values in the precision of the tensor.
pub(crate) fn append(
    writer: &mut TensorWriter,
    dtype: DType,
    values: &[f32],
) -> Result<(), ClusterError> {
    if dtype == DType::F16 {
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        writer.append(cast_slice(&halves))?;
    } else {
        writer.append(cast_slice(values))?;
    }
    Ok(())
}
