//! Which model answers, and when: resolution, admission, deadlines, panics.
//!
//! Nothing here knows a transport; every transport gives the same [`Call`] and gets the same
//! answer or [`Error`].

mod contract;
mod control;
mod graphs;
mod history;
mod plan_times;
mod poll;
mod room;
mod schedule;
mod served;
mod settings;
mod stats;
mod times;
mod trouble;

pub(crate) use control::check_control_parameters;
pub use control::{IndexEntry, ModelState};
pub(crate) use graphs::{ServedGraph, WriteCall, WritePlace};
pub(crate) use history::{Point, Range};
pub(crate) use plan_times::{BOUNDS, Histogram, PlanTimes, Seen};
pub use poll::Polling;
pub use room::{Admission, SpareTime};
pub use schedule::PlanAudit;
pub(crate) use served::check_parameters;
pub use served::{Call, ServedModel};
pub use settings::Settings;
pub(crate) use stats::{Duty, Reason, Recording, Stats};
pub(crate) use times::Times;

use crate::{Models, clip, repository::Loaded};
use control::Control;
use graphs::Desk;
use history::History;
use satisfice_core::{Error, ErrorKind, Readiness};
use schedule::Scheduler;
use served::Identity;
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::sync::watch;
use trouble::{Trouble, Troubles};

/// The models and who may use them when.
pub struct Service {
    models: RwLock<Registry>,
    /// Those of models that are loaded from now on.
    settings: RwLock<Settings>,
    scheduler: Arc<Scheduler>,
    control: Option<Arc<Control>>,
    troubles: Arc<Troubles>,
    /// By name of a graph; as many as there were graphs to write to.
    desks: Mutex<BTreeMap<String, Arc<Desk>>>,
    draining: watch::Sender<bool>,
    history: Mutex<History>,
}

type Registry = BTreeMap<String, Versions>;
type Versions = BTreeMap<u64, Arc<ServedModel>>;

impl Service {
    /// A service of `models`, each version of each model with a queue of its own.
    pub fn new(models: Models, settings: impl Into<Settings>) -> Self {
        let settings = settings.into();
        let service = Self {
            models: RwLock::default(),
            scheduler: Arc::new(Scheduler::start(settings.executors)),
            settings: RwLock::new(settings),
            control: None,
            troubles: Arc::default(),
            desks: Mutex::default(),
            draining: watch::Sender::new(false),
            history: Mutex::default(),
        };
        let (models, failed) = models.into_inner();
        for (name, loaded) in models {
            service.replace(&name, loaded);
        }
        for (name, reason) in failed {
            service.troubles.set(&name, Trouble::Failed(reason));
        }
        service
    }

    /// Sets how models are served that are loaded from now on.
    pub fn set_settings(&self, settings: impl Into<Settings>) {
        let mut now = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *now = settings.into();
    }

    /// Whether new requests would be answered: as the worst of the engines says, or that the service drains.
    ///
    /// A model that has failed, or could not be loaded, does not keep requests from the others: the service is
    /// degraded. It has failed where [`Settings::strict_readiness`] says so, and where no other model is there.
    pub fn readiness(&self) -> Readiness {
        if *self.draining.borrow() {
            return Readiness::Draining;
        }
        let versions = self.versions();
        let (failed, others): (Vec<_>, Vec<_>) = versions
            .iter()
            .map(|model| model.readiness())
            .partition(|readiness| *readiness == Readiness::Failed);
        let is_served = |name: &str| versions.iter().any(|model| model.name() == name);
        let worst = others.into_iter().max();
        if failed.is_empty() && !self.troubles.any_failed(is_served) {
            return worst.unwrap_or_default();
        }
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let without_it = match settings.strict_readiness {
            true => Readiness::Failed,
            false => Readiness::Degraded,
        };
        worst.map_or(Readiness::Failed, |worst| worst.max(without_it))
    }

    /// Whether requests to a model, or to one version of it, would be answered: as its engine says, whatever
    /// the others are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such model or version.
    pub fn model_readiness(&self, name: &str, version: Option<&str>) -> Result<Readiness, Error> {
        let readiness = match self.find(name, version) {
            Ok(model) => model.readiness(),
            Err(error) => match self.troubles.of(name) {
                Some(Trouble::Loading) if error.kind() == ErrorKind::Unavailable => {
                    Readiness::Forming
                }
                Some(Trouble::Failed(_)) if error.kind() == ErrorKind::Unavailable => {
                    Readiness::Failed
                }
                _ => return Err(error),
            },
        };
        match *self.draining.borrow() {
            true => Ok(Readiness::Draining),
            false => Ok(readiness),
        }
    }

