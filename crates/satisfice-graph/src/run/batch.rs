//! A batch of new nodes, as the layers want it.

use super::scale::Degrees;
use crate::{GraphError, model::RequestLimits};
use rayon::prelude::*;
use satisfice_store::{QuerySlice, Topology};

/// Which way an edge between a query and a stored node points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// There is one edge each way.
    Both,
    /// From the stored node to the query.
    In,
    /// From the query to the stored node.
    Out,
}

impl Direction {
    /// The direction that a code stands for in files and requests: 0 both, 1 in, 2 out.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Both),
            1 => Some(Self::In),
            2 => Some(Self::Out),
            _ => None,
        }
    }
}

/// New nodes with their edges, as a caller gives them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attachment {
    /// Features, `[queries, features]`, row-major.
    pub x: Vec<f32>,
    /// Number of queries.
    pub queries: usize,
    /// Edges between queries and stored nodes: (query, position of the stored node, direction).
    pub edges: Vec<(u32, u32, Direction)>,
    /// Directed edges between queries: (source, target).
    pub query_edges: Vec<(u32, u32)>,
}

impl From<&QuerySlice> for Attachment {
    /// Held-out queries; edges without a direction hold both ways.
    fn from(slice: &QuerySlice) -> Self {
        let direction = |edge: usize| {
            let code = slice.edge_direction.as_ref().map(|codes| codes[edge]);
            // The file's codes were checked when it was opened.
            code.and_then(Direction::from_code)
                .unwrap_or(Direction::Both)
        };
        let edges = slice.edge_query.iter().zip(&slice.edge_node).enumerate();
        Self {
            x: slice.x.clone(),
            queries: slice.queries(),
            edges: edges
                .map(|(edge, (&query, &node))| (query, node, direction(edge)))
                .collect(),
            query_edges: slice.query_edges.clone(),
        }
    }
}

/// What the store says of its edges, which the edges of a batch follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeRules {
    /// Every edge has its reverse: edges between queries get theirs.
    pub undirected: bool,
    /// An edge that stands twice counts once.
    pub merge_duplicates: bool,
    /// Every query gets an edge to itself.
    pub query_self_loops: bool,
}

/// An edge, ordered by its reader, then its source: one number, because sorting is most of what a batch
/// costs before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge(u64);

impl Edge {
    fn new(reader: u32, source: u32) -> Self {
        Self(u64::from(reader) << 32 | u64::from(source))
    }

    fn reader(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn source(self) -> u32 {
        self.0 as u32
    }

    fn ids(self) -> (u32, u32) {
        (self.reader(), self.source())
    }
}

/// Lists of ids, one a row, end to end.
#[derive(Debug, Default)]
struct Lists {
    ends: Vec<u32>,
    ids: Vec<u32>,
}

impl Lists {
    /// From pairs (row, id) sorted by row, for rows 0 .. `rows`.
    fn new(rows: usize, pairs: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut lists = Self {
            ends: Vec::with_capacity(rows),
            ids: Vec::new(),
        };
        for (row, id) in pairs {
            while lists.ends.len() < row as usize {
                lists.ends.push(lists.ids.len() as u32);
            }
            lists.ids.push(id);
        }
        lists.ends.resize(rows, lists.ids.len() as u32);
        lists
    }

    fn row(&self, row: usize) -> &[u32] {
        let start = match row {
            0 => 0,
            _ => self.ends[row - 1] as usize,
        };
        &self.ids[start..self.ends[row] as usize]
    }
}

/// Where to look for a node in an ascending list: about one node a bucket, wherever they lie evenly.
#[derive(Debug, Default)]
struct Index {
    /// For each bucket of `2^shift` ids, and one more: how many nodes lie below it.
    starts: Vec<u32>,
    shift: u32,
}

impl Index {
    fn new(nodes: &[u32]) -> Self {
        let last = nodes.last().copied().unwrap_or(0);
        let shift = (last as usize / nodes.len().max(1)).max(1).ilog2();
        let buckets = (last >> shift) as usize + 1;
        let mut starts = vec![0; buckets + 1];
        for &node in nodes {
            starts[(node >> shift) as usize + 1] += 1;
        }
        for bucket in 0..buckets {
            starts[bucket + 1] += starts[bucket];
        }
        Self { starts, shift }
    }

