//! The edges of a batch in order, and the lists made of them.

use super::EdgeRules;
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

    pub(super) fn row(&self, row: usize) -> &[u32] {
        let start = match row {
            0 => 0,
            _ => self.ends[row - 1] as usize,
        };
        &self.ids[start..self.ends[row] as usize]
    }
}

/// Stored nodes with an edge to or from a query, ascending, and the queries of each, ascending.
#[derive(Debug, Default)]
pub(super) struct ByNode {
    pub(super) nodes: Vec<u32>,
    pub(super) queries: Lists,
}

impl ByNode {
    /// Of parts in order, of which none has a node of another.
    pub(super) fn joined(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 {
            return parts.swap_remove(0);
        }
        let mut all = Self::default();
        for part in parts {
            let below = all.queries.ids.len() as u32;
            let ends = part.queries.ends.iter().map(|end| end + below);
            all.queries.ends.extend(ends);
            all.queries.ids.extend(part.queries.ids);
            all.nodes.extend(part.nodes);
        }
        all
    }

    /// From edges in order.
    pub(super) fn of_part(edges: &[Edge]) -> Self {
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
    pub(super) fn degrees(&self) -> impl Iterator<Item = (u32, u32)> {
        let degree = |row: usize| self.queries.row(row).len() as u32;
        let nodes = self.nodes.iter().enumerate();
        nodes.map(move |(row, &node)| (node, degree(row)))
    }
}

/// Edges, as iterators go through them, in order: of each of `lists`, in parts of which none has a node of another, as many
/// as there are cores where there are many edges. `count` is about the number of edges of a list, among `nodes` nodes.
pub(super) fn ordered<I: Iterator<Item = Edge> + Clone + Sync>(
    lists: &[I],
    (count, nodes): (usize, usize),
    rules: EdgeRules,
    cores: &Cores,
) -> Result<Vec<Vec<Vec<Edge>>>, Stopped> {
    let parts = match many(count) {
        true => cores.width().min(count / PART_EDGES_MIN).max(1),
        false => 1,
    };
    let part = |list, index: usize| Part {
        list: Some(list),
        merges: rules.merge_duplicates,
        nodes: index * nodes / parts..(index + 1) * nodes / parts,
        count: count / parts,
        sorting: Sorting::default(),
    };
    let places = lists
        .iter()
        .flat_map(|list| (0..parts).map(move |index| (list, index)));
    let mut all: Vec<Part<'_, I>> = places.map(|(list, index)| part(list, index)).collect();
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
struct Part<'a, I> {
    /// Where they are; nothing once they were taken.
    list: Option<&'a I>,
    nodes: Range<usize>,
    /// Whether an edge that stands twice counts once.
    merges: bool,
    /// About how many.
    count: usize,
    sorting: Sorting,
}

impl<I: Iterator<Item = Edge> + Clone> Part<'_, I> {
    /// Goes through the edges once; whether that is to be done again.
    fn step(&mut self) -> bool {
        let Some(list) = self.list.take() else {
            let again = self.sorting.step();
            if !again && self.merges {
                self.sorting.edges.dedup();
            }
            return again;
        };
        let mut mine = Vec::with_capacity(self.count);
        mine.extend(
            list.clone()
                .filter(|edge| self.nodes.contains(&(edge.node() as usize))),
        );
        self.sorting = Sorting::new(mine);
        true
    }
}

/// Edges that are sorted digit by digit, the last one first: comparing them would be most of what a batch costs before it
/// runs. Passes over digits that all edges share are left out, and those over queries where the edges
/// came by query.
#[derive(Default)]
struct Sorting {
    edges: Vec<Edge>,
    spare: Vec<Edge>,
    digit_bits: u32,
    /// Where the digits are that are still to be gone through, last of all the first.
    shifts: Vec<u32>,
}

impl Sorting {
    fn new(edges: Vec<Edge>) -> Self {
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
        let mut shifts: Vec<u32> = shifts.collect();
        shifts.reverse();
        Self {
            spare: vec![Edge(0); edges.len()],
            edges,
            digit_bits,
            shifts,
        }
    }

    /// One pass; whether there may be another.
    fn step(&mut self) -> bool {
        let Some(shift) = self.shifts.pop() else {
            return false;
        };
        let digits = 1 << self.digit_bits;
        let digit = |edge: Edge| (edge.0 >> shift) as usize & (digits - 1);
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

/// Bits of a digit at most: its counts and the ends of its runs stay in the nearest caches.
const DIGIT_BITS_MAX: u32 = 11;

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
            let mut sorting = Sorting::new(found);
            while sorting.step() {}
            let found = sorting.edges;
            prop_assert_eq!(&found, &wanted);
            for width in [1, 3] {
                let cores = Cores::rehearsed(move |at| if at % 3 == 2 { 0 } else { width });
                cores.grant(width);
                let size = (pairs.len(), u32::MAX as usize);
                let lists = [unordered.iter().copied(), unordered.iter().copied()];
                for parts in ordered(&lists, size, RULES, &cores).unwrap() {
                    prop_assert_eq!(parts.len(), (pairs.len() / PART_EDGES_MIN).clamp(1, width));
                    prop_assert_eq!(parts.concat(), wanted.clone());
                    let parts = parts.iter().map(|part| ByNode::of_part(part)).collect();
                    let by_node = ByNode::joined(parts);
                    prop_assert_eq!(by_node.degrees().count(), by_node.nodes.len());
                }
            }
            let by_node = ByNode::of_part(&found);
            let listed: Vec<Edge> = by_node.nodes.iter().enumerate().flat_map(|(row, &node)| {
                by_node.queries.row(row).iter().map(move |&query| Edge::new(node, query))
            }).collect();
            prop_assert_eq!(listed, wanted);
        }
    }
}
