//! The HTTP surface as an OpenAPI 3.1 document.
//!
//! Written by hand beside the routes, and compared with them by tests: every route is in it, and
//! nothing else.

mod operations;
mod schemas;

use operations::{model_operations, server_operations};
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
            "description": "Any request may also be answered with 408 (headers too slow), 414 (path too long), 417 (an expectation other than `100-continue`), 431 (headers too many or too long) or 501 (a transfer coding other than `chunked`), and what is not HTTP with 400; over HTTP/2 the 431 of headers twice as long as allowed has no body. Every answer with a body has `X-Request-Id`.",
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

    fn answers(mut self, description: &str, content: &Value) -> Self {
        let answer = json!({ "description": description, "content": content });
        self.value["responses"]["200"] = answer;
        self
    }

    fn json(self, description: &str, schema: &str) -> Self {
        self.answers(
            description,
            &json!({ "application/json": { "schema": schemas::reference(schema) } }),
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

    /// Refuses those who show no token with a page, where they take one.
    fn or_form(mut self, description: &str) -> Self {
        self.value["responses"]["401"] = json!({
            "description": description,
            "headers": { "WWW-Authenticate": { "schema": { "const": "Bearer" } } },
            "content": {
                "application/json": { "schema": schemas::reference("Error") },
                "text/html": { "schema": { "type": "string" } },
            },
        });
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
    let parameters = ["model", "version", "graph"].into_iter();
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
