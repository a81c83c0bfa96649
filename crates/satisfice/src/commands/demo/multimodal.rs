//! The second part: a model of several modalities, asked under different contracts.

use crate::{
    commands::{Output, bundle::copy_model},
    http_client::HttpClient,
    progress::Steps,
};
use anyhow::Result;
use satisfice_core::{InferResponse, Parameter, Parameters, TensorData};
use satisfice_multimodal::{
    Dataset, ModelDir, MultimodalEngine, OpenOptions, Profile, ProfileOptions, profile,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

/// What the demo serves, in the bundle's `models` directory.
const MODEL: &str = "emoji";
/// Inputs of one request.
const JOB: usize = 8;
/// Test inputs that are sent under each contract.
const INPUTS: usize = 256;

/// The model, measured on this machine, with inputs that nobody has seen.
pub(super) struct Part {
    profile: Profile,
    test: Dataset,
    all: String,
}

/// What each contract got.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    inputs: usize,
    inputs_in_a_request: usize,
    contracts: Vec<Row>,
}

/// A contract, and what became of it.
#[derive(Debug, Serialize)]
struct Row {
    deadline_ms: Option<i64>,
    min_accuracy: Option<f64>,
    /// Inputs that each strategy answered.
    strategies: BTreeMap<String, usize>,
    /// Share of the answered inputs whose class was right.
    accuracy: Option<f64>,
    /// What the server promised for them at least, and what it expected.
    promised: Option<f64>,
    expected: Option<f64>,
    p50_ms: f64,
    late: usize,
    refused: usize,
}

impl Part {
    /// Copies the model of `bundle` below `dir` and measures it with the calibration inputs.
    pub(super) fn prepare(bundle: &Path, dir: &Path, output: Output) -> Result<Self> {
        let to = dir.join("models").join(MODEL);
        copy_model(&bundle.join("models").join(MODEL), &to)?;
        let model = ModelDir::open(&to, None)?;
        let data = Dataset::open(&bundle.join("calibration.safetensors"), model.config())?;
        let unmeasured = OpenOptions {
            without_profile: true,
            ..OpenOptions::default()
        };
        let mut engine = MultimodalEngine::open(&model, &unmeasured)?;
        let steps = Steps::default();
        let options = ProfileOptions {
            quick: true,
            all_variants: false,
            progress: &|task, done, total| steps.at(task, done, total),
        };
        let profile = profile(&model, &mut engine, &data, &options)?;
        steps.finish();
        profile.write(&model)?;
        output.say(&format!("measured the ways to answer of {MODEL}"))?;
        let modalities = model.config().modalities.iter().map(|m| m.name.as_str());
        Ok(Self {
            all: modalities.collect::<Vec<_>>().join("+"),
            test: Dataset::open(&bundle.join("test.safetensors"), model.config())?,
            profile,
        })
    }

    /// Asks for the same inputs under every contract.
    pub(super) fn measure(&self, url: &str, output: Output) -> Result<Measured> {
        output.say(&self.profile.markdown())?;
        let client = HttpClient::new(url);
        let inputs = self.test.len().min(INPUTS);
        let mut contracts = Vec::new();
        for contract in self.contracts() {
            contracts.push(self.ask(&client, &contract, inputs)?);
        }
        let measured = Measured {
            inputs,
            inputs_in_a_request: JOB,
            contracts,
        };
        output.say(&measured.table())?;
        Ok(measured)
    }

    /// No contract, minima some points below what all modalities promise, and deadlines between the
    /// cheapest and the dearest way.
    fn contracts(&self) -> Vec<Parameters> {
        let strategy = |name: &str| self.profile.strategies.iter().find(|s| s.name == name);
        let whole = strategy(&self.all);
        let promised = whole.and_then(|all| all.accuracy).map_or(0.0, |a| a.lower);
        let milliseconds = whole
            .and_then(|all| all.planned().filter(|&(batch, _)| batch <= JOB).last())
            .map_or(100.0, |(batch, seconds)| {
                1e3 * seconds * JOB as f64 / batch as f64
            });
        let minimum = |points: f64| ("min_accuracy".to_owned(), (promised - points).into());
        let deadline = |share: f64| {
            let deadline = (share * milliseconds).ceil().max(1.0) as i64;
            ("deadline_ms".to_owned(), Parameter::Int(deadline))
        };
        vec![
            Parameters::new(),
            Parameters::from([minimum(0.02)]),
            Parameters::from([minimum(0.1)]),
            Parameters::from([minimum(0.3)]),
            Parameters::from([deadline(4.0)]),
            Parameters::from([deadline(0.75)]),
            Parameters::from([deadline(0.75), minimum(0.1)]),
        ]
    }

