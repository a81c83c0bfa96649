//! What bodies look like.

#![expect(
    clippy::needless_pass_by_value,
    reason = "schemas are put together from literals"
)]

use satisfice_core::{
    DataType,
    parameters::{self, ParameterSpec, Place, Reader, Use, Values},
};
use serde_json::{Value, json};

/// A schema by its name.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn array(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// Every schema by its name.
pub(super) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let count = json!({ "type": "integer", "minimum": 0 });
    let on = json!({ "type": "boolean" });
    let mut schemas = json!({
        "Error": {
            "type": "object",
            "required": ["error", "code"],
            "properties": {
                "error": { "type": "string", "description": "What was wrong, and where." },
                "code": { "type": "string", "pattern": "^[a-z_]+$", "description": "A stable word for programs." },
                "hint": { "type": "string", "description": "What to do." },
            },
            "additionalProperties": false,
        },
        "Liveness": object(&["live"], json!({ "live": on })),
        "Readiness": object(&["ready", "state"], json!({
            "name": text,
            "ready": on,
            "state": {
                "enum": ["ready", "degraded", "forming", "failed", "draining", "unknown"],
                "description": "`degraded` answers, but something is missing or slow; `forming` waits for other machines; `failed` needs an operator, such as a model that cannot be loaded; `unknown` is no model.",
            },
        })),
        "ReadinessOrError": { "anyOf": [reference("Readiness"), reference("Error")] },
        "ServerMetadata": object(&["name", "version", "extensions"], json!({
            "name": text, "version": text, "extensions": array(text.clone()),
        })),
        "TensorMetadata": object(&["name", "datatype", "shape"], json!({
            "name": text,
            "datatype": reference("DataType"),
            "shape": { "type": "array", "items": { "type": "integer", "minimum": -1 }, "description": "-1 is any length." },
        })),
        "ModelMetadata": object(&["name", "versions", "platform", "inputs", "outputs"], json!({
            "name": text,
            "versions": array(text.clone()),
            "platform": text,
            "inputs": array(reference("TensorMetadata")),
            "outputs": array(reference("TensorMetadata")),
        })),
        "TensorConfig": object(&["name", "data_type", "dims"], json!({
            "name": text,
            "data_type": { "type": "string", "pattern": "^TYPE_[A-Z0-9]+$" },
            "dims": array(json!({ "type": "integer", "minimum": -1 })),
        })),
        "ModelConfig": object(&["name", "platform", "backend", "max_batch_size", "input", "output"], json!({
            "name": text,
            "platform": text,
            "backend": text,
            "max_batch_size": count,
            "input": array(reference("TensorConfig")),
            "output": array(reference("TensorConfig")),
        })),
        "IndexRequest": object(&[], json!({
            "ready": { "type": "boolean", "description": "Only models that answer." },
        })),
        "Index": array(object(&["name", "state", "reason"], json!({
            "name": text,
            "version": text,
            "state": { "enum": ["READY", "UNAVAILABLE", "LOADING"] },
            "reason": text,
        }))),
        "ControlRequest": object(&[], json!({ "parameters": reference("ControlParameters") })),
    });
    for (name, schema) in inference()
        .into_iter()
        .chain(graphs())
        .chain(parameters())
        .chain(statistics())
        .chain([plans(), history()])
        .chain(settings())
    {
        schemas[name] = schema;
    }
    schemas
}

fn inference() -> Vec<(&'static str, Value)> {
    let datatypes: Vec<_> = DataType::ALL
        .iter()
        .map(|datatype| datatype.name())
        .collect();
    let shape = json!({ "type": "array", "items": { "type": "integer", "minimum": 0 } });
    let input = object(
        &["name", "shape", "datatype"],
        json!({
            "name": { "type": "string" },
            "shape": shape,
            "datatype": reference("DataType"),
            "parameters": reference("InputParameters"),
            "data": reference("Data"),
        }),
    );
    let mut output = input.clone();
    output["properties"]["parameters"] = object(
        &[],
        json!({ "binary_data_size": { "type": "integer", "minimum": 0 } }),
    );
    let requested = object(
        &["name"],
        json!({ "name": { "type": "string" }, "parameters": reference("RequestedOutputParameters") }),
    );
    vec![
        ("DataType", json!({ "enum": datatypes })),
        (
            "Data",
            json!({
                "type": "array",
                "description": "Elements in row-major order, flat or nested as `shape` says; absent where `binary_data_size` is given. Bytes that are no text are `{\"b64\": \"...\"}`.",
                "items": { "type": ["number", "string", "boolean", "array", "object"] },
            }),
        ),
        ("Input", input),
        ("Output", output),
        (
            "InferenceRequest",
            object(
                &["inputs"],
                json!({
                    "id": { "type": "string", "description": "Comes back in the answer." },
                    "parameters": reference("RequestParameters"),
                    "inputs": array(reference("Input")),
                    "outputs": { "description": "The outputs wanted; all when absent.", "type": "array", "items": requested },
                }),
            ),
        ),
        (
            "InferenceResponse",
            object(
                &["model_name", "outputs"],
                json!({
                    "model_name": { "type": "string" },
                    "model_version": { "type": "string" },
                    "id": { "type": "string" },
                    "parameters": reference("AnswerParameters"),
                    "outputs": array(reference("Output")),
                }),
            ),
        ),
    ]
}

