//! The examples that commands work with unless they are told others.

use anyhow::{Context, Result, bail};
use satisfice_kernels::NewFile;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The bundle given, or the one at `place` below this directory or one that holds the binary; `file` is
/// in it.
pub(crate) fn find_bundle(given: Option<&Path>, place: &str, file: &str) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let here = env::current_dir()?;
    let binary = env::current_exe()?;
    let found = here
        .ancestors()
        .chain(binary.ancestors())
        .map(|dir| dir.join(place))
        .find(|path| path.join(file).is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!(
            "the bundle {place} is neither here nor beside the binary: say where it is with `--bundle`"
        ),
    }
}

/// Copies a model directory: files, and version directories with theirs. A server may have the old ones mapped.
pub(crate) fn copy_model(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("{}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_model(&entry.path(), &target)?;
        } else {
            NewFile::copy(&entry.path(), &target)
                .with_context(|| format!("{}", target.display()))?;
        }
    }
    Ok(())
}
