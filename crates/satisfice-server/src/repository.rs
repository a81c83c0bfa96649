//! The models that a server serves.

mod versions;
mod warm_up;

pub use versions::{VersionPolicy, VersionPolicyError};
pub use warm_up::{example, warm_up};

use crate::clip::clip;
use satisfice_core::{Engine, Error};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

const NAME_BYTES_MAX: usize = 255;

/// Versions of one model with their engines.
pub type LoadedVersions = Vec<(u64, Arc<dyn Engine>)>;

/// Where models come from while the server runs. Calls block.
pub trait Loader: Send + Sync {
    /// Names of the models that are there, loaded or not.
    ///
    /// # Errors
    /// When the place of the models cannot be read.
    fn list(&self) -> Result<BTreeSet<String>, Error>;

    /// The versions of a model that [`list`](Self::list) names, each with its engine.
    ///
    /// # Errors
    /// Why the model cannot be loaded.
    fn load(&self, name: &str) -> Result<LoadedVersions, Error>;

    /// A number that is another one when the model's files may have changed since; what
    /// [`Service::poll`](crate::Service::poll) goes by. By default they never do.
    ///
    /// # Errors
    /// When the files cannot be read.
    fn fingerprint(&self, name: &str) -> Result<u64, Error> {
        let _ = name;
        Ok(0)
    }
}

/// Engines by model name and version.
#[derive(Default)]
pub struct Models {
    models: BTreeMap<String, Loaded>,
    /// Models that could not be loaded, and why.
    failed: BTreeMap<String, String>,
}

/// The engines of a model by version.
#[derive(Default)]
pub(crate) struct Loaded {
    pub engines: BTreeMap<u64, Arc<dyn Engine>>,
    /// How long they took to load, all together.
    pub took: Duration,
}

/// A model that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelsError {
    /// The operator's mistake: the name could not stand in a path.
    #[error(
        "`{name}` is not a model name: 1 to 255 of A-Z, a-z, 0-9, `.`, `_` and `-`, not starting with `.`"
    )]
    InvalidName {
        /// The name, cut if it is long.
        name: String,
    },
    /// The operator's mistake: versions start at 1.
    #[error("model `{model}`: version 0 does not exist, versions start at 1")]
    InvalidVersion {
        /// The model.
        model: String,
    },
    /// The operator's mistake: this version of the model has been added already.
    #[error("model `{model}` has version {version} already")]
    Duplicate {
        /// The model.
        model: String,
        /// The version.
        version: u64,
    },
}

impl Models {
    /// No models.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a version of a model. Requests that name no version get the highest.
    ///
    /// # Errors
    /// [`ModelsError`] when the name or version is not valid or is taken.
    pub fn insert(
        &mut self,
        name: &str,
        version: u64,
        engine: Arc<dyn Engine>,
    ) -> Result<(), ModelsError> {
        if !is_valid_name(name) {
            return Err(ModelsError::InvalidName {
                name: clip(name).into_owned(),
            });
        }
        let model = || name.to_owned();
        if version == 0 {
            return Err(ModelsError::InvalidVersion { model: model() });
        }
        let versions = &mut self.models.entry(model()).or_default().engines;
        if versions.contains_key(&version) {
            return Err(ModelsError::Duplicate {
                model: model(),
                version,
            });
        }
        versions.insert(version, engine);
        Ok(())
    }

    /// Says how long a model, if it is here, took to load.
    pub fn set_load_duration(&mut self, name: &str, took: Duration) {
        if let Some(model) = self.models.get_mut(name) {
            model.took = took;
        }
    }

    /// Says of a model why it could not be loaded; nothing of it is served.
    pub fn fail(&mut self, name: &str, reason: impl Into<String>) {
        self.models.remove(name);
        self.failed.insert(name.to_owned(), reason.into());
    }

    /// Models that could not be loaded, and why.
    pub fn failed(&self) -> impl Iterator<Item = (&str, &str)> {
        let failed = self.failed.iter();
        failed.map(|(name, reason)| (name.as_str(), reason.as_str()))
    }

    /// Whether there is no model that could be served.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Those that are there, and those that could not be loaded.
    pub(crate) fn into_inner(self) -> (BTreeMap<String, Loaded>, BTreeMap<String, String>) {
        (self.models, self.failed)
    }
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = |(name, model): (&String, &Loaded)| {
            let versions: Vec<u64> = model.engines.keys().copied().collect();
            (name.clone(), versions)
        };
        f.debug_map()
            .entries(self.models.iter().map(versions))
            .finish()
    }
}

pub(crate) fn is_valid_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_a_path_or_a_header() {
        for name in ["a", "GraphSAGE-2.1_x", "0", "-", &"a".repeat(255)] {
            assert!(is_valid_name(name), "{name}");
        }
        let long = "a".repeat(256);
        for name in [
            "", ".", "..", ".a", "a/b", "a b", "a\n", "é", "a%2f", "a:b", &long,
        ] {
            assert!(!is_valid_name(name), "{name}");
        }
    }
}
