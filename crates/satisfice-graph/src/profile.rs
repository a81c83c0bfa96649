//! What the plans of a model promise and cost, measured once on held-out queries.

mod calibration;
mod cost;
mod file;
mod fitted;
mod measure;
mod storage;

pub(crate) use calibration::Seen;
pub use file::{PlanProfile, Profile};
pub use fitted::{Coverage, PlanRow, TimeError};
pub use measure::{ProfileOptions, ProfileReport, profile};
pub use storage::{StorageComparison, StorageOptions, StorageRow, compare_storage};
