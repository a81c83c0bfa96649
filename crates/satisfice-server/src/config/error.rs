//! What may be wrong with a configuration.

use std::{fmt, io, path::PathBuf};

/// A configuration that cannot be used. Every variant is the operator's mistake.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not TOML, or holds a key or value that there is not.
    #[error("{path}:{line}:{column}: {message}{hint}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Character in the line, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Hint,
    },
    /// An environment variable or a flag names a key or value that there is not.
    #[error("{setting}: {message}{hint}")]
    Setting {
        /// The variable or flag.
        setting: String,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Hint,
    },
    /// A value that makes no sense, wherever it came from.
    #[error("`{key}`: {message}{hint}")]
    Value {
        /// The key, such as `tls.key`.
        key: String,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Hint,
    },
}

impl ConfigError {
    pub(super) fn value(
        key: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Value {
            key: key.into(),
            message: message.into(),
            hint: Hint(Some(hint.into())),
        }
    }
}

/// Advice, if there is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint(Option<String>);

impl Hint {
    /// The known key that an unknown one was most likely meant to be. The library says which keys it
    /// would have known only in its message: all words between backticks after the first.
    pub(super) fn nearest_key(message: &str) -> Self {
        let mut words = message.split('`').skip(1).step_by(2);
        let unknown = words.next().filter(|_| message.contains("unknown"));
        let nearest = unknown.and_then(|unknown| {
            let distance = |known: &str| strsim::damerau_levenshtein(unknown, known);
            let near = words.map(|known| (distance(known), known)).min();
            near.filter(|(distance, _)| *distance <= 1 + unknown.len() / 3)
        });
        Self(nearest.map(|(_, known)| format!("did you mean `{known}`?")))
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}
