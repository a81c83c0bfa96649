//! Where a store is made until it is whole.

use crate::{
    StoreError,
    error::At,
    live::{Directory, LIVE},
    manifest::MANIFEST,
};
use satisfice_kernels::{LostFile, WriteLock};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A temporary directory beside the output, on the same file system; removed when dropped. What a killed process left
/// of one for the same output is removed first.
#[derive(Debug)]
pub(crate) struct Staging {
    out: PathBuf,
    dir: TempDir,
    /// Nobody else makes a store there meanwhile.
    _lock: WriteLock,
    /// Nor writes to the graph that is there.
    graph: Option<Directory>,
}

impl Staging {
    /// # Errors
    /// There is something at `out` that must not be replaced, another process makes a store there, or the place cannot
    /// be written.
    pub(crate) fn new(out: &Path, overwrite: bool) -> Result<Self, StoreError> {
        let beside = out
            .ancestors()
            .skip(1)
            .map(|ancestor| {
                if ancestor.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    ancestor
                }
            })
            .find(|ancestor| ancestor.is_dir())
            .unwrap_or(Path::new("."));
        let name = out.file_name().unwrap_or("store".as_ref());
        let name = name.to_string_lossy();
        let lock = WriteLock::take(&beside.join(&*name)).at(out, "write it")?;
        check_out(out, overwrite)?;
        let live = out.join(LIVE);
        let graph = match live.is_dir() {
            true => Some(Directory::take(&live)?),
            false => None,
        };
        let prefix = format!(".satisfice-import-{name}");
        let left = beside.join(&prefix);
        if left.exists() {
            fs::remove_dir_all(&left).at(&left, "remove what is left of an earlier import")?;
        }
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .rand_bytes(0)
            .tempdir_in(beside)
            .at(beside, "make a directory in it")?;
        let staging = Self {
            out: out.to_owned(),
            dir,
            _lock: lock,
            graph,
        };
        let store = staging.store();
        fs::create_dir(&store).at(&store, "make it")?;
        Ok(staging)
    }

    /// The directory that becomes the store.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// A temporary file.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Gives the store its name; a store that was there is gone afterwards.
    ///
    /// # Errors
    /// [`StoreError::Lost`] where a file was lost that the store may be made of; the system refuses.
    pub(crate) fn commit(mut self) -> Result<(), StoreError> {
        if let Some(lost) = LostFile::first() {
            return Err(lost.into());
        }
        let (store, old) = (self.store(), self.scratch("replaced"));
        File::open(&store)
            .and_then(|dir| dir.sync_all())
            .at(&store, "bring it to the disk")?;
        let parent = match self.out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).at(parent, "make it")?;
        let replaced = self.out.exists();
        if replaced {
            fs::rename(&self.out, &old).at(&self.out, "move the store that is there away")?;
        }
        if let Err(source) = fs::rename(&store, &self.out) {
            if replaced {
                // The first error is the one to tell; the old store is put back where it can be.
                let _ = fs::rename(&old, &self.out);
            }
            return Err(source).at(&self.out, "rename the finished store to it");
        }
        self.graph.take().into_iter().for_each(Directory::let_go);
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .at(parent, "bring it to the disk")
    }
}

fn check_out(out: &Path, overwrite: bool) -> Result<(), StoreError> {
    let exists = |hint| {
        Err(StoreError::Exists {
            path: out.to_owned(),
            hint,
        })
    };
    let mut entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(_) if out.exists() => return exists("it is no directory: name another place"),
        Err(_) => return Ok(()),
    };
    if entries.next().is_none() || (overwrite && out.join(MANIFEST).is_file()) {
        Ok(())
    } else if out.join(MANIFEST).is_file() {
        exists("name another directory, or say that it may be overwritten (--overwrite)")
    } else {
        exists("it holds something else than a store: name another directory")
    }
}
