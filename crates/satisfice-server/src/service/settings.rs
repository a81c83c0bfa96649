use super::Admission;
use crate::config::Config;
use std::collections::BTreeMap;

/// How a service treats its models.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Cores that are handed out to executions of all models, at least 1 and at most 64; by default those of the machine,
    /// and at least 2, so that one request that takes long and cannot give way does not hold up every other.
    pub executors: usize,
    /// Whether a model that could not be loaded makes the server not ready.
    pub strict_readiness: bool,
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
            strict_readiness: false,
            admission: Admission::default(),
            models: BTreeMap::new(),
        }
    }
}

impl From<Admission> for Settings {
    fn from(admission: Admission) -> Self {
        Self {
            admission,
            ..Self::default()
        }
    }
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let default = Self::default();
        let models = config.models.iter();
        Self {
            executors: config.schedule.executors.unwrap_or(default.executors),
            strict_readiness: config.repository.strict_readiness,
            admission: config.model_defaults.admission,
            models: models
                .map(|(name, settings)| (name.clone(), settings.admission))
                .collect(),
        }
    }
}

impl Settings {
    /// Those of a model.
    pub fn of(&self, name: &str) -> Admission {
        self.models.get(name).copied().unwrap_or(self.admission)
    }
}
