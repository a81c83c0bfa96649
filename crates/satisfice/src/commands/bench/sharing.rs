//! Answers in time, and a light model's times, while a model uses all cores; and what is kept at each load.

mod levels;
mod models;

use super::{super::Output, child::Server, machine::Machine};
use crate::{cli::BenchSharing, commands::serve::runtime};
use anyhow::{Context, Result};
use levels::Choice;
use models::Subjects;
use satisfice_graph::Plan;
use satisfice_load::{
    closed::{HttpRequest, Load, Measured, http},
    open::{Pattern, Stream, Traffic, streams},
};
use serde::Serialize;
use std::{fmt::Write, fs, time::Duration};
use tokio::runtime::Runtime;

/// The deadline of heavy requests, in times of what one takes alone.
const DEADLINE: f64 = 1.5;

/// Light requests a second beside heavy ones.
const LIGHT_RATE: f64 = 50.0;

/// Clients of the heavy model beside the light one.
const HEAVY_CLIENTS: usize = 8;

#[derive(Serialize)]
struct Document {
    machine: Machine,
    /// Nodes and edges of the dense graph.
    dense_nodes: usize,
    dense_edges: usize,
    settings: Vec<Row>,
}

/// What was measured with the executions of a model at once bounded, or as they are by default.
#[derive(Serialize)]
struct Row {
    executing_max: Option<usize>,
    /// Median time of a heavy request alone, and the deadline that follows from it.
    heavy_ms: f64,
    deadline_ms: f64,
    light_alone: Measured,
    one_query_alone: Measured,
    in_time: Vec<InTime>,
    beside: Vec<Beside>,
    /// Both models' requests as they come, at some times what the cores can do; heavy ones with a deadline.
    choices: Vec<Choice>,
}

/// Clients that send a heavy request with a deadline again as soon as it is answered.
#[derive(Serialize)]
struct InTime {
    clients: usize,
    measured: Measured,
}

/// A light model beside a heavy one.
#[derive(Serialize)]
struct Beside {
    heavy_queries: usize,
    light_queries: usize,
    light: Measured,
    heavy: Measured,
}

pub(super) fn run(args: &BenchSharing, output: Output) -> Result<()> {
    let subjects = Subjects::prepare(args, output)?;
    let runtime = runtime()?;
    let mut settings = Vec::new();
    for executing_max in [None, Some(1)] {
        settings.push(row(&runtime, &subjects, executing_max, args.quick)?);
    }
    let document = Document {
        machine: Machine::now(),
        dense_nodes: subjects.dense_nodes,
        dense_edges: subjects.dense_edges,
        settings,
    };
    for row in &document.settings {
        let (name, title) = match row.executing_max {
            None => ("kept.svg".to_owned(), "Kept, by default".to_owned()),
            Some(most) => (
                format!("kept-at-most-{most}.svg"),
                format!("Kept, with at most {most} execution of a model at once"),
            ),
        };
        let path = args.out.join(name);
        let svg = levels::chart(&row.choices, title).svg();
        fs::write(&path, svg).with_context(|| format!("{}", path.display()))?;
        output.say(&format!("chart: {}", path.display()))?;
    }
    output.print(&document, || table(&document))
}

/// A server with what is asked of it.
struct Bench<'a> {
    runtime: &'a Runtime,
    subjects: &'a Subjects,
    server: Server,
    seconds: f64,
}

fn row(
    runtime: &Runtime,
    subjects: &Subjects,
    executing_max: Option<usize>,
    quick: bool,
) -> Result<Row> {
    let most = executing_max.map(|most| most.to_string());
    let models = subjects.models.to_string_lossy();
    let mut arguments = vec!["bench", "serve-models", "--models", &models];
    arguments.extend(most.iter().flat_map(|most| ["--executing-max", most]));
    let bench = Bench {
        runtime,
        subjects,
        server: Server::of_this_program(&arguments)?,
        seconds: if quick { 2.0 } else { 5.0 },
    };
    let light_alone = bench.light_alone(8)?;
    let one_query_alone = bench.light_alone(1)?;
    let heavy_ms = bench
        .closed(&subjects.heavy(16, Some(Plan::Exact), None)?, 1)?
        .p50_us as f64
        / 1e3;
    let deadline_ms = DEADLINE * heavy_ms;
    let due = subjects.heavy(16, Some(Plan::Exact), Some(deadline_ms))?;
    let mut in_time = Vec::new();
    for clients in [1, 2, 8] {
        let measured = bench.closed(&due, clients)?;
        in_time.push(InTime { clients, measured });
    }
    let beside = [(16, 8), (1024, 8), (16, 1), (1024, 1)];
    let beside = beside.map(|(heavy, light)| bench.beside(heavy, light));
    let choices = levels::choices(&bench, heavy_ms, deadline_ms)?;
    Ok(Row {
        executing_max,
        heavy_ms,
        deadline_ms,
        light_alone,
        one_query_alone,
        in_time,
        beside: beside.into_iter().collect::<Result<_>>()?,
        choices,
    })
}

