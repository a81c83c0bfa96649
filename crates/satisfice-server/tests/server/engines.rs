//! Engines that do one thing.

use satisfice_core::{
    DataType, Engine, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata, Parameter,
    TensorSpec,
    parameters::{ParameterSpec, Reader, Values},
};
use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

pub(crate) const fn anything(name: &'static str) -> ParameterSpec {
    ParameterSpec::new(name, Reader::Other, Values::Anything)
}

fn metadata(platform: &str) -> ModelMetadata {
    let specs: Vec<_> = ["x", "y", "z"]
        .map(|name| TensorSpec {
            name: name.to_owned(),
            datatype: DataType::Fp32,
            shape: vec![-1],
            labels: None,
        })
        .into();
    ModelMetadata {
        platform: platform.to_owned(),
        inputs: specs.clone(),
        outputs: specs,
    }
}

fn echo(request: &InferRequest) -> InferResponse {
    let outputs = request.inputs.iter();
    InferResponse {
        outputs: outputs
            .filter(|i| request.outputs.is_empty() || request.outputs.contains(&i.name))
            .cloned()
            .collect(),
        parameters: request.parameters.clone(),
    }
}

/// Answers with its inputs and parameters.
pub(crate) struct Echo(ModelMetadata);

impl Echo {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(metadata("echo")))
    }

    /// With one input.
    pub(crate) fn of_one() -> Arc<Self> {
        let mut metadata = metadata("echo");
        metadata.inputs.truncate(1);
        Arc::new(Self(metadata))
    }
}

impl Engine for Echo {
    fn metadata(&self) -> &ModelMetadata {
        &self.0
    }

    fn parameters(&self) -> &'static [ParameterSpec] {
        &const { [anything("n"), anything("f"), anything("b")] }
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        Ok(echo(request))
    }
}

/// Does to a request what its parameter `do` says: `panic`, or the kind of error.
pub(crate) struct Failing(ModelMetadata);

impl Failing {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(metadata("failing")))
    }
}

impl Engine for Failing {
    fn metadata(&self) -> &ModelMetadata {
        &self.0
    }

    fn parameters(&self) -> &'static [ParameterSpec] {
        &const { [anything("do")] }
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let Some(Parameter::String(what)) = request.parameters.get("do") else {
            return Ok(echo(request));
        };
        let kind = match what.as_str() {
            "panic" => panic!("asked for"),
            "InvalidInput" => ErrorKind::InvalidInput,
            "NotFound" => ErrorKind::NotFound,
            "Unsupported" => ErrorKind::Unsupported,
            "TooLarge" => ErrorKind::TooLarge,
            "Unavailable" => ErrorKind::Unavailable,
            "DeadlineExceeded" => ErrorKind::DeadlineExceeded,
            _ => ErrorKind::Internal,
        };
        Err(Error::new(kind, "asked_for", what.as_str()).with_hint("ask for something else"))
    }
}

/// Holds every request until it is opened, and counts those that began.
pub(crate) struct Gate {
    metadata: ModelMetadata,
    open: Mutex<bool>,
    opened: Condvar,
    started: AtomicUsize,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            metadata: metadata("gate"),
            open: Mutex::new(false),
            opened: Condvar::new(),
            started: AtomicUsize::new(0),
        })
    }

    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(crate) fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Waits until `count` requests have begun.
    pub(crate) fn wait_started(&self, count: usize) {
        eventually(|| self.started() == count);
    }
}

impl Engine for Gate {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        let limit = Duration::from_secs(20);
        let (open, _) = self
            .opened
            .wait_timeout_while(open, limit, |open| !*open)
            .unwrap();
        assert!(*open, "the gate was never opened");
        Ok(echo(request))
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "did not happen within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}
