//! The next view of a living graph: of what is kept, the rows that its changes reach are computed anew.

use super::view::{Patches, Tables, View};
use crate::{
    GraphError,
    embeddings::{Embeddings, Table},
    model::{GnnModel, Reduction},
    run::{DegreeScale, GraphView, Kept, LayerPass, ScratchPool},
};
use satisfice_core::Cores;
use satisfice_store::{
    GraphStore,
    live::{Changes, Snapshot},
};
use std::{borrow::Cow, sync::Arc};

/// Nodes that are computed together: what is made of them is held until it is kept.
const CHUNK_NODES: usize = 4_096;

/// Makes the view of a snapshot from the one before.
pub(crate) struct Advance<'a> {
    pub model: &'a GnnModel,
    pub embeddings: &'a Embeddings,
    pub snapshot: &'a Arc<Snapshot>,
    pub changes: &'a Changes,
    /// What the rows are computed on.
    pub cores: Cores,
}

impl Advance<'_> {
    /// The next view: `before` with all that `changes` reach computed anew from all its sources, by the code that
    /// precomputes.
    pub(crate) fn after(&self, before: &View) -> Result<View, GraphError> {
        let Changes {
            features,
            in_edges,
            out_degree,
        } = self.changes;
        let rescaled = union([&in_edges[..], out_degree, features]);
        let scratch = before.scratch.after(self.graph(), &rescaled);
        let mut renewed = Renewed {
            advance: self,
            patches: before.patches.clone(),
            scratch: &scratch,
            levels: Vec::new(),
        };
        renewed.input()?;
        for layer in 1..=self.model.layers() {
            renewed.layer(layer)?;
        }
        Ok(View {
            snapshot: Some(self.snapshot.clone()),
            patches: renewed.patches,
            scratch,
        })
    }

    fn store(&self) -> &GraphStore {
        self.snapshot.base()
    }

    fn graph(&self) -> GraphView<'_> {
        GraphView::live(self.snapshot)
    }

    /// Without deleted nodes, which have no rows.
    fn living(&self, nodes: Vec<u32>) -> Vec<u32> {
        let living = |node: &u32| !self.snapshot.is_deleted(*node);
        nodes.into_iter().filter(living).collect()
    }

    /// The nodes whose factor may have changed.
    fn rescaled(&self, scale: Option<DegreeScale>) -> &[u32] {
        match scale {
            None => &[],
            Some(scale) if scale.follows_out_degree() => &self.changes.out_degree,
            Some(_) => &self.changes.in_edges,
        }
    }

    fn targets_of(&self, sources: &[u32]) -> Vec<u32> {
        let targets = |&node: &u32| self.snapshot.out_neighbors(node).iter().copied();
        let mut nodes: Vec<u32> = sources.iter().flat_map(targets).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

/// What has been computed anew so far.
struct Renewed<'a> {
    advance: &'a Advance<'a>,
    patches: Patches,
    scratch: &'a ScratchPool,
    /// For each level: the nodes whose values are not what they were, ascending.
    levels: Vec<Vec<u32>>,
}

