//! The graph engine.
//!
//! A trained graph neural network answers *new* nodes of a large stored graph. Values of every
//! stored node after each layer are precomputed; a batch of new nodes reads them, and a plan says
//! which of them are computed anew because the new nodes change them.

mod embeddings;
mod engine;
mod error;
mod live;
mod model;
mod model_dir;
mod plan;
mod precompute;
mod profile;
mod run;

pub use embeddings::{Embeddings, Precision};
pub use engine::{
    DistantGraph, GraphEngine, GraphFacts, NodeDegrees, Outlook, RequestFormat, argmax,
};
pub use error::GraphError;
pub use live::{GraphWriter, LiveEngine};
pub use model::{Framework, GnnModel, ModelConfig, OwnRows, Reduction, RequestLimits, SplitLayer};
pub use model_dir::ModelDir;
pub use plan::{Plan, Policy, UnknownPlan};
pub use precompute::{PrecomputeOptions, PrecomputeSummary, precompute};
pub use profile::{
    Coverage, PlanProfile, PlanRow, Profile, ProfileOptions, ProfileReport, StorageComparison,
    StorageOptions, StorageRow, TimeError, compare_storage, profile,
};
pub use run::{
    Answer, Attachment, BatchShape, DegreeEffects, DegreeScale, Degrees, Direction, Directions,
    EdgeRules, NewNodes, QueryBatch, StageTimes,
};
