//! Synthetic graphs: a stand-in for large public ones, with held-out queries.
//!
//! The model is a degree-corrected stochastic block model: every node has a class and a degree
//! weight with a Pareto tail; an edge has both ends in one class with probability `homophily`, and
//! the class centroid with Gaussian noise as features. What makes stale embeddings wrong is in it: nodes
//! of low degree, whose neighbourhood a new node changes, and features that say less than a neighbourhood.

mod edges;
mod features;
mod nodes;
mod queries;

use crate::{
    Duplicates, Manifest, NodeIdKind, Progress, StoreError, TensorSpec, TensorWriter,
    error::At,
    import::{FeatureDType, SelfLoops, Staging, write_labels, write_topology},
    node_ids::NODES_MAX,
};
use nodes::Nodes;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use safetensors::Dtype;
use serde::Serialize;
use std::{fs, path::Path};
use xxhash_rust::xxh3::xxh3_64;

/// Name of the graph store in the output directory.
const GRAPH: &str = "graph";
/// Name of the file of held-out queries.
const QUERIES: &str = "queries.safetensors";
/// Name of the file that says which stored nodes a model is trained on.
const SPLIT: &str = "split.safetensors";

/// What graph to make.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticSpec {
    /// Nodes, held-out ones included.
    pub nodes: usize,
    /// Directed edges that are drawn, in pairs of an edge and its reverse. Those drawn twice are
    /// merged, and those from a node to itself left out, so that a graph has a little fewer.
    pub edges: u64,
    /// Values per node.
    pub features: usize,
    /// Number of classes.
    pub classes: usize,
    /// Share of nodes that models are trained on.
    pub train_share: f64,
    /// Share of nodes that models are validated on.
    pub validation_share: f64,
    /// Share of nodes that are held out with all their edges and come back as queries.
    pub query_share: f64,
    /// Held-out nodes that are written as queries at most.
    pub queries_max: usize,
    /// Probability that an edge stays in the class of its first end whatever its second.
    pub homophily: f64,
    /// Standard deviation of the class centroids; that of the noise is 1.
    pub signal: f64,
    /// Exponent of the degree weights' Pareto tail.
    pub degree_exponent: f64,
    /// Smallest degree weight; the mean is about `1 / (degree_exponent - 1)`.
    pub degree_weight_min: f64,
    /// Precision of the features.
    pub feature_dtype: FeatureDType,
    /// Everything follows from it.
    pub seed: u64,
}

impl SyntheticSpec {
    /// Size, width, classes and split of the Reddit posts graph of GraphSAGE: 24 % of the nodes are
    /// test nodes, a quarter of which is held out.
    pub fn reddit_like() -> Self {
        Self {
            nodes: 232_965,
            edges: 120_000_000,
            features: 602,
            classes: 41,
            train_share: 0.66,
            validation_share: 0.10,
            query_share: 0.06,
            queries_max: 16_384,
            homophily: 0.15,
            signal: 0.12,
            degree_exponent: 1.8,
            degree_weight_min: 0.02,
            feature_dtype: FeatureDType::F16,
            seed: 0,
        }
    }

    /// Size, width, classes and split of the co-purchase graph ogbn-products: 90 % of the nodes are
    /// test nodes, a quarter of which is held out.
    pub fn products_like() -> Self {
        Self {
            nodes: 2_449_029,
            edges: 124_000_000,
            features: 100,
            classes: 47,
            train_share: 0.08,
            validation_share: 0.02,
            query_share: 0.225,
            homophily: 0.35,
            signal: 0.2,
            ..Self::reddit_like()
        }
    }

    /// As many edges a node, with `scale` times the nodes.
    #[must_use]
    pub fn scaled(mut self, scale: f64) -> Self {
        self.nodes = (self.nodes as f64 * scale).round() as usize;
        self.edges = (self.edges as f64 * scale).round() as u64;
        self
    }

    fn check(&self) -> Result<(), StoreError> {
        let refuse = |message: String| Err(StoreError::Synthetic { message });
        if !(2..=NODES_MAX).contains(&self.nodes) {
            return refuse(format!(
                "{} nodes, but a graph has between 2 and {NODES_MAX} of them",
                self.nodes
            ));
        }
        if self.classes == 0 || self.classes > self.nodes || self.features == 0 {
            return refuse(format!(
                "{} classes and {} features: it needs one feature at least, and between one class \
                 and as many as nodes",
                self.classes, self.features
            ));
        }
        if self.edges > self.nodes as u64 * u64::from(u32::MAX) / 2 {
            return refuse(format!("{} edges are more than it can have", self.edges));
        }
        let shares = [
            self.train_share,
            self.validation_share,
            self.query_share,
            self.homophily,
        ];
        let sum: f64 = shares[..3].iter().sum();
        if !(shares.iter().all(|share| (0.0..=1.0).contains(share)) && sum <= 1.0) {
            return refuse(format!(
                "the shares {shares:?} are not between 0 and 1, or those of the nodes come to more \
                 than 1"
            ));
        }
        let positive = [self.degree_exponent, self.degree_weight_min];
        if !(positive.iter().all(|v| v.is_finite() && *v > 0.0)
            && (0.0..=1_000.0).contains(&self.signal))
        {
            return refuse(format!(
                "degree exponent and smallest weight {positive:?} must be positive, and the signal \
                 {} between 0 and 1000",
                self.signal
            ));
        }
        if self.held_out() == 0 || self.held_out() == self.nodes {
            return refuse(format!(
                "{} of {} nodes would be held out: some must be, and some not",
                self.held_out(),
                self.nodes
            ));
        }
        Ok(())
    }

