//! Which stored nodes a plan computes anew, layer by layer.

use super::{batch::QueryBatch, scale::GraphView, scratch::Mark};
use satisfice_core::{Cores, Stopped};

/// What of the graph a change of degree reaches besides the node's own aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DegreeEffects {
    /// A node's new in-edges change its weight as a source.
    pub in_degree_at_source: bool,
    /// A node's new out-edges change its weight as a source.
    pub out_degree_at_source: bool,
    /// A node's new out-edges change its weight as a target.
    pub out_degree_at_target: bool,
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
    pub cores: &'a Cores,
}

/// Nodes that a search looks at from one boundary to the next: each may have many in-edges.
const NODES_A_PASS: usize = 64;

impl ExactSelector<'_> {
    /// The nodes whose value at layer l both differs from the stored one and is read on the way to a
    /// query, or to a stored node whose answer is asked for, for each l of 1 .. `inner` (index 0 is layer 1), ascending. `marks` are left as they
    /// were found.
    ///
    /// A value differs at layer l when new in-edges, or a source whose weight changed, are within
    /// l - 1 hops upstream. It is read when it is a source, or the node itself, of something computed
    /// anew at layer l + 1.
    pub(crate) fn select(
        &self,
        inner: usize,
        marks: &mut [Mark],
    ) -> Result<Vec<Vec<u32>>, Stopped> {
        let mut search = Search::new(self, marks);
        let fresh = self.layers(inner, &mut search);
        search.clear();
        fresh
    }

    fn layers(&self, inner: usize, search: &mut Search<'_>) -> Result<Vec<Vec<u32>>, Stopped> {
        let mut fresh = vec![Vec::new(); inner];
        for layer in (1..=inner).rev() {
            let above = fresh.get(layer).map_or(self.batch.stored(), Vec::as_slice);
            let read = self.read_by(above, search)?;
            let mut changed = Vec::new();
            for nodes in read.chunks(NODES_A_PASS) {
                self.cores.pass()?;
                for &node in nodes {
                    search.marks[node as usize].listed = false;
                    if search.changes_within(node, (layer - 1).min(HOPS_MAX)) {
                        changed.push(node);
                    }
                }
            }
            fresh[layer - 1] = self.ascending(changed, search)?;
        }
        Ok(fresh)
    }

    /// The sources of the queries and of `above`, and `above`, each once; they stay listed.
    fn read_by(&self, above: &[u32], search: &mut Search<'_>) -> Result<Vec<u32>, Stopped> {
        let mut read = Vec::new();
        for node in self.batch.reader_nodes().chain(above.iter().copied()) {
            search.list(node, &mut read);
        }
        for nodes in above.chunks(NODES_A_PASS) {
            self.cores.pass()?;
            for &node in nodes {
                for &source in self.graph.in_neighbors(node).ids {
                    search.list(source, &mut read);
                }
            }
        }
        Ok(read)
    }

    /// Different nodes, none of them listed, ascending.
    fn ascending(&self, mut nodes: Vec<u32>, search: &mut Search<'_>) -> Result<Vec<u32>, Stopped> {
        self.cores.pass()?;
        // Where they are many, looking through all nodes is quicker than to compare them.
        if nodes.len() < search.marks.len() / 16 {
            nodes.sort_unstable();
            return Ok(nodes);
        }
        for &node in &nodes {
            search.marks[node as usize].listed = true;
        }
        let mut sorted = Vec::with_capacity(nodes.len());
        for (node, mark) in search.marks.iter_mut().enumerate() {
            if std::mem::take(&mut mark.listed) {
                sorted.push(node as u32);
            }
        }
        Ok(sorted)
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

    /// Lists a node, unless it is listed.
    fn list(&mut self, node: u32, listed: &mut Vec<u32>) {
        if !std::mem::replace(&mut self.mark(node).listed, true) {
            listed.push(node);
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
        let graph = self.graph;
        let upstream = hops > 0
            && graph
                .in_neighbors(node)
                .ids
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
        let mark = self.marks[node as usize];
        mark.touched
            || (self.effects.out_degree_at_target && mark.read)
            || (at_source
                && self
                    .graph
                    .in_neighbors(node)
                    .ids
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
