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

/// An edge between a stored node and a query, as one number: by its node, then its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge(u64);

impl Edge {
    fn new(node: u32, query: u32) -> Self {
        Self(u64::from(node) << 32 | u64::from(query))
    }

    fn node(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn query(self) -> u32 {
        self.0 as u32
    }
}

/// Lists of ids, one a row, end to end.
#[derive(Debug, Default)]
struct Lists {
    ends: Vec<u32>,
    ids: Vec<u32>,
}

impl Lists {
    /// From pairs (row, id) for rows 0 .. `rows`; each row keeps the order of its pairs.
    fn new(rows: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
        let mut ends = vec![0_u32; rows + 1];
        let mut len = 0;
        for (row, _) in pairs.clone() {
            ends[row as usize + 1] += 1;
            len += 1;
        }
        for row in 0..rows {
            ends[row + 1] += ends[row];
        }
        // Each row's start moves to its end as its ids come in.
        let mut ids = vec![0; len];
        for (row, id) in pairs {
            let end = &mut ends[row as usize];
            ids[*end as usize] = id;
            *end += 1;
        }
        ends.truncate(rows);
        Self { ends, ids }
    }

    fn row(&self, row: usize) -> &[u32] {
        let start = match row {
            0 => 0,
            _ => self.ends[row - 1] as usize,
        };
        &self.ids[start..self.ends[row] as usize]
    }
}

/// Stored nodes with an edge to or from a query, ascending, and the queries of each, ascending.
#[derive(Debug, Default)]
struct ByNode {
    nodes: Vec<u32>,
    queries: Lists,
}

impl ByNode {
    /// From edges in order, in parts of which none has a node of another.
    fn new(parts: &[Vec<Edge>]) -> Self {
        let [rest @ .., last] = parts else {
            return Self::default();
        };
        if rest.is_empty() {
            return Self::of_part(last);
        }
        let mut all = Self::default();
        let parts: Vec<Self> = parts.par_iter().map(|edges| Self::of_part(edges)).collect();
        for part in parts {
            let below = all.queries.ids.len() as u32;
            let ends = part.queries.ends.iter().map(|end| end + below);
            all.queries.ends.extend(ends);
            all.queries.ids.extend(part.queries.ids);
            all.nodes.extend(part.nodes);
        }
        all
    }

    fn of_part(edges: &[Edge]) -> Self {
        let mut by_node = Self::default();
        by_node.queries.ids.reserve_exact(edges.len());
        for of_node in edges.chunk_by(|a, b| a.node() == b.node()) {
            by_node.nodes.push(of_node[0].node());
            let ids = &mut by_node.queries.ids;
            ids.extend(of_node.iter().map(|edge| edge.query()));
            by_node.queries.ends.push(ids.len() as u32);
        }
        by_node
    }