    /// The place of `node` in the list that this is the index of.
    fn find(&self, nodes: &[u32], node: u32) -> Option<usize> {
        let bucket = (node >> self.shift) as usize;
        let end = *self.starts.get(bucket + 1)? as usize;
        let start = self.starts[bucket] as usize;
        let at = nodes[start..end].binary_search(&node).ok()?;
        Some(start + at)
    }
}

/// A checked batch: every edge list is ordered by its reader.
#[derive(Debug)]
pub struct QueryBatch {
    x: Vec<f32>,
    queries: usize,
    /// For each query: stored nodes with an edge to it.
    stored_into_query: Lists,
    /// For each query: queries with an edge to it.
    query_into_query: Lists,
    /// Stored nodes that a query has an edge to, ascending.
    touched: Vec<u32>,
    touched_index: Index,
    /// For each touched node: the queries with an edge to it.
    query_into_touched: Lists,
    /// Stored nodes with an edge to a query, ascending, and the number of such edges.
    readers: Vec<(u32, u32)>,
    edges: usize,
}

impl QueryBatch {
    /// Checks and orders a batch for a graph of `topology` with rows of `features` values.
    ///
    /// # Errors
    /// [`GraphError::Request`] and [`GraphError::TooLarge`], with what is wrong and where.
    pub fn new(
        attachment: Attachment,
        topology: Topology<'_>,
        features: usize,
        rules: EdgeRules,
        limits: RequestLimits,
    ) -> Result<Self, GraphError> {
        Self::for_nodes(attachment, topology.nodes(), features, rules, limits)
    }

    /// As [`QueryBatch::new`], for a graph of which only the number of nodes is at hand.
    ///
    /// # Errors
    /// As [`QueryBatch::new`].
    pub fn for_nodes(
        attachment: Attachment,
        nodes: usize,
        features: usize,
        rules: EdgeRules,
        limits: RequestLimits,
    ) -> Result<Self, GraphError> {
        check(&attachment, nodes, features, limits)?;
        let queries = attachment.queries;
        let (mut inward, mut outward) = (Vec::new(), Vec::new());
        for &(query, node, direction) in &attachment.edges {
            if direction != Direction::Out {
                inward.push(Edge::new(query, node));
            }
            if direction != Direction::In {
                outward.push(Edge::new(node, query));
            }
        }
        let mut between = Vec::with_capacity(attachment.query_edges.len());
        for &(source, target) in &attachment.query_edges {
            between.push(Edge::new(target, source));
            if rules.undirected && source != target {
                between.push(Edge::new(source, target));
            }
        }
        if rules.query_self_loops {
            between.retain(|edge| edge.reader() != edge.source());
            between.extend((0..queries as u32).map(|q| Edge::new(q, q)));
        }
        for edges in [&mut inward, &mut outward, &mut between] {
            edges.par_sort_unstable();
            if rules.merge_duplicates {
                edges.dedup();
            }
        }
        let touched = unique(outward.iter().map(|edge| edge.reader()));
        Ok(Self {
            edges: inward.len() + outward.len() + between.len(),
            readers: count_readers(&inward),
            query_into_touched: group(&touched, &outward),
            touched_index: Index::new(&touched),
            stored_into_query: Lists::new(queries, inward.into_iter().map(Edge::ids)),
            query_into_query: Lists::new(queries, between.into_iter().map(Edge::ids)),
            touched,
            x: attachment.x,
            queries,
        })
    }

