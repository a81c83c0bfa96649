mod answer;
mod example;
mod request;

use crate::{
    ModelDir, MultimodalError, Profile,
    batch::Batch,
    config::{CLASS_OUTPUTS, ModelConfig, TensorConfig},
    layout::{self, Choice, Given, Networks, Work},
    network::NetworkLoader,
    runtime,
    timing::{self, SlowVariant, Steps},
    way::{Cascade, Executed, Way},
};
use answer::Answering;
use request::Decoder;
use satisfice_core::{
    BatchOutputs, Batching, DataType, Engine, Error, InferRequest, InferResponse, Job,
    ModelMetadata, NamedTensor, Offer, Part, Strategy, TensorSpec,
};
use std::{ops::Range, path::PathBuf};

/// How an engine is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// ONNX Runtime's library; what the environment variable `ORT_DYLIB_PATH` names when absent.
    pub onnxruntime: Option<PathBuf>,
    /// Do not read the model's profile, as one that makes a new one.
    pub without_profile: bool,
}

/// A multi-modal model with its networks.
///
/// Answers may be asked for from several threads at once.
#[derive(Debug)]
pub struct MultimodalEngine {
    config: ModelConfig,
    networks: Networks,
    ways: Vec<Way>,
    strategies: Vec<Strategy>,
    metadata: ModelMetadata,
    runtime: String,
}

impl MultimodalEngine {
    /// Loads the networks of a model, checks them against its sidecar, and reads its profile. Without
    /// a profile of this runtime the networks are timed briefly.
    ///
    /// # Errors
    /// [`MultimodalError`], with the file at fault.
    pub fn open(model_dir: &ModelDir, options: &OpenOptions) -> Result<Self, MultimodalError> {
        let profile = match options.without_profile {
            true => None,
            false => Profile::read(model_dir)?,
        };
        let left_out = profile.iter().flat_map(|p| &p.not_offered);
        let left_out: Vec<&str> = left_out.map(|slow| slow.file.as_str()).collect();
        let config = model_dir.config().clone().without_variants(&left_out);
        let dir = model_dir.version_path();
        let runtime = runtime::choose(config.runtime, options.onnxruntime.as_deref())?;
        let loader = NetworkLoader {
            dir: &dir,
            runtime: runtime.as_ref(),
            batch_max: config.limits.batch_max,
            constants: layout::constants(&config),
        };
        let networks = Networks::load(&config, &loader)?;
        let singles = networks.choices().iter().copied().map(Way::Single);
        let mut engine = Self {
            ways: singles.collect(),
            strategies: Vec::new(),
            metadata: metadata(&config, networks.outputs()),
            runtime: runtime.name(),
            networks,
            config,
        };
        // Who is to be measured needs no more than an idea of how long that takes.
        let timed_max = if options.without_profile {
            1
        } else {
            usize::MAX
        };
        engine.adopt(profile.as_ref(), model_dir, timed_max)?;
        Ok(engine)
    }

    /// Leaves out the networks of other precisions that save nothing on this machine, and says which.
    pub(crate) fn leave_out_slow(
        &mut self,
        model_dir: &ModelDir,
    ) -> Result<Vec<SlowVariant>, MultimodalError> {
        let slow = timing::slow_variants(&self.networks)?;
        let files: Vec<&str> = slow.iter().map(|slow| slow.file.as_str()).collect();
        let now = self.config.clone().without_variants(&files);
        self.networks.leave_out(&files, &self.config, &now)?;
        self.config = now;
        let singles = self.networks.choices().iter().copied().map(Way::Single);
        self.ways = singles.collect();
        self.adopt(None, model_dir, 1)?;
        Ok(slow)
    }

    /// Takes strategies, qualities and times from a profile, as far as it has them.
    fn adopt(
        &mut self,
        profile: Option<&Profile>,
        model_dir: &ModelDir,
        timed_max: usize,
    ) -> Result<(), MultimodalError> {
        let wrong = |message| MultimodalError::Profile {
            path: model_dir.profile_path(),
            message,
        };
        if let Some(profile) = profile {
            let cascades = profile.cascades(&self.config, self.networks.choices());
            self.ways.extend(
                cascades
                    .map_err(wrong)?
                    .into_iter()
                    .map(|(_, cascade)| Way::Cascade(cascade)),
            );
        }
        let batch_max = self.config.limits.batch_max;
        let same_runtime = |profile: &&Profile| profile.runtime == self.runtime;
        let timed = profile.filter(same_runtime);
        let mut names: Vec<String> = Vec::new();
        let mut rest = profile
            .map(Profile::cascade_names)
            .unwrap_or_default()
            .into_iter();
        for way in &self.ways {
            names.push(match way {
                Way::Single(choice) => self.config.choice_name(*choice),
                Way::Cascade(_) => rest.next().unwrap_or_default(),
            });
        }
        let seconds = match timed {
            Some(profile) => names
                .iter()
                .map(|name| profile.seconds(name, batch_max).map_err(wrong))
                .collect::<Result<_, _>>()?,
            None => self.brief_seconds(batch_max, timed_max)?,
        };
        self.strategies = names
            .into_iter()
            .zip(seconds)
            .map(|(name, seconds)| Strategy {
                quality: profile.map(|p| p.quality(&name)).unwrap_or_default(),
                name,
                seconds,
            })
            .collect();
        Ok(())
    }

