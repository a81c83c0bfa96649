//! The edges of a batch in order, and the lists made of them.

use super::{
    Direction, EdgeRules,
    arrays::{Directions, NewNodes},
};
use satisfice_core::{Cores, Stopped};
use std::ops::Range;

/// An edge between a stored node and a query, as one number: by its node, then its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge(u64);

impl Edge {
    pub(super) fn new(node: u32, query: u32) -> Self {
        Self(u64::from(node) << 32 | u64::from(query))
    }

    pub(super) fn node(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn query(self) -> u32 {
        self.0 as u32
    }
}

/// Lists of ids, one a row, end to end.
#[derive(Debug, Default)]
pub(super) struct Lists {
    ends: Vec<u32>,
    pub(super) ids: Vec<u32>,
}

impl Lists {
    /// From pairs (row, id) for rows 0 .. `rows`; each row keeps the order of its pairs.
    pub(super) fn new(rows: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
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

    /// Where the ids of a row are.
    pub(super) fn range(&self, row: usize) -> Range<usize> {
        let start = match row {
            0 => 0,
            _ => self.ends[row - 1] as usize,
        };
        start..self.ends[row] as usize
    }

    /// How many rows there are whose ids, end to end, are at most `count`.
    pub(super) fn rows_until(&self, count: usize) -> usize {
        self.ends.partition_point(|&end| end as usize <= count)
    }

    pub(super) fn row(&self, row: usize) -> &[u32] {
        &self.ids[self.range(row)]
    }
}

/// Stored nodes with an edge to or from a query, ascending, and the queries of each, ascending.
#[derive(Debug, Default)]
pub(super) struct ByNode {
    pub(super) nodes: Vec<u32>,
    /// Each node with the number of its edges.
    pub(super) degrees: Vec<(u32, u32)>,
    pub(super) queries: Lists,
}

impl ByNode {
    /// Of parts in order, of which none has a node of another.
    pub(super) fn joined(parts: Vec<Self>) -> Self {
        let (nodes, edges) = parts.iter().fold((0, 0), |(nodes, edges), part| {
            (nodes + part.nodes.len(), edges + part.queries.ids.len())
        });
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        all.nodes.reserve_exact(nodes - all.nodes.len());
        all.degrees.reserve_exact(nodes - all.degrees.len());
        all.queries
            .ends
            .reserve_exact(nodes - all.queries.ends.len());
        all.queries.ids.reserve_exact(edges - all.queries.ids.len());
        for part in parts {
            let below = all.queries.ids.len() as u32;
            let ends = part.queries.ends.iter().map(|end| end + below);
            all.queries.ends.extend(ends);
            all.queries.ids.extend(part.queries.ids);
            all.nodes.extend(part.nodes);
            all.degrees.extend(part.degrees);
        }
        all
    }

    /// From edges in order.
    pub(super) fn of_part(edges: &[Edge]) -> Self {
        let mut by_node = Self::default();
        by_node.queries.ids = edges.iter().map(|edge| edge.query()).collect();
        let mut start = 0;
        for (at, edge) in edges.iter().enumerate() {
            let next = edges.get(at + 1).map(|next| next.node());
            if next != Some(edge.node()) {
                let end = at as u32 + 1;
                by_node.nodes.push(edge.node());
                by_node.degrees.push((edge.node(), end - start));
                by_node.queries.ends.push(end);
                start = end;
            }
        }
        by_node
    }
}

/// Edges between queries and stored nodes, as the arrays of a batch have them.
#[derive(Debug, Clone, Copy)]
pub(super) struct EdgeList<'a> {
    queries: &'a [u32],
    nodes: &'a [u32],
    /// The direction of each, and the one whose edges are no part of the list.
    without: Option<(&'a [Direction], Direction)>,
}

impl<'a> EdgeList<'a> {
    /// Those of a batch but for those of one direction.
    pub(super) fn without(batch: &'a NewNodes<'_>, direction: Direction) -> Self {
        let (queries, nodes) = (&*batch.edge_query, &*batch.edge_node);
        match &batch.directions {
            Directions::All(all) if *all == direction => Self {
                queries: &[],
                nodes: &[],
                without: None,
            },
            Directions::All(_) => Self {
                queries,
                nodes,
                without: None,
            },
            Directions::Each(each) => Self {
                queries,
                nodes,
                without: Some((each, direction)),
            },
        }
    }