    /// Each node with the number of its edges.
    fn degrees(&self) -> impl Iterator<Item = (u32, u32)> {
        let degree = |row: usize| self.queries.row(row).len() as u32;
        let nodes = self.nodes.iter().enumerate();
        nodes.map(move |(row, &node)| (node, degree(row)))
    }
}

/// Edges among `nodes` nodes, about `count` of them, in order, in parts of which none has a node of another: one for each core
/// where there are many edges.
fn ordered(
    edges: &(impl Iterator<Item = Edge> + Clone + Sync),
    (count, nodes): (usize, usize),
    rules: EdgeRules,
) -> Vec<Vec<Edge>> {
    let parts = match many(count) {
        true => rayon::current_num_threads().min(count / PART_EDGES_MIN),
        false => 1,
    };
    let part = |index: usize| {
        let (from, end) = (index * nodes / parts, (index + 1) * nodes / parts);
        let of_part = |edge: &Edge| (from..end).contains(&(edge.node() as usize));
        let mut mine = Vec::with_capacity(count / parts);
        mine.extend(edges.clone().filter(of_part));
        sort(&mut mine);
        if rules.merge_duplicates {
            mine.dedup();
        }
        mine
    };
    match parts {
        1 => vec![part(0)],
        _ => (0..parts).into_par_iter().map(part).collect(),
    }
}

/// Edges of a part at least.
const PART_EDGES_MIN: usize = 1 << 12;

/// Whether so many edges are worth another core: fewer are ordered before it has begun.
fn many(edges: usize) -> bool {
    edges >= 2 * PART_EDGES_MIN
}

/// Does both, at once where it is worth it.
fn both<A: Send, B: Send>(
    at_once: bool,
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    match at_once {
        true => rayon::join(first, second),
        false => (first(), second()),
    }
}

/// Sorts edges digit by digit, the last one first: comparing them would be most of what a batch costs before it
/// runs. Passes over digits that all edges share are left out, and those over queries where the edges
/// came by query.
fn sort(edges: &mut Vec<Edge>) {
    let mut spare = vec![Edge(0); edges.len()];
    let digit_bits = edges.len().max(1).ilog2().clamp(4, DIGIT_BITS_MAX);
    let by_query = edges.is_sorted_by_key(|edge| edge.query());
    let bits_of = |largest: Option<u32>| u32::BITS - largest.unwrap_or(0).leading_zeros();
    let query_bits = bits_of(edges.iter().map(|edge| edge.query()).max());
    let node_bits = bits_of(edges.iter().map(|edge| edge.node()).max());
    let query_digits = (0..query_bits).step_by(digit_bits as usize);
    let node_digits = (0..node_bits).step_by(digit_bits as usize);
    let shifts = query_digits
        .filter(|_| !by_query)
        .chain(node_digits.map(|shift| u32::BITS + shift));
    for shift in shifts {
        let digit = |edge: Edge| (edge.0 >> shift) as usize & ((1 << digit_bits) - 1);
        let mut starts = vec![0_u32; (1 << digit_bits) + 1];
        for &edge in &*edges {
            starts[digit(edge) + 1] += 1;
        }
        for digit in 0..1 << digit_bits {
            starts[digit + 1] += starts[digit];
        }
        for &edge in &*edges {
            let start = &mut starts[digit(edge)];
            spare[*start as usize] = edge;
            *start += 1;
        }
        std::mem::swap(edges, &mut spare);
    }
}

/// Bits of a digit at most: its counts and the ends of its runs stay in the nearest caches.
const DIGIT_BITS_MAX: u32 = 11;

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
        let count = attachment.edges.len();
        // All but those of one direction.
        let edges_without = |direction: Direction| {
            let edges = attachment
                .edges
                .iter()
                .filter(move |edge| edge.2 != direction);
            let edges = edges.map(|&(query, node, _)| Edge::new(node, query));
            ordered(&edges, (count, nodes), rules)
        };
        let both_ways = attachment
            .edges
            .iter()
            .all(|edge| edge.2 == Direction::Both);
        let (inward, outward) = both(
            many(count) && !both_ways,
            || edges_without(Direction::Out),
            || (!both_ways).then(|| edges_without(Direction::In)),
        );
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
        let (stored_into_query, (sources, targets)) = both(
            many(count),
            || Lists::new(queries, into_queries),
            || (ByNode::new(&inward), outward.as_deref().map(ByNode::new)),
        );
        let inward = sources.queries.ids.len();
        let outward = targets.as_ref().map_or(inward, |t| t.queries.ids.len());
        Ok(Self {
            edges: inward + outward + between.len(),
            readers: sources.degrees().collect(),
            touched: targets.as_ref().map(|targets| targets.degrees().collect()),
            targets_index: Index::new(&targets.as_ref().unwrap_or(&sources).nodes),
            stored_into_query,
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: EdgeRules = EdgeRules {
        undirected: true,
        merge_duplicates: false,
        query_self_loops: false,
    };

    fn edges(nodes: u32) -> impl Strategy<Value = Vec<(u32, u32)>> {
        let len = prop_oneof![0..20_usize, 1_000..3_000_usize, 13_000..13_010_usize];
        len.prop_flat_map(move |len| prop::collection::vec((0..nodes, 0..70_u32), len))
    }

    proptest! {
        #[test]
        fn edges_are_sorted_however_they_come(
            pairs in prop_oneof![edges(3), edges(5_000), edges(u32::MAX)],
            by_query: bool,
        ) {
            let mut found: Vec<Edge> = pairs.iter().map(|&(n, q)| Edge::new(n, q)).collect();
            if by_query {
                found.sort_by_key(|edge| edge.query());
            }
            let mut wanted = found.clone();
            wanted.sort_unstable();
            let unordered = found.clone();
            sort(&mut found);
            prop_assert_eq!(&found, &wanted);
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let size = (pairs.len(), u32::MAX as usize);
                let parts = pool.install(|| ordered(&unordered.iter().copied(), size, RULES));
                prop_assert_eq!(parts.len(), (pairs.len() / PART_EDGES_MIN).clamp(1, threads));
                prop_assert_eq!(parts.concat(), wanted.clone());
                let by_node = ByNode::new(&parts);
                prop_assert_eq!(by_node.degrees().count(), by_node.nodes.len());
            }
            let by_node = ByNode::new(&[found]);
            let listed: Vec<Edge> = by_node.nodes.iter().enumerate().flat_map(|(row, &node)| {
                by_node.queries.row(row).iter().map(move |&query| Edge::new(node, query))
            }).collect();
            prop_assert_eq!(listed, wanted);
        }
    }
}