    /// Seconds of a batch of `i + 1` inputs by each of the ways, timed briefly.
    fn brief_seconds(
        &self,
        batch_max: usize,
        timed_max: usize,
    ) -> Result<Vec<Vec<f64>>, MultimodalError> {
        let singles = timing::briefly(&self.networks, batch_max, timed_max)?;
        let seconds = |way: &Way| match way {
            Way::Single(choice) => singles[self.position(*choice)].clone(),
            Way::Cascade(cascade) => {
                let steps = self.steps(cascade, |at| &singles[at]);
                let mean = |inputs| steps.mean_seconds(inputs, cascade.escalated);
                (1..=batch_max).map(mean).collect()
            }
        };
        Ok(self.ways.iter().map(seconds).collect())
    }

    /// Position of a choice among the ways.
    fn position(&self, choice: Choice) -> usize {
        let mut choices = self.networks.choices().iter();
        choices
            .position(|&other| other == choice)
            .expect("invariant: ways begin with all choices, and cascades are made of them")
    }

    /// The steps of a cascade, with times by the position of a choice.
    fn steps<'a>(&self, cascade: &Cascade, seconds: impl Fn(usize) -> &'a [f64]) -> Steps<'a> {
        Steps {
            first: seconds(self.position(cascade.first)),
            then: seconds(self.position(cascade.then)),
            keeps: self.networks.keeps_embeddings(),
        }
    }

    /// Name and version of what executes the networks.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.config.output.classes
    }

    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub(crate) fn networks(&self) -> &Networks {
        &self.networks
    }

    pub(crate) fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// The tensors that networks read, of every modality that the request brings, in the order of the
    /// modalities: pictures and texts are decoded.
    ///
    /// # Errors
    /// [`MultimodalError`] when the request is wrong, or a picture or text in it is none.
    pub fn ready(&self, request: InferRequest) -> Result<Vec<NamedTensor>, MultimodalError> {
        let job = self.job(request)?;
        let rows = (0..job.inputs).map(|row| (&job.request, row));
        let mut work = Work::new(Batch::new(rows), self.config.modalities.len());
        let mut ready = Vec::new();
        for (position, modality) in self.config.modalities.iter().enumerate() {
            if !job
                .request
                .inputs
                .iter()
                .any(|input| modality.brings(&input.name))
            {
                continue;
            }
            self.networks.make(position, &mut work)?;
            for TensorConfig { name, datatype, .. } in &modality.tensors {
                ready.push(NamedTensor {
                    name: name.clone(),
                    tensor: work.batch.gather(name, *datatype)?,
                });
            }
        }
        Ok(ready)
    }

    /// Checks a request. What it brings raw is decoded when an input is answered by a strategy that
    /// reads it.
    pub(crate) fn job(&self, request: InferRequest) -> Result<Job, MultimodalError> {
        self.decoder().job(request)
    }

    fn answering(&self) -> Answering<'_> {
        Answering {
            classes: &self.config.output.classes,
            outputs: self.networks.outputs(),
        }
    }

    fn decoder(&self) -> Decoder<'_> {
        Decoder {
            config: &self.config,
            ways: &self.ways,
            strategies: &self.strategies,
            outputs: &self.metadata.outputs,
        }
    }

    /// Answers a batch of prepared inputs.
    pub(crate) fn execute(&self, way: Way, batch: Batch<'_>) -> Result<Executed, MultimodalError> {
        let work = Work::new(batch, self.config.modalities.len());
        way.execute(&self.networks, &self.config, work)
    }

    /// Batches of at most the largest size that cover `inputs` of a job.
    pub(crate) fn batches(&self, inputs: usize) -> impl Iterator<Item = Range<usize>> {
        let size = self.config.limits.batch_max;
        (0..inputs)
            .step_by(size)
            .map(move |from| from..inputs.min(from + size))
    }

    /// Seconds of a job of `inputs` alone.
    fn seconds(&self, strategy: usize, inputs: usize) -> f64 {
        let seconds = &self.strategies[strategy].seconds;
        self.batches(inputs)
            .map(|batch| seconds[batch.len() - 1])
            .sum()
    }

    /// The strategy that promises most; the cheaper of equals. Without promises, the one with most
    /// modalities.
    fn best(&self, job: &Job) -> Option<usize> {
        let rank = |&strategy: &usize| {
            let expected = self.strategies[strategy]
                .quality
                .first()
                .map(|q| q.expected);
            let modalities = self.ways[strategy].needs().len();
            let base = matches!(self.ways[strategy], Way::Single(choice) if choice.variant == 0);
            (
                expected.unwrap_or_default(),
                match expected {
                    Some(_) => (0, false),
                    None => (modalities, base),
                },
                -self.seconds(strategy, 1),
            )
        };
        job.strategies.iter().copied().max_by(|a, b| {
            rank(a)
                .partial_cmp(&rank(b))
                .unwrap_or(std::cmp::Ordering::Equal)
        })
    }

    /// Answers a whole job by one strategy.
    fn answer(&self, job: &Job, strategy: usize) -> Result<InferResponse, MultimodalError> {
        let mut given = vec![Vec::new(); self.networks.outputs().len()];
        let mut runs = vec![0; self.config.modalities.len()];
        for range in self.batches(job.inputs) {
            let from = range.start;
            let batch = Batch::new(range.map(|row| (&job.request, row)));
            let executed = self.execute(self.ways[strategy], batch)?;
            if let Some(row) = executed.answers.broken.iter().position(|&broken| broken) {
                return Err(answer::broken(from + row, &self.strategies[strategy].name));
            }
            for (all, more) in given.iter_mut().zip(executed.answers.given) {
                all.extend(more);
            }
            runs.iter_mut()
                .zip(executed.runs)
                .for_each(|(sum, more)| *sum += more);
        }
        Ok(InferResponse {
            outputs: self
                .answering()
                .outputs(&job.request.outputs, job.inputs, &given),
            parameters: answer::parameters(&self.config, &self.strategies[strategy], job, &runs),
        })
    }
}

