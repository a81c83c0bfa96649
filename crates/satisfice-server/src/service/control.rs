//! Loading and unloading models while the server runs.

use super::{
    Service, not_found, read,
    trouble::{Trouble, Troubles},
    write,
};
use crate::{
    clip,
    repository::{Loader, Models, is_valid_name},
};
use satisfice_core::{
    Error, ErrorKind, Parameters,
    parameters::{self, CONTROL, Place},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};
use tokio::sync::OwnedMutexGuard;

/// What makes models while the server runs.
pub(super) struct Control {
    pub(super) loader: Arc<dyn Loader>,
    /// One model is loaded at a time: loading takes the memory of a model.
    turn: Arc<tokio::sync::Mutex<()>>,
    troubles: Arc<Troubles>,
}

/// Whether a version answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// It answers.
    Ready,
    /// It is there but not loaded.
    Unavailable,
    /// It is being loaded.
    Loading,
}

impl ModelState {
    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Loading => "LOADING",
        }
    }
}

/// One line of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The model.
    pub name: String,
    /// The version, if it is known: that of a model that was never loaded is not.
    pub version: Option<String>,
    /// Whether it answers.
    pub state: ModelState,
    /// Why the model does not answer, or why its last load failed; empty if there is nothing to say.
    pub reason: String,
}

impl Control {
    fn new(loader: Arc<dyn Loader>, troubles: Arc<Troubles>) -> Self {
        Self {
            loader,
            turn: Arc::default(),
            troubles,
        }
    }

    /// The versions of a model that the loader has.
    fn load(&self, name: &str) -> Result<Models, Error> {
        let there = self.loader.list()?;
        if !there.contains(name) {
            let names = clip::list(there.iter().map(String::as_str));
            return Err(no_model(name).with_hint(format!("models in the repository: {names}")));
        }
        self.troubles.set(name, Trouble::Loading);
        let failed = Unloaded {
            control: self,
            name,
        };
        let start = Instant::now();
        let models = self.loader.load(name).and_then(|engines| {
            let mut models = Models::new();
            for (version, engine) in engines {
                models.insert(name, version, engine).map_err(|error| {
                    Error::new(ErrorKind::Internal, "wrong_model", error.to_string())
                })?;
            }
            models.set_load_duration(name, start.elapsed());
            Ok(models)
        });
        match &models {
            Ok(_) => self.troubles.forget(name),
            Err(error) => failed.because(error.to_string()),
        }
        models
    }
}

/// Says that a load failed, even when the loader panicked.
struct Unloaded<'a> {
    control: &'a Control,
    name: &'a str,
}

impl Unloaded<'_> {
    fn because(&self, reason: String) {
        let trouble = Trouble::Failed(reason);
        self.control.troubles.set(self.name, trouble);
    }
}

impl Drop for Unloaded<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.because("loading failed".to_owned());
        }
    }
}

impl Service {
    /// The same service with model control: models may be loaded and unloaded by name.
    #[must_use]
    pub fn with_loader(mut self, loader: Arc<dyn Loader>) -> Self {
        self.control = Some(Arc::new(Control::new(loader, Arc::clone(&self.troubles))));
        self
    }

