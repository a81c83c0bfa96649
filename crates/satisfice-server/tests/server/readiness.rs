//! What engines say of themselves, and what they are told of who waits for them.

use crate::engines::eventually;
use crate::fake::{ask, bare, begin, serve, settings};
use satisfice_core::{
    Engine, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata, Readiness,
};
use satisfice_server::{Models, Service, Settings, service::ModelState};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Is as it is told, and keeps the deadline of the last request.
struct Moody {
    metadata: ModelMetadata,
    readiness: Mutex<Readiness>,
    deadline: Mutex<Option<Instant>>,
}

impl Moody {
    fn new(readiness: Readiness) -> Arc<Self> {
        Arc::new(Self {
            metadata: ModelMetadata {
                platform: "moody".to_owned(),
                inputs: Vec::new(),
                outputs: Vec::new(),
            },
            readiness: Mutex::new(readiness),
            deadline: Mutex::default(),
        })
    }
}

impl Engine for Moody {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        *self.deadline.lock().unwrap() = request.deadline;
        Ok(InferResponse::default())
    }

    fn readiness(&self) -> Readiness {
        *self.readiness.lock().unwrap()
    }
}

#[test]
fn a_service_is_as_ready_as_the_worst_of_its_engines() {
    let (one, other) = (
        Moody::new(Readiness::Ready),
        Moody::new(Readiness::Degraded),
    );
    let service = serve(
        settings(1),
        &[("one", one.clone()), ("other", other.clone())],
    );
    assert_eq!(service.readiness(), Readiness::Degraded);
    assert!(service.is_ready(), "it answers");
    *one.readiness.lock().unwrap() = Readiness::Forming;
    assert_eq!(service.readiness(), Readiness::Forming);
    assert!(!service.is_ready());
    // A model that has failed does not keep requests from the others.
    *one.readiness.lock().unwrap() = Readiness::Failed;
    assert_eq!(service.readiness(), Readiness::Degraded);
    *other.readiness.lock().unwrap() = Readiness::Failed;
    assert_eq!(service.readiness(), Readiness::Failed);
    *one.readiness.lock().unwrap() = Readiness::Ready;
    service.drain();
    assert_eq!(service.readiness(), Readiness::Draining);
    assert!(!service.is_ready());
}

#[tokio::test]
async fn a_models_readiness_is_its_own() {
    let (one, other) = (Moody::new(Readiness::Ready), Moody::new(Readiness::Forming));
    let service = serve(settings(1), &[("one", one), ("other", other)]);
    let of = |name: &str| service.model_readiness(name, None);
    assert_eq!(of("one"), Ok(Readiness::Ready));
    assert_eq!(of("other"), Ok(Readiness::Forming));
    assert_eq!(of("nobody").unwrap_err().kind(), ErrorKind::NotFound);
    let version = service.model_readiness("one", Some("2"));
    assert_eq!(version.unwrap_err().code(), "version_not_found");
    service.drain();
    assert_eq!(
        service.model_readiness("one", None),
        Ok(Readiness::Draining)
    );
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_told_and_the_others_are_served() {
    let service = |strict: bool, good: bool| {
        let mut models = Models::new();
        if good {
            let engine = Moody::new(Readiness::Ready);
            models.insert("good", 1, engine).unwrap();
        }
        models.fail("broken", "no weights");
        let settings = Settings {
            strict_readiness: strict,
            ..settings(1)
        };
        Service::new(models, settings)
    };
    let lenient = service(false, true);
    assert_eq!(lenient.readiness(), Readiness::Degraded);
    assert_eq!(lenient.model_readiness("good", None), Ok(Readiness::Ready));
    assert_eq!(
        lenient.model_readiness("broken", None),
        Ok(Readiness::Failed)
    );
    let error = lenient.find("broken", None).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unavailable, "model_unavailable")
    );
    assert!(!error.to_string().contains("weights"), "{error}");
    let index = lenient.index().await.unwrap();
    let [broken, good] = &index[..] else {
        panic!("{index:?}")
    };
    assert_eq!(
        (broken.state, &*broken.reason),
        (ModelState::Unavailable, "no weights")
    );
    assert_eq!(good.state, ModelState::Ready);

    assert_eq!(service(true, true).readiness(), Readiness::Failed);
    // Where nothing is there, there is nothing to be ready for.
    assert_eq!(service(false, false).readiness(), Readiness::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_told_when_nobody_waits_any_more() {
    let engine = Moody::new(Readiness::Ready);
    let service = serve(settings(1), &[("m", engine.clone())]);
    ask(&service, "m", bare(&[])).await.unwrap();
    assert_eq!(*engine.deadline.lock().unwrap(), None);
    let before = Instant::now();
    let minute = ("deadline_ms", 60_000.0.into());
    ask(&service, "m", bare(&[minute])).await.unwrap();
    let told = engine.deadline.lock().unwrap().expect("a deadline");
    let left = told - before;
    assert!(left >= Duration::from_mins(1), "{left:?}");
    assert!(left < Duration::from_mins(2), "{left:?}");
}

/// Works until nobody waits any more.
struct Patient {
    metadata: ModelMetadata,
    begun: AtomicUsize,
    given_up: AtomicUsize,
}

impl Engine for Patient {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        eventually(|| request.cores.is_stopped());
        self.given_up.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(
            ErrorKind::DeadlineExceeded,
            "canceled",
            "given up",
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_runs_is_told_when_its_client_has_gone_and_when_the_deadline_passes() {
    let engine = Arc::new(Patient {
        metadata: Moody::new(Readiness::Ready).metadata.clone(),
        begun: AtomicUsize::new(0),
        given_up: AtomicUsize::new(0),
    });
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    let service = serve(settings(1), &[("m", engine.clone())]);
    let client = begin(&service, "m", bare(&[]));
    eventually(|| count(&engine.begun) == 1);
    assert_eq!(count(&engine.given_up), 0);
    client.abort();
    eventually(|| count(&engine.given_up) == 1);

    let late = ask(&service, "m", bare(&[("deadline_ms", 50.0.into())])).await;
    assert_eq!(late.unwrap_err().code(), "deadline_exceeded");
    eventually(|| count(&engine.given_up) == 2);
}
