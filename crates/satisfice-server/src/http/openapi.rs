//! The HTTP surface as an OpenAPI 3.1 document.
//!
//! Written by hand beside the routes, and compared with them by tests: every route is in it, and
//! nothing else.

mod schemas;

use serde_json::{Map, Value, json};

/// An answer that many routes may give.
struct Refusal {
    status: u16,
    name: &'static str,
    description: &'static str,
}

const fn refusal(status: u16, name: &'static str, description: &'static str) -> Refusal {
    Refusal {
        status,
        name,
        description,
    }
}

const WRONG: Refusal = refusal(
    400,
    "Wrong",
    "The request is wrong; the same will fail again.",
);
const UNAUTHENTICATED: Refusal = refusal(
    401,
    "Unauthenticated",
    "The server asks for a token, and there is none that it knows.",
);
const FORBIDDEN: Refusal = refusal(403, "Forbidden", "The token is not for this.");
const NOT_FOUND: Refusal = refusal(404, "NotFound", "There is no such model or version.");
const SLOW: Refusal = refusal(408, "TooSlow", "The body did not arrive in time.");
const LARGE: Refusal = refusal(413, "TooLarge", "The request is over a limit.");
const ENCODING: Refusal = refusal(
    415,
    "UnsupportedEncoding",
    "The body is compressed in a way other than gzip and deflate.",
);
const INTERNAL: Refusal = refusal(500, "Internal", "The server is at fault.");
const UNSUPPORTED: Refusal = refusal(
    501,
    "Unsupported",
    "The server does not do what the request asks for.",
);
const BUSY: Refusal = refusal(
    503,
    "Unavailable",
    "The server is busy; `Retry-After` says when to try again.",
);
const LATE: Refusal = refusal(
    504,
    "TooLate",
    "The deadline passed before the request could be executed.",
);

const REFUSALS: [Refusal; 11] = [
    WRONG,
    UNAUTHENTICATED,
    FORBIDDEN,
    NOT_FOUND,
    SLOW,
    LARGE,
    ENCODING,
    INTERNAL,
    UNSUPPORTED,
    BUSY,
    LATE,
];

/// Who may ask, and so which refusals are possible before a handler is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Everybody,
    Known,
    Scope,
}

impl For {
    fn refusals(self) -> &'static [Refusal] {
        match self {
            Self::Everybody => &[],
            Self::Known => &[UNAUTHENTICATED],
            Self::Scope => &[UNAUTHENTICATED, FORBIDDEN],
        }
    }
}

/// The document.
pub fn openapi() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Satisfice",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Open Inference Protocol v2 with the extensions that Triton's clients use",
            "description": "Any request may also be answered with 414 (path too long) or 431 (headers too many or too long), and what is not HTTP with 400 and no body. Every answer has `X-Request-Id`.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{}, { "bearer": [] }, { "apiKey": [] }],
        "paths": paths(),
        "components": {
            "schemas": schemas::schemas(),
            "responses": responses(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "apiKey": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
        },
    })
}

fn responses() -> Value {
    let response = |refusal: &Refusal| {
        let mut response = json!({
            "description": refusal.description,
            "content": { "application/json": { "schema": schemas::reference("Error") } },
        });
        let header = match refusal.status {
            401 => Some((
                "WWW-Authenticate",
                json!({ "schema": { "const": "Bearer" } }),
            )),
            503 => Some((
                "Retry-After",
                json!({ "schema": { "type": "string", "pattern": "^[0-9]+$" } }),
            )),
            _ => None,
        };
        if let Some((name, header)) = header {
            response["headers"] = json!({ name: header });
        }
        (refusal.name.to_owned(), response)
    };
    REFUSALS.iter().map(response).collect()
}

/// One operation in the making.
struct Operation {
    value: Value,
}

impl Operation {
    fn new(id: &str, summary: &str, who: For) -> Self {
        let mut value = json!({ "operationId": id, "summary": summary, "responses": {} });
        if who == For::Everybody {
            value["security"] = json!([]);
        }
        Self { value }.refuses(who.refusals())
    }

    fn answers(mut self, description: &str, content: Value) -> Self {
        let answer = json!({ "description": description, "content": content });
        self.value["responses"]["200"] = answer;
        self
    }

