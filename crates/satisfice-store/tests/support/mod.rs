//! What the tests share: a small graph, and writers of every kind of source.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod living;
pub(crate) mod parquet_file;

use satisfice_store::{
    DType, GraphStore, ImportOptions, ImportSummary, NoProgress, Source, StoreError, TensorSpec,
    TensorWriter, import,
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A graph in plain vectors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Graph {
    pub(crate) x: Vec<Vec<f32>>,
    pub(crate) edges: Vec<(u32, u32)>,
    pub(crate) y: Vec<i64>,
}

impl Graph {
    /// Seven nodes; edges that stand twice, self-loops, a node without edges.
    pub(crate) fn sample() -> Self {
        Self {
            x: (0..7)
                .map(|v| vec![v as f32 * 0.25, -1.5, 1.0 / (v + 3) as f32])
                .collect(),
            edges: vec![
                (0, 1),
                (2, 1),
                (0, 1),
                (1, 0),
                (3, 3),
                (3, 3),
                (4, 3),
                (5, 0),
                (4, 5),
                (2, 1),
                (1, 1),
            ],
            y: vec![0, 1, 2, -1, 1, 0, 2],
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.x.len()
    }

    pub(crate) fn width(&self) -> usize {
        self.x[0].len()
    }

    pub(crate) fn flat(&self) -> Vec<f32> {
        self.x.concat()
    }

    /// Sources, then targets.
    pub(crate) fn edge_index(&self) -> Vec<i64> {
        let sources = self.edges.iter().map(|e| i64::from(e.0));
        sources
            .chain(self.edges.iter().map(|e| i64::from(e.1)))
            .collect()
    }
}

pub(crate) fn bytes_of<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

/// A `.npy` file.
pub(crate) fn npy(descr: &str, fortran: bool, shape: &[usize], elements: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().fold(String::new(), |mut text, d| {
        write!(text, "{d}, ").unwrap();
        text
    });
    let fortran = if fortran { "True" } else { "False" };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({shape}), }}");
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(elements);
    bytes
}

