//! Updates of a living graph beside its answers, and whether both are right afterwards.

mod check;
mod workload;

use super::super::Output;
use super::machine::Machine;
use crate::{
    cli::BenchLive,
    commands::{bundle::find_bundle, demo::graph::prepare},
    progress::Bars,
};
use anyhow::{Context, Result, ensure};
use satisfice_graph::{
    GnnModel, GraphEngine, ModelDir, Plan, Precision, PrecomputeOptions, precompute,
};
use satisfice_kernels::NewFile;
use satisfice_store::{
    Check, GraphStore, NoProgress, Queries,
    live::{Ack, LiveGraph, Operation, Write, compact, copy_store},
};
use serde::Serialize;
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use workload::{Random, Workload, edges, id};

/// Threads that write at once.
const WRITERS: usize = 4;

/// Queries of a read.
const READ: usize = 8;

/// Updates a second beside reads, in writes of so many.
const BESIDE: (f64, usize) = (10_000.0, 100);

/// Longest wait for the model to show what was written.
const SETTLE: Duration = Duration::from_mins(10);

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    model: String,
    nodes: usize,
    edges: usize,
    /// Durable updates a second, in writes of 1,000 from four writers.
    updates_per_s: f64,
    /// The same until the model shows them all.
    settled_updates_per_s: f64,
    batches: Vec<Batch>,
    /// From a write's beginning to the model showing it, with the disk.
    visible_p50_ms: f64,
    visible_p99_ms: f64,
    /// What the disk alone takes to bring 4 KiB to it.
    sync_p50_ms: f64,
    sync_p99_ms: f64,
    read_p99_idle_ms: f64,
    read_p99_under_updates_ms: f64,
    /// Edges, features and answers that differ from a graph kept in sets, and from a model that was precomputed anew.
    mismatches: usize,
    /// Acknowledged writes that are not there when the graph is opened again.
    lost: u64,
    /// What opening the graph with its log took.
    recovery_s: f64,
    updates: u64,
}

/// Updates in writes of one size.
#[derive(Debug, Serialize)]
struct Batch {
    operations: usize,
    updates_per_s: f64,
    settled_updates_per_s: f64,
}

pub(super) fn run(args: &BenchLive, output: Output) -> Result<()> {
    let machine = Machine::now();
    let (model, queries) = subject(args, output)?;
    let queries = Queries::open(&queries)?;
    let work = tempfile::tempdir_in(&args.out).context("cannot make a directory to work in")?;
    let model_dir = copy_model(&model, work.path())?;
    let store_path = model_dir.store_path();
    let absent = take_out(&store_path)?;
    precomputed(&model_dir)?;
    let store = GraphStore::open(&store_path, Check::Structure)?;
    let present = edges(&store);
    let (sync_p50_ms, sync_p99_ms) = sync_times(work.path())?;

    let graph = LiveGraph::open(&store_path, Check::Structure)?;
    let engine = GraphEngine::follow(&model_dir, &graph, Check::Structure)?;
    let mut writers: Vec<Workload> = (0..WRITERS)
        .map(|place| Workload::new(&store, &present, &absent, (place, WRITERS)))
        .collect();
    let seconds = Duration::from_secs_f64(if args.quick { 2.0 } else { 10.0 });
    let reads = |until| read(&engine, &queries, until);
    let idle = reads(Instant::now() + seconds)?;
    let mut updates = 0;
    let mut batches = Vec::new();
    for operations in [1, 10, 100, 1000] {
        let (done, batch) = write_for(&graph, &mut writers, operations, seconds)?;
        updates += done;
        batches.push(batch);
    }
    let visible = visible_times(&graph, &mut writers[0], seconds)?;
    updates += visible.len() as u64 * BESIDE.1 as u64;
    let stop = AtomicBool::new(false);
    let (under, beside) = thread::scope(|scope| {
        let pacer = scope.spawn(|| write_paced(&graph, &mut writers[0], &stop));
        let under = reads(Instant::now() + seconds);
        stop.store(true, Ordering::Relaxed);
        (under, pacer.join())
    });
    let under = under?;
    updates += beside.map_err(|_| anyhow::anyhow!("the writer beside reads failed"))??;
    let last = graph.status().version;
    ensure!(
        graph.wait_for(last, Instant::now() + SETTLE),
        "the model does not keep up"
    );
    let answers = check::answers(&engine, &queries)?;
    drop((engine, graph));

    let begun = Instant::now();
    let reopened = LiveGraph::open(&store_path, Check::Structure)?;
    let recovery_s = begun.elapsed().as_secs_f64();
    let lost = last - reopened.status().version.min(last);
    drop(reopened);
    compact(&store_path, &NoProgress)?;
    precomputed(&model_dir)?;
    let mismatches = check::mismatches(&model_dir, &writers, &store, &queries, &answers)?;
    let largest = &batches[3];
    let report = Report {
        machine,
        model: model_dir.name(),
        nodes: store.nodes(),
        edges: store.edges(),
        updates_per_s: largest.updates_per_s,
        settled_updates_per_s: largest.settled_updates_per_s,
        visible_p50_ms: percentile(&visible, 0.5),
        visible_p99_ms: percentile(&visible, 0.99),
        sync_p50_ms,
        sync_p99_ms,
        read_p99_idle_ms: percentile(&idle, 0.99),
        read_p99_under_updates_ms: percentile(&under, 0.99),
        mismatches,
        lost,
        recovery_s,
        updates,
        batches,
    };
    output.print(&report, || text(&report))?;
    ensure!(lost == 0, "{lost} acknowledged writes were lost");
    ensure!(
        mismatches == 0,
        "{mismatches} edges, features or answers differ"
    );
    Ok(())
}

