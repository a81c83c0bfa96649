//! Choosing modalities against serving that ignores them, on the same server, inputs and cores.

mod contender;
mod report;
mod repository;
mod server;

use crate::{
    cli::{BenchMultimodal, Peer},
    commands::{Output, bundle::find_bundle, serve::runtime},
    progress::Steps,
};
use anyhow::{Context, Result, bail};
use contender::{Contender, Knowledge, Policy};
use report::{Document, Row};
use repository::{Form, Repository};
use satisfice_load::open::{
    Client, Inputs, KnownPlan, Pattern, Search, Summary, Traffic, highest_rate, run,
};
use satisfice_multimodal::{
    Dataset, ModelConfig, MultimodalEngine, OpenOptions, Profile, ProfileOptions, ProfiledStrategy,
};
use satisfice_server::protocol::client::Format;
use server::Server;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

/// Inputs of a job, and how often jobs have that many.
const SIZES: [(usize, f64); 4] = [(1, 0.5), (4, 0.25), (8, 0.15), (16, 0.1)];
/// Bursts: four times the mean rate for a fifth of the time.
const BURST_FACTOR: f64 = 4.0;
const BURST_SHARE: f64 = 0.2;
/// Mean rate of the bursts, as a share of what all modalities bear when jobs come evenly.
const BURST_LOAD: f64 = 0.9;
/// The first rate that is tried, as a share of what the profile says that the cores bear.
const START_LOAD: f64 = 0.85;
/// From one rate to the next; halved twice, rates are known to within 7 %.
const SEARCH_STEP: f64 = 1.3;

pub(crate) fn execute(args: &BenchMultimodal, output: Output) -> Result<()> {
    let bundle = find_bundle(args.bundle.as_deref(), "examples/emoji", "test.safetensors")?;
    let steps = Steps::default();
    let options = ProfileOptions {
        quick: args.quick,
        all_variants: false,
        progress: &|task, done, total| steps.at(task, done, total),
    };
    let repository = Repository::make(
        &model_of(&bundle.join("models"))?,
        &bundle.join("calibration.safetensors"),
        &args.out.join("models"),
        &options,
    )?;
    steps.finish();
    let inputs = ready_inputs(&repository, &bundle.join("test.safetensors"), args.seed)?;
    let knowledge = knowledge(&repository.profile, repository.model.config());
    let server = Server::start(&repository.dir)?;
    let bench = Bench {
        args,
        contenders: contenders(args, &server.url, &repository.profile, &knowledge)?,
        knowledge,
        inputs,
    };
    let document = runtime()?.block_on(bench.measure(output))?;
    for (name, chart) in document.charts() {
        let path = args.out.join(name);
        fs::write(&path, chart.svg()).with_context(|| format!("{}", path.display()))?;
    }
    output.print(&document, || document.markdown())
}