pub(crate) fn npz(path: &Path, arrays: &[(&str, Vec<u8>)], method: CompressionMethod) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in arrays {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// The graph as arrays called as OGB calls them.
pub(crate) fn arrays(graph: &Graph) -> Vec<(&'static str, Vec<u8>)> {
    let (n, e, f) = (graph.nodes(), graph.edges.len(), graph.width());
    vec![
        (
            "edge_index",
            npy("<i8", false, &[2, e], &bytes_of(&graph.edge_index())),
        ),
        (
            "node_feat",
            npy("<f4", false, &[n, f], &bytes_of(&graph.flat())),
        ),
        (
            "node_label",
            npy("<i8", false, &[n, 1], &bytes_of(&graph.y)),
        ),
        ("num_nodes", npy("<i8", false, &[], &bytes_of(&[n as i64]))),
    ]
}

/// A tensor of a safetensors file.
pub(crate) type Tensor = (&'static str, DType, Vec<usize>, Vec<u8>);

pub(crate) fn safetensors(path: &Path, tensors: &[Tensor], metadata: &[(&str, &str)]) {
    let mut tensors: Vec<&Tensor> = tensors.iter().collect();
    tensors.sort_by_key(|t| std::cmp::Reverse(t.1.bitsize()));
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|t| TensorSpec::new(t.0, t.1, t.2.clone()))
        .collect();
    let metadata: BTreeMap<String, String> = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let mut writer = TensorWriter::create_with_metadata(path, &specs, &metadata).unwrap();
    for tensor in tensors {
        writer.append(&tensor.3).unwrap();
    }
    writer.finish().unwrap();
}

/// The tensors of a graph export.
pub(crate) fn export_tensors(graph: &Graph) -> Vec<Tensor> {
    let (n, e, f) = (graph.nodes(), graph.edges.len(), graph.width());
    vec![
        (
            "edge_index",
            DType::I64,
            vec![2, e],
            bytes_of(&graph.edge_index()),
        ),
        ("x", DType::F32, vec![n, f], bytes_of(&graph.flat())),
        ("y", DType::I64, vec![n], bytes_of(&graph.y)),
    ]
}

pub(crate) const EXPORT: (&str, &str) = ("format", "satisfice-graph-1");

pub(crate) fn string_ids(ids: &[&str]) -> [Tensor; 2] {
    let mut offsets = vec![0_i64];
    for id in ids {
        offsets.push(offsets.last().unwrap() + id.len() as i64);
    }
    let bytes = ids.concat().into_bytes();
    [
        (
            "id_offsets",
            DType::I64,
            vec![offsets.len()],
            bytes_of(&offsets),
        ),
        ("id_bytes", DType::U8, vec![bytes.len()], bytes),
    ]
}

/// Node and edge tables as text, with the ids that `id` gives.
pub(crate) fn csv(
    graph: &Graph,
    id: &dyn Fn(u32) -> String,
    label: &dyn Fn(i64) -> String,
) -> [String; 2] {
    let mut nodes = "id,label,a,b,c\n".to_owned();
    for (v, x) in graph.x.iter().enumerate() {
        let y = label(graph.y[v]);
        writeln!(nodes, "{},{y},{},{},{}", id(v as u32), x[0], x[1], x[2]).unwrap();
    }
    let mut edges = "source,target\n".to_owned();
    for &(s, t) in &graph.edges {
        writeln!(edges, "{},{}", id(s), id(t)).unwrap();
    }
    [nodes, edges]
}

/// A temporary directory in which graphs are imported.
pub(crate) struct Workshop(pub(crate) TempDir);

impl Workshop {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn import(
        &self,
        source: &Source,
        options: &ImportOptions,
    ) -> Result<(PathBuf, ImportSummary), StoreError> {
        let before = self.entries();
        let out = self.path(&format!("store-{}", before.len()));
        let result = import(source, options, &out, &NoProgress);
        let mut after = self.entries();
        if result.is_ok() {
            after.retain(|name| !out.ends_with(name));
        }
        assert_eq!(before, after, "nothing but a whole store is left");
        result.map(|summary| (out, summary))
    }

    fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// The files of a store, by name.
pub(crate) fn files(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(store).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Names of what is in a directory.
pub(crate) fn files_of(store: &Path) -> Vec<String> {
    let entries = fs::read_dir(store).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// Edges (source, target) of a store, by target.
pub(crate) fn edges(store: &GraphStore) -> Vec<(u32, u32)> {
    let topology = store.topology();
    (0..topology.nodes() as u32)
        .flat_map(|target| {
            topology
                .in_neighbors(target)
                .iter()
                .map(move |&s| (s, target))
        })
        .collect()
}

/// Four queries on a graph of seven nodes.
pub(crate) fn queries_file(path: &Path) {
    let x: [f32; 8] = [0.5, -1.0, 0.25, 2.0, 8.0, 0.0, 1.5, 3.0];
    let edges: [i64; 10] = [2, 0, 2, 3, 0, 6, 1, 0, 5, 1];
    let between: [i32; 6] = [0, 3, 2, 1, 2, 3];
    let mut tensors = vec![
        ("x", DType::F32, vec![4, 2], bytes_of(&x)),
        ("y", DType::I64, vec![4], bytes_of(&[1_i64, -1, 0, 2])),
        ("edge_index", DType::I64, vec![2, 5], bytes_of(&edges)),
        ("edge_direction", DType::U8, vec![5], vec![0, 1, 2, 0, 1]),
        (
            "query_edge_index",
            DType::I32,
            vec![2, 3],
            bytes_of(&between),
        ),
    ];
    tensors.extend(string_ids(&["a", "bé", "", "d"]));
    safetensors(path, &tensors, &[("format", "satisfice-queries-1")]);
}

/// What an import does by default.
pub(crate) const PLAIN: ImportOptions = ImportOptions {
    undirected: false,
    merge_duplicates: false,
    remove_self_loops: false,
    feature_dtype: None,
    ignored_columns: Vec::new(),
    overwrite: false,
};

/// Imports a source that must be refused with these words.
pub(crate) fn refused(
    workshop: &Workshop,
    source: &Source,
    options: &ImportOptions,
    wanted: &str,
) -> String {
    let error = workshop.import(source, options).expect_err(wanted);
    let message = error.to_string();
    assert!(message.contains(wanted), "{wanted}: {message}");
    assert!(!format!("{error:?}").is_empty());
    message
}
