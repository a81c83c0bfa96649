//! Running a model on a batch of new nodes: which rows are computed anew, and each layer's values.

mod batch;
mod footprint;
mod forecast;
mod forward;
mod layer;
mod policy;
mod query_sums;
mod reduce;
mod scale;
mod scratch;
mod select;
mod stored;
#[cfg(test)]
mod tests;

pub use batch::{Attachment, BatchShape, Direction, Directions, EdgeRules, NewNodes, QueryBatch};
pub(crate) use forecast::{Forecast, Work};
pub use forward::{Answer, StageTimes};
pub(crate) use forward::{Kept, LayerPass, Serving, degree_effects};
pub(crate) use layer::{LayerInput, Sources};
pub(crate) use reduce::{TargetRows, reduce};
pub(crate) use scale::GraphView;
pub use scale::{DegreeScale, Degrees};
pub(crate) use scratch::{Scratch, ScratchPool};
pub use select::DegreeEffects;
pub(crate) use stored::{RowPatches, Stored};