    fn json(self, description: &str, schema: &str) -> Self {
        self.answers(
            description,
            json!({ "application/json": { "schema": schemas::reference(schema) } }),
        )
    }

    fn json_as(mut self, status: u16, description: &str, schema: &str) -> Self {
        self.value["responses"][status.to_string()] = json!({
            "description": description,
            "content": { "application/json": { "schema": schemas::reference(schema) } },
        });
        self
    }

    fn empty(mut self, status: u16, description: &str) -> Self {
        self.value["responses"][status.to_string()] = json!({ "description": description });
        self
    }

    fn refuses(mut self, refusals: &[Refusal]) -> Self {
        for refusal in refusals {
            let reference = format!("#/components/responses/{}", refusal.name);
            self.value["responses"][refusal.status.to_string()] = json!({ "$ref": reference });
        }
        self
    }

    fn takes(mut self, schema: &str, required: bool) -> Self {
        self.value["requestBody"] = json!({
            "required": required,
            "content": { "application/json": { "schema": schemas::reference(schema) } },
        });
        self.refuses(&[WRONG, SLOW, LARGE, BUSY])
    }
}

fn paths() -> Value {
    let mut paths = Map::new();
    for (path, method, operation) in server_operations() {
        add(&mut paths, path, method, operation.value);
    }
    for (rest, method, operation, needs_model) in model_operations() {
        for versioned in [false, true] {
            let (prefix, suffix) = match versioned {
                false => ("/v2/models/{model}", ""),
                true => ("/v2/models/{model}/versions/{version}", "OfVersion"),
            };
            let mut value = operation.value.clone();
            let id = format!(
                "{}{suffix}",
                value["operationId"].as_str().unwrap_or_default()
            );
            value["operationId"] = id.into();
            if needs_model {
                value["responses"]["404"] = json!({ "$ref": "#/components/responses/NotFound" });
            }
            add(&mut paths, &format!("{prefix}{rest}"), method, value);
        }
    }
    Value::Object(paths)
}

fn add(paths: &mut Map<String, Value>, path: &str, method: &str, operation: Value) {
    let item = paths.entry(path).or_insert_with(|| json!({}));
    let parameters = ["model", "version"].into_iter();
    let parameters: Vec<Value> = parameters
        .filter(|name| path.contains(&format!("{{{name}}}")))
        .map(|name| {
            // What is empty is another path.
            json!({ "name": name, "in": "path", "required": true,
                    "schema": { "type": "string", "minLength": 1 } })
        })
        .collect();
    if !parameters.is_empty() {
        item["parameters"] = parameters.into();
    }
    item[method] = operation;
}

/// Routes that are about no version of a model.
fn server_operations() -> Vec<(&'static str, &'static str, Operation)> {
    use For::{Everybody, Known, Scope};
    let document = json!({ "application/json": { "schema": { "type": "object" } } });
    let page = json!({ "text/html": { "schema": { "type": "string" } } });
    let metrics = json!({ "text/plain": { "schema": { "type": "string" } } });
    let admin = |id, summary| Operation::new(id, summary, Scope);
    vec![
        (
            "/",
            "get",
            Operation::new("page", "A page for people", Known).answers("The page.", page),
        ),
        (
            "/openapi.json",
            "get",
            Operation::new("openapi", "This document", Everybody)
                .answers("The document.", document),
        ),
        (
            "/metrics",
            "get",
            Operation::new("metrics", "Counters for Prometheus", Scope)
                .answers("The counters.", metrics),
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
                    "They are not: the server is about to stop.",
                    "Readiness",
                ),
        ),
        (
            "/v2/models/stats",
            "get",
            Operation::new("statistics", "Counts and times of every model", Known)
                .json("The statistics.", "Statistics"),
        ),
        (
            "/v2/repository/index",
            "post",
            Operation::new("repositoryIndex", "What is served and what could be", Known)
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
fn model_operations() -> Vec<(&'static str, &'static str, Operation, bool)> {
    use For::{Everybody, Scope};
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
            Operation::new("modelReady", "Whether a model answers", Everybody)
                .json("It does.", "Readiness")
                .json_as(
                    400,
                    "It does not: it is not there, or the server is about to stop.",
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
            json!({
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
