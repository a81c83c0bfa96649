use crate::{
    FileRecord, NodeIdKind, StoreError,
    checksum::{Checksum, checksum},
    error::At,
    graph_store::IDS,
    live::has_role,
};
use satisfice_kernels::NewFile;
use serde::{Deserialize, Serialize};
use std::{fs, io, path::Path};

/// Name of the manifest in a store's directory.
pub(crate) const MANIFEST: &str = "manifest.toml";

const FORMAT: u32 = 1;

/// What became of edges that stood twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// One was kept of each.
    Merged,
    /// All were kept; each counts.
    Kept,
}

/// `manifest.toml` of a graph store: what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of directed edges.
    pub edges: usize,
    /// Values per node.
    pub features: usize,
    /// Whether for every edge its reverse is there too, and no edge stands twice.
    pub undirected: bool,
    /// Whether every edge has a weight.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub weighted: bool,
    /// What became of edges that stood twice.
    pub duplicates: Duplicates,
    /// Number of edges from a node to itself.
    pub self_loops: u64,
    /// What the nodes' ids are.
    pub ids: NodeIdKind,
    /// Names of the label values 0, 1, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// The store's files.
    pub files: Vec<FileRecord>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Manifest {
    /// The version of the format that this version writes and reads.
    pub const FORMAT: u32 = FORMAT;

    /// Reads the manifest in `dir` and compares its checksum.
    ///
    /// # Errors
    /// There is none, it is damaged, or it is of another format.
    pub fn read(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(MANIFEST);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotAStore {
                    path: dir.to_owned(),
                });
            }
            read => read.at(&path, "read it")?,
        };
        let malformed = |message: String| StoreError::Manifest {
            path: path.clone(),
            message,
        };
        let text = String::from_utf8(text).map_err(|_| malformed("not UTF-8".to_owned()))?;
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let expected = first
            .strip_prefix("checksum = ")
            .map(|value| value.trim().trim_matches('"'));
        let found = checksum(rest.as_bytes());
        if let Some(expected) = expected
            && expected != found
        {
            return Err(StoreError::Checksum {
                path,
                part: "manifest".to_owned(),
                expected: expected.to_owned(),
                found,
            });
        }
        // Another format may have its checksum elsewhere.
        match toml::from_str(&text) {
            Ok(FormatOnly { format }) if format != FORMAT => {
                return Err(StoreError::Format {
                    path,
                    found: format,
                    known: FORMAT,
                });
            }
            _ if expected.is_none() => {
                return Err(malformed("the first line is no checksum".to_owned()));
            }
            _ => {}
        }
        toml::from_str(rest).map_err(|e| malformed(e.to_string()))
    }

    /// Writes the manifest in `dir`, to the disk.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(MANIFEST);
        let rest = toml::to_string(self).map_err(|e| StoreError::Manifest {
            path: path.clone(),
            message: e.to_string(),
        })?;
        let text = format!("{}\n{rest}", checksum_line(&rest));
        NewFile::write(&path, text.as_bytes()).at(&path, "write it")
    }

    /// The record of the file that was imported as `name`, or of the one that a compaction put in its place.
    pub(crate) fn find(&self, name: &str) -> Option<&FileRecord> {
        self.files
            .iter()
            .find(|record| has_role(&record.name, name))
    }

    /// The record of the table of ids, where nodes have ids of their own.
    pub fn ids_file(&self) -> Option<&FileRecord> {
        self.find(IDS)
    }

    /// As [`find`](Self::find), of a file that must be there.
    pub(crate) fn file(&self, dir: &Path, name: &str) -> Result<&FileRecord, StoreError> {
        self.find(name).ok_or_else(|| StoreError::Manifest {
            path: dir.join(MANIFEST),
            message: format!("`files` does not list {name}"),
        })
    }

    /// One checksum over all recorded checksums.
    pub(crate) fn fingerprint(&self) -> String {
        let mut all = Checksum::default();
        for file in &self.files {
            all.update(format!("{} {}\n", file.name, file.header).as_bytes());
            for (name, checksum) in &file.tensors {
                all.update(format!("{name} {checksum}\n").as_bytes());
            }
        }
        all.take()
    }
}

fn checksum_line(rest: &str) -> String {
    format!("checksum = \"{}\"", checksum(rest.as_bytes()))
}
