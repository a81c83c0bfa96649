//! What a plan moves at the least: every row that it reads, once, and every row that it computes, once.

use super::{
    batch::QueryBatch,
    forward::{BatchScales, Serving, rescaled},
    scratch::Scratch,
    stored::Stored,
};
use crate::{Plan, model::Reduction};
use satisfice_core::{Cores, Stopped};

impl Serving<'_> {
    /// Bytes of the different rows that `plan` reads for `batch`, and of those that it computes. `scratch` is prepared for
    /// the batch. Follows from what the plan chooses alone, not from how its layers are run; for measurements, as it
    /// looks through the in-edges of what is chosen once more.
    pub(crate) fn footprint(
        &self,
        batch: &QueryBatch,
        plan: Plan,
        cores: &Cores,
        scratch: &mut Scratch,
    ) -> Result<u64, Stopped> {
        let scales = BatchScales::new(self.model.scales(), batch);
        let initial = self.initial(batch);
        let mut run = self.begin(batch, plan, (&scales, &initial), cores);
        let mut fresh = run.chosen(plan, scratch)?;
        fresh.push(batch.stored().to_vec());
        let mut rows = Touched::new(self);
        let (mut below, mut written) = (&[][..], 0);
        for layer in 0..self.model.layers() {
            let nodes = fresh.get(layer).map_or(&[][..], Vec::as_slice);
            rows.begin_layer((layer, below), plan, batch);
            for (node, _) in batch.readers() {
                rows.source(*node);
            }
            for &node in nodes {
                rows.target(node);
            }
            cores.pass()?;
            let width = self.model.level_width(layer + 1);
            written += (batch.queries() + nodes.len()) * width * size_of::<f32>();
            below = nodes;
        }
        Ok((rows.bytes() + written) as u64)
    }
}

/// The different rows of one table that were read.
struct Table<'a> {
    rows: Option<Stored<'a>>,
    read: Vec<bool>,
}

impl<'a> Table<'a> {
    fn new(rows: Option<Stored<'a>>, nodes: usize) -> Self {
        let nodes = rows.map_or(0, |_| nodes);
        Self {
            rows,
            read: vec![false; nodes],
        }
    }

    fn read(&mut self, node: u32) {
        if let Some(read) = self.read.get_mut(node as usize) {
            *read = true;
        }
    }

    fn bytes(&self) -> usize {
        let count = self.read.iter().filter(|&&read| read).count();
        count * self.rows.map_or(0, |rows| rows.row_bytes())
    }
}

/// How the stored value of a node changes at a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    /// Its factor as a source.
    Factor,
    /// It was computed anew at the level below.
    Computed,
}

/// What the layers read of the tables, layer by layer.
struct Touched<'a> {
    serving: &'a Serving<'a>,
    levels: Vec<Table<'a>>,
    messages: Vec<Table<'a>>,
    reduced: Vec<Table<'a>>,
    own: Table<'a>,
    /// Computed anew at the level below the present layer, ascending.
    below: Vec<u32>,
    /// At the level that the present layer reads, by node.
    changes: Vec<Change>,
    layer: usize,
    refresh: bool,
    new_edges: Vec<u32>,
}

