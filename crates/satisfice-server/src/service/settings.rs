//! How each model is served.

use super::Admission;
use crate::config::{Config, ModelSettings};
use std::collections::BTreeMap;

/// How each model is served: by its own settings, or those for all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    all: ModelSettings,
    models: BTreeMap<String, ModelSettings>,
}

impl From<Admission> for Settings {
    fn from(admission: Admission) -> Self {
        Self {
            all: ModelSettings { admission },
            models: BTreeMap::new(),
        }
    }
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            all: config.model_defaults,
            models: config.models.clone(),
        }
    }
}

impl Settings {
    /// Those of a model.
    pub fn of(&self, name: &str) -> ModelSettings {
        self.models.get(name).copied().unwrap_or(self.all)
    }
}
