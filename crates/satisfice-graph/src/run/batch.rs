//! A batch of new nodes, as the layers want it.

mod arrays;
mod edges;

pub use arrays::{Attachment, Directions, NewNodes};

use super::scale::Degrees;
use crate::{GraphError, model::RequestLimits};
use edges::{ByNode, Edge, EdgeList, Index, Lists, many, ordered};
use satisfice_core::{Cores, Stopped};
use std::{ops::Range, sync::OnceLock};

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
    /// Made when a node is first looked for: not every plan does.
    targets_index: OnceLock<Index>,
    edges: usize,
    /// Stored nodes whose answers are asked for too, ascending, each once.
    stored: Vec<u32>,
}

impl QueryBatch {
    /// Checks and orders a batch.
    ///
    /// # Errors
    /// [`GraphError::Request`] and [`GraphError::TooLarge`], with what is wrong and where;
    /// [`GraphError::Canceled`] when nobody waits for it any more.
    ///
    /// # Panics
    /// When the arrays do not hold as many edges.
    pub fn new<'a>(
        batch: impl Into<NewNodes<'a>>,
        shape: BatchShape,
        cores: &Cores,
    ) -> Result<Self, GraphError> {
        let batch = batch.into();
        let edges = batch.edge_node.len();
        assert_eq!(batch.edge_query.len(), edges, "queries of the edges");
        if let Directions::Each(each) = &batch.directions {
            assert_eq!(each.len(), edges, "directions of the edges");
        }
        check(&batch, shape)?;
        Ok(Self::ordered(batch, shape, cores)?)
    }

    fn ordered(batch: NewNodes<'_>, shape: BatchShape, cores: &Cores) -> Result<Self, Stopped> {
        let BatchShape { nodes, rules, .. } = shape;
        let queries = batch.queries;
        let mut lists = vec![EdgeList::without(&batch, Direction::Out)];
        if !batch.directions.both() {
            lists.push(EdgeList::without(&batch, Direction::In));
        }
        let mut sorted = ordered(&lists, nodes, rules, cores)?.into_iter();
        let (inward, outward) = (sorted.next().unwrap_or_default(), sorted.next());
        let outward: Vec<Vec<Edge>> = outward.into_iter().flatten().collect();
        let parts: Vec<&[Edge]> = inward
            .iter()
            .chain(&outward)
            .map(|part| &part[..])
            .collect();
        let made = cores.map(
            parts.len() + 1,
            if many(batch.edge_node.len()) {
                1
            } else {
                usize::MAX
            },
            |at| match at.checked_sub(1) {
                None => {
                    let lists = lists[0].by_query(queries, &inward, rules.merge_duplicates);
                    (lists, ByNode::default())
                }
                Some(part) => (Lists::default(), ByNode::of_part(parts[part])),
            },
        )?;
        let mut made = made.into_iter();
        let stored_into_query = made.next().map(|(of_queries, _)| of_queries);
        let mut of_parts: Vec<ByNode> = made.map(|(_, of_part)| of_part).collect();
        let of_outward = of_parts.split_off(inward.len());
        let sources = ByNode::joined(of_parts);
        let targets = (!batch.directions.both()).then(|| ByNode::joined(of_outward));
        let between = between(&batch, rules);
        let inward = sources.queries.ids.len();
        let outward = targets.as_ref().map_or(inward, |t| t.queries.ids.len());
        Ok(Self {
            edges: inward + outward + between.len(),
            targets_index: OnceLock::new(),
            stored_into_query: stored_into_query.unwrap_or_default(),
            query_into_query: Lists::new(queries, between.iter().copied()),
            sources,
            targets,
            x: batch.x.into_owned(),
            queries,
            stored: Vec::new(),
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
            targets_index: OnceLock::new(),
            edges: 0,
            stored: Vec::new(),
        }
    }

    /// With the answers of some stored nodes asked for too.
    pub(crate) fn with_stored(mut self, nodes: &[u32]) -> Self {
        self.stored = nodes.to_vec();
        self.stored.sort_unstable();
        self.stored.dedup();
        self
    }

    /// Stored nodes whose answers are asked for too, ascending, each once.
    pub(crate) fn stored(&self) -> &[u32] {
        &self.stored
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
        let index = || Index::new(&targets.nodes);
        match self
            .targets_index
            .get_or_init(index)
            .find(&targets.nodes, node)
        {
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
        &self.targets().degrees
    }

    /// Stored nodes that get new out-edges, ascending, with how many.
    pub fn readers(&self) -> &[(u32, u32)] {
        &self.sources.degrees
    }

    /// The queries that one of [`QueryBatch::readers`] has edges to, by its place, ascending.
    pub(crate) fn queries_of_reader(&self, place: usize) -> &[u32] {
        self.sources.queries.row(place)
    }

    /// Those of all readers, end to end.
    pub(crate) fn queries_of_readers(&self) -> &[u32] {
        &self.sources.queries.ids
    }

    /// Where in [`QueryBatch::queries_of_readers`] those of one reader are.
    pub(crate) fn range_of_reader(&self, place: usize) -> Range<usize> {
        self.sources.queries.range(place)
    }

    /// How many readers there are whose queries, end to end, are at most `count`.
    pub(crate) fn readers_until(&self, count: usize) -> usize {
        self.sources.queries.rows_until(count)
    }

    /// New in-edges of one of [`QueryBatch::readers`], by its place.
    pub(crate) fn new_in_edges(&self, place: usize) -> usize {
        match &self.targets {
            // Every edge goes both ways.
            None => self.queries_of_reader(place).len(),
            Some(_) => self.query_into_stored(self.readers()[place].0).len(),
        }
    }

    /// The nodes of [`QueryBatch::readers`], ascending.
    pub(crate) fn reader_nodes(&self) -> impl Iterator<Item = u32> {
        self.sources.nodes.iter().copied()
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
        match &self.targets {
            // Every edge goes both ways.
            None => {
                for (query, degree) in degrees.iter_mut().enumerate() {
                    *degree = self.stored_into_query(query).len() as u32;
                }
            }
            Some(targets) => {
                for source in &targets.queries.ids {
                    degrees[*source as usize] += 1;
                }
            }
        }
        for source in &self.query_into_query.ids {
            degrees[*source as usize] += 1;
        }
        degrees
    }
}

/// The edges between queries, each as its target and its source, in order.
fn between(batch: &NewNodes<'_>, rules: EdgeRules) -> Vec<(u32, u32)> {
    let mut between = Vec::with_capacity(batch.query_edges.len());
    for &(source, target) in &*batch.query_edges {
        between.push((target, source));
        if rules.undirected && source != target {
            between.push((source, target));
        }
    }
    if rules.query_self_loops {
        between.retain(|(target, source)| target != source);
        between.extend((0..batch.queries as u32).map(|query| (query, query)));
    }
    between.sort_unstable();
    if rules.merge_duplicates {
        between.dedup();
    }
    between
}

fn check(batch: &NewNodes<'_>, shape: BatchShape) -> Result<(), GraphError> {
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
    let edges = batch.edge_node.len() + batch.query_edges.len();
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
    if let Some(at) = position(&batch.x, |v| !v.is_finite()) {
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

fn check_edges(batch: &NewNodes<'_>, nodes: usize) -> Result<(), GraphError> {
    let out_of_range = |edge: usize, what: &str, id: u32, count: usize| {
        GraphError::request(
            "edge_out_of_range",
            format!("edge {edge}: {what} {id}, but there are {count}"),
        )
    };
    let no_query = position(&batch.edge_query, |&query| query as usize >= batch.queries);
    let no_node = position(&batch.edge_node, |&node| node as usize >= nodes);
    match (no_query, no_node) {
        (Some(edge), _) if no_node.is_none_or(|other| edge <= other) => {
            let query = batch.edge_query[edge];
            return Err(out_of_range(edge, "query", query, batch.queries));
        }
        (_, Some(edge)) => {
            let node = batch.edge_node[edge];
            return Err(out_of_range(edge, "stored node", node, nodes));
        }
        _ => {}
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

/// The first value that is as `is` says. Looks at many at a time: mostly there is none.
fn position<T>(values: &[T], is: impl Fn(&T) -> bool) -> Option<usize> {
    const AT_ONCE: usize = 1024;
    let any = |block: &&[T]| block.iter().fold(false, |any, value| any | is(value));
    let blocks = values.chunks(AT_ONCE).enumerate();
    let (block, values) = blocks.into_iter().find(|(_, block)| any(block))?;
    let at = values.iter().position(is)?;
    Some(block * AT_ONCE + at)
}
