use satisfice_core::Error;
use thiserror::Error;

/// Why load could not be made. None of these is about an answer: refused and failed jobs are
/// results.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The traffic asked for cannot be drawn. The caller's mistake.
    #[error("traffic: {0}")]
    Traffic(String),
    /// The inputs are not of one length, or have no labels. The caller's mistake.
    #[error("inputs: {0}")]
    Inputs(String),
    /// A request could not be written.
    #[error("a request cannot be encoded: {0}")]
    Encode(#[from] Error),
    /// The address is none. The caller's mistake.
    #[error("`{url}` is no address of a model: {reason}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A task of the load stopped before its end: a defect, or the runtime is shutting down.
    #[error("a task that sends jobs stopped")]
    Stopped,
}
