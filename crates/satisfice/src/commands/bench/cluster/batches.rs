//! Batches over several workers: bytes and times, beside one machine and beside what was predicted.

use super::{Setup, percentile};
use anyhow::{Context, Result};
use satisfice_cluster::{
    BatchAnswer, ClusterConfig, ClusterError, ClusterNode, Cost, Counters, Crew, Exchange,
    LinkCosts, Part, Wire, WorkerOptions, part_dir, predict,
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
    exchange: Exchange,
    /// Whether `exchange = "auto"` takes it.
    chosen: bool,
    /// Batches answered.
    answers: usize,
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
    single_p50_ms: f64,
    single_p99_ms: f64,
}

/// The rows as a table.
pub(super) fn table(batches: &[Batches]) -> String {
    let mut text = format!(
        "{:>2} {:>5} {:<13} {:<8} {:>4} {:>10} {:>6} {:>10} {:>6} {:>8} {:>8} {:>8} {:>10} {:>10}\n",
        "P",
        "B",
        "plan",
        "exchange",
        "auto",
        "layers",
        "/pred.",
        "link",
        "/pred.",
        "p50 ms",
        "p99 ms",
        "longest",
        "single p50",
        "single p99"
    );
    for b in batches {
        let link = b.link_bytes.map(|bytes| bytes as f64);
        let _ = writeln!(
            text,
            "{:>2} {:>5} {:<13} {:<8} {:>4} {:>10} {:>6.3} {:>10} {:>6} {:>8.2} {:>8.2} {:>8.2} {:>10.2} {:>10.2}",
            b.workers,
            b.queries,
            b.plan,
            b.exchange.name(),
            if b.chosen { "x" } else { "" },
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
}

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
        })
    }

    fn measure(&self, subject: &Subject<'_>) -> Result<Vec<Batches>> {
        let mut rows = Vec::new();
        for queries in [64, 1_024].into_iter().filter(|&n| n <= self.queries.len()) {
            let batch = self.batch(0, queries)?;
            for &plan in &self.plans {
                let mut single =
                    self.times(|| Ok(self.engine.answer(&batch, plan).map(drop)?))?;
                let exchanges = [Exchange::Partials, Exchange::Rows];
                let cost =
                    |exchange| predict(subject.part, (&batch, plan), exchange, subject.links);
                let costs = [cost(exchanges[0])?, cost(exchanges[1])?];
                let chosen = usize::from(costs[1].seconds < costs[0].seconds);
                for (at, (&exchange, cost)) in exchanges.iter().zip(costs).enumerate() {
                    let row = self.row(subject, (&batch, plan, exchange), cost, &mut single)?;
                    rows.push(Batches {
                        chosen: at == chosen,
                        ..row
                    });
                }
            }
        }
        Ok(rows)
    }

    fn row(
        &self,
        subject: &Subject<'_>,
        (batch, plan, exchange): (&QueryBatch, Plan, Exchange),
        cost: Cost,
        single: &mut [Duration],
    ) -> Result<Batches> {
        let ask = || (subject.answer)(batch, plan, exchange);
        let answer = ask()?; // what is only done once is not measured
        let before = counted(subject.counters)?;
        let mut times = self.times(|| Ok(ask().map(drop)?))?;
        let sent = counted(subject.counters)? - before;
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Batches {
            workers: subject.part.manifest().parts,
            queries: batch.queries(),
            plan: plan.to_string(),
            exchange,
            chosen: false,
            answers: times.len(),
            recomputed: answer.recomputed.len(),
            rows_read: answer.rows,
            layer_bytes: answer.layer_bytes,
            layer_bytes_predicted: cost.bytes,
            message_bytes: answer.bytes,
            link_bytes: match subject.counters {
                [] => None,
                _ => Some(sent / times.len() as u64),
            },
            link_bytes_predicted: cost.link_bytes,
            p50_ms: millis(percentile(&mut times, 0.5)),
            p99_ms: millis(percentile(&mut times, 0.99)),
            longest_ms: millis(percentile(&mut times, 1.0)),
            single_p50_ms: millis(percentile(single, 0.5)),
            single_p99_ms: millis(percentile(single, 0.99)),
        })
    }

    /// Times of what is done again and again for a while, five times at least and a hundred at most.
    fn times(&self, once: impl Fn() -> Result<()>) -> Result<Vec<Duration>> {
        let (least, budget) = match self.quick {
            true => (3, Duration::from_millis(300)),
            false => (5, Duration::from_secs(3)),
        };
        let (begin, mut times) = (Instant::now(), Vec::new());
        while times.len() < least || (begin.elapsed() < budget && times.len() < 100) {
            let start = Instant::now();
            once()?;
            times.push(start.elapsed());
        }
        Ok(times)
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
