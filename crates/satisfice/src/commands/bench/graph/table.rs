//! The results as Markdown.

use super::Report;
use crate::{measure::Row, report::bytes};
use std::fmt::Write as _;

/// One line of the table, of a plan or a peer.
pub(super) struct Line<'a> {
    pub name: String,
    pub batch: usize,
    pub batches: usize,
    pub accuracy: Option<f64>,
    pub agreement: Option<f64>,
    /// p50, p90, p99 and maximum, in milliseconds.
    pub latency_ms: [f64; 4],
    /// Whether it is a plan of ours rather than a peer.
    pub ours: bool,
    /// Rows read per batch, where it is known.
    pub rows: Option<f64>,
    /// Time to move what a batch must, in milliseconds, where it is known.
    pub limit_ms: Option<f64>,
    pub place: &'a str,
}

fn of_plan<'a>(row: &Row, place: &'a str) -> Line<'a> {
    Line {
        name: row.plan.clone(),
        batch: row.batch,
        batches: row.batches,
        accuracy: row.accuracy,
        agreement: Some(row.agreement),
        latency_ms: [row.p50_ms, row.p90_ms, row.p99_ms, row.max_ms],
        ours: true,
        rows: Some(row.rows),
        limit_ms: row.limit_ms,
        place,
    }
}

/// All lines, by batch size: plans, plans over HTTP, peers.
pub(super) fn lines(report: &Report) -> Vec<Line<'_>> {
    let plans = report.plans.iter().map(|row| of_plan(row, ""));
    let http = report.http.iter().map(|row| of_plan(row, " (HTTP)"));
    let peers = report.peers.iter().map(|row| Line {
        name: row.peer.clone(),
        batch: row.batch,
        batches: row.batches,
        accuracy: Some(row.accuracy),
        agreement: row.agreement,
        latency_ms: [row.p50_ms, row.p90_ms, row.p99_ms, row.max_ms],
        ours: false,
        rows: None,
        limit_ms: None,
        place: "",
    });
    let mut lines: Vec<Line<'_>> = plans.chain(http).chain(peers).collect();
    lines.sort_by_key(|line| line.batch);
    lines
}

pub(super) fn markdown(report: &Report) -> String {
    let graph = &report.graph;
    let mut text = format!(
        "`{}` on {} nodes, {} directed edges, {} features; {} threads each. {}.\n\n\
         | batch | plan or peer | batches | accuracy | agreement with exact | p50 ms | p90 ms | p99 ms | max ms | rows read | limit ms | p50 / limit |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
        report.model,
        graph.nodes,
        graph.edges,
        graph.features,
        report.threads,
        report.machine.line()
    );
    let percent = |share: Option<f64>| match share {
        Some(share) => format!("{:.2}", 100.0 * share),
        None => "-".to_owned(),
    };
    for line in lines(report) {
        let [p50, p90, p99, max] = line.latency_ms.map(milliseconds);
        let rows = line
            .rows
            .map_or_else(|| "-".to_owned(), |rows| format!("{rows:.0}"));
        let [limit, times] = match line.limit_ms {
            Some(limit) => [
                milliseconds(limit),
                format!("{:.1}", line.latency_ms[0] / limit),
            ],
            None => ["-"; 2].map(str::to_owned),
        };
        let _ = writeln!(
            text,
            "| {} | {}{} | {} | {} | {} | {p50} | {p90} | {p99} | {max} | {rows} | {limit} | {times} |",
            line.batch,
            line.name,
            line.place,
            line.batches,
            percent(line.accuracy),
            percent(line.agreement),
        );
    }
    let _ = writeln!(
        text,
        "\nThe limit is the time to move a batch's arrays and the rows that its plan reads and computes, each once, at \
         {:.1} GB/s: what a read in order reached in this run.",
        report.read_gb_per_s
    );
    let memory = &report.memory;
    let _ = writeln!(
        text,
        "\nMemory of the server after the HTTP rows: {} at its peak, of which {} its own and {} mapped \
         files now; topology {}, features {}, embeddings {}: {:.2} of their sum.",
        bytes(memory.resident_peak),
        bytes(memory.anonymous),
        bytes(memory.mapped),
        bytes(memory.topology),
        bytes(memory.features),
        bytes(memory.embeddings),
        memory.resident_peak as f64 / memory.at_rest() as f64
    );
    if let Some(ratios) = ratios(report) {
        text.push_str(&ratios);
    }
    for failure in &report.peer_failures {
        let _ = writeln!(
            text,
            "\n{} Its last words:\n\n```\n{}\n```",
            failure.line(),
            failure.stderr.join("\n")
        );
    }
    text
}

/// How many times quicker every plan is than every peer at the same batch size, by p50 and p99.
fn ratios(report: &Report) -> Option<String> {
    if report.peers.is_empty() {
        return None;
    }
    let mut text = "\n| batch | plan | against | p50 ratio | p99 ratio | accuracy, points |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for plan in &report.plans {
        for peer in report.peers.iter().filter(|peer| peer.batch == plan.batch) {
            let points = plan.accuracy.map_or_else(
                || "-".to_owned(),
                |accuracy| format!("{:+.2}", 100.0 * (accuracy - peer.accuracy)),
            );
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.1} | {:.1} | {points} |",
                plan.batch,
                plan.plan,
                peer.peer,
                peer.p50_ms / plan.p50_ms,
                peer.p99_ms / plan.p99_ms,
            );
        }
    }
    Some(text)
}

fn milliseconds(value: f64) -> String {
    match value {
        _ if value < 10.0 => format!("{value:.2}"),
        _ if value < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