impl Bench<'_> {
    /// Clients that send a request again as soon as it is answered.
    fn closed(&self, request: &HttpRequest, connections: usize) -> Result<Measured> {
        let load = Load {
            connections,
            warm_up: Duration::from_secs_f64(self.seconds / 5.0),
            duration: Duration::from_secs_f64(self.seconds),
        };
        Ok(self
            .runtime
            .block_on(http(self.server.http, request, load))?)
    }

    /// Light requests as they come beside heavy ones, without those.
    fn light_alone(&self, queries: usize) -> Result<Measured> {
        let light = self.subjects.light(queries)?;
        let traffic = [stream(light, LIGHT_RATE, 2.0 * self.seconds)];
        let measured = streams(self.server.http, &traffic);
        Ok(self.runtime.block_on(measured)?.swap_remove(0))
    }

    fn beside(&self, heavy_queries: usize, light_queries: usize) -> Result<Beside> {
        let heavy = self
            .subjects
            .heavy(heavy_queries, Some(Plan::Exact), None)?;
        let light = self.subjects.light(light_queries)?;
        let load = Load {
            connections: HEAVY_CLIENTS,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs_f64(2.0 * self.seconds),
        };
        let traffic = [stream(light, LIGHT_RATE, 2.0 * self.seconds)];
        let address = self.server.http;
        let both = self.runtime.block_on(async {
            tokio::try_join!(http(address, &heavy, load), streams(address, &traffic))
        });
        let (heavy, mut light) = both?;
        Ok(Beside {
            heavy_queries,
            light_queries,
            light: light.swap_remove(0),
            heavy,
        })
    }
}

fn stream(request: HttpRequest, rate: f64, seconds: f64) -> Stream {
    Stream {
        request,
        traffic: Traffic {
            rate,
            length: Duration::from_secs_f64(seconds),
            pattern: Pattern::Poisson,
            sizes: vec![(1, 1.0)],
            seed: 1,
        },
    }
}

fn table(document: &Document) -> String {
    let ms = |us: u64| us as f64 / 1e3;
    let mut text = format!(
        "dense graph of {} nodes and {} edges, {} cores\n",
        document.dense_nodes, document.dense_edges, document.machine.cores
    );
    for row in &document.settings {
        let bound = row.executing_max.map_or_else(
            || "as by default".to_owned(),
            |most| format!("at most {most}"),
        );
        let _ = writeln!(
            text,
            "\nexecutions of a model at once: {bound}\nheavy alone {:.0} ms, deadline {:.0} ms; light alone p50 {:.2} p99 {:.2} ms, one query {:.2} {:.2} ms",
            row.heavy_ms,
            row.deadline_ms,
            ms(row.light_alone.p50_us),
            ms(row.light_alone.p99_us),
            ms(row.one_query_alone.p50_us),
            ms(row.one_query_alone.p99_us),
        );
        for InTime { clients, measured } in &row.in_time {
            let refused: u64 = measured.refused.values().sum();
            let _ = writeln!(
                text,
                "{clients} clients: {} in time, {refused} refused",
                measured.answered
            );
        }
        for beside in &row.beside {
            let _ = writeln!(
                text,
                "light of {} beside heavy of {}: {} answers, p50 {:.2} p99 {:.2} max {:.1} ms; heavy {} answers, p50 {:.0} ms",
                beside.light_queries,
                beside.heavy_queries,
                beside.light.answered,
                ms(beside.light.p50_us),
                ms(beside.light.p99_us),
                ms(beside.light.max_us),
                beside.heavy.answered,
                ms(beside.heavy.p50_us),
            );
        }
        text += &levels::table(&row.choices);
    }
    text
}
