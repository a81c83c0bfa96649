use super::Admission;
use std::collections::BTreeMap;

/// How a service treats its models.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Executions at once over all models, at least 1 and at most 64; by default the number of cores,
    /// and at least 2, so that one request that takes long does not hold up every other.
    pub executors: usize,
    /// For models that have none of their own.
    pub admission: Admission,
    /// By name of the model.
    pub models: BTreeMap<String, Admission>,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            executors: cores.max(2),
            admission: Admission::default(),
            models: BTreeMap::new(),
        }
    }
}