    /// The edges of some nodes, in the order of the list.
    fn of(self, nodes: &Range<usize>) -> Vec<Edge> {
        match self.without {
            None => self.those(nodes, |_| true),
            Some((each, direction)) => self.those(nodes, |at| each[at] != direction),
        }
    }

    /// The edges of some nodes that are as `is` says of their places.
    fn those(self, nodes: &Range<usize>, is: impl Fn(usize) -> bool) -> Vec<Edge> {
        let (first, count) = (nodes.start as u32, nodes.len());
        let is_among = |at: usize, node: u32| {
            usize::from((node.wrapping_sub(first) as usize) < count) & usize::from(is(at))
        };
        let places = || self.nodes.iter().enumerate();
        let count = places().map(|(at, &node)| is_among(at, node)).sum();
        // Which edges are among them nobody can guess: each is written, and stays where it is.
        let mut edges = vec![Edge(0); count + 1];
        let mut len = 0;
        for ((at, &node), &query) in places().zip(self.queries) {
            edges[len] = Edge::new(node, query);
            len += is_among(at, node);
        }
        edges.truncate(count);
        edges
    }

    /// For each query its nodes, ascending: from `parts`, the same edges by node, unless the list has them in that order
    /// already. An edge that stands twice is there once where `merges`.
    pub(super) fn by_query(self, queries: usize, parts: &[Vec<Edge>], merges: bool) -> Lists {
        let by_query = |at: usize| u64::from(self.queries[at]) << 32 | u64::from(self.nodes[at]);
        // Where an edge that stands twice counts twice, equal ones may follow each other.
        let in_order = |at: usize| by_query(at - 1) < by_query(at) + u64::from(!merges);
        let found_in_order = self.without.is_none() && (1..self.nodes.len()).all(in_order);
        if !found_in_order {
            let pairs = parts.iter().flatten().map(|e| (e.query(), e.node()));
            return Lists::new(queries, pairs);
        }
        let mut lists = Lists {
            ends: Vec::with_capacity(queries),
            ids: self.nodes.to_vec(),
        };
        let mut end = 0;
        for of_query in self.queries.chunk_by(|a, b| a == b) {
            lists.ends.resize(of_query[0] as usize, end);
            end += of_query.len() as u32;
            lists.ends.push(end);
        }
        lists.ends.resize(queries, end);
        lists
    }
}

/// Edges in order: of each of `lists`, in parts of which none has a node of another, as many
/// as there are cores where there are many edges. There are `nodes` nodes.
pub(super) fn ordered(
    lists: &[EdgeList<'_>],
    nodes: usize,
    rules: EdgeRules,
    cores: &Cores,
) -> Result<Vec<Vec<Vec<Edge>>>, Stopped> {
    let count = lists.iter().map(|list| list.nodes.len()).max().unwrap_or(0);
    let parts = match many(count) {
        true => cores.width().min(count / PART_EDGES_MIN).max(1),
        false => 1,
    };
    let part = |list, index: usize| Part {
        list: Some(list),
        merges: rules.merge_duplicates,
        nodes: index * nodes / parts..(index + 1) * nodes / parts,
        sorting: Sorting::default(),
    };
    let places = lists
        .iter()
        .flat_map(|list| (0..parts).map(move |index| (list, index)));
    let mut all: Vec<Part<'_>> = places.map(|(list, index)| part(list, index)).collect();
    if many(count) {
        cores.each(
            all.iter_mut(),
            || (),
            |(), part| part.step().then_some(part),
        )?;
    } else {
        for part in &mut all {
            while part.step() {
                cores.pass()?;
            }
        }
    }
    let mut sorted = all.into_iter().map(|part| part.sorting.edges);
    let of_list = |_| sorted.by_ref().take(parts).collect();
    Ok((0..lists.len()).map(of_list).collect())
}

/// Edges of a part at least.
const PART_EDGES_MIN: usize = 1 << 12;

/// Whether so many edges are worth another core: fewer are ordered before it has begun.
pub(super) fn many(edges: usize) -> bool {
    edges >= 2 * PART_EDGES_MIN
}

/// The edges of some nodes on their way into order.
struct Part<'a> {
    /// Where they are; nothing once they were taken.
    list: Option<&'a EdgeList<'a>>,
    nodes: Range<usize>,
    /// Whether an edge that stands twice counts once.
    merges: bool,
    sorting: Sorting,
}

impl Part<'_> {
    /// Goes through the edges once; whether that is to be done again.
    fn step(&mut self) -> bool {
        let Some(list) = self.list.take() else {
            let again = self.sorting.step();
            if !again && self.merges {
                self.sorting.edges.dedup();
            }
            return again;
        };
        self.sorting = Sorting::new(list.of(&self.nodes), &self.nodes);
        true
    }
}

/// Edges that are sorted digit by digit, the last one first: comparing them would be most of what a batch costs before it
/// runs. Where there are many edges for each node, a node is one digit: its edges are counted, and put in their place.
/// Passes over queries are left out where the edges came by query.
#[derive(Default)]
struct Sorting {
    edges: Vec<Edge>,
    spare: Vec<Edge>,
    /// Of the smallest node.
    first: u64,
    /// Where the digits are that are still to be gone through, and their bits; last of all the first.
    digits: Vec<(u32, u32)>,
}

impl Sorting {
    /// Edges of `nodes`.
    fn new(edges: Vec<Edge>, nodes: &Range<usize>) -> Self {
        let most = (edges.len().max(1).ilog2() + 2).clamp(4, DIGIT_BITS_MAX);
        let by_query = edges.is_sorted_by_key(|edge| edge.query());
        let query_bits = if by_query {
            0
        } else {
            bits(edges.iter().map(|edge| edge.query()).max().unwrap_or(0))
        };
        let node_bits = bits(nodes.len().saturating_sub(1) as u32);
        let of_queries = digits(0, query_bits, most);
        let mut digits: Vec<(u32, u32)> = of_queries
            .chain(digits(u32::BITS, node_bits, most))
            .collect();
        digits.reverse();
        Self {
            spare: vec![Edge(0); if digits.is_empty() { 0 } else { edges.len() }],
            edges,
            first: (nodes.start as u64) << u32::BITS,
            digits,
        }
    }

