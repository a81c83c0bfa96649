//! Numbers of graphs that may be written to.

use super::{
    escape, head,
    histograms::{buckets, of_plan},
    put,
};
use crate::service::ServedGraph;
use satisfice_core::GraphStatus;

type Metric = (
    &'static str,
    &'static str,
    &'static str,
    fn(&GraphStatus) -> u64,
);

const METRICS: [Metric; 6] = [
    (
        "satisfice_graph_version",
        "Version of the graph that is on disk",
        "gauge",
        |status| status.version,
    ),
    (
        "satisfice_graph_pending_versions",
        "Versions on disk that not every model shows yet",
        "gauge",
        GraphStatus::pending,
    ),
    (
        "satisfice_graph_nodes",
        "Nodes of the graph",
        "gauge",
        |status| status.nodes,
    ),
    (
        "satisfice_graph_edges",
        "Edges of the graph, each direction counted",
        "gauge",
        |status| status.edges,
    ),
    (
        "satisfice_graph_log_bytes",
        "Bytes of the graph's log",
        "gauge",
        |status| status.log_bytes,
    ),
    (
        "satisfice_graph_failed",
        "1 if writes are refused until an operator has looked",
        "gauge",
        |status| u64::from(status.failed.is_some()),
    ),
];

pub(super) fn write(text: &mut String, graphs: &[ServedGraph]) {
    let states: Vec<(String, GraphStatus)> = graphs
        .iter()
        .map(|graph| (escape(graph.name()), graph.status()))
        .collect();
    for (name, help, kind, value) in METRICS {
        head(text, name, help, kind);
        for (graph, state) in &states {
            let value = value(state);
            put(text, format_args!("{name}{{graph=\"{graph}\"}} {value}\n"));
        }
    }
    let mut counted = |name: &str, help: &str, label: &str, of: fn(&ServedGraph) -> Counts| {
        head(text, name, help, "counter");
        for graph in graphs {
            let of_graph = escape(graph.name());
            for (key, count) in of(graph) {
                let labels = format!("graph=\"{of_graph}\",{label}=\"{key}\"");
                put(text, format_args!("{name}{{{labels}}} {count}\n"));
            }
        }
    };
    counted(
        "satisfice_graph_changes_total",
        "Nodes and edges added and deleted",
        "kind",
        |graph| graph.stats().changes().into(),
    );
    counted(
        "satisfice_graph_refused_writes_total",
        "Writes refused, by code",
        "code",
        |graph| graph.stats().refused().into_iter().collect(),
    );
    let name = "satisfice_graph_repeated_writes_total";
    head(
        text,
        name,
        "Writes that had been done before, and were answered so",
        "counter",
    );
    for graph in graphs {
        let (label, count) = (escape(graph.name()), graph.stats().repeated());
        put(text, format_args!("{name}{{graph=\"{label}\"}} {count}\n"));
    }
    let name = "satisfice_graph_write_duration_seconds";
    let help = "Time of writes until they were durable, or visible where that was asked for";
    head(text, name, help, "histogram");
    for graph in graphs {
        for (ack, seen) in graph.stats().times() {
            if seen.count() > 0 {
                let labels = format!("graph=\"{}\",ack=\"{ack}\"", escape(graph.name()));
                buckets(text, name, &labels, &of_plan(&seen));
            }
        }
    }
}

type Counts = Vec<(&'static str, u64)>;