    pub(super) fn control(&self) -> Result<&Arc<Control>, Error> {
        self.control.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "model_control_off",
                "this server does not load or unload models",
            )
            .with_hint("start it with `--model-control explicit`")
        })
    }

    /// Loads a model, or loads it anew. Until that is done, and if it fails, what was served of it
    /// before is served; requests that run then end where they began. The load goes on when the
    /// future is dropped.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] without a [`Loader`], and for what is no name.
    /// - [`ErrorKind::NotFound`] when the loader does not list the model.
    /// - [`ErrorKind::Unavailable`] with code `load_running` while another load runs.
    /// - What the loader says.
    pub async fn load(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        let control = Arc::clone(self.control()?);
        check_name(name)?;
        let turn = Arc::clone(&control.turn).try_lock_owned().map_err(|_| {
            let text = "another model is being loaded";
            Error::new(ErrorKind::Unavailable, "load_running", text)
                .with_hint("send the request again later")
        })?;
        self.load_in_turn(control, turn, name).await
    }

    /// As [`load`](Self::load), but waits while another load runs.
    pub(super) async fn load_when_possible(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        let control = Arc::clone(self.control()?);
        check_name(name)?;
        let turn = Arc::clone(&control.turn).lock_owned().await;
        self.load_in_turn(control, turn, name).await
    }

    async fn load_in_turn(
        self: &Arc<Self>,
        control: Arc<Control>,
        turn: OwnedMutexGuard<()>,
        name: &str,
    ) -> Result<(), Error> {
        let (service, name) = (Arc::clone(self), name.to_owned());
        let task = tokio::task::spawn_blocking(move || {
            let models = control.load(&name)?;
            let engines = models.into_inner().0.remove(&name);
            service.replace(&name, engines.unwrap_or_default());
            drop(turn);
            tracing::info!(model = name, "loaded");
            Ok(())
        });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "loading failed");
            let text = "the model could not be loaded";
            Err(Error::new(ErrorKind::Internal, "load_failed", text))
        })
    }

    /// Stops serving a model; requests that run end.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] without a [`Loader`], and for what is no name.
    /// - [`ErrorKind::NotFound`] when the model is not served.
    pub fn unload(&self, name: &str) -> Result<(), Error> {
        self.control()?;
        check_name(name)?;
        self.troubles.forget(name);
        let removed = write(&self.models).remove(name);
        removed.map(drop).ok_or_else(|| no_model(name))?;
        tracing::info!(model = name, "unloaded");
        Ok(())
    }

    /// What is served, what could not be loaded and, with a [`Loader`], what could be, by name and version.
    ///
    /// # Errors
    /// What the loader says.
    pub async fn index(&self) -> Result<Vec<IndexEntry>, Error> {
        let Some(control) = &self.control else {
            let troubles = self.troubles.all();
            return Ok(self.entries(troubles.keys().cloned().collect(), &troubles));
        };
        let loader = Arc::clone(&control.loader);
        let names = tokio::task::spawn_blocking(move || loader.list()).await;
        let names = names.unwrap_or_else(|error| {
            Err(Error::new(
                ErrorKind::Internal,
                "list_failed",
                error.to_string(),
            ))
        })?;
        Ok(self.entries(names, &self.troubles.all()))
    }

    fn entries(
        &self,
        mut names: BTreeSet<String>,
        trouble: &BTreeMap<String, Trouble>,
    ) -> Vec<IndexEntry> {
        let registry = read(&self.models);
        names.extend(registry.keys().cloned());
        let mut entries = Vec::new();
        for name in names {
            let trouble = trouble.get(&name);
            let reason = match trouble {
                Some(Trouble::Failed(reason)) => reason.as_str(),
                _ => "",
            };
            let entry = |version, state, reason: &str| IndexEntry {
                name: name.clone(),
                version,
                state,
                reason: reason.to_owned(),
            };
            match registry.get(&name) {
                Some(versions) => entries.extend(versions.values().map(|model| {
                    entry(Some(model.version().to_owned()), ModelState::Ready, reason)
                })),
                None => entries.push(match trouble {
                    Some(Trouble::Loading) => entry(None, ModelState::Loading, ""),
                    Some(Trouble::Failed(_)) => entry(None, ModelState::Unavailable, reason),
                    None => entry(None, ModelState::Unavailable, "not loaded"),
                }),
            }
        }
        entries
    }
}

/// Refuses parameters of a load or unload that would have to do something.
pub(crate) fn check_control_parameters(mut parameters: Parameters) -> Result<(), Error> {
    if let Some(name) = parameters.keys().find(|name| name.starts_with("file:")) {
        let message = format!("parameter `{}` is not supported", clip::clip(name));
        return Err(
            Error::new(ErrorKind::Unsupported, "unsupported_parameter", message)
                .with_hint("put the file into the repository, and load the model again"),
        );
    }
    parameters::check(&mut parameters, &CONTROL.iter(), Place::Control)
}

fn check_name(name: &str) -> Result<(), Error> {
    if is_valid_name(name) {
        return Ok(());
    }
    let message = format!("`{}` is not a model name", clip::clip(name));
    Err(Error::new(ErrorKind::InvalidInput, "wrong_name", message))
}

fn no_model(name: &str) -> Error {
    let message = format!("no model `{}`", clip::clip(name));
    not_found("model_not_found", message)
}