    /// A batch of no query.
    pub(crate) fn empty() -> Self {
        Self {
            x: Vec::new(),
            queries: 0,
            stored_into_query: Lists::default(),
            query_into_query: Lists::default(),
            touched: Vec::new(),
            touched_index: Index::default(),
            query_into_touched: Lists::default(),
            readers: Vec::new(),
            edges: 0,
        }
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// Directed edges that the batch adds to the graph, duplicates merged where the graph's are.
    pub fn edges(&self) -> usize {
        self.edges
    }

    /// Edges to each query, from stored nodes and queries.
    pub(crate) fn in_degrees(&self) -> Vec<u32> {
        (0..self.queries)
            .map(|query| self.query_in_degree(query) as u32)
            .collect()
    }

    /// Features, `[queries, features]`.
    pub fn x(&self) -> &[f32] {
        &self.x
    }

    /// Stored nodes with an edge to a query, ascending.
    pub fn stored_into_query(&self, query: usize) -> &[u32] {
        self.stored_into_query.row(query)
    }

    /// Queries with an edge to a query, ascending.
    pub fn query_into_query(&self, query: usize) -> &[u32] {
        self.query_into_query.row(query)
    }

    /// Edges to a query, from stored nodes and queries.
    pub(crate) fn query_in_degree(&self, query: usize) -> usize {
        self.stored_into_query(query).len() + self.query_into_query(query).len()
    }

    /// Queries with an edge to a stored node.
    pub fn query_into_stored(&self, node: u32) -> &[u32] {
        match self.touched_index.find(&self.touched, node) {
            Some(row) => self.query_into_touched.row(row),
            None => &[],
        }
    }

    /// Stored nodes that get new in-edges, ascending.
    pub fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// Stored nodes that get new in-edges, ascending, with how many.
    pub(crate) fn touched_degrees(&self) -> impl Iterator<Item = (u32, u32)> {
        let degree = |row: usize| self.query_into_touched.row(row).len() as u32;
        let nodes = self.touched.iter().enumerate();
        nodes.map(move |(row, &node)| (node, degree(row)))
    }

    /// Stored nodes that get new out-edges, ascending, with how many.
    pub fn readers(&self) -> &[(u32, u32)] {
        &self.readers
    }

    /// The nodes of [`QueryBatch::readers`], ascending.
    pub(crate) fn reader_nodes(&self) -> impl Iterator<Item = u32> {
        self.readers.iter().map(|&(node, _)| node)
    }

    /// Edges of a query to itself.
    pub(crate) fn query_self_loops(&self, query: usize) -> usize {
        let sources = self.query_into_query(query).iter();
        sources.filter(|&&source| source as usize == query).count()
    }

    /// The degrees of every query.
    pub fn query_degrees(&self) -> Vec<Degrees> {
        let outgoing = self.query_out_degrees();
        let degrees = |(query, outgoing)| Degrees {
            incoming: self.query_in_degree(query) as u32,
            outgoing,
            loops: self.query_self_loops(query) as u32,
        };
        outgoing.into_iter().enumerate().map(degrees).collect()
    }

    /// New out-edges of each query: to stored nodes and to queries.
    pub(crate) fn query_out_degrees(&self) -> Vec<u32> {
        let mut degrees = vec![0; self.queries];
        for &query in self
            .query_into_touched
            .ids
            .iter()
            .chain(&self.query_into_query.ids)
        {
            degrees[query as usize] += 1;
        }
        degrees
    }
}

fn check(
    batch: &Attachment,
    nodes: usize,
    features: usize,
    limits: RequestLimits,
) -> Result<(), GraphError> {
    if batch.queries == 0 {
        return Err(GraphError::request_hint(
            "empty_batch",
            "the batch has no query",
            "`x` holds one row a query: send one at least",
        ));
    }
    let edges = batch.edges.len() + batch.query_edges.len();
    for (what, found, limit) in [
        ("queries in one request", batch.queries, limits.queries_max),
        ("edges in one request", edges, limits.edges_max),
    ] {
        if found > limit {
            return Err(GraphError::TooLarge { what, found, limit });
        }
    }
    if batch.x.len() != batch.queries * features {
        return Err(GraphError::request(
            "wrong_feature_width",
            format!(
                "`x` holds {} values for {} queries, but the graph's features have width {features}",
                batch.x.len(),
                batch.queries
            ),
        ));
    }
    if let Some(at) = batch.x.iter().position(|v| !v.is_finite()) {
        return Err(GraphError::request(
            "feature_not_finite",
            format!(
                "`x`: query {}, feature {} is {}",
                at / features,
                at % features,
                batch.x[at]
            ),
        ));
    }
    check_edges(batch, nodes)
}

fn check_edges(batch: &Attachment, nodes: usize) -> Result<(), GraphError> {
    let out_of_range = |edge: usize, what: &str, id: u32, count: usize| {
        GraphError::request(
            "edge_out_of_range",
            format!("edge {edge}: {what} {id}, but there are {count}"),
        )
    };
    for (edge, &(query, node, _)) in batch.edges.iter().enumerate() {
        if query as usize >= batch.queries {
            return Err(out_of_range(edge, "query", query, batch.queries));
        }
        if node as usize >= nodes {
            return Err(out_of_range(edge, "stored node", node, nodes));
        }
    }
    for (edge, &(source, target)) in batch.query_edges.iter().enumerate() {
        for query in [source, target] {
            if query as usize >= batch.queries {
                return Err(out_of_range(edge, "query", query, batch.queries));
            }
        }
    }
    Ok(())
}

/// The different values of an ascending sequence.
fn unique(values: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut unique: Vec<u32> = values.collect();
    unique.dedup();
    unique
}

/// Lists the sources of `edges`, ascending by reader, for each of `nodes`.
fn group(nodes: &[u32], edges: &[Edge]) -> Lists {
    let mut row = 0;
    let rows = edges.iter().map(|edge| {
        while nodes[row] != edge.reader() {
            row += 1;
        }
        (row as u32, edge.source())
    });
    Lists::new(nodes.len(), rows)
}

fn count_readers(inward: &[Edge]) -> Vec<(u32, u32)> {
    let mut nodes: Vec<u32> = inward.iter().map(|edge| edge.source()).collect();
    nodes.par_sort_unstable();
    nodes
        .chunk_by(|a, b| a == b)
        .map(|run| (run[0], run.len() as u32))
        .collect()
}