impl Renewed<'_> {
    /// Level 0.
    fn input(&mut self) -> Result<(), GraphError> {
        let advance = self.advance;
        let nodes = advance.living(advance.changes.features.clone());
        let (snapshot, model) = (advance.snapshot, advance.model);
        let features = advance.store().features();
        for nodes in nodes.chunks(CHUNK_NODES) {
            let mut x = vec![0.0; nodes.len() * features.width()];
            for (row, &node) in x.chunks_exact_mut(features.width()).zip(nodes) {
                match snapshot.feature_patch(node) {
                    Some(patch) => row.copy_from_slice(patch),
                    None => features.read(node as usize, row),
                }
            }
            let values = match model.has_input() {
                true => model.apply_input(x),
                false => x,
            };
            self.keep(Table::Values(0), nodes, &values)?;
        }
        self.levels.push(nodes);
        Ok(())
    }

    /// What is kept of a layer, 1 .. K.
    fn layer(&mut self, layer: usize) -> Result<(), GraphError> {
        let (advance, model) = (self.advance, self.advance.model);
        let of_layer = &model.layers[layer - 1];
        let read = self.levels[model.level_read(layer - 1)].clone();
        if of_layer.makes_messages() {
            self.renew(Table::Messages(layer), &read)?;
        }
        if layer == model.layers() {
            return Ok(());
        }
        if layer == 1 {
            self.renew(Table::Own, &read)?;
        }
        let (source, target) = of_layer.conv.scales();
        let (source, target) = (advance.rescaled(source), advance.rescaled(target));
        let reached = advance.targets_of(&union([&read[..], source, &[]]));
        // What a target brings of its own is in what such a reduction makes.
        let brought = match of_layer.conv.reduction() {
            Reduction::Sum { .. } | Reduction::Max => &[][..],
            Reduction::Softmax { .. } | Reduction::Joint { .. } => &read,
        };
        let sums = union([&reached[..], &advance.changes.in_edges, brought]);
        let sums = advance.living(sums);
        self.renew(Table::Sums(layer), &sums)?;
        let initial = match of_layer.needs().initial {
            true => &self.levels[0][..],
            false => &[],
        };
        let own = union([&read[..], &self.levels[layer - 1], initial]);
        let values = union([&sums[..], &own, &union([source, target, &[]])]);
        let values = advance.living(values);
        let changed = self.renew(Table::Values(layer), &values)?;
        self.levels.push(changed);
        Ok(())
    }

    /// Computes rows of a table anew, where it is kept, and returns the nodes whose rows are not what they were.
    fn renew(&mut self, table: Table, nodes: &[u32]) -> Result<Vec<u32>, GraphError> {
        let mut changed = Vec::new();
        for nodes in nodes.chunks(CHUNK_NODES) {
            if let Some(rows) = self.compute(table, nodes)? {
                changed.extend(self.keep(table, nodes, &rows)?);
            }
        }
        Ok(changed)
    }

    /// Rows of a table that is kept.
    fn compute(&self, table: Table, nodes: &[u32]) -> Result<Option<Vec<f32>>, GraphError> {
        let advance = self.advance;
        let tables = self.tables()?;
        if tables.of(table).is_none() {
            return Ok(None);
        }
        let layer = match table {
            Table::Values(layer) | Table::Messages(layer) | Table::Sums(layer) => layer,
            Table::Own => 1,
        };
        let kinds = advance.model.scales();
        let scales = |scale| match kinds.iter().position(|&kind| kind == scale) {
            Some(kind) => Cow::Borrowed(&self.scratch.scales()[kind][..]),
            None => unreachable!("invariant: the scale is one of the model's"),
        };
        let pass = LayerPass::with_scales(
            &advance.model.layers[layer - 1],
            advance.graph(),
            (tables.levels[0], tables.levels[layer - 1]),
            scales,
        );
        let pass = pass.on(advance.cores.clone());
        let kept = |sums| Kept {
            messages: tables.messages[layer - 1],
            reduced: tables.reduced[layer - 1].filter(|_| sums),
            own: tables.own.filter(|_| layer == 1),
        };
        Ok(match table {
            Table::Values(_) => Some(pass.values(nodes, kept(true))?),
            Table::Messages(_) => Some(pass.messages(nodes)?),
            Table::Sums(_) => Some(pass.reduced(nodes, kept(false))?),
            Table::Own => pass.own(nodes)?,
        })
    }

    /// Keeps rows of a table, `[nodes, width]`, and returns the nodes whose rows are not what they were: of those whose
    /// features were put, all.
    fn keep(&mut self, table: Table, nodes: &[u32], rows: &[f32]) -> Result<Vec<u32>, GraphError> {
        let put = &self.advance.changes.features;
        let width = rows.len() / nodes.len();
        let tables = self.tables()?;
        let Some(stored) = tables.of(table) else {
            return Ok(Vec::new());
        };
        let mut old = vec![0.0; width];
        let mut is_new = |node: u32, row: &[f32]| {
            if put.binary_search(&node).is_ok() || !stored.has(node) {
                return true;
            }
            stored.read(node, &mut old);
            old != row
        };
        let rows = nodes.iter().copied().zip(rows.chunks_exact(width));
        let new: Vec<_> = rows.filter(|&(node, row)| is_new(node, row)).collect();
        let patches = self.patches.of(table);
        for &(node, row) in &new {
            patches.set(node, row.into());
        }
        Ok(new.into_iter().map(|(node, _)| node).collect())
    }

    fn tables(&self) -> Result<Tables<'_>, GraphError> {
        let Advance {
            model, embeddings, ..
        } = self.advance;
        Tables::new(model, self.advance.store(), embeddings, &self.patches)
    }
}

/// The different nodes of ascending lists, ascending.
fn union(lists: [&[u32]; 3]) -> Vec<u32> {
    let mut nodes = lists.concat();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// What differs in a snapshot from the store at rest.
pub(crate) fn changes_since_rest(snapshot: &Snapshot) -> Changes {
    let base = snapshot.base();
    let (topology, degrees) = (base.topology(), base.out_degree());
    let in_base = |node: u32| (node as usize) < base.nodes();
    let nodes = || 0..snapshot.nodes() as u32;
    let other_edges = |&node: &u32| match in_base(node) {
        true => !std::ptr::eq(snapshot.in_neighbors(node), topology.in_neighbors(node)),
        false => true,
    };
    let other_degree =
        |&node: &u32| !in_base(node) || snapshot.out_degree(node) != degrees[node as usize];
    let put = |&node: &u32| snapshot.feature_patch(node).is_some();
    Changes {
        features: nodes().filter(put).collect(),
        in_edges: nodes().filter(other_edges).collect(),
        out_degree: nodes().filter(other_degree).collect(),
    }
}
