//! Promises for a graph whose edges are elsewhere: what is forecast of a batch follows from degrees.

use super::contract::{Minimum, unprofiled};
use crate::{
    Degrees, GnnModel, GraphError, Plan, Profile, QueryBatch,
    run::{Forecast, GraphView, ScratchPool, Serving, Stored},
};
use satisfice_core::{Cores, InferRequest, Offer, Parameters, Stopped};
use satisfice_kernels::Rows;
use satisfice_store::Topology;
use std::sync::OnceLock;

/// Degrees of all nodes of a graph.
#[derive(Debug, Clone, Copy)]
pub struct NodeDegrees<'a> {
    /// Running sums of the numbers of in-edges, from 0, `[nodes + 1]`.
    pub indptr: &'a [u64],
    /// Numbers of out-edges, `[nodes]`.
    pub out_degree: &'a [u32],
    /// Nodes with self-loops, ascending, and how many.
    pub loops: &'a [(u32, u32)],
}

impl<'a> NodeDegrees<'a> {
    /// Those of a node.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn of(self, node: u32) -> Degrees {
        self.view().degrees(node)
    }

    fn view(self) -> GraphView<'a> {
        // A forecast looks at degrees only.
        let topology = Topology {
            indptr: self.indptr,
            indices: &[],
        };
        GraphView::new(topology, self.out_degree, self.loops)
    }
}

/// A graph of which the degrees are at hand, with some rows of its tables: widths and precisions count.
#[derive(Debug)]
pub struct DistantGraph<'a> {
    /// The model.
    pub model: &'a GnnModel,
    /// Of all nodes.
    pub degrees: NodeDegrees<'a>,
    /// Values of the levels 0 .. K-1.
    pub levels: Vec<Rows<'a>>,
    /// For each layer: its messages, where they are not the values.
    pub messages: Vec<Option<Rows<'a>>>,
    /// For each layer: what it reduces the sources of each node to, where it is kept.
    pub reduced: Vec<Option<Rows<'a>>>,
}

/// What the plans of a model promise, without the edges of its graph.
///
/// The first forecast takes space in proportion to the graph's nodes, and so does each that runs at once:
/// some 20 bytes a node.
#[derive(Debug)]
pub struct Outlook {
    profile: Result<Option<Profile>, GraphError>,
    pool: OnceLock<ScratchPool>,
}

impl Outlook {
    /// By a profile, nothing where there is none, or the reason why it is not used.
    pub fn new(profile: Result<Option<Profile>, GraphError>) -> Self {
        Self {
            profile,
            pool: OnceLock::new(),
        }
    }

    /// Why the profile that is there is not used, if so: an operator should know.
    pub fn problem(&self) -> Option<&GraphError> {
        self.profile.as_ref().err()
    }

    /// The profile, where there is one that is used.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref().ok()?.as_ref()
    }

    /// What each plan of the profile promises for a batch, and the time that it takes one machine; empty
    /// without a profile.
    ///
    /// # Errors
    /// [`GraphError::Canceled`] when nobody waits for them any more.
    pub fn offers(
        &self,
        graph: &DistantGraph<'_>,
        batch: &QueryBatch,
        cores: &Cores,
    ) -> Result<Vec<Offer>, GraphError> {
        let Some(profile) = self.profile() else {
            return Ok(Vec::new());
        };
        let forecasts = self.forecast(graph, batch, profile, cores)?;
        Ok(profile.offers(&batch.in_degrees(), &forecasts))
    }

    /// The plan of a request that names a minimum, and what an answer says of it; nothing where it names
    /// none. `wanted` is the plan that it names, if it does.
    ///
    /// # Errors
    /// A minimum that is none, or that no plan promises.
    pub fn promise(
        &self,
        graph: &DistantGraph<'_>,
        (batch, wanted): (&QueryBatch, Option<Plan>),
        request: &InferRequest,
    ) -> Result<Option<(Plan, Parameters)>, GraphError> {
        let Some(minimum) = Minimum::of(request)? else {
            return Ok(None);
        };
        let profile = self.profile();
        let profile = profile.ok_or_else(|| unprofiled(self.problem()))?;
        let forecasts = self.forecast(graph, batch, profile, &request.cores)?;
        let promise = profile.promise(&batch.in_degrees(), &forecasts, minimum, wanted)?;
        let mut parameters = Parameters::new();
        promise.describe(&mut parameters);
        Ok(Some((promise.plan, parameters)))
    }

    fn forecast<'a>(
        &self,
        graph: &DistantGraph<'a>,
        batch: &QueryBatch,
        profile: &Profile,
        cores: &Cores,
    ) -> Result<Vec<Forecast>, Stopped> {
        let view = graph.degrees.view();
        let new = || ScratchPool::new(view, graph.model.scales());
        let pool = self.pool.get_or_init(new);
        let optional = |tables: &[Option<Rows<'a>>]| -> Vec<Option<Stored<'a>>> {
            tables.iter().map(|rows| rows.map(Into::into)).collect()
        };
        let levels: Vec<Stored<'_>> = graph.levels.iter().map(|&rows| rows.into()).collect();
        let (messages, reduced) = (optional(&graph.messages), optional(&graph.reduced));
        let serving = Serving {
            model: graph.model,
            graph: view,
            levels: &levels,
            messages: &messages,
            reduced: &reduced,
            own: None,
            scales: pool.scales(),
        };
        pool.with(view, batch, cores, |scratch| {
            serving.forecast(batch, &profile.plan_list(), cores, scratch)
        })
    }
}