fn metadata(config: &ModelConfig, given: &[Given]) -> ModelMetadata {
    let spec = |name: &str, datatype, shape: Vec<i64>| TensorSpec {
        name: name.to_owned(),
        datatype,
        shape,
        labels: None,
    };
    let mut inputs = Vec::new();
    for modality in &config.modalities {
        for tensor in &modality.tensors {
            let shape = tensor.shape.iter().map(|&length| length as i64);
            let shape = std::iter::once(-1).chain(shape).collect();
            inputs.push(spec(&tensor.name, tensor.datatype, shape));
        }
        let raw = modality.preprocess.iter();
        inputs.extend(raw.map(|p| spec(p.input(), DataType::Bytes, vec![-1])));
    }
    let outputs = given.iter().map(|Given { name, shape }| {
        let shape = shape.iter().map(|&length| length as i64);
        spec(
            name,
            DataType::Fp32,
            std::iter::once(-1).chain(shape).collect(),
        )
    });
    let mut outputs: Vec<TensorSpec> = outputs.collect();
    let classes = &config.output.classes;
    if !classes.is_empty() {
        outputs[0].labels = Some(classes.clone());
        let [class, class_name] = CLASS_OUTPUTS;
        outputs.push(spec(class, DataType::Int64, vec![-1]));
        outputs.push(spec(class_name, DataType::Bytes, vec![-1]));
    }
    ModelMetadata {
        platform: "satisfice_multimodal".to_owned(),
        inputs,
        outputs,
    }
}

impl Engine for MultimodalEngine {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn example(&self) -> Option<InferRequest> {
        example::example(&self.config, &self.ways)
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let job = self.job(request.clone())?;
        let strategy = self.best(&job).ok_or_else(request::nothing_offered)?;
        Ok(self.answer(&job, strategy)?)
    }

    fn offers(&self, request: &InferRequest) -> Result<Vec<Offer>, Error> {
        let job = self.job(request.clone())?;
        let offer = |&strategy: &usize| Offer {
            plan: self.strategies[strategy].name.clone(),
            seconds: self.seconds(strategy, job.inputs),
            quality: self.strategies[strategy].quality.clone(),
        };
        Ok(job.strategies.iter().map(offer).collect())
    }

    fn batching(&self) -> Option<&dyn Batching> {
        Some(self)
    }
}

impl Batching for MultimodalEngine {
    fn strategies(&self) -> &[Strategy] {
        &self.strategies
    }

    fn prepare(&self, request: InferRequest) -> Result<Job, Error> {
        Ok(self.job(request)?)
    }

    fn run(&self, strategy: usize, parts: &[Part<'_>]) -> Result<BatchOutputs, Error> {
        let Some(&way) = self.ways.get(strategy) else {
            return Err(request::no_strategy(strategy).into());
        };
        let rows = parts
            .iter()
            .flat_map(|part| part.inputs.clone().map(|row| (&part.job.request, row)));
        let executed = self.execute(way, Batch::new(rows))?;
        let work_seconds = match way {
            Way::Single(_) => None,
            Way::Cascade(cascade) => {
                let steps = self.steps(&cascade, |at| &self.strategies[at].seconds);
                Some(steps.seconds(executed.answers.broken.len(), executed.again))
            }
        };
        let name = &self.strategies[strategy].name;
        Ok(BatchOutputs {
            parts: self.answering().parts(name, parts, &executed.answers),
            work_seconds,
        })
    }
}