    /// One pass; whether there may be another.
    fn step(&mut self) -> bool {
        let Some((shift, bits)) = self.digits.pop() else {
            return false;
        };
        let digits = 1 << bits;
        let digit = |edge: Edge| ((edge.0 - self.first) >> shift) as usize & (digits - 1);
        let mut starts = vec![0_u32; digits + 1];
        for &edge in &self.edges {
            starts[digit(edge) + 1] += 1;
        }
        for digit in 0..digits {
            starts[digit + 1] += starts[digit];
        }
        for &edge in &self.edges {
            let start = &mut starts[digit(edge)];
            self.spare[*start as usize] = edge;
            *start += 1;
        }
        std::mem::swap(&mut self.edges, &mut self.spare);
        true
    }
}

/// Bits that numbers up to `largest` have.
fn bits(largest: u32) -> u32 {
    u32::BITS - largest.leading_zeros()
}

/// The digits that the `bits` from `start` on are cut into, each of `most` at most: where each is, and its bits.
fn digits(start: u32, bits: u32, most: u32) -> impl Iterator<Item = (u32, u32)> {
    let count = bits.div_ceil(most);
    let bound = move |at: u32| start + at * bits / count;
    (0..count).map(move |at| (bound(at), bound(at + 1) - bound(at)))
}

/// Bits of a digit at most: its counts stay in the second cache.
const DIGIT_BITS_MAX: u32 = 18;

/// Where to look for a node in an ascending list: about one node a bucket, wherever they lie evenly.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// For each bucket of `2^shift` ids, and one more: how many nodes lie below it.
    starts: Vec<u32>,
    shift: u32,
}