fn subject(args: &BenchLive, output: Output) -> Result<(PathBuf, PathBuf)> {
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    if let (Some(model), Some(queries)) = (&args.model, &args.queries) {
        return Ok((model.clone(), queries.clone()));
    }
    let bundle = find_bundle(None, "examples/debian", "queries.safetensors")?;
    let models = args.out.join("debian/models");
    prepare(&bundle, &args.out.join("debian"), &models, output)?;
    Ok((models.join("sage2"), bundle.join("queries.safetensors")))
}

/// The model and its graph, which is going to be changed.
fn copy_model(model: &Path, work: &Path) -> Result<ModelDir> {
    let from = ModelDir::open(model, None)?;
    let to = work.join("models").join(from.name());
    let version = to.join(from.version().to_string());
    fs::create_dir_all(&version)?;
    NewFile::copy(&from.config_path(), &to.join("model.toml"))?;
    NewFile::copy(&from.weights_path(), &version.join("weights.safetensors"))?;
    let copy = ModelDir::open(&to, None)?;
    copy_store(&from.store_path(), &copy.store_path())?;
    Ok(copy)
}

/// Takes a tenth of the edges out of the graph; returns them.
fn take_out(store_path: &Path) -> Result<Vec<(u32, u32)>> {
    let store = GraphStore::open(store_path, Check::Structure)?;
    let mut random = Random::new(1);
    let mut out = edges(&store);
    out.retain(|_| random.below(10) == 0);
    let graph = LiveGraph::open(store_path, Check::Structure)?;
    for some in out.chunks(10_000) {
        let delete = |&(source, target): &(u32, u32)| Operation::DeleteEdge {
            source: id(&store, source),
            target: id(&store, target),
        };
        graph.apply(write(some.iter().map(delete).collect()), Ack::Durable)?;
    }
    drop(graph);
    compact(store_path, &NoProgress)?;
    Ok(out)
}

fn precomputed(model_dir: &ModelDir) -> Result<()> {
    let store = GraphStore::open(&model_dir.store_path(), Check::Structure)?;
    let model = GnnModel::load(model_dir.config(), &model_dir.weights_path())?;
    let options = PrecomputeOptions {
        precision: Precision::F32,
        sums: true,
    };
    precompute(model_dir, &model, &store, options, &Bars::default())?;
    Ok(())
}

