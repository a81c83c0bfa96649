//! What executors execute, off the lock.

use super::{
    super::{Stats, stats::plan_of},
    explain::Explanation,
    inputs::report,
    job::{Answer, Key, Reply},
};
use crate::{Record, Stage};
use satisfice_core::{
    BatchOutputs, Cores, Engine, Error, ErrorKind, InferRequest, InferResponse, Job, Offer, Part,
    PartOutputs, Quality, Usage,
};
use satisfice_planner as planner;
use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

/// Identifies a queue.
pub(in super::super) type LaneId = u64;

/// A model as executors see it.
#[derive(Clone)]
pub(super) struct Model {
    /// Name and version, for logs.
    pub name: Arc<str>,
    pub engine: Arc<dyn Engine>,
    pub stats: Arc<Stats>,
}

/// Something to execute.
pub(super) struct Task {
    pub lane: LaneId,
    /// Identifies the execution.
    pub run: u64,
    pub model: Model,
    /// Predicted time on all cores that it can use, in seconds; none where nothing is known.
    pub predicted: Option<f64>,
    /// As the planner saw it, if it was queued, and on how many cores.
    pub planned: Option<(planner::Job, usize)>,
    /// What it is granted.
    pub cores: Cores,
    pub work: TaskWork,
}

pub(super) enum TaskWork {
    Whole(WholeTask),
    Batch(BatchTask),
    Audit(super::audit::Sample),
}

impl TaskWork {
    /// Those of the request; of others, ones that are granted and never taken back.
    pub(super) fn cores(&self) -> Cores {
        match self {
            Self::Whole(whole) => whole.request.cores.clone(),
            Self::Batch(_) => Cores::lent(None),
            Self::Audit(sample) => sample.cores(),
        }
    }

    /// Length of the request on the wire.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Whole(whole) => whole.reply.ticket.bytes(),
            Self::Batch(_) | Self::Audit(_) => 0,
        }
    }
}

/// A request that is executed whole.
pub(super) struct WholeTask {
    pub request: InferRequest,
    pub chosen: Option<Chosen>,
    /// What the answer says of the choice, if it is to.
    pub explanation: Option<Box<Explanation>>,
    pub reply: Reply,
    pub queued: Instant,
}

/// The plan that was chosen for a request.
pub(super) struct Chosen {
    pub offer: Offer,
    /// The engine's own time for it, in seconds.
    pub profiled_seconds: f64,
    /// What its answer reports.
    pub quality: Option<Quality>,
    /// What an audit compares with, if the answer is to be audited.
    pub audit: Option<Audit>,
}

/// How an answer is to be audited.
pub(super) struct Audit {
    pub dearest: String,
    /// On what share of inputs the plan has to agree with the dearest one.
    pub promised: f64,
}

/// Inputs of several jobs.
pub(super) struct BatchTask {
    pub strategy: usize,
    pub plan: String,
    pub members: Vec<Member>,
}

/// A range of one job's inputs in a batch.
pub(super) struct Member {
    pub key: Key,
    pub job: Arc<Job>,
    pub inputs: Range<usize>,
    pub queued: Instant,
    pub record: Arc<Record>,
}

/// What came of a task.
pub(super) struct Done {
    pub lane: LaneId,
    pub run: u64,
    pub seconds: f64,
    /// Of `seconds`, what its own thread did in loops that others help with, and what others did.
    pub usage: Usage,
    pub outcome: Outcome,
}

pub(super) enum Outcome {
    Whole {
        /// The plan that was chosen and the engine's own time for it; none where the request was
        /// executed as it was.
        plan: Option<(String, f64)>,
        /// Length of the request on the wire.
        bytes: usize,
        ended: Ended,
        sample: Option<super::audit::Sample>,
    },
    Batch {
        strategy: usize,
        plan: String,
        parts: Vec<(Key, Range<usize>, PartOutputs)>,
        ran: Ran,
    },
    Audit(Option<super::audit::Finding>),
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Answered,
    /// At a boundary, because nobody waited any more: it would have taken longer.
    Stopped,
    /// With an error: its time says nothing.
    Failed,
}

/// How a batch was executed.
#[derive(Clone, Copy)]
pub(super) enum Ran {
    /// As planned; with the engine's own time for what then was to be done, where inputs decide that.
    Once(Option<f64>),
    /// Job by job, because it failed.
    Apart,
}

impl Task {
    /// The same task, whose answer says why its plan was taken.
    pub(super) fn explained(mut self, explanation: Option<Box<Explanation>>) -> Self {
        if let TaskWork::Whole(whole) = &mut self.work {
            whole.explanation = explanation;
        }
        self
    }

    pub(super) fn run(self) -> Done {
        let start = Instant::now();
        let Self {
            model, work, cores, ..
        } = self;
        let outcome = match work {
            TaskWork::Whole(whole) => whole.run(&model, start),
            TaskWork::Batch(batch) => batch.run(&model, start),
            TaskWork::Audit(sample) => Outcome::Audit(sample.run(&model)),
        };
        Done {
            lane: self.lane,
            run: self.run,
            seconds: start.elapsed().as_secs_f64(),
            usage: cores.usage(),
            outcome,
        }
    }
}

