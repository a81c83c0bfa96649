use crate::{
    FileRecord, Manifest, NodeIdKind, NodeIds, StoreError, Topology,
    live::refuse_written,
    node_ids::{Ids, NODES_MAX, Strings},
    parallel::{find_first, find_first_index},
    tensor_file::{Part, RowsPart, TensorFile},
};
use rayon::prelude::*;
use safetensors::Dtype;
use satisfice_kernels::Rows;
use std::path::Path;

pub(crate) const TOPOLOGY: &str = "topology.safetensors";
pub(crate) const FEATURES: &str = "features.safetensors";
pub(crate) const LABELS: &str = "labels.safetensors";
pub(crate) const IDS: &str = "ids.safetensors";

/// How thoroughly a store is checked when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// Counts, lengths and ranges: reads topology and ids once; nothing that passes can make a
    /// reader fail.
    Structure,
    /// The same, and the checksums of all files: reads every byte once.
    Checksums,
}

/// A graph at rest, mapped into memory.
///
/// Nothing is copied: what is read is in the page cache, shared by all processes that serve it.
#[derive(Debug)]
pub struct GraphStore {
    manifest: Manifest,
    topology: TopologyFile,
    features: (TensorFile, RowsPart),
    labels: Option<(TensorFile, Part<i32>)>,
    ids: IdsFile,
}

impl GraphStore {
    /// Opens the store in the directory `path` and checks it, on all cores.
    ///
    /// # Errors
    /// It is no store, is of another format, is damaged, or contradicts itself; the error names the
    /// file and tensor. [`StoreError::Written`]: a [living graph](crate::live) has writes that the files lack.
    pub fn open(path: &Path, check: Check) -> Result<Self, StoreError> {
        let store = Self::open_files(path, check)?;
        refuse_written(path, &store.fingerprint())?;
        Ok(store)
    }

    /// Opens the files, whatever was written since.
    pub(crate) fn open_files(path: &Path, check: Check) -> Result<Self, StoreError> {
        Self::with_manifest(path, Manifest::read(path)?, check)
    }

    /// Opens the files that `manifest` lists.
    pub(crate) fn with_manifest(
        path: &Path,
        manifest: Manifest,
        check: Check,
    ) -> Result<Self, StoreError> {
        if !(1..=NODES_MAX).contains(&manifest.nodes) {
            return Err(StoreError::NodeCount {
                path: path.to_owned(),
                nodes: manifest.nodes,
            });
        }
        let open = |name: &str| open_file(manifest.file(path, name)?, path, check);
        let topology = TopologyFile::open(open(TOPOLOGY)?, &manifest)?;
        let features = open_features(open(FEATURES)?, &manifest)?;
        let labels = if manifest.find(LABELS).is_some() {
            Some(open_labels(open(LABELS)?, &manifest)?)
        } else {
            None
        };
        let ids = match manifest.ids {
            NodeIdKind::Position => IdsFile::Position,
            NodeIdKind::Int64 => IdsFile::open_int(open(IDS)?, manifest.nodes)?,
            NodeIdKind::String => IdsFile::open_str(open(IDS)?, manifest.nodes)?,
        };
        Ok(Self {
            manifest,
            topology,
            features,
            labels,
            ids,
        })
    }

