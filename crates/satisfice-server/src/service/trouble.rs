//! Models that are being loaded, or could not be.

use crate::clip;
use satisfice_core::{Error, ErrorKind};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Why a model is not served, or not as its files now are.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    Loading,
    Failed(String),
}

impl Trouble {
    /// What somebody is told who asks for a model that is not served for this reason. Why it could not be
    /// loaded may name files, and stands in the index.
    pub(super) fn refusal(&self, name: &str) -> Error {
        let name = clip::clip(name);
        let (code, message, hint) = match self {
            Self::Loading => (
                "model_loading",
                format!("model `{name}` is being loaded"),
                "send the request again later",
            ),
            Self::Failed(_) => (
                "model_unavailable",
                format!("model `{name}` could not be loaded"),
                "POST /v2/repository/index, and the server's log, say why",
            ),
        };
        Error::new(ErrorKind::Unavailable, code, message).with_hint(hint)
    }
}

/// By name of the model.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<BTreeMap<String, Trouble>>);

impl Troubles {
    /// Nothing that is done under the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, name: &str, trouble: Trouble) {
        self.lock().insert(name.to_owned(), trouble);
    }

    pub(super) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    pub(super) fn of(&self, name: &str) -> Option<Trouble> {
        self.lock().get(name).cloned()
    }

    pub(super) fn all(&self) -> BTreeMap<String, Trouble> {
        self.lock().clone()
    }

    /// Whether a model could not be loaded that is not served either.
    pub(super) fn any_failed(&self, is_served: impl Fn(&str) -> bool) -> bool {
        let troubles = self.lock();
        let mut failed = troubles
            .iter()
            .filter(|(_, trouble)| matches!(trouble, Trouble::Failed(_)));
        failed.any(|(name, _)| !is_served(name))
    }
}
