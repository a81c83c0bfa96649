//! Every route with what it takes and answers.

use super::{ENCODING, For, INTERNAL, LATE, NOT_FOUND, Operation, UNSUPPORTED, WRONG, schemas};
use serde_json::json;

/// Routes that are about no version of a model.
pub(super) fn server_operations() -> impl Iterator<Item = Route> {
    about_the_server()
        .into_iter()
        .chain(graphs())
        .chain(repository())
        .chain(settings())
}

/// Path, method and what is there.
type Route = (&'static str, &'static str, Operation);

fn about_the_server() -> Vec<Route> {
    use For::{Everybody, Known, Scope};
    let document = json!({ "application/json": { "schema": { "type": "object" } } });
    let page = json!({ "text/html": { "schema": { "type": "string" } } });
    let metrics = json!({ "text/plain": { "schema": { "type": "string" } } });
    vec![
        (
            "/",
            "get",
            Operation::new("page", "A page for people", Known)
                .answers("The page.", &page)
                .or_form("The server asks for a token; a browser gets a form for one."),
        ),
        (
            "/openapi.json",
            "get",
            Operation::new("openapi", "This document", Everybody)
                .answers("The document.", &document),
        ),
        (
            "/metrics",
            "get",
            Operation::new("metrics", "Counters for Prometheus", Scope)
                .answers("The counters.", &metrics),
        ),
        (
            "/v2",
            "get",
            Operation::new("serverMetadata", "Name, version, extensions", Known)
                .json("The server's metadata.", "ServerMetadata"),
        ),
        (
            "/v2/health/live",
            "get",
            Operation::new("live", "Whether the server runs", Everybody)
                .json("It runs.", "Liveness"),
        ),
        (
            "/v2/health/ready",
            "get",
            Operation::new("ready", "Whether requests are welcome", Everybody)
                .json("They are.", "Readiness")
                .json_as(
                    400,
                    "They are not: the server is about to stop, or models that answers need are not there.",
                    "Readiness",
                ),
        ),
        ("/v2/history", "get", history()),
        (
            "/v2/models/stats",
            "get",
            Operation::new("statistics", "Counts and times of every model", Known)
                .json("The statistics.", "Statistics"),
        ),
    ]
}

fn history() -> Operation {
    let mut operation = Operation::new(
        "history",
        "Counters of every model over time, within fixed bounds",
        For::Known,
    )
    .json("The counters, oldest first.", "History")
    .refuses(&[WRONG]);
    operation.value["parameters"] = json!([
        {
            "name": "range",
            "in": "query",
            "description": "How far back: 10 minutes by the second, 2 hours by 10 seconds, or a day by 2 minutes.",
            "schema": { "enum": ["10m", "2h", "24h"], "default": "10m" },
        },
        {
            "name": "since_ms",
            "in": "query",
            "description": "Only what is later than this, in milliseconds since 1970.",
            "schema": { "type": "integer", "minimum": 0 },
        },
    ]);
    operation
}

fn graphs() -> Vec<Route> {
    vec![
        (
            "/v2/graphs",
            "get",
            Operation::new("graphs", "Graphs that may be written to", For::Known)
                .json("The graphs.", "Graphs"),
        ),
        (
            "/v2/graphs/{graph}",
            "get",
            Operation::new("graph", "How a graph stands", For::Scope)
                .json("How it stands.", "Graph")
                .refuses(&[WRONG, NOT_FOUND, UNSUPPORTED]),
        ),
        ("/v2/graphs/{graph}/apply", "post", apply()),
    ]
}

/// A write, whose body is JSON or has binary tensors behind it as that of an inference.
fn apply() -> Operation {
    let mut operation = Operation::new("apply", "Write to a graph, all or nothing", For::Scope)
        .takes("WriteRequest", true)
        .json("The write is done.", "WriteResponse")
        .refuses(&[NOT_FOUND, ENCODING, INTERNAL, UNSUPPORTED, LATE]);
    operation.value["requestBody"]["content"]["application/octet-stream"] =
        json!({ "schema": { "type": "string", "format": "binary" } });
    operation
}

fn repository() -> Vec<Route> {
    let admin = |id, summary| Operation::new(id, summary, For::Scope);
    vec![
        (
            "/v2/repository/index",
            "post",
            Operation::new(
                "repositoryIndex",
                "What is served and what could be",
                For::Known,
            )
            .takes("IndexRequest", false)
            .json("The models.", "Index")
            .refuses(&[INTERNAL]),
        ),
        (
            "/v2/repository/models/{model}/load",
            "post",
            admin("load", "Load a model, or load it anew")
                .takes("ControlRequest", false)
                .empty(200, "It is loaded.")
                .refuses(&[NOT_FOUND, INTERNAL, UNSUPPORTED]),
        ),
        (
            "/v2/repository/models/{model}/unload",
            "post",
            admin("unload", "Stop serving a model")
                .takes("ControlRequest", false)
                .empty(200, "It is not served any more.")
                .refuses(&[NOT_FOUND, UNSUPPORTED]),
        ),
    ]
}