    /// Whether everything that was read of the store so far was the store's: whoever gives away what was made of it
    /// looks first.
    ///
    /// # Errors
    /// [`StoreError::Lost`] once a file was truncated or changed in place.
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.topology.file.check()?;
        self.features.0.check()?;
        if let Some((file, _)) = &self.labels {
            file.check()?;
        }
        self.ids.check()
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.manifest.nodes
    }

    /// Number of directed edges.
    pub fn edges(&self) -> usize {
        self.manifest.edges
    }

    /// What the store says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Features of the nodes, `[nodes, features]`, f32 or f16.
    pub fn features(&self) -> Rows<'_> {
        self.features.1.get(&self.features.0)
    }

    /// Type in which features are kept.
    pub(crate) fn feature_dtype(&self) -> Dtype {
        self.features.1.dtype()
    }

    /// Values per node.
    pub fn feature_width(&self) -> usize {
        self.features.1.width()
    }

    /// In-edges of the nodes.
    pub fn topology(&self) -> Topology<'_> {
        self.topology.view()
    }

    /// A weight for each of the topology's in-edges, where edges have them, `[edges]`: finite, and aligned with the
    /// topology's `indices`. Edges from one source to one target keep the order in which they were imported.
    pub fn edge_weights(&self) -> Option<&[f32]> {
        let weights = self.topology.weights.as_ref()?;
        Some(weights.get(&self.topology.file))
    }

    /// Number of out-edges of each node, `[nodes]`.
    pub fn out_degree(&self) -> &[u32] {
        self.topology.out_degree.get(&self.topology.file)
    }

    /// Nodes with edges to themselves, ascending, and how many each has.
    pub fn self_loops(&self) -> impl Iterator<Item = (u32, u32)> {
        let (nodes, counts) = self.topology.loops();
        nodes.iter().copied().zip(counts.iter().copied())
    }

    /// Class labels of the nodes, `[nodes]`; -1 = unknown.
    pub fn labels(&self) -> Option<&[i32]> {
        self.labels.as_ref().map(|(file, part)| part.get(file))
    }

    /// Ids of the nodes.
    pub fn ids(&self) -> NodeIds<'_> {
        self.ids.view(self.manifest.nodes)
    }

    /// One checksum over all checksums that the store was written with: what is computed from a
    /// store keeps it, to be refused with another one.
    pub fn fingerprint(&self) -> String {
        self.manifest.fingerprint()
    }
}

fn open_file(record: &FileRecord, dir: &Path, check: Check) -> Result<TensorFile, StoreError> {
    let file = record.open(dir)?;
    if check == Check::Checksums {
        record.check(&file)?;
    }
    Ok(file)
}

fn open_features(
    file: TensorFile,
    manifest: &Manifest,
) -> Result<(TensorFile, RowsPart), StoreError> {
    let rows = file.rows_part("x")?;
    // Rows of 8-bit integers are longer by their scale.
    let columns = file.shape("x")?[1] - rows.width() + manifest.features;
    file.expect_shape("x", &[Some(manifest.nodes), Some(columns)])?;
    Ok((file, rows))
}

fn open_labels(
    file: TensorFile,
    manifest: &Manifest,
) -> Result<(TensorFile, Part<i32>), StoreError> {
    file.expect_shape("y", &[Some(manifest.nodes)])?;
    let part = file.part::<i32>("y")?;
    let classes = manifest.classes.as_ref().map_or(usize::MAX, Vec::len);
    let wrong = |&label: &i32| label < -1 || (label >= 0 && label as usize >= classes);
    let labels = part.get(&file);
    if let Some(node) = find_first(labels, wrong) {
        let message = format!(
            "node {node} has the label {}, which is no class",
            labels[node]
        );
        return Err(file.inconsistent("y", message));
    }
    Ok((file, part))
}

/// The weights, where the manifest says that there are some.
fn open_weights(file: &TensorFile, manifest: &Manifest) -> Result<Option<Part<f32>>, StoreError> {
    if file.has("weights") != manifest.weighted {
        let message = format!(
            "whether edges have weights: the manifest says {}",
            manifest.weighted
        );
        return Err(file.inconsistent("weights", message));
    }
    if !manifest.weighted {
        return Ok(None);
    }
    file.expect_shape("weights", &[Some(manifest.edges)])?;
    file.part("weights").map(Some)
}

/// `topology.safetensors`.
#[derive(Debug)]
struct TopologyFile {
    file: TensorFile,
    indptr: Part<u64>,
    indices: Part<u32>,
    out_degree: Part<u32>,
    loop_nodes: Part<u32>,
    loop_counts: Part<u32>,
    weights: Option<Part<f32>>,
}