    fn ask(&self, client: &HttpClient, contract: &Parameters, inputs: usize) -> Result<Row> {
        let deadline = match contract.get("deadline_ms") {
            Some(Parameter::Int(milliseconds)) => Some(*milliseconds),
            _ => None,
        };
        let mut row = Row {
            deadline_ms: deadline,
            min_accuracy: number(contract, "min_accuracy"),
            strategies: BTreeMap::new(),
            accuracy: None,
            promised: None,
            expected: None,
            p50_ms: f64::NAN,
            late: 0,
            refused: 0,
        };
        let labels = self.test.labels().unwrap_or_default();
        let (mut times, mut answered, mut right) = (Vec::new(), 0, 0);
        let (mut promised, mut expected) = (0.0, 0.0);
        for from in (0..inputs).step_by(JOB) {
            let range = from..inputs.min(from + JOB);
            let mut request = self.test.request(range.clone());
            request.parameters.clone_from(contract);
            request.outputs = vec!["class".to_owned()];
            let start = Instant::now();
            let response = match client.infer(MODEL, &request) {
                Ok(response) => response,
                // Who asks for nothing is not refused: something is wrong.
                Err(error) if contract.is_empty() => return Err(error),
                Err(_) => {
                    row.refused += 1;
                    continue;
                }
            };
            let took = start.elapsed();
            times.push(took);
            row.late += usize::from(is_late(took, deadline));
            answered += range.len();
            right += correct(&response, labels.get(range.clone()).unwrap_or_default());
            let weight = range.len() as f64;
            promised +=
                weight * number(&response.parameters, "accuracy_lower_bound").unwrap_or(f64::NAN);
            expected +=
                weight * number(&response.parameters, "expected_accuracy").unwrap_or(f64::NAN);
            add_strategies(&mut row.strategies, &response.parameters);
        }
        times.sort_unstable();
        if let Some(median) = times.get(times.len() / 2) {
            row.p50_ms = median.as_secs_f64() * 1e3;
        }
        let mean = |sum: f64| (answered > 0 && sum.is_finite()).then(|| sum / answered as f64);
        row.accuracy = mean(right as f64);
        row.promised = mean(promised);
        row.expected = mean(expected);
        Ok(row)
    }
}

/// A line to try, for the server at `url`.
pub(super) fn invitation(url: &str) -> String {
    format!(
        "Or: what kind of emoji is that?\n\n\
         curl -s {url}/v2/models/{MODEL}/infer -d '{{\"inputs\": [{{\"name\": \"caption\", \"datatype\": \"BYTES\", \
         \"shape\": [1], \"data\": [\"a slice of pizza\"]}}], \"outputs\": [{{\"name\": \"class_name\"}}]}}'\n"
    )
}

fn is_late(took: Duration, deadline_ms: Option<i64>) -> bool {
    deadline_ms.is_some_and(|deadline| took.as_secs_f64() * 1e3 > deadline as f64)
}

fn correct(response: &InferResponse, labels: &[usize]) -> usize {
    match response.outputs.first().map(|output| output.tensor.data()) {
        Some(TensorData::Int64(classes)) => {
            let pairs = classes.iter().zip(labels);
            pairs
                .filter(|(class, label)| **class == **label as i64)
                .count()
        }
        _ => 0,
    }
}

/// `"image=5,image+text=3"`.
fn add_strategies(counts: &mut BTreeMap<String, usize>, parameters: &Parameters) {
    if let Some(Parameter::String(text)) = parameters.get("strategies") {
        for (name, count) in text.split(',').filter_map(|part| part.rsplit_once('=')) {
            *counts.entry(name.to_owned()).or_default() += count.parse().unwrap_or(0);
        }
    }
}

fn number(parameters: &Parameters, name: &str) -> Option<f64> {
    match parameters.get(name)? {
        Parameter::Float(number) => Some(*number),
        Parameter::Int(number) => Some(*number as f64),
        _ => None,
    }
}

impl Measured {
    fn table(&self) -> String {
        let mut text = format!(
            "The same {} test inputs under every contract, {} in a request:\n\n\
             {:>11} {:>9} {:>9} {:>9} {:>9} {:>8} {:>5} {:>8}  strategies\n",
            self.inputs,
            self.inputs_in_a_request,
            "deadline ms",
            "minimum",
            "promised",
            "expected",
            "measured",
            "p50 ms",
            "late",
            "refused"
        );
        for row in &self.contracts {
            let counts = row.strategies.iter();
            let counts: Vec<_> = counts
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            let _ = writeln!(
                text,
                "{:>11} {:>9} {:>9} {:>9} {:>9} {:>8.1} {:>5} {:>8}  {}",
                row.deadline_ms.map_or("-".to_owned(), |ms| ms.to_string()),
                percent(row.min_accuracy),
                percent(row.promised),
                percent(row.expected),
                percent(row.accuracy),
                row.p50_ms,
                row.late,
                row.refused,
                counts.join(", ")
            );
        }
        text
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1}%", 100.0 * share))
}
