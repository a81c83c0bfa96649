//! Parts of a source that are not read: none is dropped in silence.

use crate::StoreError;
use std::path::Path;

/// What the caller says may be left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ignored<'a>(pub &'a [String]);

impl Ignored<'_> {
    /// Whether a column, array or tensor of this name may be left out.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|other| other.eq_ignore_ascii_case(name))
    }

    /// Refuses names that nothing in the source has: they may be misspelt.
    pub(crate) fn check(&self, path: &Path, skipped: &[String]) -> Result<(), StoreError> {
        let known = |name: &String| skipped.iter().any(|other| other.eq_ignore_ascii_case(name));
        match self.0.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(StoreError::Unsupported {
                path: path.to_owned(),
                message: format!(
                    "nothing in the source is called `{name}`, which is to be left out"
                ),
                hint: "columns of a table without a header are called 1, 2, 3, ...".to_owned(),
            }),
        }
    }
}

/// Something that belongs to edges would be lost.
pub(crate) fn lost(path: &Path, what: &str, name: &str, read: &str) -> StoreError {
    StoreError::Unsupported {
        path: path.to_owned(),
        message: format!(
            "{what} `{name}` would be lost: edges have a weight at the most, and no features{read}"
        ),
        hint: format!(
            "if the model was trained without it, leave it out with --ignore-column {name}"
        ),
    }
}