fn graphs() -> Vec<(&'static str, Value)> {
    let count = json!({ "type": "integer", "minimum": 0 });
    let text = json!({ "type": "string" });
    let on = json!({ "type": "boolean" });
    let graph = object(
        &[
            "name",
            "models",
            "version",
            "visible_version",
            "pending",
            "nodes",
            "edges",
            "features",
            "directed",
            "log_bytes",
        ],
        json!({
            "name": text,
            "models": array(text.clone()),
            "version": count,
            "visible_version": { "type": "integer", "minimum": 0, "description": "The version that every model shows." },
            "pending": count, "nodes": count, "edges": count, "features": count,
            "directed": on,
            "log_bytes": count,
            "failed": { "type": "string", "description": "Why writes are refused until an operator has looked." },
        }),
    );
    vec![
        ("Graph", graph),
        (
            "Graphs",
            object(&["graphs"], json!({ "graphs": array(reference("Graph")) })),
        ),
        (
            "WriteRequest",
            object(
                &["inputs"],
                json!({
                    "id": { "type": "string", "description": "Comes back in the answer." },
                    "parameters": reference("WriteParameters"),
                    "inputs": array(reference("Input")),
                }),
            ),
        ),
        (
            "WriteResponse",
            object(
                &[
                    "graph_name",
                    "version",
                    "repeated",
                    "nodes_added",
                    "nodes_deleted",
                    "edges_added",
                    "edges_deleted",
                ],
                json!({
                    "graph_name": text, "id": text, "version": count, "repeated": on,
                    "nodes_added": count, "nodes_deleted": count,
                    "edges_added": count, "edges_deleted": count,
                }),
            ),
        ),
    ]
}

/// Maps of parameters, as the table of all parameters has them.
fn parameters() -> Vec<(&'static str, Value)> {
    let of = |place: Place| {
        let there = parameters::all().filter(|spec| spec.place == place);
        let schemas = there.map(|spec| (spec.name.to_owned(), parameter(spec)));
        Value::Object(schemas.collect())
    };
    let given = |place| {
        json!({
            "type": ["object", "null"],
            "properties": of(place),
            "additionalProperties": false,
        })
    };
    vec![
        ("RequestParameters", given(Place::Request)),
        ("InputParameters", given(Place::Input)),
        ("RequestedOutputParameters", given(Place::Output)),
        ("ControlParameters", given(Place::Control)),
        ("WriteParameters", given(Place::Write)),
        (
            "AnswerParameters",
            json!({
                "type": "object",
                "properties": of(Place::Answer),
                "additionalProperties": { "type": ["string", "number", "boolean"] },
            }),
        ),
    ]
}