fn settings() -> Vec<Route> {
    let admin = |id, summary| Operation::new(id, summary, For::Scope);
    vec![
        (
            "/v2/logging",
            "get",
            admin("logSettings", "What is logged")
                .json("The settings.", "LogSettings")
                .refuses(&[UNSUPPORTED]),
        ),
        (
            "/v2/logging",
            "post",
            admin("setLogSettings", "Change what is logged")
                .takes("LogChanges", false)
                .json("The settings.", "LogSettings")
                .refuses(&[UNSUPPORTED]),
        ),
        (
            "/v2/trace/setting",
            "get",
            admin("traceSettings", "Which requests are traced")
                .json("The settings.", "TraceSettings"),
        ),
        (
            "/v2/trace/setting",
            "post",
            admin("setTraceSettings", "Change which requests are traced")
                .takes("TraceChanges", false)
                .json("The settings.", "TraceSettings")
                .refuses(&[UNSUPPORTED]),
        ),
        (
            "/v2/models/{model}/trace/setting",
            "get",
            admin("modelTraceSettings", "Which requests of a model are traced")
                .json("The settings.", "TraceSettings")
                .refuses(&[WRONG, NOT_FOUND]),
        ),
        (
            "/v2/models/{model}/trace/setting",
            "post",
            admin(
                "setModelTraceSettings",
                "Change which requests of a model are traced",
            )
            .takes("TraceChanges", false)
            .json("The settings.", "TraceSettings")
            .refuses(&[NOT_FOUND, UNSUPPORTED]),
        ),
    ]
}

/// Routes under a model or a version of it; the last says whether it must be there.
pub(super) fn model_operations() -> Vec<(&'static str, &'static str, Operation, bool)> {
    use For::Scope;
    vec![
        (
            "",
            "get",
            Operation::new("modelMetadata", "Inputs and outputs of a model", Scope)
                .json("The model's metadata.", "ModelMetadata")
                .refuses(&[WRONG]),
            true,
        ),
        (
            "/ready",
            "get",
            Operation::new("modelReady", "Whether a model answers", Scope)
                .json("It does.", "Readiness")
                .json_as(
                    400,
                    "It does not: it is not there or could not be loaded, or the server is about to stop.",
                    "ReadinessOrError",
                ),
            false,
        ),
        (
            "/config",
            "get",
            Operation::new(
                "modelConfig",
                "The signature as Triton's model configuration",
                Scope,
            )
            .json("The configuration.", "ModelConfig")
            .refuses(&[WRONG]),
            true,
        ),
        (
            "/stats",
            "get",
            Operation::new("modelStatistics", "Counts and times of a model", Scope)
                .json("The statistics.", "Statistics")
                .refuses(&[WRONG]),
            true,
        ),
        (
            "/plans",
            "get",
            Operation::new("modelPlans", "Plans of a model: predicted times and promises", Scope)
                .json("The plans, cheapest first.", "Plans")
                .refuses(&[WRONG, INTERNAL]),
            true,
        ),
        ("/infer", "post", infer(), true),
    ]
}

fn infer() -> Operation {
    let binary = json!({ "schema": { "type": "string", "format": "binary" } });
    let length = json!({
        "description": "Length in bytes of the JSON document, where binary tensors follow it.",
        "schema": { "type": "string", "pattern": "^[0-9]+$" },
    });
    let mut operation = Operation::new("infer", "Answer a request", For::Scope)
        .takes("InferenceRequest", true)
        .answers(
            "The outputs: JSON, or JSON and binary tensors if the request asked for them.",
            &json!({
                "application/json": { "schema": schemas::reference("InferenceResponse") },
                "application/octet-stream": binary.clone(),
            }),
        )
        .refuses(&[ENCODING, INTERNAL, UNSUPPORTED, LATE]);
    let value = &mut operation.value;
    value["requestBody"]["content"]["application/octet-stream"] = binary;
    let mut header = length.clone();
    header["name"] = "Inference-Header-Content-Length".into();
    header["in"] = "header".into();
    value["parameters"] = json!([header]);
    value["responses"]["200"]["headers"] = json!({ "Inference-Header-Content-Length": length });
    operation
}
