//! Engines with plans whose times and qualities are made up.

use crate::engines::{anything, eventually};
use satisfice_core::{
    BatchOutputs, Batching, DataType, Engine, Error, ErrorKind, InferRequest, InferResponse, Job,
    Measure, ModelMetadata, NamedTensor, Offer, Parameter, Parameters, Part, PartOutputs, Quality,
    Strategy, Tensor, TensorData, TensorSpec, parameters::ParameterSpec,
};
use satisfice_server::{Models, Service, Settings, service::Call};
use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

pub(crate) fn fidelity(lower: f64) -> Quality {
    Quality {
        measure: Measure::Fidelity,
        expected: lower + (1.0 - lower) / 4.0,
        lower,
    }
}

fn metadata(platform: &str) -> ModelMetadata {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        datatype: DataType::Fp32,
        shape: vec![-1, -1],
        labels: None,
    };
    ModelMetadata {
        platform: platform.to_owned(),
        inputs: vec![spec("x")],
        outputs: vec![spec("y")],
    }
}

/// A gate that executions stand before, and what went through it.
#[derive(Default)]
pub(crate) struct Log {
    held: Mutex<bool>,
    opened: Condvar,
    entries: Mutex<Vec<String>>,
}

impl Log {
    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.held.lock().unwrap() = false;
        self.opened.notify_all();
    }

    pub(crate) fn enter(&self, entry: String) {
        self.entries.lock().unwrap().push(entry);
        let held = self.held.lock().unwrap();
        let limit = Duration::from_secs(20);
        let waited = self.opened.wait_timeout_while(held, limit, |held| *held);
        assert!(!*waited.unwrap().0, "the gate was never opened");
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.entries.lock().unwrap().clone()
    }

    pub(crate) fn wait(&self, count: usize) {
        eventually(|| self.entries.lock().unwrap().len() >= count);
    }
}

/// Offers plans; which one answered is its output. A plan is wrong on every `n`th request with a `wrong`
/// of `n`.
pub(crate) struct Offering {
    metadata: ModelMetadata,
    pub(crate) offers: Vec<Offer>,
    pub(crate) takes: Duration,
    pub(crate) wrong: Option<(&'static str, u64)>,
    pub(crate) log: Log,
}

impl Offering {
    /// `(plan, seconds, fidelity)` of each.
    pub(crate) fn new(offers: &[(&str, f64, f64)]) -> Self {
        let offer = |&(plan, seconds, lower): &(&str, f64, f64)| Offer {
            plan: plan.to_owned(),
            seconds,
            quality: vec![fidelity(lower)],
        };
        Self {
            metadata: metadata("offering"),
            offers: offers.iter().map(offer).collect(),
            takes: Duration::ZERO,
            wrong: None,
            log: Log::default(),
        }
    }
}

impl Engine for Offering {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn parameters(&self) -> &'static [ParameterSpec] {
        &const { [anything("name"), anything("number")] }
    }

    /// Scores of two classes for the request's number: 0 or 1 by whether it is odd.
    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let plan = match request.parameters.get("plan") {
            Some(Parameter::String(plan)) => plan.clone(),
            _ => "default".to_owned(),
        };
        let name = match request.parameters.get("name") {
            Some(Parameter::String(name)) => name.clone(),
            _ => plan.clone(),
        };
        self.log.enter(name);
        std::thread::sleep(self.takes);
        let number = match request.parameters.get("number") {
            Some(&Parameter::Int(number)) => number as u64,
            _ => 0,
        };
        let wrong = self
            .wrong
            .is_some_and(|(of, nth)| of == plan && number % nth == 0);
        let odd = (number % 2 == 1) != wrong;
        let scores = match odd {
            true => vec![0.1, 0.9],
            false => vec![0.9, 0.1],
        };
        Ok(InferResponse {
            outputs: vec![tensor("y", vec![1, 2], scores)],
            parameters: Parameters::from([("plan".to_owned(), plan.into())]),
        })
    }

    fn offers(&self, _: &InferRequest) -> Result<Vec<Offer>, Error> {
        Ok(self.offers.clone())
    }
}

/// Batches inputs `x` `[n, 1]`. The output `y` `[n, 2]` is the input and the position of the strategy.
/// A batch with a NaN fails, with an infinite number panics; a part with a negative infinite one fails.
pub(crate) struct Modal {
    metadata: ModelMetadata,
    strategies: Vec<Strategy>,
    pub(crate) takes: Duration,
    pub(crate) log: Log,
}

impl Modal {
    /// Strategies `text` and `both`: accuracies of 0.8 and 0.9, in times that rise with the batch, up
    /// to `batch_max` inputs.
    pub(crate) fn new(batch_max: usize) -> Self {
        let strategy = |name: &str, lower: f64, first: f64, next: f64| Strategy {
            name: name.to_owned(),
            quality: vec![Quality {
                measure: Measure::Accuracy,
                expected: lower + 0.01,
                lower,
            }],
            seconds: (0..batch_max).map(|b| first + next * b as f64).collect(),
        };
        Self {
            metadata: metadata("modal"),
            strategies: vec![
                strategy("text", 0.8, 1.0, 0.1),
                strategy("both", 0.9, 10.0, 1.0),
            ],
            takes: Duration::ZERO,
            log: Log::default(),
        }
    }
}

