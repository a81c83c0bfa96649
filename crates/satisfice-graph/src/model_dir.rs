//! A model's place in a model repository.

use crate::{GraphError, ModelConfig, embeddings};
use satisfice_core::VersionDir;
use satisfice_kernels::MappedFile;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// One version of one model: `DIR/model.toml` and `DIR/<version>/`.
#[derive(Debug, Clone)]
pub struct ModelDir {
    dir: VersionDir,
    config: ModelConfig,
    /// Name of the embeddings' directory in the version's.
    embeddings: &'static str,
}

impl ModelDir {
    /// The given version of the model in `dir`, or the highest one there.
    ///
    /// # Errors
    /// [`GraphError::Io`] and [`GraphError::Config`], which name the file.
    pub fn open(dir: &Path, version: Option<u64>) -> Result<Self, GraphError> {
        let config = ModelConfig::read(dir)?;
        let place = VersionDir::open(dir, version).map_err(|source| GraphError::Io {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            dir: place,
            config,
            embeddings: "embeddings",
        })
    }

    /// Name of the model: that of its directory.
    pub fn name(&self) -> String {
        self.dir.name()
    }

    /// The sidecar file.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the sidecar file is.
    pub fn config_path(&self) -> PathBuf {
        self.dir.model().join("model.toml")
    }

    /// Number of the version.
    pub fn version(&self) -> u64 {
        self.dir.version()
    }

    /// The graph store.
    pub fn store_path(&self) -> PathBuf {
        self.dir.model().join(&self.config.graph)
    }

    /// The state dict.
    pub fn weights_path(&self) -> PathBuf {
        self.dir.path().join("weights.safetensors")
    }

    /// Where `satisfice precompute` keeps the embeddings.
    pub fn embeddings_path(&self) -> PathBuf {
        self.dir.path().join(self.embeddings)
    }

    /// The same version with its embeddings in another directory of that name.
    pub(crate) fn with_embeddings_in(&self, name: &'static str) -> Self {
        Self {
            embeddings: name,
            ..self.clone()
        }
    }

    /// Where `satisfice profile` keeps what the plans promise and cost.
    pub fn profile_path(&self) -> PathBuf {
        self.dir.path().join("profile.json")
    }

    /// A hash that changes with any value of the embeddings; `"none"` where there are none.
    ///
    /// # Errors
    /// [`GraphError::Io`] when they cannot be read.
    pub fn embeddings_fingerprint(&self) -> Result<String, GraphError> {
        embeddings::fingerprint(&self.embeddings_path())
    }

    /// A hash of all that the embeddings depend on besides the graph: weights and layers.
    pub fn fingerprint(&self) -> Result<String, GraphError> {
        let path = self.weights_path();
        let weights = MappedFile::open(&path).map_err(|source| GraphError::Io { path, source })?;
        let layers = self.config.architecture();
        let hash = xxh3_64(&weights);
        weights.check()?;
        Ok(format!("{hash:016x}{:016x}", xxh3_64(layers.as_bytes())))
    }
}
