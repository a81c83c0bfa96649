//! What is left of a server's work when more is asked of it than it can do.

use super::{
    super::Output,
    child::{IDENTITY, Server},
};
use crate::{cli::BenchOverload, commands::serve::runtime, report};
use anyhow::Result;
use satisfice_load::closed::{HttpRequest, Load, Measured, http};
use serde::Serialize;
use std::{fmt::Write, time::Duration};

/// What the model takes, and by when the answer is of use, in milliseconds.
const WORK_MS: u64 = 5;
const DEADLINE_MS: u64 = 100;
const EXECUTORS: u64 = 2;

/// How many times more than the server can do is overload.
const OVERLOAD: f64 = 10.0;

#[derive(Serialize)]
struct Document {
    /// Requests a second that the executors can do at most.
    capacity: f64,
    rows: Vec<Row>,
    /// The lowest goodput of the rows that ask for ten times the capacity or more, by the highest of all.
    goodput_kept: Option<f64>,
    memory_bytes_max: u64,
}

#[derive(Serialize)]
struct Row {
    connections: usize,
    /// Requests sent by second, by what the executors can do.
    asked: f64,
    measured: Measured,
    memory_bytes: u64,
}

pub(super) fn run(args: &BenchOverload, output: Output) -> Result<()> {
    let seconds = if args.quick { 1.5 } else { 6.0 };
    let executors = EXECUTORS.to_string();
    let arguments = ["bench", "serve-identity", "--executors", &executors];
    let server = Server::of_this_program(&arguments)?;
    let body = format!(
        r#"{{"parameters":{{"work_ms":{WORK_MS},"deadline_ms":{DEADLINE_MS}}},"inputs":[{{"name":"x","datatype":"FP32","shape":[1],"data":[0.5]}}]}}"#
    );
    let request = HttpRequest::post(&format!("/v2/models/{IDENTITY}/infer"), "", body.as_bytes());
    let runtime = runtime()?;
    let capacity = EXECUTORS as f64 * 1e3 / WORK_MS as f64;
    let mut rows = Vec::new();
    for connections in [2, 4, 16, 64, 256, 512] {
        let load = Load {
            connections,
            warm_up: Duration::from_millis(500),
            duration: Duration::from_secs_f64(seconds),
        };
        let measured = runtime.block_on(http(server.http, &request, load))?;
        let refused: u64 = measured.refused.values().sum();
        rows.push(Row {
            connections,
            asked: (measured.answered + refused) as f64 / seconds / capacity,
            measured,
            memory_bytes: server.memory().0,
        });
    }
    let best = rows
        .iter()
        .map(|row| row.measured.per_second)
        .fold(0.0, f64::max);
    let overloaded = rows.iter().filter(|row| row.asked >= OVERLOAD);
    let goodput_kept = overloaded
        .map(|row| row.measured.per_second / best)
        .min_by(f64::total_cmp);
    let document = Document {
        capacity,
        rows,
        goodput_kept,
        memory_bytes_max: server.memory().1,
    };
    output.print(&document, || table(&document))
}

fn table(document: &Document) -> String {
    let mut text = format!(
        "{WORK_MS} ms of work, due within {DEADLINE_MS} ms, {EXECUTORS} executors: {:.0} requests a second at most\n\
         {:>11} {:>10} {:>12} {:>9} {:>9} {:>10}  refused by status\n",
        document.capacity, "connections", "asked", "in time/s", "p50 ms", "p99 ms", "memory"
    );
    for row in &document.rows {
        let _ = writeln!(
            text,
            "{:>11} {:>9.1}x {:>12.1} {:>9.2} {:>9.2} {:>10}  {:?}",
            row.connections,
            row.asked,
            row.measured.per_second,
            row.measured.p50_us as f64 / 1e3,
            row.measured.p99_us as f64 / 1e3,
            report::bytes(row.memory_bytes),
            row.measured.refused,
        );
    }
    let _ = match document.goodput_kept {
        Some(kept) => writeln!(
            text,
            "under {OVERLOAD}x overload {:.1}% of the most is kept",
            100.0 * kept
        ),
        None => writeln!(text, "no row asked for {OVERLOAD}x of what can be done"),
    };
    text
}
