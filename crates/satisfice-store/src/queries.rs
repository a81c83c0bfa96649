use crate::{
    StoreError,
    node_ids::Strings,
    parallel::find_first,
    tensor_file::{Part, RowsPart, TensorFile},
};
use safetensors::Dtype;
use satisfice_kernels::Rows;
use std::{ops::Range, path::Path};

/// What the metadata of a queries file says.
pub(crate) const FORMAT: &str = "satisfice-queries-1";

/// Held-out queries: new nodes with their edges to stored nodes and among each other, mapped from
/// one safetensors file.
#[derive(Debug)]
pub struct Queries {
    file: TensorFile,
    x: RowsPart,
    labels: Option<Part<i64>>,
    /// Where the edges of each query begin and end, `[queries + 1]`.
    offsets: Vec<usize>,
    edges: Vec<QueryEdge>,
    has_directions: bool,
    /// Edges between queries (source, target), by source, and where each source's begin and end.
    between: (Vec<usize>, Vec<(u32, u32)>),
    name_offsets: Option<Vec<u64>>,
}

/// An edge between a query and a stored node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryEdge {
    /// The query.
    pub query: u32,
    /// Position of the stored node.
    pub node: u32,
    /// 0 both, 1 stored -> query, 2 query -> stored; 0 where the file does not say.
    pub direction: u8,
}

/// Some queries, `b` of them, as a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct QuerySlice {
    queries: usize,
    /// Features, `[b, features]`.
    pub x: Vec<f32>,
    /// Class labels, `[b]`, where the file has them; -1 = unknown.
    pub labels: Option<Vec<i64>>,
    /// Query of each edge, `0 .. b`, ascending.
    pub edge_query: Vec<u32>,
    /// Position of each edge's stored node.
    pub edge_node: Vec<u32>,
    /// Direction of each edge, where the file has them: 0 both, 1 stored -> query, 2 query -> stored.
    pub edge_direction: Option<Vec<u8>>,
    /// Edges (source, target) between queries of the batch.
    pub query_edges: Vec<(u32, u32)>,
}

impl QuerySlice {
    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.queries
    }
}