impl TopologyFile {
    fn open(file: TensorFile, manifest: &Manifest) -> Result<Self, StoreError> {
        file.expect_shape("indptr", &[Some(manifest.nodes + 1)])?;
        file.expect_shape("indices", &[Some(manifest.edges)])?;
        file.expect_shape("out_degree", &[Some(manifest.nodes)])?;
        file.expect_shape("loop_nodes", &[None])?;
        file.expect_shape("loop_counts", &[Some(file.shape("loop_nodes")?[0])])?;
        let topology = Self {
            indptr: file.part("indptr")?,
            indices: file.part("indices")?,
            out_degree: file.part("out_degree")?,
            loop_nodes: file.part("loop_nodes")?,
            loop_counts: file.part("loop_counts")?,
            weights: open_weights(&file, manifest)?,
            file,
        };
        topology.check_rows(manifest)?;
        topology.check_loops(manifest)?;
        topology.check_weights(manifest)?;
        Ok(topology)
    }

    fn view(&self) -> Topology<'_> {
        Topology {
            indptr: self.indptr.get(&self.file),
            indices: self.indices.get(&self.file),
        }
    }

    fn loops(&self) -> (&[u32], &[u32]) {
        (
            self.loop_nodes.get(&self.file),
            self.loop_counts.get(&self.file),
        )
    }

    fn check_rows(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let Topology { indptr, indices } = self.view();
        let (nodes, edges) = (manifest.nodes, manifest.edges);
        if indptr[0] != 0 || indptr[nodes] != edges as u64 {
            let message = format!(
                "goes from {} to {}, but there are {edges} edges from 0",
                indptr[0], indptr[nodes]
            );
            return Err(self.file.inconsistent("indptr", message));
        }
        if let Some(node) = find_first_index(nodes, |node| indptr[node] > indptr[node + 1]) {
            let message = format!("node {node} ends before it begins");
            return Err(self.file.inconsistent("indptr", message));
        }
        if let Some(edge) = find_first(indices, |&source| source as usize >= nodes) {
            let message = format!("edge {edge} comes from node {} of {nodes}", indices[edge]);
            return Err(self.file.inconsistent("indices", message));
        }
        let view = self.view();
        if let Some(node) =
            find_first_index(nodes, |node| !view.in_neighbors(node as u32).is_sorted())
        {
            let message = format!("the sources of node {node} are not ascending");
            return Err(self.file.inconsistent("indices", message));
        }
        let out_degree = self.out_degree.get(&self.file);
        let total: u64 = out_degree.par_iter().map(|&degree| u64::from(degree)).sum();
        if total != edges as u64 {
            let message = format!("counts {total} edges, but there are {edges}");
            return Err(self.file.inconsistent("out_degree", message));
        }
        Ok(())
    }

    fn check_weights(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let Some(weights) = self.weights.as_ref().map(|part| part.get(&self.file)) else {
            return Ok(());
        };
        if let Some(edge) = find_first(weights, |weight| !weight.is_finite()) {
            let message = format!("the weight of edge {edge} is not finite");
            return Err(self.file.inconsistent("weights", message));
        }
        let edge = if manifest.undirected {
            self.view().find_uneven(weights)
        } else {
            None
        };
        match edge {
            Some((source, target)) => Err(self.file.inconsistent(
                "weights",
                format!("the edge from node {source} to node {target} has another weight than its reverse"),
            )),
            None => Ok(()),
        }
    }

    fn check_loops(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let (nodes, counts) = self.loops();
        if !nodes.is_sorted_by(|a, b| a < b)
            || nodes
                .last()
                .is_some_and(|&last| last as usize >= manifest.nodes)
        {
            let message = "not ascending node positions".to_owned();
            return Err(self.file.inconsistent("loop_nodes", message));
        }
        let topology = self.view();
        let wrong = nodes.iter().zip(counts).find(|&(&node, &count)| {
            let sources = topology.in_neighbors(node);
            let start = sources.partition_point(|&source| source < node);
            let found = sources[start..].partition_point(|&source| source <= node);
            count == 0 || found != count as usize
        });
        if let Some((node, count)) = wrong {
            let message = format!("says {count} for node {node}, but its edges say otherwise");
            return Err(self.file.inconsistent("loop_counts", message));
        }
        let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        if total != manifest.self_loops {
            let message = format!(
                "count {total}, but the manifest says {}",
                manifest.self_loops
            );
            return Err(self.file.inconsistent("loop_counts", message));
        }
        Ok(())
    }
}