impl Index {
    pub(super) fn new(nodes: &[u32]) -> Self {
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
    pub(super) fn find(&self, nodes: &[u32], node: u32) -> Option<usize> {
        let bucket = (node >> self.shift) as usize;
        let end = *self.starts.get(bucket + 1)? as usize;
        let start = self.starts[bucket] as usize;
        let at = nodes[start..end].binary_search(&node).ok()?;
        Some(start + at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::{super::arrays::Attachment, *};
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
            merge_duplicates: bool,
        ) {
            let mut pairs = pairs;
            if by_query {
                pairs.sort_by_key(|&(node, query)| (query, node));
            }
            let mut wanted: Vec<Edge> = pairs.iter().map(|&(n, q)| Edge::new(n, q)).collect();
            wanted.sort_unstable();
            let rules = EdgeRules { merge_duplicates, ..RULES };
            let merge = |edges: &mut Vec<Edge>| if merge_duplicates { edges.dedup() };
            merge(&mut wanted);
            let both = Attachment {
                edges: pairs.iter().map(|&(n, q)| (q, n, Direction::Both)).collect(),
                ..Attachment::default()
            };
            let both = NewNodes::from(both);
            let unordered = EdgeList::without(&both, Direction::Out);
            for width in [1, 3] {
                let cores = Cores::rehearsed(move |at| if at % 3 == 2 { 0 } else { width });
                cores.grant(width);
                for parts in ordered(&[unordered, unordered], u32::MAX as usize, rules, &cores).unwrap() {
                    prop_assert_eq!(parts.len(), (pairs.len() / PART_EDGES_MIN).clamp(1, width));
                    prop_assert_eq!(parts.concat(), wanted.clone());
                    let lists = unordered.by_query(70, &parts, merge_duplicates);
                    for query in 0..70 {
                        let of_query = wanted.iter().filter(|edge| edge.query() == query);
                        let nodes: Vec<u32> = of_query.map(|edge| edge.node()).collect();
                        prop_assert_eq!(lists.row(query as usize), nodes);
                    }
                    let parts = parts.iter().map(|part| ByNode::of_part(part)).collect();
                    let by_node = ByNode::joined(parts);
                    prop_assert_eq!(by_node.degrees.len(), by_node.nodes.len());
                    let listed: Vec<Edge> = by_node.degrees.iter().enumerate().flat_map(|(row, &(node, degree))| {
                        let queries = by_node.queries.row(row);
                        assert_eq!(queries.len(), degree as usize);
                        queries.iter().map(move |&query| Edge::new(node, query))
                    }).collect();
                    prop_assert_eq!(&listed, &wanted);
                }
            }
        }

        #[test]
        fn edges_of_one_direction_are_left_out(
            edges in prop::collection::vec((0..9_u32, 0..5_u32, 0..3_u8), 0..40),
            all_alike in prop::option::of(0..3_u8),
        ) {
            let of = |code: u8| Direction::from_code(all_alike.unwrap_or(code)).unwrap();
            let batch = NewNodes::from(Attachment {
                edges: edges.iter().map(|&(node, query, code)| (query, node, of(code))).collect(),
                ..Attachment::default()
            });
            for left_out in [Direction::Out, Direction::In] {
                let kept = edges.iter().filter(|edge| of(edge.2) != left_out);
                let mut wanted: Vec<Edge> = kept.map(|&(n, q, _)| Edge::new(n, q)).collect();
                wanted.sort_unstable();
                let list = EdgeList::without(&batch, left_out);
                let found = ordered(&[list], 9, RULES, &Cores::default()).unwrap();
                prop_assert_eq!(found[0].concat(), wanted);
            }
        }
    }
}
