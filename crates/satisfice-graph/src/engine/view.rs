//! What requests find: a graph with the rows that are kept of it, which belong together.

use crate::{
    GraphError,
    embeddings::{Embeddings, Table, graph_view},
    model::GnnModel,
    run::{GraphView, RowPatches, ScratchPool, Stored},
};
use satisfice_kernels::Rows;
use satisfice_store::{GraphStore, live::Snapshot};
use std::sync::Arc;

/// A graph at one version and what is kept of it. A request takes one at its beginning and keeps it to its end.
///
/// Invariant: what is kept are the model's functions of the graph, but for the precision in which tables lie.
#[derive(Debug)]
pub(crate) struct View {
    /// What a living graph is; nothing for one at rest.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Rows that are not as in the tables at rest.
    pub patches: Patches,
    pub scratch: ScratchPool,
}

impl View {
    /// Of a graph at rest.
    pub(crate) fn at_rest(model: &GnnModel, store: &GraphStore, loops: &[(u32, u32)]) -> Self {
        Self {
            snapshot: None,
            patches: Patches::default(),
            scratch: ScratchPool::new(graph_view(store, loops), model.scales()),
        }
    }

    /// The graph; `store` and `loops` are those of one at rest.
    pub(crate) fn graph<'a>(
        &'a self,
        store: &'a GraphStore,
        loops: &'a [(u32, u32)],
    ) -> GraphView<'a> {
        match &self.snapshot {
            None => graph_view(store, loops),
            Some(snapshot) => GraphView::live(snapshot),
        }
    }

    /// The snapshot, unless the graph is as its model's plans were measured on.
    pub(crate) fn changed(&self) -> Option<&Snapshot> {
        let snapshot = self.snapshot.as_deref();
        snapshot.filter(|snapshot| !snapshot.is_base())
    }
}

/// Renewed rows by table; those of features stand under level 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patches {
    tables: Vec<(Table, RowPatches)>,
}

impl Patches {
    pub(crate) fn over<'a>(&'a self, table: Table, rows: Rows<'a>) -> Stored<'a> {
        let patches = self.tables.iter().find(|(other, _)| *other == table);
        patches.map_or(rows.into(), |(_, patches)| Stored::new(rows, patches))
    }

    pub(crate) fn of(&mut self, table: Table) -> &mut RowPatches {
        let at = self.tables.iter().position(|(other, _)| *other == table);
        let at = at.unwrap_or_else(|| {
            self.tables.push((table, RowPatches::default()));
            self.tables.len() - 1
        });
        &mut self.tables[at].1
    }
}

/// Everything that is kept of a graph, as the layers read it.
pub(crate) struct Tables<'a> {
    pub levels: Vec<Stored<'a>>,
    pub messages: Vec<Option<Stored<'a>>>,
    pub reduced: Vec<Option<Stored<'a>>>,
    pub own: Option<Stored<'a>>,
}

impl<'a> Tables<'a> {
    pub(crate) fn new(
        model: &GnnModel,
        store: &'a GraphStore,
        embeddings: &'a Embeddings,
        patches: &'a Patches,
    ) -> Result<Self, GraphError> {
        let levels = embeddings.levels(model, store)?.into_iter().enumerate();
        let of_layers = |tables: Vec<Option<Rows<'a>>>, table: fn(usize) -> Table| {
            let of_layer = |(index, rows): (usize, Option<Rows<'a>>)| {
                rows.map(|rows| patches.over(table(index + 1), rows))
            };
            tables.into_iter().enumerate().map(of_layer).collect()
        };
        Ok(Self {
            levels: levels
                .map(|(level, rows)| patches.over(Table::Values(level), rows))
                .collect(),
            messages: of_layers(embeddings.messages(model)?, Table::Messages),
            reduced: of_layers(embeddings.reduced(model)?, Table::Sums),
            own: embeddings.own()?.map(|rows| patches.over(Table::Own, rows)),
        })
    }

    /// Of one that is kept.
    pub(crate) fn of(&self, table: Table) -> Option<Stored<'a>> {
        match table {
            Table::Values(level) => self.levels.get(level).copied(),
            Table::Messages(layer) => self.messages[layer - 1],
            Table::Sums(layer) => self.reduced[layer - 1],
            Table::Own => self.own,
        }
    }
}
