//! Other frameworks, as programs of their own.

use super::Subject;
use anyhow::{Context, Result, ensure};
use satisfice_graph::{GraphEngine, Plan, argmax};
use satisfice_store::Queries;
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// One line of a peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PeerRow {
    pub peer: String,
    /// Queries in a batch.
    pub batch: usize,
    /// Batches answered, all of which count.
    pub batches: usize,
    /// Queries in all.
    pub queries: usize,
    /// Share of queries whose predicted class is their label.
    pub accuracy: f64,
    /// Share of queries whose predicted class is that of our `exact`; computed here.
    #[serde(default)]
    pub agreement: Option<f64>,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Mean time to attach the batch to the graph.
    pub attach_ms: f64,
    /// Mean time to find the computation graph and gather its features.
    pub build_ms: f64,
    /// Mean time of the model's layers.
    pub model_ms: f64,
    /// The class predicted for each query, in order.
    #[serde(skip_serializing)]
    classes: Vec<i64>,
}

/// A peer that ended before it had answered everything.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PeerFailure {
    /// The peer, as `--peers` names it.
    pub peer: String,
    /// What it was measuring: the name of a row; none where it had not begun any.
    pub row: Option<String>,
    /// Queries in a batch of that row.
    pub batch: Option<usize>,
    /// What became of it: its exit status or signal, or what it printed instead of rows.
    pub problem: String,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
}

/// What the peers answered, and where they did not.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub rows: Vec<PeerRow>,
    pub failures: Vec<PeerFailure>,
}

/// One line of a peer's standard output.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Row(Box<PeerRow>),
    Begins { begins: String, batch: usize },
}

/// Batch size at which `exact` is asked for the classes to compare with.
const REFERENCE_BATCH: usize = 1024;

/// The classes that `exact` predicts for the first `limit` queries, in batches of
/// [`REFERENCE_BATCH`].
pub(super) fn exact_classes(
    engine: &GraphEngine,
    queries: &Queries,
    limit: usize,
) -> Result<Vec<i64>> {
    let count = queries.len().min(limit);
    let mut classes = Vec::with_capacity(count);
    for start in (0..count).step_by(REFERENCE_BATCH) {
        let slice = queries.batch(start..count.min(start + REFERENCE_BATCH));
        let batch = engine.attach(&slice)?;
        let outputs = engine.answer(&batch, Plan::Exact)?.outputs;
        let width = outputs.len() / slice.queries();
        classes.extend(outputs.chunks_exact(width).map(argmax));
    }
    Ok(classes)
}

/// Runs every peer on the subject and compares what it predicts with `exact`. A peer that ends early keeps
/// the rows that it has printed, and is run again for the batch sizes after the one that it ended at.
pub(super) fn measure(
    dir: &Path,
    peers: &[String],
    subject: &Subject,
    threads: usize,
    exact: &[i64],
) -> Measured {
    let mut measured = Measured::default();
    for peer in peers {
        let mut batches = &subject.batches[..];
        while !batches.is_empty() {
            let mut run = Run::default();
            let command = command(dir, peer, subject, (batches, threads));
            let problem = run.watch(command).err();
            let begun = run.begun.as_ref();
            let at = begun.and_then(|(_, batch)| batches.iter().position(|size| size == batch));
            if let Some(problem) = problem {
                let failure = PeerFailure {
                    peer: peer.clone(),
                    row: begun.map(|(row, _)| row.clone()),
                    batch: begun.map(|&(_, batch)| batch),
                    problem: format!("{problem:#}"),
                    stderr: run.stderr.into(),
                };
                eprintln!("{}", failure.line());
                measured.failures.push(failure);
                batches = at.map_or(&[][..], |at| &batches[at + 1..]);
            } else {
                batches = &[];
            }
            measured
                .rows
                .extend(run.rows.into_iter().map(|row| PeerRow {
                    agreement: agreement(&row, exact),
                    ..row
                }));
        }
    }
    measured
}

impl PeerFailure {
    /// The failure in one line.
    pub(super) fn line(&self) -> String {
        let place = match (&self.row, self.batch) {
            (Some(row), Some(batch)) => format!(" at {row}, batches of {batch}"),
            _ => String::new(),
        };
        format!("{}{place}: {}", self.peer, self.problem)
    }
}

/// Queries of another batch size see other queries beside them, so that their exact answers differ.
fn agreement(row: &PeerRow, exact: &[i64]) -> Option<f64> {
    if row.batch != REFERENCE_BATCH || row.classes.is_empty() || row.classes.len() > exact.len() {
        return None;
    }
    let equal = row.classes.iter().zip(exact).filter(|(a, b)| a == b);
    Some(equal.count() as f64 / row.classes.len() as f64)
}

fn command(
    dir: &Path,
    peer: &str,
    subject: &Subject,
    (batches, threads): (&[usize], usize),
) -> Command {
    let batches: Vec<String> = batches.iter().map(ToString::to_string).collect();
    let mut command = Command::new(dir.join("run"));
    command
        .arg(peer)
        .arg("--model")
        .arg(&subject.model)
        .arg("--queries")
        .arg(&subject.queries)
        .args(["--batches", &batches.join(",")])
        .args(["--limit", &subject.limit.to_string()])
        .args(["--seconds", &subject.seconds.to_string()])
        .args(["--threads", &threads.to_string()]);
    command
}

/// Lines of a peer's standard error that are kept.
const STDERR_LINES: usize = 20;

/// What one run of a peer has printed so far.
#[derive(Default)]
struct Run {
    rows: Vec<PeerRow>,
    /// The row that it began last, with its batch size.
    begun: Option<(String, usize)>,
    stderr: VecDeque<String>,
}

impl Run {
    /// Runs a peer to its end; what it says on standard error is shown as it comes.
    fn watch(&mut self, mut command: Command) -> Result<()> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let stdout = child.stdout.take().expect("invariant: it is piped");
        let stderr = child.stderr.take().expect("invariant: it is piped");
        let (rows, begun, tail) = (&mut self.rows, &mut self.begun, &mut self.stderr);
        let read = thread::scope(|scope| {
            scope.spawn(|| keep_tail(BufReader::new(stderr), tail));
            let read = read_lines(BufReader::new(stdout), rows, begun);
            if read.is_err() {
                // It may still be running, and nobody reads what it prints.
                let _ = child.kill();
            }
            read
        });
        let status = child.wait()?;
        read?;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

/// Takes what a peer prints until it ends.
fn read_lines(
    stdout: impl BufRead,
    rows: &mut Vec<PeerRow>,
    begun: &mut Option<(String, usize)>,
) -> Result<()> {
    for line in stdout.lines() {
        let line = line?;
        match serde_json::from_str(&line)
            .with_context(|| format!("it printed something else than a row: `{line:.200}`"))?
        {
            Line::Row(row) => rows.push(*row),
            Line::Begins { begins, batch } => *begun = Some((begins, batch)),
        }
    }
    Ok(())
}

/// Passes lines on, and keeps the last ones.
fn keep_tail(stderr: impl BufRead, tail: &mut VecDeque<String>) {
    for line in stderr.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        eprintln!("{line}");
        if tail.len() == STDERR_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}
