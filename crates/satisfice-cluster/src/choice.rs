//! What to exchange for a batch: partial results, or the rows of sources, by what either is going to cost.

use crate::{
    ClusterError, Exchange, Part, Wire,
    crossing::{Crossings, Fresh, Traffic},
};
use satisfice_graph::{Plan, QueryBatch};
use serde::{Deserialize, Serialize};

/// Who chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Whatever is predicted to take less time.
    #[default]
    Auto,
    /// Always partial results: rows of features and embeddings never leave their machine.
    Partials,
    /// Always rows.
    Rows,
}

impl Choice {
    /// `"auto"`, `"partials"` or `"rows"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Partials => Exchange::Partials.name(),
            Self::Rows => Exchange::Rows.name(),
        }
    }
}

/// What the links between nodes do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkCosts {
    /// What a node sends, in bytes a second.
    pub bytes_per_second: f64,
    /// One exchange of small messages, in seconds.
    pub round_seconds: f64,
}

/// What an exchange is predicted to cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Bytes between different workers over all layers, of partial results or rows and what goes with
    /// them.
    pub bytes: f64,
    /// Bytes over the links for the whole batch: those, the batch itself, the answers, and what the
    /// messages are wrapped in.
    pub link_bytes: f64,
    /// Exchanges.
    pub rounds: usize,
    /// Time for both.
    pub seconds: f64,
}

/// Bytes before the numbers of a section.
const SECTION_BYTES: f64 = 16.0;

/// Bytes that a message costs besides its numbers, as measured: where it belongs, the engine's frame and
/// progress, a packet begun for it and its acknowledgement.
const MESSAGE_BYTES: f64 = 400.0;

/// Bytes on a link for each byte of messages: TCP/IP over Ethernet, a header of 66 bytes to 1,448 of data, and
/// an acknowledgement to every two of them.
const LINK_SHARE: f64 = 1.0 + 66.0 / 1_448.0 + 66.0 / 2_896.0;

/// Predicts the cost of answering a batch by `exchange`. Exact for the queries; for stored nodes that are
/// computed anew, whose sources are known to their owners only, what is expected of their degrees.
///
/// # Errors
/// A file of the part is not what it was when it was opened.
pub fn predict(
    part: &Part,
    (batch, plan): (&QueryBatch, Plan),
    exchange: Exchange,
    links: (Wire, LinkCosts),
) -> Result<Cost, ClusterError> {
    Ok(Expected::new(part, (batch, plan))?.cost(exchange, links))
}

/// What is expected to cross between workers for a batch, whatever is exchanged.
pub(crate) struct Expected<'a> {
    part: &'a Part,
    batch: &'a QueryBatch,
    plan: Plan,
    queries: Crossings,
    /// By layer: what crosses, and how many stored nodes it computes anew.
    layers: Vec<(Crossings, f64)>,
    /// Stored nodes that are computed anew.
    fresh: f64,
}

impl<'a> Expected<'a> {
    pub(crate) fn new(
        part: &'a Part,
        (batch, plan): (&'a QueryBatch, Plan),
    ) -> Result<Self, ClusterError> {
        let traffic = Traffic::new(part, (batch, plan))?;
        let (queries, nothing) = (traffic.of_queries(), Fresh::default());
        let fresh = Fresh::of(part, batch, plan)?;
        let count = part.model().layers();
        let of_layer = |layer| {
            let fresh_here = if layer + 1 < count { &fresh } else { &nothing };
            let below = if layer == 0 { &nothing } else { &fresh };
            let crossings = traffic.of_layer(layer, queries, (fresh_here, below))?;
            Ok((crossings, fresh_here.len()))
        };
        Ok(Self {
            layers: (0..count)
                .map(of_layer)
                .collect::<Result<_, ClusterError>>()?,
            fresh: fresh.len(),
            part,
            batch,
            plan,
            queries,
        })
    }

    /// What it costs to exchange one or the other.
    pub(crate) fn cost(&self, exchange: Exchange, (wire, costs): (Wire, LinkCosts)) -> Cost {
        let (model, workers) = (self.part.model(), self.part.manifest().parts as f64);
        let value = match wire {
            Wire::F32 => 4.0,
            Wire::F16 => 2.0,
        };
        let others = workers - 1.0;
        let links = others * workers;
        let (mut bytes, mut rounds) = (0.0, 0);
        for (layer, (crossings, fresh)) in self.layers.iter().enumerate() {
            let split = model.split_layer(layer);
            let targets = self.batch.queries() as f64 + fresh;
            rounds += 1;
            match exchange {
                Exchange::Partials => {
                    bytes += crossings.partials * split.partial_width() as f64 * value;
                    bytes += others * targets.div_euclid(32.0).max(1.0) * 4.0;
                    bytes += links * 2.0 * SECTION_BYTES;
                    if split.term_width() > 0 {
                        rounds += 1;
                        bytes += others * targets * split.term_width() as f64 * value;
                        bytes += links * SECTION_BYTES;
                    }
                }
                Exchange::Rows => {
                    let scale = if split.scales().0.is_some() { 4.0 } else { 0.0 };
                    bytes += crossings.rows * (split.message_width() as f64 * value + scale);
                    bytes += crossings.edges * 4.0 + others * targets * 4.0;
                    bytes += links * 4.0 * SECTION_BYTES;
                }
            }
        }
        // Nodes send at once, each its share.
        let seconds =
            bytes / workers / costs.bytes_per_second + rounds as f64 * costs.round_seconds;
        let around = self.around();
        let messages = links * rounds as f64 + around.messages;
        Cost {
            bytes,
            link_bytes: (bytes + around.bytes + messages * MESSAGE_BYTES) * LINK_SHARE,
            rounds,
            seconds,
        }
    }

    /// The batch to the workers, the choice of stored nodes, and the answers; of `exact` only the last of the
    /// rounds in which workers tell each other what changes.
    fn around(&self) -> Around {
        let (part, batch, fresh) = (self.part, self.batch, self.fresh);
        let workers = part.manifest().parts as f64;
        let (others, share) = (workers - 1.0, (workers - 1.0) / workers);
        let (queries, edges) = (batch.queries() as f64, batch.edges() as f64);
        let features = part.model().features() as f64;
        // Edges into queries come in runs, one for each query at each worker with a source of it; those out of
        // them in one for each query. Stored nodes with new in-edges go to their owners with a byte for how many.
        let touched = batch.touched().len() as f64;
        let scattered = share
            * (4.0 * queries * features + 4.0 * edges + 8.0 * queries + 5.0 * touched)
            + 8.0 * self.queries.partials
            + others * (12.0 * queries + 13.0 * SECTION_BYTES);
        let answers = share * 4.0 * queries * part.model().outputs() as f64 + others * 72.0;
        let (chosen, rounds) = match self.plan {
            Plan::Precomputed => (0.0, 0.0),
            // No more than all that are chosen can be chosen of one worker's.
            Plan::Recompute { .. } => {
                let candidates = batch.readers().len() as f64;
                (12.0 * others * (workers * fresh).min(candidates), 1.0)
            }
            Plan::Refresh => (4.0 * others * fresh, 1.0),
            Plan::Exact => (4.0 * others * fresh, part.model().layers() as f64 - 1.0),
        };
        Around {
            bytes: scattered + answers + chosen,
            messages: 2.0 * others + rounds * others * workers,
        }
    }
}

/// What goes over the links besides the layers.
struct Around {
    bytes: f64,
    messages: f64,
}
