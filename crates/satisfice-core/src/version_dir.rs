use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// One version of one model in a model repository: `DIR/model.toml` and `DIR/<version>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionDir {
    model: PathBuf,
    version: u64,
}

impl VersionDir {
    /// The given version of the model in `model`, which need not be there yet, or the highest one
    /// that is.
    ///
    /// # Errors
    /// Where the directory cannot be read, or holds no version and none is given.
    pub fn open(model: &Path, version: Option<u64>) -> io::Result<Self> {
        let version = match version {
            Some(version) => version,
            None => Self::versions(model)?.pop_last().ok_or_else(|| {
                let message = "no version: a model's files belong in a directory named 1, 2, ...";
                io::Error::new(io::ErrorKind::NotFound, message)
            })?,
        };
        Ok(Self {
            model: model.to_owned(),
            version,
        })
    }

    /// Versions of the model in `model`: its directories that are named by a number over 0, as it is
    /// printed, so that `01` is not version 1.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn versions(model: &Path) -> io::Result<BTreeSet<u64>> {
        let mut versions = BTreeSet::new();
        for entry in fs::read_dir(model)? {
            let entry = entry?;
            if entry.path().is_dir() {
                versions.extend(version_of(&entry.file_name().to_string_lossy()));
            }
        }
        Ok(versions)
    }

    /// Name of the model: that of its directory.
    pub fn name(&self) -> String {
        let dir = fs::canonicalize(&self.model).unwrap_or_else(|_| self.model.clone());
        let name = dir.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Where the model's `model.toml` and its versions are.
    pub fn model(&self) -> &Path {
        &self.model
    }

    /// Number of the version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where the version's files are.
    pub fn path(&self) -> PathBuf {
        self.model.join(self.version.to_string())
    }
}

fn version_of(name: &str) -> Option<u64> {
    let version = name.parse().ok()?;
    (version > 0 && u64::to_string(&version) == name).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn a_version_is_a_number_as_it_is_printed() {
        assert_eq!(version_of("12"), Some(12));
        assert_eq!(version_of(&u64::MAX.to_string()), Some(u64::MAX));
        for other in ["", "0", "01", "+1", "-1", "1.0", "graph"] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }
}