impl WholeTask {
    fn run(mut self, model: &Model, start: Instant) -> Outcome {
        let waited = start.duration_since(self.queued);
        let record = &self.reply.record;
        record.stage_until(Stage::Queue, self.queued, start);
        model.stats.executing();
        let bytes = self.reply.ticket.bytes();
        if let Some(chosen) = &self.chosen {
            let plan = chosen.offer.plan.as_str().into();
            self.request.parameters.insert("plan".to_owned(), plan);
        }
        let mut answer = infer(model, &self.request);
        let answered = usize::from(answer.is_ok());
        let chosen = self.chosen.as_ref();
        let by = chosen.map(|chosen| chosen.offer.plan.as_str());
        let by = by.or_else(|| plan_of(answer.as_ref().ok()?));
        model.stats.waited(by.unwrap_or_default(), waited);
        let took = start.elapsed();
        model
            .stats
            .executed(by.unwrap_or_default(), 1, answered, took);
        self.reply.record.stage(Stage::Execute, start);
        let plan = chosen.map(|chosen| (chosen.offer.plan.clone(), chosen.profiled_seconds));
        let mut sample = None;
        if let Ok(response) = &mut answer {
            if let Some(chosen) = self.chosen {
                sample = chosen.sample(&self.request, response, bytes);
                chosen.say(response);
            }
            if let Some(explanation) = self.explanation {
                let plan = plan_of(response).unwrap_or_default().to_owned();
                explanation.add_to(response, &[&plan]);
            }
            model.stats.answered_by(response);
        }
        let ended = match &answer {
            Ok(_) => Ended::Answered,
            Err(_) if self.request.cores.is_stopped() => Ended::Stopped,
            Err(_) => Ended::Failed,
        };
        drop(self.request);
        self.reply.send(answer);
        Outcome::Whole {
            plan,
            bytes,
            ended,
            sample,
        }
    }
}

impl Chosen {
    fn sample(
        &self,
        request: &InferRequest,
        response: &InferResponse,
        bytes: usize,
    ) -> Option<super::audit::Sample> {
        let audit = self.audit.as_ref()?;
        let plan = self.offer.plan.clone();
        Some(super::audit::Sample::whole(
            plan, audit, request, response, bytes,
        ))
    }

    fn say(self, response: &mut InferResponse) {
        let parameters = &mut response.parameters;
        if let Some(quality) = self.quality {
            report(quality, parameters);
        }
        parameters.insert(
            "strategies".to_owned(),
            format!("{}=1", self.offer.plan).into(),
        );
        parameters
            .entry("plan".to_owned())
            .or_insert(self.offer.plan.into());
    }
}

impl BatchTask {
    fn run(self, model: &Model, start: Instant) -> Outcome {
        for member in &self.members {
            let waited = start.duration_since(member.queued);
            model.stats.waited(&self.plan, waited);
            let record = &member.record;
            record.stage_until(Stage::Queue, member.queued, start);
        }
        model.stats.executing();
        let outputs = self.execute(model, &self.members);
        // One job's fault is not another's: each is tried by itself.
        let several = self
            .members
            .windows(2)
            .any(|pair| pair[0].key != pair[1].key);
        let (parts, ran) = match outputs {
            Ok(outputs) => (outputs.parts, Ran::Once(outputs.work_seconds)),
            Err(error) if several => {
                tracing::warn!(model = &*model.name, %error, "a batch failed, its jobs run alone");
                let alone = |member: &Member| self.execute_one(model, member);
                (self.members.iter().map(alone).collect(), Ran::Apart)
            }
            Err(error) => (vec![Err(error); self.members.len()], Ran::Apart),
        };
        let inputs = |ok: bool| {
            let members = self.members.iter().zip(&parts);
            let counted = members.filter(|(_, part)| !ok || part.is_ok());
            counted.map(|(member, _)| member.inputs.len()).sum()
        };
        let (begun, answered) = (inputs(false), inputs(true));
        let took = start.elapsed();
        model.stats.executed(&self.plan, begun, answered, took);
        for member in &self.members {
            member.record.stage(Stage::Execute, start);
        }
        let members = self.members.into_iter().zip(parts);
        Outcome::Batch {
            strategy: self.strategy,
            plan: self.plan,
            parts: members
                .map(|(member, outputs)| (member.key, member.inputs, outputs))
                .collect(),
            ran,
        }
    }

    fn execute_one(&self, model: &Model, member: &Member) -> PartOutputs {
        let outputs = self.execute(model, std::slice::from_ref(member))?;
        outputs
            .parts
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(wrong_parts(model)))
    }

    fn execute(&self, model: &Model, members: &[Member]) -> Result<BatchOutputs, Error> {
        let mut parts = Vec::with_capacity(members.len());
        for Member { job, inputs, .. } in members {
            parts.push(Part {
                job,
                inputs: inputs.clone(),
            });
        }
        let outputs = run_batch(model, self.strategy, &parts)?;
        match outputs.parts.len() == members.len() {
            true => Ok(outputs),
            false => Err(wrong_parts(model)),
        }
    }
}

/// As the engine's own `run`, but a panic is an error.
pub(super) fn run_batch(
    model: &Model,
    strategy: usize,
    parts: &[Part<'_>],
) -> Result<BatchOutputs, Error> {
    guarded(&model.name, || match model.engine.batching() {
        Some(batching) => batching.run(strategy, parts),
        None => Err(wrong_parts(model)),
    })
}

/// As the engine's own `infer`, but a panic is an error.
pub(super) fn infer(model: &Model, request: &InferRequest) -> Answer {
    guarded(&model.name, || model.engine.infer(request))
}

/// What the engine of `model` does; a panic is an error.
pub(in super::super) fn guarded<T>(
    model: &str,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!(model, "engine panicked");
        Err(Error::new(
            ErrorKind::Internal,
            "engine_panicked",
            format!("the engine of model `{model}` failed on this request"),
        ))
    })
}

fn wrong_parts(model: &Model) -> Error {
    let message = format!("the engine of `{}` did not answer every part", model.name);
    Error::new(ErrorKind::Internal, "wrong_output", message)
}