    /// Whether new requests are welcome: not while draining, nor while an engine waits for something.
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ready()
    }

    /// Makes [`is_ready`](Self::is_ready) false, for load balancers to look elsewhere. Requests are
    /// still answered.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Completes when [`drain`](Self::drain) is called.
    pub fn drained(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut draining = self.draining.subscribe();
        async move {
            // An error means that the service is gone, which is an end too.
            let _ = draining.wait_for(|draining| *draining).await;
        }
    }

    /// Serves what was loaded instead of what was served under `name`; counters go on, and
    /// requests that run end where they began.
    fn replace(&self, name: &str, loaded: Loaded) {
        let Loaded { engines, took } = loaded;
        let versions: Arc<[String]> = engines.keys().map(ToString::to_string).collect();
        let settings = self.settings.read();
        let admission = settings.unwrap_or_else(PoisonError::into_inner).of(name);
        let mut new = Versions::new();
        for (version, engine) in engines {
            let old = read(&self.models)
                .get(name)
                .and_then(|old| old.get(&version).map(|old| old.stats_kept()));
            let stats = old.unwrap_or_default();
            stats.loaded(took);
            let identity = Identity {
                name: name.to_owned(),
                version: version.to_string(),
                versions: Arc::clone(&versions),
            };
            let scheduler = Arc::clone(&self.scheduler);
            let model = ServedModel::new(identity, engine, admission, stats, scheduler);
            new.insert(version, Arc::new(model));
        }
        let old = match new.is_empty() {
            true => write(&self.models).remove(name),
            false => write(&self.models).insert(name.to_owned(), new),
        };
        // What is dropped here may take its time, and nobody else's.
        drop(old);
    }

    /// The newest version of every model, by name.
    pub fn models(&self) -> Vec<Arc<ServedModel>> {
        let registry = read(&self.models);
        let newest = |versions: &Versions| versions.values().next_back().map(Arc::clone);
        registry.values().filter_map(newest).collect()
    }

    /// Every version of every model, by name and version.
    pub fn versions(&self) -> Vec<Arc<ServedModel>> {
        let registry = read(&self.models);
        let versions = registry.values().flat_map(BTreeMap::values);
        versions.map(Arc::clone).collect()
    }

    /// The versions that a question about the past is about: all, those of one model, or one.
    pub(crate) fn select(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Vec<Arc<ServedModel>>, Error> {
        let Some(name) = name else {
            return Ok(self.versions());
        };
        let model = self.find(name, version)?;
        if version.is_some() {
            return Ok(vec![model]);
        }
        let mut versions = self.versions();
        versions.retain(|model| model.name() == name);
        Ok(versions)
    }

    /// The model of that name: `version`, or its highest version.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] naming what there is; [`ErrorKind::Unavailable`] for a model that is being
    /// loaded, or could not be.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<ServedModel>, Error> {
        let registry = read(&self.models);
        let versions = registry.get(name).ok_or_else(|| {
            if let Some(trouble) = self.troubles.of(name) {
                return trouble.refusal(name);
            }
            let names = clip::list(registry.keys().map(String::as_str));
            not_found(
                "model_not_found",
                format!("no model `{}`", clip::clip(name)),
            )
            .with_hint(format!("models served: {names}"))
        })?;
        let model = match version {
            None => versions.values().next_back(),
            Some(version) => versions.values().find(|model| model.version() == version),
        };
        model.map(Arc::clone).ok_or_else(|| {
            let known = clip::list(versions.values().map(|model| model.version()));
            let version = clip::clip(version.unwrap_or_default());
            not_found(
                "version_not_found",
                format!("model `{name}` has no version `{version}`"),
            )
            .with_hint(format!("versions served: {known}"))
        })
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("models", &read(&self.models).keys().collect::<Vec<_>>())
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

/// Nothing that is done under the lock can panic half-way.
fn read(models: &RwLock<Registry>) -> RwLockReadGuard<'_, Registry> {
    models.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`read`].
fn write(models: &RwLock<Registry>) -> RwLockWriteGuard<'_, Registry> {
    models.write().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(code: &'static str, message: String) -> Error {
    Error::new(ErrorKind::NotFound, code, message)
}
