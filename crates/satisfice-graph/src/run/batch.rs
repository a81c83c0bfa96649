//! A batch of new nodes, as the layers want it.

mod edges;

use super::scale::Degrees;
use crate::{GraphError, model::RequestLimits};
use edges::{ByNode, Edge, Index, Lists, many, ordered};
use satisfice_core::{Cores, Stopped};
use satisfice_store::QuerySlice;

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

/// What batches of one model fit to.
#[derive(Debug, Clone, Copy)]
pub struct BatchShape {
    /// Nodes of the graph.
    pub nodes: usize,
    /// Values of a row of features.
    pub features: usize,
    /// What becomes of their edges.
    pub rules: EdgeRules,
    /// How large they may be.
    pub limits: RequestLimits,
}

/// A checked batch: every edge list is ordered.
#[derive(Debug)]
pub struct QueryBatch {
    x: Vec<f32>,
    queries: usize,
    /// For each query: stored nodes with an edge to it.
    stored_into_query: Lists,
    /// For each query: queries with an edge to it.
    query_into_query: Lists,
    /// Stored nodes with an edge to a query.
    sources: ByNode,
    /// Stored nodes that a query has an edge to; those of `sources` where every edge goes both ways.
    targets: Option<ByNode>,
    targets_index: Index,
    /// Stored nodes with an edge to a query, ascending, and the number of such edges.
    readers: Vec<(u32, u32)>,
    /// Nodes of `targets`, ascending, and the number of edges to each.
    touched: Option<Vec<(u32, u32)>>,
    edges: usize,
}

impl QueryBatch {
    /// Checks and orders a batch.
    ///
    /// # Errors
    /// [`GraphError::Request`] and [`GraphError::TooLarge`], with what is wrong and where;
    /// [`GraphError::Canceled`] when nobody waits for it any more.
    pub fn new(
        attachment: Attachment,
        shape: BatchShape,
        cores: &Cores,
    ) -> Result<Self, GraphError> {
        check(&attachment, shape)?;
        Ok(Self::ordered(attachment, shape, cores)?)
    }

    fn ordered(attachment: Attachment, shape: BatchShape, cores: &Cores) -> Result<Self, Stopped> {
        let BatchShape { nodes, rules, .. } = shape;
        let queries = attachment.queries;
        let count = attachment.edges.len();
        // All but those of one direction.
        let edges_without = |direction: Direction| {
            let edges = attachment.edges.iter();
            let edges = edges.filter(move |edge| edge.2 != direction);
            edges.map(|&(query, node, _)| Edge::new(node, query))
        };
        let both_ways = attachment
            .edges
            .iter()
            .all(|edge| edge.2 == Direction::Both);
        let directions: &[Direction] = match both_ways {
            true => &[Direction::Out],
            false => &[Direction::Out, Direction::In],
        };
        let lists: Vec<_> = directions.iter().map(|&of| edges_without(of)).collect();
        let mut lists = ordered(&lists, (count, nodes), rules, cores)?.into_iter();
        let (inward, outward) = (lists.next().unwrap_or_default(), lists.next());
        let mut between = Vec::with_capacity(attachment.query_edges.len());
        for &(source, target) in &attachment.query_edges {
            between.push((target, source));
            if rules.undirected && source != target {
                between.push((source, target));
            }
        }
        if rules.query_self_loops {
            between.retain(|(target, source)| target != source);
            between.extend((0..queries as u32).map(|q| (q, q)));
        }
        between.sort_unstable();
        if rules.merge_duplicates {
            between.dedup();
        }
        let into_queries = inward.iter().flatten().map(|e| (e.query(), e.node()));
        let parts: Vec<&[Edge]> = inward
            .iter()
            .chain(outward.iter().flatten())
            .map(|p| &p[..])
            .collect();
        let lists = cores.map(
            parts.len() + 1,
            if many(count) { 1 } else { usize::MAX },
            |at| match at.checked_sub(1) {
                None => (Lists::new(queries, into_queries.clone()), ByNode::default()),
                Some(part) => (Lists::default(), ByNode::of_part(parts[part])),
            },
        )?;
        let mut lists = lists.into_iter();
        let stored_into_query = lists.next().map(|(of_queries, _)| of_queries);
        let mut of_parts: Vec<ByNode> = lists.map(|(_, of_part)| of_part).collect();
        let of_outward = of_parts.split_off(inward.len());
        let sources = ByNode::joined(of_parts);
        let targets = outward.map(|_| ByNode::joined(of_outward));
        let inward = sources.queries.ids.len();
        let outward = targets.as_ref().map_or(inward, |t| t.queries.ids.len());
        Ok(Self {
            edges: inward + outward + between.len(),
            readers: sources.degrees().collect(),
            touched: targets.as_ref().map(|targets| targets.degrees().collect()),
            targets_index: Index::new(&targets.as_ref().unwrap_or(&sources).nodes),
            stored_into_query: stored_into_query.unwrap_or_default(),
            query_into_query: Lists::new(queries, between.iter().copied()),
            sources,
            targets,
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
            sources: ByNode::default(),
            targets: None,
            targets_index: Index::default(),
            readers: Vec::new(),
            touched: None,
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

    /// Stored nodes with an edge to a query, ascending, and the queries of each, ascending.
    pub fn readers_of_stored(&self) -> impl Iterator<Item = (u32, &[u32])> {
        let nodes = self.sources.nodes.iter().enumerate();
        nodes.map(|(row, &node)| (node, self.sources.queries.row(row)))
    }

    /// Queries with an edge to a stored node, ascending.
    pub fn query_into_stored(&self, node: u32) -> &[u32] {
        let targets = self.targets();
        match self.targets_index.find(&targets.nodes, node) {
            Some(row) => targets.queries.row(row),
            None => &[],
        }
    }

    fn targets(&self) -> &ByNode {
        self.targets.as_ref().unwrap_or(&self.sources)
    }

    /// Stored nodes that get new in-edges, ascending.
    pub fn touched(&self) -> &[u32] {
        &self.targets().nodes
    }

    /// Stored nodes that get new in-edges, ascending, with how many.
    pub(crate) fn touched_degrees(&self) -> &[(u32, u32)] {
        self.touched.as_deref().unwrap_or(&self.readers)
    }

    /// Stored nodes that get new out-edges, ascending, with how many.
    pub fn readers(&self) -> &[(u32, u32)] {
        &self.readers
    }

    /// The queries that one of [`QueryBatch::readers`] has edges to, by its place, ascending.
    pub(crate) fn queries_of_reader(&self, place: usize) -> &[u32] {
        self.sources.queries.row(place)
    }

    /// New in-edges of one of [`QueryBatch::readers`], by its place.
    pub(crate) fn new_in_edges(&self, place: usize) -> usize {
        match &self.targets {
            // Every edge goes both ways.
            None => self.queries_of_reader(place).len(),
            Some(_) => self.query_into_stored(self.readers[place].0).len(),
        }
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
        let to_stored = self.targets().queries.ids.iter();
        for source in to_stored.chain(&self.query_into_query.ids) {
            degrees[*source as usize] += 1;
        }
        degrees
    }
}

fn check(batch: &Attachment, shape: BatchShape) -> Result<(), GraphError> {
    let BatchShape {
        nodes,
        features,
        limits,
        ..
    } = shape;
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