fn write(operations: Vec<Operation>) -> Write {
    Write {
        operations,
        ..Write::default()
    }
}

/// All writers write for that long.
fn write_for(
    graph: &LiveGraph,
    writers: &mut [Workload],
    operations: usize,
    seconds: Duration,
) -> Result<(u64, Batch)> {
    let begun = Instant::now();
    let done: Result<Vec<u64>> = thread::scope(|scope| {
        let threads: Vec<_> = writers
            .iter_mut()
            .map(|writer| {
                scope.spawn(move || -> Result<u64> {
                    let mut done = 0;
                    while begun.elapsed() < seconds {
                        graph.apply(write(writer.operations(operations)), Ack::Durable)?;
                        done += operations as u64;
                    }
                    Ok(done)
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<u64>>| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a writer failed"))?
        };
        threads.into_iter().map(join).collect()
    });
    let done: u64 = done?.iter().sum();
    let durable = begun.elapsed().as_secs_f64();
    let version = graph.status().version;
    ensure!(
        graph.wait_for(version, Instant::now() + SETTLE),
        "the model does not keep up"
    );
    let batch = Batch {
        operations,
        updates_per_s: done as f64 / durable,
        settled_updates_per_s: done as f64 / begun.elapsed().as_secs_f64(),
    };
    Ok((done, batch))
}

/// Milliseconds until each of many writes is shown, one after the other.
fn visible_times(graph: &LiveGraph, writer: &mut Workload, seconds: Duration) -> Result<Vec<f64>> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < seconds {
        let operations = writer.operations(BESIDE.1);
        let start = Instant::now();
        graph.apply(write(operations), Ack::Visible)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Writes at a steady rate until it is told to stop; returns how many updates that were.
fn write_paced(graph: &LiveGraph, writer: &mut Workload, stop: &AtomicBool) -> Result<u64> {
    let (rate, operations) = BESIDE;
    let begun = Instant::now();
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = Duration::from_secs_f64(done as f64 / rate);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        graph.apply(write(writer.operations(operations)), Ack::Durable)?;
        done += operations as u64;
    }
    Ok(done)
}

/// Milliseconds of each of many answers.
fn read(engine: &GraphEngine, queries: &Queries, until: Instant) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    let mut from = 0;
    while Instant::now() < until {
        let slice = queries.batch(from..(from + READ).min(queries.len()));
        from = (from + READ) % queries.len().saturating_sub(READ).max(1);
        let start = Instant::now();
        engine.answer(&engine.attach(&slice)?, Plan::Refresh)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Milliseconds that 4 KiB take to the disk: half of the times, and all but a hundredth, are shorter.
fn sync_times(dir: &Path) -> Result<(f64, f64)> {
    let mut file = File::create(dir.join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok((percentile(&times, 0.5), percentile(&times, 0.99)))
}

fn percentile(times: &[f64], share: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable_by(f64::total_cmp);
    let rank = (times.len() as f64 * share).ceil() as usize;
    times
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

fn text(report: &Report) -> String {
    let line = |batch: &Batch| {
        format!(
            "| {} | {:.0} | {:.0} |\n",
            batch.operations, batch.updates_per_s, batch.settled_updates_per_s
        )
    };
    format!(
        "{}: {} nodes, {} directed edges; {} updates\n\n\
         | updates a write | durable, a second | shown, a second |\n|---|---|---|\n{}\n\
         shown after {:.1} ms (p50), {:.1} ms (p99); the disk alone {:.1} and {:.1} ms\n\
         answers, p99: {:.2} ms idle, {:.2} ms beside {:.0} updates a second\n\
         opened again in {:.2} s; {} lost, {} mismatches\n",
        report.model,
        report.nodes,
        report.edges,
        report.updates,
        report.batches.iter().map(line).collect::<String>(),
        report.visible_p50_ms,
        report.visible_p99_ms,
        report.sync_p50_ms,
        report.sync_p99_ms,
        report.read_p99_idle_ms,
        report.read_p99_under_updates_ms,
        BESIDE.0,
        report.recovery_s,
        report.lost,
        report.mismatches
    )
}
