//! Plans and peers on the same queries.

mod limit;
mod memory;
mod peers;
mod plot;
mod table;

use super::{super::Output, machine::Machine, reading::read_bytes_per_second};
use crate::{
    cli::{BenchGraph, Grid},
    commands::{
        bundle::find_bundle,
        demo::graph::{OverHttp, prepare},
        evaluate::InProcess,
    },
    http_client::HttpClient,
    measure::{Row, measure},
};
use anyhow::{Context, Result, ensure};
use memory::{Memory, ServedModel};
use peers::{Measured, PeerFailure, PeerRow};
use satisfice_graph::{GraphEngine, ModelDir, Plan};
use satisfice_store::{Check, GraphStore, Queries};
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

/// What is written as `bench.json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub machine: Machine,
    pub threads: usize,
    pub model: String,
    pub graph: Graph,
    /// What a read in order of memory beyond the cache reaches on all threads, in 10^9.
    pub read_gb_per_s: f64,
    /// Plans in this process.
    pub plans: Vec<Row>,
    /// Plans over HTTP, the largest batches that a request may have.
    pub http: Vec<Row>,
    pub peers: Vec<PeerRow>,
    /// Peers that ended before they had answered everything.
    pub peer_failures: Vec<PeerFailure>,
    pub memory: Memory,
}

#[derive(Debug, Serialize)]
pub(super) struct Graph {
    pub nodes: usize,
    pub edges: usize,
    pub features: usize,
}

/// What is measured.
struct Subject {
    model: PathBuf,
    queries: PathBuf,
    plans: Vec<Plan>,
    batches: Vec<usize>,
    limit: usize,
    seconds: f64,
}

/// Largest batch that is sent over HTTP: a body of some megabytes.
const HTTP_BATCH_MAX: usize = 1024;

pub(super) fn run(args: &BenchGraph, output: Output) -> Result<()> {
    let threads = args
        .threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    // Fails where a pool is there already, which no other code of this command makes.
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .context("cannot start the threads asked for")?;
    let machine = Machine::now();
    let subject = subject(args, output)?;
    let read = read_bytes_per_second(&machine, threads)?;
    let model_dir = ModelDir::open(&subject.model, None)?;
    let store = Arc::new(GraphStore::open(&model_dir.store_path(), Check::Structure)?);
    let engine = GraphEngine::open(&model_dir, Arc::clone(&store), Check::Structure)?;
    let queries = Queries::open(&subject.queries)?;

    let grid = Grid {
        plans: subject.plans.clone(),
        policies: Vec::new(),
        batches: subject.batches.clone(),
        limit: Some(subject.limit),
    };
    let mut plans = measure(
        &mut InProcess(&engine),
        &queries,
        &grid,
        "plans in this process",
    )?;
    limit::limit(&mut plans, (&engine, &queries), read)?;
    let classes = peers::exact_classes(&engine, &queries, subject.limit)?;
    let graph = Graph {
        nodes: store.nodes(),
        edges: store.edges(),
        features: store.feature_width(),
    };
    // The server maps the same files; what is mapped here would be in its way.
    drop(engine);
    let server = ServedModel::start(&subject.model, threads)?;
    let mut http = over_http(&server, &store, &queries, &grid)?;
    // What has to be moved is the same.
    for row in &mut http {
        let same = |of: &&Row| of.plan == row.plan && of.batch == row.batch;
        row.limit_ms = plans.iter().find(same).and_then(|of| of.limit_ms);
    }
    let memory = server.memory(&model_dir)?;
    drop(server);
    let measured = match &args.against {
        Some(dir) => peers::measure(dir, &args.peers, &subject, threads, &classes),
        None => Measured::default(),
    };
    let report = Report {
        machine,
        threads,
        model: model_dir.name(),
        graph,
        read_gb_per_s: read / 1e9,
        plans,
        http,
        peers: measured.rows,
        peer_failures: measured.failures,
        memory,
    };
    write(&args.out, &report)?;
    output.print(&report, || {
        format!(
            "{}\nwritten to {}\n",
            table::markdown(&report),
            args.out.display()
        )
    })?;
    let failures: Vec<String> = report.peer_failures.iter().map(PeerFailure::line).collect();
    ensure!(
        failures.is_empty(),
        "peers ended early; everything else is in {}:\n{}",
        args.out.display(),
        failures.join("\n")
    );
    Ok(())
}

fn subject(args: &BenchGraph, output: Output) -> Result<Subject> {
    let (model, queries) = if let (Some(model), Some(queries)) = (&args.model, &args.queries) {
        (model.clone(), queries.clone())
    } else {
        let bundle = find_bundle(None, "examples/debian", "queries.safetensors")?;
        let models = args.out.join("debian/models");
        prepare(&bundle, &args.out.join("debian"), &models, output)?;
        (models.join("gcn2"), bundle.join("queries.safetensors"))
    };
    let subject = Subject {
        model,
        queries,
        plans: args.plans.clone(),
        batches: args.batches.clone(),
        limit: args.limit,
        seconds: args.seconds,
    };
    Ok(match args.quick {
        false => subject,
        true => Subject {
            plans: vec![
                Plan::Precomputed,
                Plan::Refresh,
                Plan::recompute(0.1),
                Plan::recompute(0.25),
                Plan::Exact,
            ],
            batches: vec![64, 1024],
            limit: subject.limit.min(2048),
            seconds: subject.seconds.min(3.0),
            ..subject
        },
    })
}

/// The plans at the largest batch size that a request may have by default, asked of a server.
fn over_http(
    server: &ServedModel,
    store: &GraphStore,
    queries: &Queries,
    grid: &Grid,
) -> Result<Vec<Row>> {
    let mut client = OverHttp {
        client: HttpClient::new(&format!("http://{}", server.address())),
        model: server.name(),
        store,
    };
    let largest = grid.batches.iter().copied().max().unwrap_or(1);
    let grid = Grid {
        batches: vec![largest.min(HTTP_BATCH_MAX)],
        ..grid.clone()
    };
    measure(&mut client, queries, &grid, "plans over HTTP")
}

fn write(out: &Path, report: &Report) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let write = |name: &str, content: String| {
        let path = out.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    write("bench.json", serde_json::to_string_pretty(report)?)?;
    write("bench.md", table::markdown(report))?;
    for (batch, svg) in plot::plots(report) {
        write(&format!("latency-accuracy-{batch}.svg"), svg)?;
    }
    Ok(())
}