    /// Nodes that are held out: the last ones, which are like all others.
    fn held_out(&self) -> usize {
        (self.nodes as f64 * self.query_share).round() as usize
    }

    fn stored(&self) -> usize {
        self.nodes - self.held_out()
    }

    /// Random numbers of their own for a part of a stream: parts can be made in any order, and
    /// again.
    fn rng(&self, stream: Stream, part: u64) -> Xoshiro256PlusPlus {
        let mut key = [0; 24];
        for (bytes, value) in key
            .chunks_exact_mut(8)
            .zip([self.seed, stream as u64, part])
        {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        Xoshiro256PlusPlus::seed_from_u64(xxh3_64(&key))
    }
}

/// What random numbers are for.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Classes,
    Centroids,
    Nodes,
    Edges,
    Features,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyntheticSummary {
    /// Nodes of the stored graph.
    pub nodes: usize,
    /// Directed edges of the stored graph.
    pub edges: usize,
    /// Directed edges between stored nodes that were drawn again and merged.
    pub merged: usize,
    /// Nodes held out.
    pub held_out: usize,
    /// Held-out nodes in the file of queries.
    pub queries: usize,
    /// Edges between those and stored nodes, one a pair.
    pub query_edges: usize,
    /// Edges among those, one a pair.
    pub edges_between_queries: usize,
}

/// Makes a graph in the directory `out`: the store `graph/`, its held-out `queries.safetensors`, and
/// `split.safetensors` (tensor `split`, U8 `[nodes]`: 0 train, 1 validation, 2 test).
///
/// The same `spec` gives the same bytes on any number of cores. Blocks, and uses all cores. Memory:
/// 4 bytes a directed edge between stored nodes, 8 an edge of a query, about 30 a node; features are
/// written in pieces.
///
/// # Errors
/// [`StoreError::Synthetic`] when `spec` makes no sense, [`StoreError::Exists`] unless `overwrite`,
/// or the place cannot be written.
pub fn generate(
    spec: &SyntheticSpec,
    out: &Path,
    overwrite: bool,
    progress: &dyn Progress,
) -> Result<SyntheticSummary, StoreError> {
    spec.check()?;
    fs::create_dir_all(out).at(out, "make it")?;
    let staging = Staging::new(&out.join(GRAPH), overwrite)?;
    let dir = staging.store();
    let nodes = Nodes::draw(spec);
    let drawn = edges::draw(spec, &nodes, progress)?;
    let stored = spec.stored();
    let adjacency = drawn.adjacency;
    let degrees: Vec<u32> = (0..stored as u32)
        .map(|node| adjacency.view().in_degree(node))
        .collect();
    let centroids = features::Centroids::draw(spec, &nodes.classes);
    let mut files = vec![write_topology(
        &dir,
        &adjacency,
        &degrees,
        &SelfLoops::default(),
    )?];
    let spec_x = TensorSpec::new("x", spec.feature_dtype.dtype(), vec![stored, spec.features]);
    let mut writer = TensorWriter::create(&dir.join(crate::graph_store::FEATURES), &[spec_x])?;
    progress.start("drawing features", Some(stored as u64));
    centroids.write(&nodes.classes[..stored], 0, &mut writer, progress)?;
    progress.finish();
    files.push(writer.finish()?);
    files.push(write_labels(&dir, &nodes.labels(0..stored))?);
    let manifest = Manifest {
        format: Manifest::FORMAT,
        nodes: stored,
        edges: adjacency.indices.len(),
        features: spec.features,
        undirected: true,
        weighted: false,
        duplicates: Duplicates::Merged,
        self_loops: 0,
        ids: NodeIdKind::Position,
        classes: None,
        files,
    };
    manifest.write(&dir)?;
    write_split(spec, &out.join(SPLIT))?;
    queries::write(spec, &nodes, &centroids, &drawn.queries, &out.join(QUERIES))?;
    staging.commit()?;
    Ok(SyntheticSummary {
        nodes: stored,
        edges: manifest.edges,
        merged: adjacency.duplicates as usize,
        held_out: spec.held_out(),
        queries: spec.held_out().min(spec.queries_max),
        query_edges: drawn.queries.to_stored.len(),
        edges_between_queries: drawn.queries.between.len(),
    })
}

/// Nodes are all alike, so the first ones may as well be those that models are trained on.
fn write_split(spec: &SyntheticSpec, path: &Path) -> Result<(), StoreError> {
    let stored = spec.stored();
    let train = (spec.nodes as f64 * spec.train_share).round() as usize;
    let validation = train + (spec.nodes as f64 * spec.validation_share).round() as usize;
    let split: Vec<u8> = (0..stored)
        .map(|node| u8::from(node >= train) + u8::from(node >= validation))
        .collect();
    let tensor = TensorSpec::new("split", Dtype::U8, vec![stored]);
    let mut writer = TensorWriter::create(path, &[tensor])?;
    writer.append(&split)?;
    writer.finish().map(drop)
}