/// `ids.safetensors`, where nodes have ids of their own.
#[derive(Debug)]
enum IdsFile {
    Position,
    Int {
        file: TensorFile,
        ids: Part<i64>,
        slots: Part<u32>,
    },
    Str {
        file: TensorFile,
        offsets: Part<u64>,
        bytes: Part<u8>,
        slots: Part<u32>,
    },
}

impl IdsFile {
    fn open_int(file: TensorFile, nodes: usize) -> Result<Self, StoreError> {
        file.expect_shape("ids", &[Some(nodes)])?;
        file.expect_shape("slots", &[None])?;
        let ids = file.part("ids")?;
        let slots = file.part("slots")?;
        let opened = Self::Int { file, ids, slots };
        opened.check_slots(nodes)?;
        Ok(opened)
    }

    fn open_str(file: TensorFile, nodes: usize) -> Result<Self, StoreError> {
        file.expect_shape("id_offsets", &[Some(nodes + 1)])?;
        file.expect_shape("id_bytes", &[None])?;
        file.expect_shape("slots", &[None])?;
        let strings = Strings {
            offsets: file.slice("id_offsets")?,
            bytes: file.slice("id_bytes")?,
        };
        if let Some(problem) = strings.problem() {
            return Err(file.inconsistent("id_offsets", problem));
        }
        let opened = Self::Str {
            offsets: file.part("id_offsets")?,
            bytes: file.part("id_bytes")?,
            slots: file.part("slots")?,
            file,
        };
        opened.check_slots(nodes)?;
        Ok(opened)
    }

    fn view(&self, nodes: usize) -> NodeIds<'_> {
        match self {
            Self::Position => NodeIds::new(Ids::Position { nodes }, &[]),
            Self::Int { file, ids, slots } => {
                NodeIds::new(Ids::Int(ids.get(file)), slots.get(file))
            }
            Self::Str {
                file,
                offsets,
                bytes,
                slots,
            } => {
                let strings = Strings {
                    offsets: offsets.get(file),
                    bytes: bytes.get(file),
                };
                NodeIds::new(Ids::Str(strings), slots.get(file))
            }
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Position => Ok(()),
            Self::Int { file, .. } | Self::Str { file, .. } => file.check(),
        }
    }

    fn check_slots(&self, nodes: usize) -> Result<(), StoreError> {
        match (self, self.view(nodes).problem()) {
            (Self::Int { file, .. } | Self::Str { file, .. }, Some(problem)) => {
                Err(file.inconsistent("slots", problem))
            }
            _ => Ok(()),
        }
    }
}

/// The ids of a graph's nodes where the graph itself is not at hand: a copy of the store's
/// `ids.safetensors`, or nothing where a node's id is its position.
#[derive(Debug)]
pub struct NodeIdTable {
    file: IdsFile,
    nodes: usize,
}

impl NodeIdTable {
    /// Opens the table in the directory `dir`, which `record` describes, for `nodes` nodes.
    ///
    /// # Errors
    /// The file is damaged or contradicts itself.
    pub fn open(
        dir: &Path,
        kind: NodeIdKind,
        record: Option<&FileRecord>,
        nodes: usize,
        check: Check,
    ) -> Result<Self, StoreError> {
        let file = match (kind, record) {
            (NodeIdKind::Position, _) | (_, None) => IdsFile::Position,
            (NodeIdKind::Int64, Some(record)) => {
                IdsFile::open_int(open_file(record, dir, check)?, nodes)?
            }
            (NodeIdKind::String, Some(record)) => {
                IdsFile::open_str(open_file(record, dir, check)?, nodes)?
            }
        };
        Ok(Self { file, nodes })
    }

    /// The ids.
    pub fn ids(&self) -> NodeIds<'_> {
        self.file.view(self.nodes)
    }

    /// As [`GraphStore::check_files`].
    ///
    /// # Errors
    /// [`StoreError::Lost`].
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.file.check()
    }
}
