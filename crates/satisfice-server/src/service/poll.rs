//! Following a repository that changes while the server runs.

use super::Service;
use crate::repository::Loader;
use satisfice_core::{Error, ErrorKind};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What was last seen of every model: the fingerprint of its files.
#[derive(Debug, Default)]
pub struct Polling {
    seen: BTreeMap<String, u64>,
}

impl Service {
    /// Looks at the repository once: loads what is new or has changed since, unloads what has gone. A
    /// model that cannot be loaded is served as it was, and tried again when its files change.
    ///
    /// # Errors
    /// Without a [`Loader`], and when the repository cannot be read; nothing is unloaded then.
    pub async fn poll_once(self: &Arc<Self>, polling: &mut Polling) -> Result<(), Error> {
        let loader = Arc::clone(&self.control()?.loader);
        let there = blocking(move || look(&*loader)).await??;
        let gone: Vec<String> = polling
            .seen
            .keys()
            .filter(|name| !there.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            polling.seen.remove(&name);
            // It may have been unloaded by a client, or never loaded.
            if let Err(error) = self.unload(&name) {
                tracing::debug!(model = name, %error, "not unloaded");
            }
        }
        for (name, fingerprint) in there {
            let fingerprint = match fingerprint {
                Ok(fingerprint) => fingerprint,
                Err(error) => {
                    tracing::warn!(model = name, %error, "cannot be read");
                    continue;
                }
            };
            // Noted before it is loaded: what changes meanwhile is seen the next time.
            if polling.seen.insert(name.clone(), fingerprint) == Some(fingerprint) {
                continue;
            }
            if let Err(error) = self.load_when_possible(&name).await {
                if self.find(&name, None).is_ok() {
                    tracing::warn!(model = name, %error, "not loaded, what was served is served");
                } else {
                    tracing::error!(model = name, %error, "not loaded, the others are served");
                }
            }
        }
        Ok(())
    }

    /// Looks at the repository every `interval` until the service is drained.
    ///
    /// # Errors
    /// Without a [`Loader`].
    pub async fn poll(
        self: &Arc<Self>,
        mut polling: Polling,
        interval: Duration,
    ) -> Result<(), Error> {
        self.control()?;
        let drained = self.drained();
        let mut drained = std::pin::pin!(drained);
        loop {
            tokio::select! {
                () = &mut drained => return Ok(()),
                () = tokio::time::sleep(interval) => {}
            }
            if let Err(error) = self.poll_once(&mut polling).await {
                tracing::warn!(%error, "the repository cannot be read");
            }
        }
    }
}

type Fingerprints = BTreeMap<String, Result<u64, Error>>;

fn look(loader: &dyn Loader) -> Result<Fingerprints, Error> {
    let names = loader.list()?;
    let with_fingerprint = |name: String| {
        let fingerprint = loader.fingerprint(&name);
        (name, fingerprint)
    };
    Ok(names.into_iter().map(with_fingerprint).collect())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|error| Error::new(ErrorKind::Internal, "list_failed", error.to_string()))
}