impl<'a> Touched<'a> {
    fn new(serving: &'a Serving<'a>) -> Self {
        let nodes = serving.graph.nodes();
        let table = |rows| Table::new(rows, nodes);
        let optional = |tables: &[Option<Stored<'a>>]| tables.iter().copied().map(table).collect();
        Self {
            levels: serving
                .levels
                .iter()
                .map(|&level| table(Some(level)))
                .collect(),
            messages: optional(serving.messages),
            reduced: optional(serving.reduced),
            own: table(serving.own),
            below: Vec::new(),
            changes: Vec::new(),
            layer: 0,
            refresh: false,
            new_edges: Vec::new(),
            serving,
        }
    }

    /// `below` was computed anew at the level below.
    fn begin_layer(&mut self, (layer, below): (usize, &[u32]), plan: Plan, batch: &QueryBatch) {
        let nodes = self.serving.graph.nodes();
        self.layer = layer;
        self.refresh = plan == Plan::Refresh;
        self.changes = vec![Change::None; nodes];
        let source = self.serving.model.layers[layer].conv.scales().0;
        for node in source.map_or(Vec::new(), |source| rescaled(batch, source)) {
            self.changes[node as usize] = Change::Factor;
        }
        self.below = below.to_vec();
        if !self.serving.model.layers[layer].reads_initial() {
            for &node in below {
                self.changes[node as usize] = Change::Computed;
            }
        }
        self.new_edges = vec![0; nodes];
        for &(node, edges) in batch.touched_degrees() {
            self.new_edges[node as usize] = edges;
        }
    }

    /// A source whose message counts as it is now.
    fn source(&mut self, node: u32) {
        if self.changes[node as usize] != Change::Computed {
            self.stored_message(node);
        }
    }

    fn stored_message(&mut self, node: u32) {
        match self.messages[self.layer].rows {
            Some(_) => self.messages[self.layer].read(node),
            None => self.value(node),
        }
    }

    /// The stored value that the layer reads.
    fn value(&mut self, node: u32) {
        self.levels[self.serving.model.level_read(self.layer)].read(node);
    }

    /// A stored node that the layer computes.
    fn target(&mut self, node: u32) {
        let layer = &self.serving.model.layers[self.layer];
        let needs = layer.needs();
        let is_stored = self.changes[node as usize] != Change::Computed;
        if self.layer == 0 && self.own.rows.is_some() {
            self.own.read(node);
        } else if is_stored && layer.conv.own().is_some() {
            self.value(node);
        }
        if needs.values && is_stored {
            self.value(node);
        }
        if needs.below && self.below.binary_search(&node).is_err() {
            self.levels[self.layer].read(node);
        }
        if needs.messages {
            self.source(node);
        }
        if needs.initial {
            self.levels[0].read(node);
        }
        self.sources(node, layer.conv.reduction());
    }

    /// What the sources of a stored node that is computed are reduced to.
    fn sources(&mut self, node: u32, reduction: Reduction) {
        let own = reduction.without_self().then_some(node);
        let in_neighbors = self.serving.graph.in_neighbors(node).ids;
        let in_neighbors = in_neighbors.iter().copied();
        let sources = in_neighbors.filter(|&source| Some(source) != own);
        let is_kept = self.reduced[self.layer].rows.is_some();
        let changed = |changes: &[Change], source: u32| changes[source as usize] != Change::None;
        let updates = is_kept && {
            let changes = sources.clone().filter(|&s| changed(&self.changes, s));
            let (changes, stored) = (changes.count(), sources.clone().count());
            let new = self.new_edges[node as usize] as usize;
            let joins = match reduction {
                Reduction::Sum { .. } => true,
                Reduction::Max => changes == 0,
                Reduction::Softmax { .. } | Reduction::Joint { .. } => {
                    changes == 0 && self.changes[node as usize] != Change::Computed
                }
            };
            self.refresh || (joins && 1 + 2 * changes + new <= stored + new)
        };
        if updates && sources.clone().next().is_some() {
            self.reduced[self.layer].read(node);
        }
        for source in sources {
            if self.refresh {
                // As stored, where what they are reduced to is not kept.
                if !is_kept {
                    self.stored_message(source);
                }
            } else if !updates {
                self.source(source);
            } else if changed(&self.changes, source) {
                // Withdrawn as it was counted.
                self.stored_message(source);
            }
        }
    }

    fn bytes(&self) -> usize {
        let layers = self.levels.iter().chain(&self.messages);
        let tables = layers.chain(&self.reduced).chain([&self.own]);
        tables.map(Table::bytes).sum()
    }
}
