use crate::{
    LoadError,
    open::{Arrival, Client, Inputs},
};
use satisfice_core::{InferRequest, Parameter, Parameters, TensorData};
use satisfice_server::protocol::{
    Encoded, TensorLimits,
    client::{Format, decode_answer, decode_refusal, encode_request},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep_until;

/// The output that is asked for: the position of the predicted class, INT64 `[inputs]`.
const CLASS: &str = "class";

/// What a job asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Contract {
    /// By when the answer is needed, from the arrival.
    pub deadline: Option<Duration>,
    /// Share of its inputs that should be right.
    pub min_accuracy: Option<f64>,
}

/// A job to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// When it arrives, and how many inputs it has.
    pub arrival: Arrival,
    /// What its request asks for.
    pub contract: Contract,
    /// What its answer is counted against, from its arrival; the server need not know.
    pub deadline: Option<Duration>,
    /// The plan that it names, if it leaves that not to the server.
    pub plan: Option<String>,
    /// The tensors that it brings; all of them when absent.
    pub tensors: Option<Arc<[String]>>,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its inputs.
    pub inputs: usize,
    /// From its arrival to the answer or the refusal.
    pub took: Duration,
    /// By when it should have been answered, from its arrival.
    pub deadline: Option<Duration>,
    /// The answer.
    pub result: Result<Answered, Unanswered>,
}

impl Outcome {
    /// Whether the job was answered by its deadline, if it has one.
    pub fn is_in_time(&self) -> bool {
        self.result.is_ok() && self.deadline.is_none_or(|by| self.took <= by)
    }
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answered {
    /// Inputs whose class was right.
    pub correct: usize,
    /// Accuracy that the server expected, if it said so.
    pub expected: Option<f64>,
    /// Accuracy that the server promised at least, if it said so.
    pub lower: Option<f64>,
    /// How many inputs each strategy answered, if the server said so.
    pub strategies: BTreeMap<String, usize>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// The server said so, with this word.
    Refused(String),
    /// The answer could not be had or read.
    Failed(String),
}

/// Sends every job at its time, and waits for all answers. The outcomes are in the order of the jobs.
/// Once more than `misses_max` jobs were not in time, no further ones are sent.
///
/// # Errors
/// When a request cannot be written.
pub async fn run(
    client: &Arc<Client>,
    inputs: &Inputs,
    jobs: &[Job],
    misses_max: usize,
) -> Result<Vec<Outcome>, LoadError> {
    let misses = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::with_capacity(jobs.len());
    let start = Instant::now();
    let mut first = 0;
    for job in jobs {
        // Written before its time: the sender's own work is not the server's.
        let request = encode(inputs, first, job, client.format)?;
        let labels: Vec<i64> = inputs.labels(first, job.arrival.inputs).collect();
        first += job.arrival.inputs;
        let due = start + job.arrival.at;
        sleep_until(due.into()).await;
        if misses.load(Ordering::Relaxed) > misses_max {
            break;
        }
        let misses = Arc::clone(&misses);
        let client = Arc::clone(client);
        let deadline = job.deadline;
        tasks.push(tokio::spawn(async move {
            let result = match client.infer(request).await {
                Ok(reply) => Ok(reply),
                Err(reason) => Err(Unanswered::Failed(reason)),
            };
            let outcome = Outcome {
                inputs: labels.len(),
                took: due.elapsed(),
                deadline,
                result: result.and_then(|reply| read(&reply, &labels)),
            };
            if !outcome.is_in_time() {
                misses.fetch_add(1, Ordering::Relaxed);
            }
            outcome
        }));
    }
    let mut outcomes = Vec::with_capacity(tasks.len());
    for task in tasks {
        outcomes.push(task.await.map_err(|_| LoadError::Stopped)?);
    }
    Ok(outcomes)
}

fn encode(inputs: &Inputs, first: usize, job: &Job, format: Format) -> Result<Encoded, LoadError> {
    let mut parameters = Parameters::new();
    if let Some(plan) = &job.plan {
        parameters.insert("plan".to_owned(), plan.as_str().into());
    }
    if let Some(deadline) = job.contract.deadline {
        let milliseconds = deadline.as_millis() as i64;
        parameters.insert("deadline_ms".to_owned(), milliseconds.into());
    }
    if let Some(minimum) = job.contract.min_accuracy {
        parameters.insert("min_accuracy".to_owned(), minimum.into());
    }
    let request = InferRequest {
        inputs: inputs.tensors(first, job.arrival.inputs, job.tensors.as_deref()),
        outputs: vec![CLASS.to_owned()],
        parameters,
        ..InferRequest::default()
    };
    Ok(encode_request(&request, None, format)?)
}

fn read(reply: &crate::open::Reply, labels: &[i64]) -> Result<Answered, Unanswered> {
    if !(200..300).contains(&reply.status) {
        let code = decode_refusal(&reply.body).and_then(|refusal| refusal.code);
        let code = code.unwrap_or_else(|| format!("status {}", reply.status));
        return Err(Unanswered::Refused(code));
    }
    let failed = |reason: &str| Unanswered::Failed(reason.to_owned());
    let answer = decode_answer(
        reply.body.clone(),
        reply.json_length,
        TensorLimits::default(),
    )
    .map_err(|error| failed(&error.to_string()))?
    .response;
    let class = answer.outputs.iter().find(|output| output.name == CLASS);
    let Some(TensorData::Int64(classes)) = class.map(|output| output.tensor.data()) else {
        return Err(failed("the answer has no INT64 output `class`"));
    };
    if classes.len() != labels.len() {
        return Err(failed("the answer has another number of inputs"));
    }
    let share = |name: &str| match answer.parameters.get(name) {
        Some(Parameter::Float(share)) => Some(*share),
        Some(Parameter::Int(share)) => Some(*share as f64),
        _ => None,
    };
    let strategies = match answer.parameters.get("strategies") {
        Some(Parameter::String(counts)) => strategy_counts(counts),
        _ => BTreeMap::new(),
    };
    Ok(Answered {
        correct: classes.iter().zip(labels).filter(|(a, b)| a == b).count(),
        expected: share("expected_accuracy"),
        lower: share("accuracy_lower_bound"),
        strategies,
    })
}

/// `"image=16,image+text=3"`, by strategy.
fn strategy_counts(text: &str) -> BTreeMap<String, usize> {
    text.split(',')
        .filter_map(|part| {
            let (name, count) = part.rsplit_once('=')?;
            Some((name.trim().to_owned(), count.trim().parse().ok()?))
        })
        .collect()
}