impl Engine for Modal {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn parameters(&self) -> &'static [ParameterSpec] {
        &const { [anything("text_only")] }
    }

    fn infer(&self, _: &InferRequest) -> Result<InferResponse, Error> {
        Err(Error::new(ErrorKind::Internal, "not_batched", ""))
    }

    fn batching(&self) -> Option<&dyn Batching> {
        Some(self)
    }
}

fn numbers(request: &InferRequest) -> &[f32] {
    match request.input("x").map(Tensor::data) {
        Some(TensorData::Fp32(x)) => x,
        _ => &[],
    }
}

impl Batching for Modal {
    fn strategies(&self) -> &[Strategy] {
        &self.strategies
    }

    fn prepare(&self, request: InferRequest) -> Result<Job, Error> {
        let inputs = numbers(&request).len();
        if inputs == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "no_input", "no `x`"));
        }
        let strategies = match request.parameters.contains_key("text_only") {
            true => vec![0],
            false => vec![0, 1],
        };
        Ok(Job {
            inputs,
            strategies,
            request,
        })
    }

    fn run(&self, strategy: usize, parts: &[Part<'_>]) -> Result<BatchOutputs, Error> {
        let inputs = |part: &Part<'_>| numbers(&part.job.request)[part.inputs.clone()].to_vec();
        let parts: Vec<Vec<f32>> = parts.iter().map(inputs).collect();
        let name = &self.strategies[strategy].name;
        let total: usize = parts.iter().map(Vec::len).sum();
        self.log.enter(format!("{name}={total}"));
        std::thread::sleep(self.takes);
        assert!(!parts.concat().contains(&f32::INFINITY), "asked for");
        if parts.concat().iter().any(|x| x.is_nan()) {
            return Err(Error::new(ErrorKind::InvalidInput, "not_a_number", ""));
        }
        let output = |part: &Vec<f32>| -> PartOutputs {
            let rows = part.iter().flat_map(|&x| [x, strategy as f32]);
            if part.contains(&f32::NEG_INFINITY) {
                return Err(Error::new(ErrorKind::InvalidInput, "too_small", ""));
            }
            Ok(vec![tensor("y", vec![part.len(), 2], rows.collect())])
        };
        Ok(BatchOutputs {
            parts: parts.iter().map(output).collect(),
            work_seconds: None,
        })
    }
}

pub(crate) fn tensor(name: &str, shape: Vec<usize>, data: Vec<f32>) -> NamedTensor {
    NamedTensor {
        name: name.to_owned(),
        tensor: Tensor::new(shape, TensorData::Fp32(data)).unwrap(),
    }
}

/// The executors and admission of a service, with everything else as it is by default.
pub(crate) fn settings(executors: usize) -> Settings {
    let mut settings = Settings {
        executors,
        ..Settings::default()
    };
    settings.admission.executing_max = executors;
    settings.admission.audit_share = 0.0;
    settings
}

pub(crate) fn serve(settings: Settings, engines: &[(&str, Arc<dyn Engine>)]) -> Arc<Service> {
    let mut models = Models::new();
    for (name, engine) in engines {
        models.insert(name, 1, Arc::clone(engine)).unwrap();
    }
    Arc::new(Service::new(models, settings))
}

/// A request that holds nothing but parameters.
pub(crate) fn bare(parameters: &[(&str, Parameter)]) -> InferRequest {
    let parameters = parameters.iter();
    InferRequest {
        parameters: parameters
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        ..InferRequest::default()
    }
}

/// A request of the inputs `x`.
pub(crate) fn of(x: &[f32], parameters: &[(&str, Parameter)]) -> InferRequest {
    InferRequest {
        inputs: vec![tensor("x", vec![x.len(), 1], x.to_vec())],
        ..bare(parameters)
    }
}

pub(crate) async fn ask(
    service: &Arc<Service>,
    model: &str,
    request: InferRequest,
) -> Result<InferResponse, Error> {
    let model = service.find(model, None).unwrap();
    let call = Call {
        request,
        request_bytes: 1,
        received: Instant::now(),
        deadline: None,
        record: Arc::default(),
    };
    model.infer(call).await
}

/// As [`ask`], on its own.
pub(crate) fn begin(
    service: &Arc<Service>,
    model: &'static str,
    request: InferRequest,
) -> tokio::task::JoinHandle<Result<InferResponse, Error>> {
    let service = Arc::clone(service);
    tokio::spawn(async move { ask(&service, model, request).await })
}

/// Begins requests that queue up in this order behind what holds the executors.
pub(crate) async fn queue_up(
    service: &Arc<Service>,
    model: &'static str,
    requests: Vec<InferRequest>,
) -> Vec<tokio::task::JoinHandle<Result<InferResponse, Error>>> {
    let served = service.find(model, None).unwrap();
    let mut begun = Vec::new();
    for request in requests {
        let before = served.waiting();
        begun.push(begin(service, model, request));
        let end = Instant::now() + Duration::from_secs(10);
        while served.waiting() == before && !begun.last().unwrap().is_finished() {
            assert!(Instant::now() < end, "the request was never queued");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    begun
}

pub(crate) fn text(response: &InferResponse, parameter: &str) -> String {
    match response.parameters.get(parameter) {
        Some(Parameter::String(text)) => text.clone(),
        other => panic!("{parameter}: {other:?}"),
    }
}

pub(crate) fn number(response: &InferResponse, parameter: &str) -> f64 {
    match response.parameters.get(parameter) {
        Some(&Parameter::Float(number)) => number,
        other => panic!("{parameter}: {other:?}"),
    }
}
