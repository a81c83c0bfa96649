//! Which stored nodes a plan computes anew, layer by layer.

use super::{batch::QueryBatch, scale::GraphView, scratch::Mark};

/// What of the graph a change of degree reaches besides the node's own aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DegreeEffects {
    /// A node's new in-edges change its weight as a source.
    pub in_degree_at_source: bool,
    /// A node's new out-edges change its weight as a source.
    pub out_degree_at_source: bool,
}

/// How many of `candidates` nodes a budget, 0 to 1, is.
pub(crate) fn budget_count(budget: f64, candidates: usize) -> usize {
    let count = (budget * candidates as f64 + 0.5).floor() as usize;
    count.min(candidates)
}

/// The share `budget` of the batch's stored neighbours with the highest scores, ties by position;
/// `scores` are those of [`QueryBatch::readers`], in order. Ascending.
pub(crate) fn highest(batch: &QueryBatch, scores: &[f64], budget: f64) -> Vec<u32> {
    let count = budget_count(budget, scores.len());
    let mut scored: Vec<(f64, u32)> = scores.iter().copied().zip(batch.reader_nodes()).collect();
    if count > 0 && count < scored.len() {
        scored.select_nth_unstable_by(count - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    }
    scored.truncate(count);
    let mut chosen: Vec<u32> = scored.into_iter().map(|(_, node)| node).collect();
    chosen.sort_unstable();
    chosen
}

/// Finds what a batch changes on the way to its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExactSelector<'a> {
    pub graph: GraphView<'a>,
    pub batch: &'a QueryBatch,
    pub effects: DegreeEffects,
}

impl ExactSelector<'_> {
    /// The nodes whose value at layer l both differs from the stored one and is read on the way to a
    /// query, for each l of 1 .. `inner` (index 0 is layer 1), ascending. `marks` are left as they
    /// were found.
    ///
    /// A value differs at layer l when new in-edges, or a source whose weight changed, are within
    /// l - 1 hops upstream. It is read when it is a source, or the node itself, of something computed
    /// anew at layer l + 1.
    pub(crate) fn select(&self, inner: usize, marks: &mut [Mark]) -> Vec<Vec<u32>> {
        let topology = self.graph.topology;
        let mut search = Search::new(self, marks);
        let mut fresh = vec![Vec::new(); inner];
        for layer in (1..=inner).rev() {
            let above = fresh.get(layer).map_or(&[][..], Vec::as_slice);
            let mut read: Vec<u32> = self
                .batch
                .reader_nodes()
                .chain(above.iter().copied())
                .chain(
                    above
                        .iter()
                        .flat_map(|&u| topology.in_neighbors(u).iter().copied()),
                )
                .collect();
            search.keep_first_listings(&mut read);
            read.retain(|&node| search.changes_within(node, (layer - 1).min(HOPS_MAX)));
            read.sort_unstable();
            fresh[layer - 1] = read;
        }
        search.clear();
        fresh
    }
}

/// Depth of the search; beyond it every node counts as changed, which is never wrong.
const HOPS_MAX: usize = 200;

struct Search<'a> {
    graph: GraphView<'a>,
    effects: DegreeEffects,
    marks: &'a mut [Mark],
    marked: Vec<u32>,
}

impl<'a> Search<'a> {
    fn new(selector: &ExactSelector<'a>, marks: &'a mut [Mark]) -> Self {
        let mut search = Self {
            graph: selector.graph,
            effects: selector.effects,
            marks,
            marked: Vec::new(),
        };
        for &node in selector.batch.touched() {
            search.mark(node).touched = true;
        }
        for node in selector.batch.reader_nodes() {
            search.mark(node).read = true;
        }
        search
    }

    fn mark(&mut self, node: u32) -> &mut Mark {
        let mark = &mut self.marks[node as usize];
        if *mark == Mark::default() {
            self.marked.push(node);
        }
        mark
    }

    fn keep_first_listings(&mut self, nodes: &mut Vec<u32>) {
        nodes.retain(|&node| !std::mem::replace(&mut self.mark(node).listed, true));
        for &node in &*nodes {
            self.marks[node as usize].listed = false;
        }
    }

    /// Whether a change is at most `hops` edges upstream of `node`.
    fn changes_within(&mut self, node: u32, hops: usize) -> bool {
        let mark = self.marks[node as usize];
        if mark.reached != 0 && usize::from(mark.reached) - 1 <= hops {
            return true;
        }
        if usize::from(mark.unreached) > hops {
            return false;
        }
        if self.changes_directly(node) {
            self.mark(node).reached = 1;
            return true;
        }
        let topology = self.graph.topology;
        let upstream = hops > 0
            && topology
                .in_neighbors(node)
                .iter()
                .any(|&source| self.changes_within(source, hops - 1));
        let mark = self.mark(node);
        if upstream {
            mark.reached = hops as u8 + 1;
        } else {
            mark.unreached = hops as u8 + 1;
        }
        upstream
    }

    /// Whether the node's aggregate changes though its sources' values do not.
    fn changes_directly(&self, node: u32) -> bool {
        let at_source = self.effects.in_degree_at_source || self.effects.out_degree_at_source;
        self.marks[node as usize].touched
            || (at_source
                && self
                    .graph
                    .topology
                    .in_neighbors(node)
                    .iter()
                    .any(|&source| self.weight_changes(source)))
    }

    fn weight_changes(&self, source: u32) -> bool {
        let mark = self.marks[source as usize];
        (self.effects.in_degree_at_source && mark.touched)
            || (self.effects.out_degree_at_source && mark.read)
    }

    fn clear(self) {
        for node in self.marked {
            self.marks[node as usize] = Mark::default();
        }
    }
}