/// The only model directory of the bundle.
fn model_of(models: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(models).with_context(|| format!("{}", models.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.join("model.toml").is_file() {
            return Ok(path);
        }
    }
    bail!("{}: no model", models.display())
}

/// The test inputs as the networks read them: no server under test decodes pictures.
fn ready_inputs(repository: &Repository, path: &Path, seed: u64) -> Result<Inputs> {
    let config = repository.model.config();
    let data = Dataset::open(path, config)?;
    let labels = data.labels();
    let labels = labels.with_context(|| format!("{}: no labels", path.display()))?;
    let engine = MultimodalEngine::open(&repository.model, &OpenOptions::default())?;
    let count = data.len().min(config.limits.inputs_max);
    let ready = engine.ready(data.request(0..count))?;
    let labels = labels[..count].iter().map(|&label| label as i64).collect();
    Ok(Inputs::new(ready, labels)?.shuffled(seed))
}

/// What a client that chooses by itself knows: promises and times of the subsets in every variant.
fn knowledge(profile: &Profile, config: &ModelConfig) -> Knowledge {
    let modalities: Vec<&str> = config.modalities.iter().map(|m| m.name.as_str()).collect();
    let strategies = || profile.strategies.iter();
    let plan = |strategy: &ProfiledStrategy| KnownPlan {
        name: strategy.name.clone(),
        accuracy: strategy.accuracy.map_or(0.0, |accuracy| accuracy.lower),
        seconds: by_batch(&strategy.planned().collect::<Vec<_>>()),
    };
    let tensors = config.modalities.iter().map(|modality| {
        let names = modality.tensors.iter().map(|tensor| tensor.name.clone());
        (modality.name.clone(), names.collect())
    });
    Knowledge {
        plans: strategies()
            .filter(|strategy| strategy.cascade.is_none())
            .map(plan)
            .collect(),
        strategies: strategies().map(plan).collect(),
        all: modalities.join("+"),
        tensors: tensors.collect(),
        workers: thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Seconds of every batch size up to the largest measured one, in proportion between two.
fn by_batch(points: &[(usize, f64)]) -> Vec<f64> {
    let largest = points.last().map_or(0, |&(batch, _)| batch);
    let at = |batch: usize| {
        let above = points.iter().position(|&(b, _)| b >= batch).unwrap_or(0);
        let (b1, s1) = points[above];
        match above.checked_sub(1).map(|below| points[below]) {
            Some((b0, s0)) => s0 + (s1 - s0) * (batch - b0) as f64 / (b1 - b0) as f64,
            None => s1,
        }
    };
    (1..=largest).map(at).collect()
}

/// Everybody who is measured, the one that ignores modalities first.
fn contenders(
    args: &BenchMultimodal,
    url: &str,
    profile: &Profile,
    knowledge: &Knowledge,
) -> Result<Vec<Contender>> {
    let full = Form::ALL[0];
    let whole = profile
        .strategies
        .iter()
        .find(|strategy| strategy.name == knowledge.all)
        .and_then(|strategy| strategy.accuracy)
        .with_context(|| format!("the profile has no accuracy of `{}`", knowledge.all))?;
    let contender = |name: String, policy: Policy, floor: Option<f64>| Contender {
        model: match &policy {
            Policy::Satisfice(form) => form.model().to_owned(),
            _ => full.model().to_owned(),
        },
        name,
        policy,
        url: url.to_owned(),
        format: Format::Binary,
        floor,
        // The promise, not the expectation, is what a minimum is held against.
        min_accuracy: floor.map(|points| whole.lower - points / 100.0),
    };
    let mut contenders = vec![contender(
        "all modalities".to_owned(),
        Policy::Agnostic,
        None,
    )];
    for Peer { name, url, json } in &args.against {
        contenders.push(Contender {
            url: url.clone(),
            format: match json {
                true => Format::Json,
                false => Format::Binary,
            },
            model: args.peer_model.clone(),
            ..contender(name.clone(), Policy::Peer, None)
        });
    }
    if !args.only_satisfice {
        contenders.push(contender(
            "always the cheapest".to_owned(),
            Policy::Cheapest,
            None,
        ));
    }
    let (floors, forms): (&[f64], u8) = match args.quick {
        true => (&[5.0], 1),
        false => (&[0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0], 4),
    };
    let floors = match args.floors.as_slice() {
        [] => floors,
        asked => asked,
    };
    let forms = usize::from(args.forms.unwrap_or(forms));
    for &points in floors {
        let named = |name: &str, policy| contender(name.to_owned(), policy, Some(points));
        for form in Form::ALL.into_iter().take(forms) {
            let name = match form == full {
                true => "satisfice".to_owned(),
                false => format!("satisfice, {}", form.model()),
            };
            contenders.push(named(&name, Policy::Satisfice(form)));
        }
        if !args.only_satisfice {
            contenders.push(named("one plan for all", Policy::Fixed));
            contenders.push(named("chosen at arrival", Policy::AtArrival));
        }
    }
    Ok(contenders)
}

/// Whom jobs are sent to, and which traffic.
#[derive(Clone, Copy)]
struct Target<'a> {
    client: &'a Arc<Client>,
    contender: &'a Contender,
    seed: u64,
}

struct Bench<'a> {
    args: &'a BenchMultimodal,
    contenders: Vec<Contender>,
    knowledge: Knowledge,
    inputs: Inputs,
}

impl Bench<'_> {
    /// Measures what `OUT/rows.json` does not have yet, and keeps it there row by row.
    async fn measure(&self, output: Output) -> Result<Document> {
        let mut document = Document {
            bundle: self.args.bundle.clone().unwrap_or_default(),
            deadline_ms: self.args.deadline_ms,
            seed: self.args.seed,
            seconds: self.seconds(),
            burst_rate: None,
            cores: self.knowledge.workers,
            rows: Vec::new(),
        };
        let path = self.args.out.join("rows.json");
        if self.args.resume {
            document = document.resumed(&path)?;
        }
        for repeat in 0..self.args.repeats {
            let seed = self.args.seed.wrapping_add(repeat);
            for contender in &self.contenders {
                let rows = document.rows.iter().rev();
                let mut of_contender = rows.filter(|row| row.is_of(contender));
                if of_contender.clone().any(|row| row.seed == seed) {
                    continue;
                }
                // A repeat begins where the one before it ended.
                let start = of_contender.find_map(|row| row.jobs_per_second);
                let row = self.row(contender, (seed, start), &mut document.burst_rate);
                let row = row.await?;
                output.say(&row.line())?;
                document.rows.push(row);
                document.write(&path)?;
            }
        }
        Ok(document)
    }

    async fn row(
        &self,
        contender: &Contender,
        (seed, start): (u64, Option<f64>),
        burst_rate: &mut Option<f64>,
    ) -> Result<Row> {
        let client = Arc::new(Client::new(
            &contender.url,
            &contender.model,
            contender.format,
        )?);
        let target = Target {
            client: &client,
            contender,
            seed,
        };
        let start =
            start.unwrap_or_else(|| START_LOAD * contender.capacity(&self.knowledge, &SIZES));
        // Once beforehand: connections and caches are as later jobs find them.
        let warm_up = (start.min(5.0), 0.3);
        self.run(target, warm_up, Pattern::Poisson, 1.0).await?;
        let search = Search {
            start,
            step: SEARCH_STEP,
            halvings: if self.args.quick { 1 } else { 2 },
            accuracy: contender.min_accuracy.unwrap_or(0.0),
            ..Search::default()
        };
        let best = highest_rate(search, async |rate| {
            let seconds = self.seconds().max(self.jobs_min() / rate);
            // As soon as too many are late the rest would change nothing.
            let may_be_late = 1.0 - search.on_time;
            self.run(target, (rate, seconds), Pattern::Poisson, may_be_late)
                .await
        })
        .await?;
        let borne = best.as_ref().map_or(start, |(rate, _)| *rate);
        // The first contender's figure sets what all others are measured at.
        let burst_rate = *burst_rate.get_or_insert(BURST_LOAD * borne);
        let bursts = Pattern::Bursts {
            factor: BURST_FACTOR,
            share: BURST_SHARE,
            period: Duration::from_secs_f64(self.seconds()),
        };
        let periods = (self.jobs_min() / burst_rate / self.seconds())
            .ceil()
            .max(2.0);
        let load = (burst_rate, periods * self.seconds());
        let burst = self.run(target, load, bursts, 1.0).await?;
        Ok(Row::new(contender, seed, best, burst))
    }

    fn seconds(&self) -> f64 {
        let default = if self.args.quick { 0.8 } else { 4.0 };
        self.args.seconds.unwrap_or(default)
    }

    /// Jobs that a run has at least, on average: of a few, 99 % are all.
    fn jobs_min(&self) -> f64 {
        if self.args.quick { 40.0 } else { 300.0 }
    }

    /// Sends jobs of a rate for some seconds, or until more than that share of them was late.
    async fn run(
        &self,
        target: Target<'_>,
        (rate, seconds): (f64, f64),
        pattern: Pattern,
        may_be_late: f64,
    ) -> Result<Summary> {
        let traffic = Traffic {
            rate,
            length: Duration::from_secs_f64(seconds),
            pattern,
            sizes: SIZES.to_vec(),
            seed: target.seed,
        };
        let deadline = Duration::from_millis(self.args.deadline_ms);
        let arrivals = traffic.draw()?;
        let jobs = target.contender.jobs(&arrivals, deadline, &self.knowledge);
        let misses_max = (may_be_late * jobs.len() as f64) as usize;
        let outcomes = run(target.client, &self.inputs, &jobs, misses_max).await?;
        Ok(Summary::of(&outcomes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_between_measured_batches_are_in_proportion() {
        let seconds = by_batch(&[(1, 1.0), (2, 1.5), (4, 2.5)]);
        let expected = [1.0, 1.5, 2.0, 2.5];
        assert!(
            seconds
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-9),
            "{seconds:?}"
        );
        assert!(by_batch(&[]).is_empty());
    }
}