fn parameter(spec: &ParameterSpec) -> Value {
    let mut schema = match (spec.usage, spec.values) {
        (Use::Refused(_), Values::Flag) => json!({ "const": false }),
        (Use::Refused(_), Values::Text) => json!({ "const": "" }),
        (Use::Refused(_), _) => json!({ "enum": [0, ""] }),
        (_, Values::Flag) => json!({ "type": "boolean" }),
        (_, Values::Whole(least)) => json!({ "type": "integer", "minimum": least }),
        (_, Values::Over(f64::NEG_INFINITY)) => json!({ "type": "number" }),
        (_, Values::Over(least)) => json!({ "type": "number", "exclusiveMinimum": least }),
        (_, Values::Share) => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        (_, Values::Word(words)) => json!({ "enum": words }),
        (_, Values::Text) => json!({ "type": "string" }),
        (_, Values::Anything) => json!({}),
    };
    let reader = match spec.reader {
        Reader::Every | Reader::Transport => String::new(),
        reader => format!(" For {}.", reader.name()),
    };
    let default = match spec.default {
        "" => String::new(),
        default => format!(" Without it: {default}."),
    };
    let description = format!("{}.{reader}{default}", capitalized(spec.doc));
    schema["description"] = description.into();
    schema
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

fn statistics() -> Vec<(&'static str, Value)> {
    let count = json!({ "type": "integer", "minimum": 0 });
    let duration = || reference("Duration");
    let stages = json!({
        "success": duration(), "fail": duration(), "queue": duration(),
        "compute_input": duration(), "compute_infer": duration(), "compute_output": duration(),
        "cache_hit": duration(), "cache_miss": duration(),
    });
    let batch = json!({
        "batch_size": count,
        "compute_input": duration(), "compute_infer": duration(), "compute_output": duration(),
    });
    let model = object(
        &["name", "version", "inference_stats", "batch_stats"],
        json!({
            "name": { "type": "string" },
            "version": { "type": "string" },
            "last_inference": { "type": "integer", "minimum": 0, "description": "Milliseconds since 1970; 0 for never." },
            "inference_count": count,
            "execution_count": count,
            "inference_stats": object(&["success", "fail"], stages),
            "batch_stats": array(object(&["batch_size"], batch)),
        }),
    );
    vec![
        (
            "Duration",
            object(&["count", "ns"], json!({ "count": count, "ns": count })),
        ),
        (
            "Statistics",
            object(&["model_stats"], json!({ "model_stats": array(model) })),
        ),
    ]
}

fn plans() -> (&'static str, Value) {
    let share = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    let promise = object(
        &["expected", "lower_bound"],
        json!({ "expected": share, "lower_bound": share }),
    );
    let audited = object(
        &[
            "promised_agreement",
            "observed_agreement",
            "inputs",
            "broken_promises",
        ],
        json!({
            "promised_agreement": share,
            "observed_agreement": share,
            "inputs": { "type": "integer", "minimum": 0 },
            "broken_promises": { "type": "integer", "minimum": 0 },
        }),
    );
    let plan = object(
        &["plan", "predicted_ms", "promises"],
        json!({
            "plan": { "type": "string" },
            "predicted_ms": { "type": "number", "minimum": 0, "description": "Alone on this machine." },
            "promises": object(&[], json!({ "accuracy": promise, "fidelity": promise })),
            "audited": audited,
        }),
    );
    let properties = json!({
        "model_name": { "type": "string" },
        "model_version": { "type": "string" },
        "predicted_for": { "enum": ["one input", "the smallest request"] },
        "plans": array(plan),
    });
    let required = ["model_name", "model_version", "predicted_for", "plans"];
    ("Plans", object(&required, properties))
}

fn history() -> (&'static str, Value) {
    let count = json!({ "type": "integer", "minimum": 0 });
    let text = json!({ "type": "string" });
    let counts = array(count.clone());
    let pair = json!({ "type": ["array", "null"], "items": { "type": "number" }, "minItems": 2, "maxItems": 2 });
    let metric = object(
        &["name", "help", "value"],
        json!({ "name": text, "help": text, "label": text, "value": count }),
    );
    let model = json!({
        "name": text, "version": text, "platform": text, "state": text, "plans": array(text.clone()),
        "at_ms": counts, "answered": counts, "kept": counts, "late": counts, "refused": counts,
        "failed": counts, "waiting": counts,
        "durations": {
            "type": "array", "items": counts,
            "description": "Answered requests that took no longer than each of `bounds_ms`, and all.",
        },
        "by_plan": { "type": "array", "items": counts, "description": "Answers by plan, in the order of `plans`." },
        "audits": {
            "type": "array", "items": array(pair),
            "description": "Agreement promised and observed, by plan in the order of `plans`.",
        },
        "engine": array(metric),
    });
    let required: Vec<&str> = model
        .as_object()
        .map(|fields| fields.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let model = object(&required, model.clone());
    let properties = json!({
        "state": text, "uptime_s": count, "range": text, "step_s": count,
        "bounds_ms": { "type": "array", "items": { "type": "number" } },
        "models": array(model),
    });
    let required = [
        "state",
        "uptime_s",
        "range",
        "step_s",
        "bounds_ms",
        "models",
    ];
    ("History", object(&required, properties))
}

fn settings() -> Vec<(&'static str, Value)> {
    let on = json!({ "type": "boolean" });
    let log = json!({
        "log_file": { "const": "" },
        "log_info": on, "log_warning": on, "log_error": on,
        "log_verbose_level": { "type": "integer", "minimum": 0 },
        "log_format": { "const": "default" },
    });
    let number = json!({ "type": "string", "pattern": "^(-1|[0-9]+)$" });
    let level = json!({ "enum": ["OFF", "TIMESTAMPS"] });
    let traces = json!({
        "trace_level": { "type": "array", "items": level, "minItems": 1, "maxItems": 1 },
        "trace_rate": number,
        "trace_count": number,
        "log_frequency": { "const": "0" },
        "trace_file": { "const": "" },
        "trace_mode": { "const": "opentelemetry" },
    });
    let changes = json!({
        "trace_level": { "anyOf": [level, { "type": "array", "items": level, "minItems": 1, "maxItems": 1 }, { "type": "null" }] },
        "trace_rate": { "type": ["string", "integer", "null"], "pattern": "^[0-9]{1,9}$", "minimum": 0, "maximum": 999_999_999 },
        "trace_count": { "type": ["string", "integer", "null"], "pattern": "^(-1|[0-9]{1,18})$", "minimum": -1, "maximum": 999_999_999 },
        "log_frequency": { "enum": ["0", 0, null] },
        "trace_file": { "enum": ["", null] },
        "trace_mode": { "enum": ["opentelemetry", null] },
    });
    let required = |value: &Value| -> Vec<String> {
        value
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys().cloned())
            .collect()
    };
    let closed = |properties: Value, required: Vec<String>| {
        json!({
            "type": "object",
            "required": required,
            "properties": properties,
            "additionalProperties": false,
        })
    };
    let (log_keys, trace_keys) = (required(&log), required(&traces));
    vec![
        ("LogSettings", closed(log.clone(), log_keys)),
        ("LogChanges", closed(log, Vec::new())),
        ("TraceSettings", closed(traces, trace_keys)),
        ("TraceChanges", closed(changes, Vec::new())),
    ]
}
