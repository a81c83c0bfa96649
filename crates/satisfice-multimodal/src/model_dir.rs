//! A model's place in a model repository.

use crate::{ModelConfig, MultimodalError, config::PreprocessConfig, signature::Signature};
use satisfice_core::VersionDir;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::Xxh3;

/// One version of one model: `DIR/model.toml` and `DIR/<version>/`.
#[derive(Debug, Clone)]
pub struct ModelDir {
    dir: VersionDir,
    config: ModelConfig,
}

impl ModelDir {
    /// The given version of the model in `dir`, or the highest one there.
    ///
    /// # Errors
    /// [`MultimodalError::Io`] and [`MultimodalError::File`], which name the file.
    pub fn open(dir: &Path, version: Option<u64>) -> Result<Self, MultimodalError> {
        let config = ModelConfig::read(dir)?;
        let place = VersionDir::open(dir, version).map_err(|source| MultimodalError::Io {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self { dir: place, config })
    }

    /// Name of the model: that of its directory.
    pub fn name(&self) -> String {
        self.dir.name()
    }

    /// The sidecar file.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Number of the version.
    pub fn version(&self) -> u64 {
        self.dir.version()
    }

    /// Where the version's files are.
    pub fn version_path(&self) -> PathBuf {
        self.dir.path()
    }

    /// Where `satisfice profile` keeps what it measured.
    pub fn profile_path(&self) -> PathBuf {
        self.version_path().join("profile.json")
    }

    /// A hash of every file that answers depend on.
    ///
    /// # Errors
    /// [`MultimodalError::Io`] and [`MultimodalError::File`], which name the file.
    pub fn fingerprint(&self) -> Result<String, MultimodalError> {
        let version = self.version_path();
        let mut hash = Xxh3::new();
        add(&mut hash, &self.dir.model().join("model.toml"))?;
        for network in self.network_files() {
            let path = version.join(network);
            add(&mut hash, &path)?;
            for weights in Signature::read(&path)?.weight_files {
                add(&mut hash, &path.with_file_name(weights))?;
            }
        }
        for modality in &self.config.modalities {
            if let Some(PreprocessConfig::Text(text)) = &modality.preprocess {
                add(&mut hash, &version.join(&text.tokenizer))?;
            }
        }
        Ok(format!("{:032x}", hash.digest128()))
    }

    fn network_files(&self) -> BTreeSet<&str> {
        let config = &self.config;
        let files = config.fusion.iter().map(|f| &f.file);
        let files = files.chain(config.encoders.iter().map(|e| &e.file));
        let files = files.chain(config.subsets.iter().map(|s| &s.file));
        let files = files.chain(config.joint.iter().map(|j| &j.file));
        files.map(String::as_str).collect()
    }
}

fn add(hash: &mut Xxh3, path: &Path) -> Result<(), MultimodalError> {
    let mut read = || -> io::Result<()> {
        let mut file = File::open(path)?;
        hash.update(&file.metadata()?.len().to_le_bytes());
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                count => hash.update(&buffer[..count]),
            }
        }
    };
    read().map_err(|source| MultimodalError::Io {
        path: path.to_owned(),
        source,
    })
}
