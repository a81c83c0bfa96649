//! Batches over several workers: bytes and times, beside one machine and beside what was predicted.

use super::{Setup, percentile};
use anyhow::{Context, Result};
use satisfice_cluster::{
    BatchAnswer, Choice, Chooser, ClusterConfig, ClusterError, ClusterNode, Cost, Counters, Crew,
    Exchange, LinkCosts, Part, Wire, WorkerOptions, part_dir,
};
use satisfice_graph::{Plan, QueryBatch};
use satisfice_store::Check;
use serde::Serialize;
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Batches of one size, exchanged in one way.
#[derive(Debug, Serialize)]
pub(super) struct Batches {
    workers: usize,
    queries: usize,
    plan: String,
    exchange: Choice,
    /// Batches answered.
    answers: usize,
    /// Of them, those that exchanged rows.
    by_rows: usize,
    recomputed: usize,
    rows_read: u64,
    /// Of the layers, between workers, per batch.
    layer_bytes: u64,
    layer_bytes_predicted: f64,
    /// Of all messages between workers, per batch.
    message_bytes: u64,
    /// As the kernel counted them on the links, per batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    link_bytes: Option<u64>,
    link_bytes_predicted: f64,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
    /// The median over the smaller one of `partials` and `rows`.
    to_best: f64,
    single_p50_ms: f64,
    single_p99_ms: f64,
}

/// The rows as a table.
pub(super) fn table(batches: &[Batches]) -> String {
    let mut text = format!(
        "{:>2} {:>5} {:<13} {:<8} {:>5} {:>4} {:>10} {:>6} {:>10} {:>6} {:>8} {:>8} {:>8} {:>6} {:>10} {:>10}\n",
        "P",
        "B",
        "plan",
        "exchange",
        "n",
        "rows",
        "layers",
        "/pred.",
        "link",
        "/pred.",
        "p50 ms",
        "p99 ms",
        "longest",
        "/best",
        "single p50",
        "single p99"
    );
    for b in batches {
        let link = b.link_bytes.map(|bytes| bytes as f64);
        let _ = writeln!(
            text,
            "{:>2} {:>5} {:<13} {:<8} {:>5} {:>4} {:>10} {:>6.3} {:>10} {:>6} {:>8.2} {:>8.2} {:>8.2} {:>6.2} {:>10.2} {:>10.2}",
            b.workers,
            b.queries,
            b.plan,
            b.exchange.name(),
            b.answers,
            b.by_rows,
            b.layer_bytes,
            b.layer_bytes as f64 / b.layer_bytes_predicted,
            link.map_or("-".to_owned(), |bytes| format!("{bytes}")),
            link.map_or("-".to_owned(), |bytes| format!(
                "{:.3}",
                bytes / b.link_bytes_predicted
            )),
            b.p50_ms,
            b.p99_ms,
            b.longest_ms,
            b.to_best,
            b.single_p50_ms,
            b.single_p99_ms
        );
    }
    text
}

/// Who answers batches.
type Answers<'a> = dyn Fn(&QueryBatch, Plan, Exchange) -> Result<BatchAnswer, ClusterError> + 'a;

/// A cluster to measure.
struct Subject<'a> {
    part: &'a Part,
    links: (Wire, LinkCosts),
    counters: &'a [PathBuf],
    answer: &'a Answers<'a>,
    chooser: Chooser,
}

/// What was seen of one way to exchange.
#[derive(Default)]
struct Seen {
    times: Vec<Duration>,
    by_rows: usize,
    link_bytes: u64,
    last: Option<(BatchAnswer, Cost)>,
}

/// Answers by each of them, at least and at most.
const ANSWERS: (usize, usize) = (3, 100);

const CHOICES: [Choice; 3] = [Choice::Partials, Choice::Rows, Choice::Auto];

impl Setup {
    /// Workers of this process, one a part.
    pub(super) fn of_workers(&self, workers: usize) -> Result<Vec<Batches>> {
        let out = self.cut(workers)?;
        let open = |part| {
            let dir = part_dir(&out, part);
            Ok(Arc::new(Part::open(&dir, Check::Structure)?))
        };
        let parts = (0..workers).map(open).collect::<Result<Vec<_>>>()?;
        let part = Arc::clone(&parts[0]);
        let counters = Arc::new(Counters::default());
        let crew = Crew::threads(parts, WorkerOptions::default(), &counters)?;
        let costs = LinkCosts {
            bytes_per_second: 125e6,
            round_seconds: 3e-4,
        };
        self.measure(&Subject {
            part: &part,
            links: (Wire::F32, costs),
            counters: &[],
            answer: &|batch, plan, exchange| crew.answer(batch, plan, exchange),
            chooser: Chooser::default(),
        })
    }

