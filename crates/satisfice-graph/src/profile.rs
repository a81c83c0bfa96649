//! What the plans of a model promise and cost, measured once on held-out queries.

mod calibration;
mod cost;
mod file;
mod measure;
mod storage;

pub(crate) use calibration::Seen;
pub use file::{PlanProfile, Profile};
pub use measure::{Coverage, PlanRow, ProfileOptions, ProfileReport, TimeError, profile};
pub use storage::{StorageOptions, StorageRow, compare_storage, recommended};
