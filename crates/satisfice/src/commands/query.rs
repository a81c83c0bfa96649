use super::{Output, plans};
use crate::{
    cli::{Contract, Query},
    http_client::{HttpClient, graph_request},
};
use anyhow::{Result, ensure};
use satisfice_core::{
    InferResponse, Parameter, Parameters, TensorData,
    parameters::{DEADLINE_MS, EXPLAIN, EXPLANATION, MIN_ACCURACY, MIN_FIDELITY, PRIORITY},
};
use satisfice_graph::argmax;
use satisfice_store::Queries;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

pub(crate) fn run(args: &Query, output: Output) -> Result<()> {
    let queries = Queries::open(&args.queries)?;
    ensure!(
        args.rows.end <= queries.len(),
        "{}: rows {:?} are asked for, but there are {} queries",
        args.queries.display(),
        args.rows,
        queries.len()
    );
    let batch = queries.batch(args.rows.clone());
    let client = HttpClient::new(&args.url).with_token(args.token.as_deref());
    let outputs = answer_outputs(&client, &args.model)?;
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut request = graph_request(&batch, args.plan, None, &outputs)?;
    request.parameters.extend(promised(&args.contract));
    let answer = client.infer_graph(&args.model, &request)?;
    let class_names = class_names(&answer.response);
    let width = answer.outputs.len() / batch.queries();
    let rows: Vec<Value> = answer
        .outputs
        .chunks_exact(width)
        .zip(args.rows.clone())
        .enumerate()
        .map(|(index, (values, query))| {
            let class = argmax(values);
            json!({
                "query": query,
                "name": queries.name(query),
                "class": class,
                "class_name": class_names.as_ref().and_then(|names| names.get(index)),
                "probability": softmax_of(values, class as usize),
                "label": batch.labels.as_ref().map(|labels| labels[index]),
            })
        })
        .collect();
    let parameters = parameters(&answer.response);
    let document = json!({ "model": args.model, "answers": rows, "parameters": parameters });
    output.print(&document, || text(&rows, &answer.response.parameters))
}

/// The contract as parameters of a request.
fn promised(contract: &Contract) -> Parameters {
    let named = [
        (DEADLINE_MS, &contract.deadline_ms),
        (MIN_ACCURACY, &contract.min_accuracy),
        (MIN_FIDELITY, &contract.min_fidelity),
        (PRIORITY, &contract.priority),
    ];
    let named = named
        .into_iter()
        .filter_map(|(spec, value)| Some((spec.name.to_owned(), value.clone()?)));
    let explain = contract
        .explain
        .then(|| (EXPLAIN.name.to_owned(), true.into()));
    let named = named.chain(explain);
    contract.others.iter().cloned().chain(named).collect()
}

/// The model's values, and the names of the classes where it has them.
fn answer_outputs(client: &HttpClient, model: &str) -> Result<Vec<String>> {
    let description = client.describe(model)?;
    let outputs = description
        .metadata
        .outputs
        .into_iter()
        .map(|spec| spec.name);
    let wanted = outputs
        .enumerate()
        .filter(|(index, name)| *index == 0 || name == "class_name");
    Ok(wanted.map(|(_, name)| name).collect())
}

/// The predicted classes by name, where the answer has them.
fn class_names(response: &InferResponse) -> Option<Vec<String>> {
    let output = response
        .outputs
        .iter()
        .find(|output| output.name == "class_name")?;
    let TensorData::Bytes(names) = output.tensor.data() else {
        return None;
    };
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    Some(names.iter().map(text).collect())
}

/// The share of the largest value after a softmax.
fn softmax_of(values: &[f32], class: usize) -> f32 {
    let top = values[class];
    1.0 / values.iter().map(|value| (value - top).exp()).sum::<f32>()
}

fn parameters(response: &InferResponse) -> Map<String, Value> {
    let value = |parameter: &Parameter| match parameter {
        Parameter::Bool(value) => json!(value),
        Parameter::Int(value) => json!(value),
        Parameter::Float(value) => json!(value),
        Parameter::String(value) => json!(value),
    };
    let parameters = response.parameters.iter();
    parameters
        .map(|(name, parameter)| (name.clone(), value(parameter)))
        .collect()
}

fn text(rows: &[Value], parameters: &Parameters) -> String {
    let mut text = format!(
        "{:<8} {:<32} {:>6} {:<16} {:>12} {:>6}\n",
        "query", "name", "class", "class name", "probability", "label"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:<8} {:<32} {:>6} {:<16} {:>12.3} {:>6}",
            row["query"],
            row["name"].as_str().unwrap_or("-"),
            row["class"],
            row["class_name"].as_str().unwrap_or("-"),
            row["probability"].as_f64().unwrap_or_default(),
            row["label"]
                .as_i64()
                .map_or("-".to_owned(), |label| label.to_string()),
        );
    }
    let explanation = parameters.get(EXPLANATION);
    let stages = parameters.iter().filter(|(name, _)| *name != EXPLANATION);
    let stages = stages.map(|(name, parameter)| match parameter {
        Parameter::Bool(value) => format!("{name} {value}"),
        Parameter::Int(value) => format!("{name} {value}"),
        Parameter::Float(value) => format!("{name} {value}"),
        Parameter::String(value) => format!("{name} {value}"),
    });
    let _ = writeln!(text, "{}", stages.collect::<Vec<_>>().join(", "));
    if let Some(Parameter::String(explanation)) = explanation {
        text.push_str(&explained(explanation));
    }
    text
}

/// Why the plan was taken, for people; nothing where the explanation is none.
fn explained(explanation: &str) -> String {
    let explanation: Value = serde_json::from_str(explanation).unwrap_or_default();
    let reason = explanation["reason"].as_str().unwrap_or_default();
    let plans = explanation["plans"].as_array();
    let mut text = format!(
        "\n{reason}\n\n{}",
        plans::table(plans.map_or(&[], Vec::as_slice))
    );
    let next = &explanation["next_more_expensive"];
    if let (Some(plan), Some(more)) = (next["plan"].as_str(), next["more_ms"].as_f64()) {
        let _ = writeln!(text, "\n`{plan}` would have taken {more:.3} ms more");
    }
    text
}