    /// A cluster of which this process is the first node.
    pub(super) fn of_cluster(&self, file: &Path, counters: &[PathBuf]) -> Result<Vec<Batches>> {
        let config = ClusterConfig::read(file)?;
        let node = ClusterNode::start(&config, 0, Check::Structure)?;
        node.wait(Duration::from_mins(1))?;
        self.measure(&Subject {
            part: node.part(),
            links: (config.wire, config.link_costs()),
            counters,
            answer: &|batch, plan, exchange| node.answer(batch, plan, exchange, None),
            chooser: Chooser::default(),
        })
    }

    fn measure(&self, subject: &Subject<'_>) -> Result<Vec<Batches>> {
        let mut rows = Vec::new();
        for queries in [64, 1_024].into_iter().filter(|&n| n <= self.queries.len()) {
            let batch = self.batch(0, queries)?;
            for &plan in &self.plans {
                rows.extend(self.of_plan(subject, (&batch, plan))?);
            }
        }
        Ok(rows)
    }

    /// One machine for a while, then every way to exchange in turns: a few times at least and a hundred at most.
    fn of_plan(
        &self,
        subject: &Subject<'_>,
        (batch, plan): (&QueryBatch, Plan),
    ) -> Result<Vec<Batches>> {
        let budget = Duration::from_millis(if self.quick { 500 } else { 3_000 });
        let goes_on = |(begin, budget): (Instant, Duration), answers: usize| {
            answers < ANSWERS.0 || (begin.elapsed() < budget && answers < ANSWERS.1)
        };
        let (mut single, mut seen) = (Vec::new(), CHOICES.map(|_| Seen::default()));
        self.engine.answer(batch, plan)?;
        let begin = Instant::now();
        while goes_on((begin, budget / 3), single.len()) {
            let start = Instant::now();
            self.engine.answer(batch, plan)?;
            single.push(start.elapsed());
        }
        // What is only done once is not measured, nor what `auto` has to see first.
        for choice in [Choice::Partials, Choice::Rows, Choice::Auto, Choice::Auto] {
            subject.ask((batch, plan), choice, &mut Seen::default())?;
        }
        let begin = Instant::now();
        while goes_on((begin, budget), seen[0].times.len()) {
            for (&choice, seen) in CHOICES.iter().zip(&mut seen) {
                subject.ask((batch, plan), choice, seen)?;
            }
        }
        let median = |seen: &mut Seen| percentile(&mut seen.times, 0.5);
        let best = median(&mut seen[0]).min(median(&mut seen[1]));
        CHOICES
            .iter()
            .zip(seen)
            .map(|(&choice, seen)| {
                subject.row((batch, plan, choice), seen, (best, &mut single[..]))
            })
            .collect()
    }
}

impl Subject<'_> {
    fn ask(
        &self,
        (batch, plan): (&QueryBatch, Plan),
        choice: Choice,
        seen: &mut Seen,
    ) -> Result<()> {
        let before = counted(self.counters)?;
        let start = Instant::now();
        let chosen = self
            .chooser
            .choose(self.part, (batch, plan), self.links, choice)?;
        let answer = (self.answer)(batch, plan, chosen.0)?;
        seen.times.push(start.elapsed());
        seen.link_bytes += counted(self.counters)? - before;
        seen.by_rows += usize::from(chosen.0 == Exchange::Rows);
        if choice == Choice::Auto {
            self.chooser.saw((batch, plan), chosen, answer.time);
        }
        seen.last = Some((answer, chosen.1));
        Ok(())
    }

    fn row(
        &self,
        (batch, plan, exchange): (&QueryBatch, Plan, Choice),
        mut seen: Seen,
        (best, single): (Duration, &mut [Duration]),
    ) -> Result<Batches> {
        let (answer, cost) = seen.last.context("nothing was asked")?;
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let times = &mut seen.times;
        let median = percentile(times, 0.5);
        Ok(Batches {
            workers: self.part.manifest().parts,
            queries: batch.queries(),
            plan: plan.to_string(),
            exchange,
            answers: times.len(),
            by_rows: seen.by_rows,
            recomputed: answer.recomputed.len(),
            rows_read: answer.rows,
            layer_bytes: answer.layer_bytes,
            layer_bytes_predicted: cost.bytes,
            message_bytes: answer.bytes,
            link_bytes: match self.counters {
                [] => None,
                _ => Some(seen.link_bytes / times.len() as u64),
            },
            link_bytes_predicted: cost.link_bytes,
            p50_ms: millis(median),
            p99_ms: millis(percentile(times, 0.99)),
            longest_ms: millis(percentile(times, 1.0)),
            to_best: median.as_secs_f64() / best.as_secs_f64(),
            single_p50_ms: millis(percentile(single, 0.5)),
            single_p99_ms: millis(percentile(single, 0.99)),
        })
    }
}

/// The sum of the kernel's counters.
fn counted(counters: &[PathBuf]) -> Result<u64> {
    let count = |file: &PathBuf| {
        let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        let count = text.trim().parse::<u64>();
        count.with_context(|| format!("{}: `{}` is no count", file.display(), text.trim()))
    };
    counters.iter().map(count).sum()
}