impl Queries {
    /// Opens the file at `path` and checks shapes, ranges and that features are finite.
    ///
    /// Positions of stored nodes are checked against the graph when a batch is attached to it.
    ///
    /// # Errors
    /// The file is no queries file, or contradicts itself; the error names the tensor.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = TensorFile::open(path)?;
        check_format(&file)?;
        refuse_weights(&file)?;
        let x = file.rows_part("x")?;
        if let Some(at) = x.find_not_finite(&file) {
            return Err(StoreError::NotFinite {
                path: path.to_owned(),
                node: at / x.width(),
                column: at % x.width(),
                dtype: x.dtype(),
            });
        }
        let queries = x.get(&file).len();
        if u32::try_from(queries).is_err() {
            return Err(file.inconsistent("x", format!("{queries} queries are too many")));
        }
        let edges = read_edges(&file, queries)?;
        let between = if file.has("query_edge_index") {
            read_pairs(&file, "query_edge_index", (queries as u64, queries as u64))?
        } else {
            Vec::new()
        };
        Ok(Self {
            x,
            labels: read_labels(&file, queries)?,
            offsets: offsets(queries, edges.iter().map(|edge| edge.query)),
            edges,
            has_directions: file.has("edge_direction"),
            between: (
                offsets(queries, between.iter().map(|edge| edge.0)),
                by_key(between, |e| e.0),
            ),
            name_offsets: read_names(&file, queries)?,
            file,
        })
    }

    /// Number of queries.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no query.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Features, `[queries, features]`, f32 or f16.
    pub fn features(&self) -> Rows<'_> {
        self.x.get(&self.file)
    }

    /// Without class labels, which say nothing of a model that was not trained on them.
    #[must_use]
    pub fn without_labels(self) -> Self {
        Self {
            labels: None,
            ..self
        }
    }

    /// Class labels, `[queries]`; -1 = unknown.
    pub fn labels(&self) -> Option<&[i64]> {
        self.labels.as_ref().map(|part| part.get(&self.file))
    }

    /// All edges between queries and stored nodes, by query, each query's in the file's order.
    pub fn edges(&self) -> &[QueryEdge] {
        &self.edges
    }

    /// Whether the file says of each edge which way it points.
    pub fn has_directions(&self) -> bool {
        self.has_directions
    }

    /// All edges (source, target) between queries, by source.
    pub fn query_edges(&self) -> &[(u32, u32)] {
        &self.between.1
    }

    /// The name of a query, where the file has names.
    pub fn name(&self, query: usize) -> Option<&str> {
        let offsets = self.name_offsets.as_ref()?;
        if query >= self.len() {
            return None;
        }
        let bytes = self.file.bytes("id_bytes").ok()?;
        std::str::from_utf8(Strings { offsets, bytes }.get(query)).ok()
    }

    /// The queries in `range` as a batch; positions past the end are left out.
    pub fn batch(&self, range: Range<usize>) -> QuerySlice {
        let end = range.end.min(self.len());
        let positions: Vec<u32> = (range.start.min(end) as u32..end as u32).collect();
        self.select(&positions)
    }

    /// The queries at `positions`, each once, in that order, as a batch with the edges among them.
    ///
    /// # Panics
    /// When there is no query at a position.
    pub fn select(&self, positions: &[u32]) -> QuerySlice {
        let mut rows: Vec<(u32, u32)> = positions.iter().copied().zip(0..).collect();
        rows.sort_unstable();
        let row_of = |query: u32| {
            let found = rows.binary_search_by_key(&query, |&(position, _)| position);
            found.ok().map(|at| rows[at].1)
        };
        let features = self.features();
        let mut x = vec![0.0; positions.len() * features.width()];
        for (row, &query) in x.chunks_exact_mut(features.width()).zip(positions) {
            features.read(query as usize, row);
        }
        let range = |offsets: &[usize], query: u32| {
            let query = query as usize;
            offsets[query]..offsets[query + 1]
        };
        let (offsets, between) = &self.between;
        let (mut edges, mut query_edges) = (Vec::new(), Vec::new());
        for (row, &query) in (0..).zip(positions) {
            let own = &self.edges[range(&self.offsets, query)];
            edges.extend(own.iter().map(|edge| (row, *edge)));
            let own = &between[range(offsets, query)];
            query_edges.extend(own.iter().filter_map(|e| Some((row, row_of(e.1)?))));
        }
        let labels = |labels: &[i64]| positions.iter().map(|&q| labels[q as usize]).collect();
        QuerySlice {
            queries: positions.len(),
            x,
            labels: self.labels().map(labels),
            edge_query: edges.iter().map(|&(row, _)| row).collect(),
            edge_node: edges.iter().map(|(_, edge)| edge.node).collect(),
            edge_direction: self
                .has_directions
                .then(|| edges.iter().map(|(_, edge)| edge.direction).collect()),
            query_edges,
        }
    }
}

fn check_format(file: &TensorFile) -> Result<(), StoreError> {
    match file.metadata("format") {
        Some(FORMAT) => Ok(()),
        found => Err(StoreError::Unsupported {
            path: file.path().to_owned(),
            message: match found {
                Some(found) => format!("its metadata says format = \"{found}\""),
                None => "its metadata says no format".to_owned(),
            },
            hint: format!(
                "held-out queries have format = \"{FORMAT}\"; write them with `write_queries`"
            ),
        }),
    }
}

/// No model reads weights of a query's edges, and none may be left out in silence.
fn refuse_weights(file: &TensorFile) -> Result<(), StoreError> {
    let found = ["edge_weight", "query_edge_weight"]
        .into_iter()
        .find(|name| file.has(name));
    match found {
        None => Ok(()),
        Some(name) => Err(StoreError::Unsupported {
            path: file.path().to_owned(),
            message: format!("tensor `{name}` would be lost: edges of queries have no weights"),
            hint: "if the model was trained without weights, write the queries without it"
                .to_owned(),
        }),
    }
}

