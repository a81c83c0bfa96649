//! A graph as `NumPy` arrays: one `.npz` file, or a directory of `.npy` files.

use super::{
    GraphInput, OwnedIds,
    array::{Array, Strided},
    features,
    ignored::{self, Ignored},
    labels, npy,
    staging::Staging,
};
use crate::{StoreError, error::At};
use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};
use zip::{ZipArchive, result::ZipError};

pub(crate) fn read(
    path: &Path,
    ignored: Ignored<'_>,
    staging: &Staging,
) -> Result<GraphInput, StoreError> {
    let mut arrays = if path.is_dir() {
        Arrays::Directory(path.to_owned())
    } else {
        Arrays::open_zip(path, staging)?
    };
    let skipped_columns = left_out(path, &arrays.names()?, ignored)?;
    let edges = arrays.required(&["edge_index"])?;
    let weights = if ignored.has("edge_weight") {
        None
    } else {
        arrays.any(&["edge_weight"])?
    };
    let features = arrays.required(&["node_feat", "x"])?;
    let [nodes, _] = features::shape(&features)?;
    if let Some(count) = arrays.any(&["num_nodes"])? {
        check_node_count(&count, nodes)?;
    }
    let labels = match arrays.any(&["node_label", "y"])? {
        Some(array) => Some(labels::of_array(&array, nodes, None)?),
        None => None,
    };
    Ok(GraphInput {
        path: path.to_owned(),
        nodes,
        edges,
        weights,
        features,
        labels,
        classes: None,
        ids: OwnedIds::positions(nodes),
        undirected: false,
        skipped_columns,
    })
}

/// The arrays of these names that are not read, where none of them belongs to the edges.
fn left_out(
    path: &Path,
    names: &[String],
    ignored: Ignored<'_>,
) -> Result<Vec<String>, StoreError> {
    let has = |name: &str| names.iter().any(|other| other == name);
    let unread = |name: &&String| match name.as_str() {
        "edge_index" | "node_feat" | "node_label" | "num_nodes" => false,
        "edge_weight" => ignored.has("edge_weight"),
        "x" => has("node_feat"),
        "y" => has("node_label"),
        _ => true,
    };
    let of_edges = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("edge") || name.contains("weight")
    };
    let unread: Vec<String> = names.iter().filter(unread).cloned().collect();
    match unread
        .iter()
        .find(|name| of_edges(name) && !ignored.has(name))
    {
        Some(name) => Err(ignored::lost(path, "array", name, "")),
        None => Ok(unread),
    }
}

fn check_node_count(count: &Array, nodes: usize) -> Result<(), StoreError> {
    count.expect_integers()?;
    if count.shape.iter().product::<usize>() != 1 {
        return Err(count.malformed(format!("shape {:?}, but it is one number", count.shape)));
    }
    let mut value = [0];
    count.read_integers(
        Strided {
            start: 0,
            stride: 1,
        },
        &mut value,
    );
    if usize::try_from(value[0]) == Ok(nodes) {
        return Ok(());
    }
    Err(count.malformed(format!(
        "{}, but there are features of {nodes} nodes",
        value[0]
    )))
}

/// Where arrays are looked for.
enum Arrays<'a> {
    Directory(PathBuf),
    Zip {
        path: PathBuf,
        archive: ZipArchive<BufReader<File>>,
        staging: &'a Staging,
    },
}

impl<'a> Arrays<'a> {
    fn open_zip(path: &Path, staging: &'a Staging) -> Result<Self, StoreError> {
        let file = File::open(path).at(path, "open it")?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|e| zip_error(path, e))?;
        Ok(Self::Zip {
            path: path.to_owned(),
            archive,
            staging,
        })
    }

    /// Names of all arrays that are there, in order.
    fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut files: Vec<String> = match self {
            Self::Zip { path, archive, .. } => {
                let names = archive.file_names().map(|name| name.map(Cow::into_owned));
                names
                    .collect::<Result<_, _>>()
                    .map_err(|e| zip_error(path, e))?
            }
            Self::Directory(dir) => {
                let entries = fs::read_dir(dir).at(dir, "list it")?;
                let names =
                    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
                names.collect::<io::Result<_>>().at(dir, "list it")?
            }
        };
        files.sort_unstable();
        let name = |file: &String| file.strip_suffix(".npy").map(str::to_owned);
        Ok(files.iter().filter_map(name).collect())
    }

    fn required(&mut self, names: &[&str]) -> Result<Array, StoreError> {
        let path = match self {
            Self::Directory(path) | Self::Zip { path, .. } => path.clone(),
        };
        self.any(names)?.ok_or_else(|| StoreError::Unsupported {
            path,
            message: format!("no array `{}`", names.join("` or `")),
            hint:
                "arrays are called as OGB calls them: `edge_index` [2, edges], `node_feat` [nodes, \
                   features], and `node_label` [nodes] if there are labels; \
                   `edge_weight` [edges] if edges have weights"
                    .to_owned(),
        })
    }

    /// The first of these arrays that is there.
    fn any(&mut self, names: &[&str]) -> Result<Option<Array>, StoreError> {
        for name in names {
            if let Some(array) = self.one(name)? {
                return Ok(Some(array));
            }
        }
        Ok(None)
    }

    fn one(&mut self, name: &str) -> Result<Option<Array>, StoreError> {
        let member = format!("{name}.npy");
        match self {
            Self::Directory(dir) => {
                let path = dir.join(member);
                path.is_file().then(|| npy::open(&path, name)).transpose()
            }
            Self::Zip {
                path,
                archive,
                staging,
            } => {
                let mut entry = match archive.by_name(&member) {
                    Ok(entry) => entry,
                    Err(ZipError::FileNotFound) => return Ok(None),
                    Err(e) => return Err(zip_error(path, e)),
                };
                // Deflated members cannot be mapped, so all are copied.
                let copy = staging.scratch(&member);
                let mut out = BufWriter::new(File::create(&copy).at(&copy, "create it")?);
                io::copy(&mut entry, &mut out).at(path, "unpack it")?;
                out.flush().at(&copy, "write it")?;
                npy::open_as(&copy, path, name).map(Some)
            }
        }
    }
}

fn zip_error(path: &Path, error: ZipError) -> StoreError {
    match error {
        ZipError::Io(source) => StoreError::Io {
            path: path.to_owned(),
            action: "read it",
            source,
        },
        other => StoreError::Malformed {
            path: path.to_owned(),
            message: format!("not a whole .npz file: {other}"),
        },
    }
}
