//! `part.toml`: what a part holds and what it belongs to.

use crate::{
    ClusterError,
    assign::{Method, PARTS_MAX},
    error::io,
};
use satisfice_kernels::NewFile;
use satisfice_store::{Duplicates, FileRecord, NodeIdKind};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};
use xxhash_rust::xxh3::xxh3_64;

/// Name of the manifest in a part's directory.
pub(crate) const MANIFEST: &str = "part.toml";

const FORMAT: u32 = 2;

/// `part.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartManifest {
    /// Version of the format.
    pub format: u32,
    /// Which part it is, from 0.
    pub part: usize,
    /// How many there are.
    pub parts: usize,
    /// How nodes were spread.
    pub method: Method,
    /// Seed of the method.
    pub seed: u64,
    /// Nodes of the whole graph.
    pub graph_nodes: usize,
    /// Edges of the whole graph.
    pub graph_edges: usize,
    /// Nodes that the part owns.
    pub nodes: usize,
    /// Edges whose source it owns.
    pub edges: usize,
    /// Values per node of the features.
    pub features: usize,
    /// Whether for every edge its reverse is there too.
    pub undirected: bool,
    /// What became of edges that stood twice.
    pub duplicates: Duplicates,
    /// What the nodes' ids are.
    pub ids: NodeIdKind,
    /// Names of the label values 0, 1, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// Fingerprint of the graph store.
    pub store: String,
    /// Fingerprint of the weights and layers.
    pub model: String,
    /// Checksum of the owners of all nodes.
    pub map: String,
    /// Fingerprint of the embeddings that the tables were cut from, where they were not computed by a
    /// cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<String>,
    /// The graph's files.
    pub files: Vec<FileRecord>,
    /// The tables of values, messages and sums, in the order in which they are computed.
    #[serde(default)]
    pub tables: Vec<FileRecord>,
}

impl PartManifest {
    /// The version of the format that this version writes and reads.
    pub const FORMAT: u32 = FORMAT;

    /// Reads the manifest in `dir` and compares its checksum.
    ///
    /// # Errors
    /// There is none, it is damaged, or it is of another format.
    pub fn read(dir: &Path) -> Result<Self, ClusterError> {
        let path = dir.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(io(&path))?;
        let wrong = |message: String| ClusterError::Part {
            path: path.clone(),
            message,
        };
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        if first != checksum_line(rest) {
            return Err(wrong("its checksum is another".to_owned()));
        }
        let manifest: Self = toml::from_str(rest).map_err(|e| wrong(e.to_string()))?;
        let problem = match &manifest {
            m if m.format != FORMAT => format!("format {} is not known", m.format),
            m if !(1..=PARTS_MAX).contains(&m.parts) || m.part >= m.parts => {
                format!("part {} of {}", m.part, m.parts)
            }
            _ => return Ok(manifest),
        };
        Err(wrong(problem))
    }

    /// Replaces the file as a whole: a kill leaves the old one or the new one.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), ClusterError> {
        let path = dir.join(MANIFEST);
        let rest = toml::to_string(self).map_err(|e| ClusterError::Part {
            path: path.clone(),
            message: e.to_string(),
        })?;
        let text = format!("{}\n{rest}", checksum_line(&rest));
        NewFile::write(&path, text.as_bytes()).map_err(io(&path))
    }

    /// The record of a file, if it is listed.
    pub(crate) fn file(&self, name: &str) -> Option<&FileRecord> {
        self.files.iter().find(|record| record.name == name)
    }
}

fn checksum_line(rest: &str) -> String {
    format!("checksum = \"{}\"", checksum(rest.as_bytes()))
}

/// xxh3-64 as 16 hexadecimal digits.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}
