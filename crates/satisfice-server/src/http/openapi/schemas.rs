//! What bodies look like.

#![expect(
    clippy::needless_pass_by_value,
    reason = "schemas are put together from literals"
)]

use satisfice_core::DataType;
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
                "enum": ["ready", "degraded", "forming", "draining", "unknown"],
                "description": "`degraded` answers, but something is missing or slow; `forming` waits for other machines; `unknown` is no model.",
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
        "ControlRequest": object(&[], json!({
            "parameters": object(&[], json!({ "unload_dependents": on })),
        })),
    });
    for (name, schema) in inference()
        .into_iter()
        .chain(statistics())
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
            "parameters": reference("Parameters"),
            "data": reference("Data"),
        }),
    );
    let mut output = input.clone();
    output["required"] = json!(["name", "shape", "datatype"]);
    let requested = object(
        &["name"],
        json!({ "name": { "type": "string" }, "parameters": reference("Parameters") }),
    );
    vec![
        ("DataType", json!({ "enum": datatypes })),
        (
            "Parameters",
            json!({
                "type": ["object", "null"],
                "additionalProperties": { "type": ["string", "number", "boolean"] },
            }),
        ),
        (
            "Data",
            json!({
                "type": "array",
                "description": "Elements in row-major order, flat or nested as `shape` says; absent where `binary_data_size` is given.",
                "items": { "type": ["number", "string", "boolean", "array"] },
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
                    "parameters": reference("Parameters"),
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
                    "parameters": reference("Parameters"),
                    "outputs": array(reference("Output")),
                }),
            ),
        ),
    ]
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