fn read_edges(file: &TensorFile, queries: usize) -> Result<Vec<QueryEdge>, StoreError> {
    let pairs = read_pairs(file, "edge_index", (queries as u64, u64::from(u32::MAX)))?;
    let directions = if file.has("edge_direction") {
        Some(file.vector::<u8>("edge_direction", pairs.len())?)
    } else {
        None
    };
    if let Some(edge) = directions.and_then(|d| d.iter().position(|&code| code > 2)) {
        let message = format!("edge {edge}: directions are 0, 1 and 2");
        return Err(file.inconsistent("edge_direction", message));
    }
    let edges = pairs
        .into_iter()
        .enumerate()
        .map(|(edge, (query, node))| QueryEdge {
            query,
            node,
            direction: directions.map_or(0, |d| d[edge]),
        })
        .collect();
    Ok(by_key(edges, |edge: &QueryEdge| edge.query))
}

/// The columns of a tensor `[2, pairs]`, each row below its limit.
fn read_pairs(
    file: &TensorFile,
    name: &str,
    limits: (u64, u64),
) -> Result<Vec<(u32, u32)>, StoreError> {
    file.expect_shape(name, &[Some(2), None])?;
    let (first, second) = match file.dtype(name)? {
        Dtype::I64 => halves(file.slice::<i64>(name)?, |&value| value),
        Dtype::I32 => halves(file.slice::<i32>(name)?, |&value| i64::from(value)),
        other => return Err(file.wrong_type(name, other, &[Dtype::I64, Dtype::I32])),
    };
    let index = |row: usize, at: usize, value: i64, limit: u64| {
        if u64::try_from(value).is_ok_and(|value| value < limit) {
            Ok(value as u32)
        } else {
            Err(file.inconsistent(
                name,
                format!("[{row}, {at}] is {value}, not in 0 .. {limit}"),
            ))
        }
    };
    first
        .into_iter()
        .zip(second)
        .enumerate()
        .map(|(at, (a, b))| Ok((index(0, at, a, limits.0)?, index(1, at, b, limits.1)?)))
        .collect()
}

fn halves<T>(values: &[T], convert: impl Fn(&T) -> i64) -> (Vec<i64>, Vec<i64>) {
    let (first, second) = values.split_at(values.len() / 2);
    (
        first.iter().map(&convert).collect(),
        second.iter().map(&convert).collect(),
    )
}

fn read_labels(file: &TensorFile, queries: usize) -> Result<Option<Part<i64>>, StoreError> {
    if !file.has("y") {
        return Ok(None);
    }
    let labels = file.vector::<i64>("y", queries)?;
    if let Some(query) = find_first(labels, |&label| label < -1) {
        let message = format!(
            "query {query} has the label {}; -1 = unknown",
            labels[query]
        );
        return Err(file.inconsistent("y", message));
    }
    file.part("y").map(Some)
}

fn read_names(file: &TensorFile, queries: usize) -> Result<Option<Vec<u64>>, StoreError> {
    if !file.has("id_offsets") {
        return Ok(None);
    }
    let offsets = file.vector::<i64>("id_offsets", queries + 1)?;
    file.expect_shape("id_bytes", &[None])?;
    // A negative offset becomes one that is larger than any file.
    let offsets: Vec<u64> = offsets.iter().map(|&offset| offset as u64).collect();
    let strings = Strings {
        offsets: &offsets,
        bytes: file.slice::<u8>("id_bytes")?,
    };
    match strings.problem() {
        Some(problem) => Err(file.inconsistent("id_offsets", problem)),
        None => Ok(Some(offsets)),
    }
}

/// The items by `key`; those of one key stay in their order.
fn by_key<T>(mut items: Vec<T>, key: impl Fn(&T) -> u32) -> Vec<T> {
    items.sort_by_key(key);
    items
}

/// Where the items of each query begin and end once they are sorted by query.
fn offsets(queries: usize, keys: impl Iterator<Item = u32>) -> Vec<usize> {
    let mut offsets = vec![0; queries + 1];
    for query in keys {
        offsets[query as usize + 1] += 1;
    }
    for query in 0..queries {
        offsets[query + 1] += offsets[query];
    }
    offsets
}
