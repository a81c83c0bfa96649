//! A model's place in a model repository.

use crate::{GraphError, ModelConfig, embeddings};
use satisfice_core::version_of_name;
use satisfice_kernels::MappedFile;
use std::{
    fs,
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::xxh3_64;

/// One version of one model: `DIR/model.toml` and `DIR/<version>/`.
#[derive(Debug, Clone)]
pub struct ModelDir {
    dir: PathBuf,
    config: ModelConfig,
    version: u32,
    /// Name of the embeddings' directory in the version's.
    embeddings: &'static str,
}

impl ModelDir {
    /// The given version of the model in `dir`, or the highest one there.
    ///
    /// # Errors
    /// [`GraphError::Io`] and [`GraphError::Config`], which name the file.
    pub fn open(dir: &Path, version: Option<u32>) -> Result<Self, GraphError> {
        let config = ModelConfig::read(dir)?;
        let version = match version {
            Some(version) => version,
            None => highest_version(dir)?,
        };
        Ok(Self {
            dir: dir.to_owned(),
            config,
            version,
            embeddings: "embeddings",
        })
    }

    /// Name of the model: that of its directory.
    pub fn name(&self) -> String {
        let dir = fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        dir.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// The sidecar file.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the sidecar file is.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("model.toml")
    }

    /// Number of the version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The graph store.
    pub fn store_path(&self) -> PathBuf {
        self.dir.join(&self.config.graph)
    }

    /// The state dict.
    pub fn weights_path(&self) -> PathBuf {
        self.version_path().join("weights.safetensors")
    }

    /// Where `satisfice precompute` keeps the embeddings.
    pub fn embeddings_path(&self) -> PathBuf {
        self.version_path().join(self.embeddings)
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
        self.version_path().join("profile.json")
    }

    /// A hash that changes with any value of the embeddings; `"none"` where there are none.
    ///
    /// # Errors
    /// [`GraphError::Io`] when they cannot be read.
    pub fn embeddings_fingerprint(&self) -> Result<String, GraphError> {
        embeddings::fingerprint(&self.embeddings_path())
    }

    fn version_path(&self) -> PathBuf {
        self.dir.join(self.version.to_string())
    }

    /// A hash of all that the embeddings depend on besides the graph: weights and layers.
    pub fn fingerprint(&self) -> Result<String, GraphError> {
        let path = self.weights_path();
        let weights = MappedFile::open(&path).map_err(|source| GraphError::Io { path, source })?;
        let layers = self.config.architecture();
        Ok(format!(
            "{:016x}{:016x}",
            xxh3_64(&weights),
            xxh3_64(layers.as_bytes())
        ))
    }
}

fn highest_version(dir: &Path) -> Result<u32, GraphError> {
    let io = |source| GraphError::Io {
        path: dir.to_owned(),
        source,
    };
    let mut highest = None;
    for entry in fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let version = version_of_name(&name.to_string_lossy());
        highest = highest.max(version.and_then(|version| u32::try_from(version).ok()));
    }
    highest.ok_or_else(|| GraphError::Config {
        path: dir.to_owned(),
        message: "no version: weights belong in a directory named 1, 2, ...".to_owned(),
    })
}
