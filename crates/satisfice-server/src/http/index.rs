//! A page for people: what is served, and how to ask.

use super::App;
use crate::{edge::Asked, service::ServedModel};
use axum::{
    extract::{Extension, State},
    http::{HeaderMap, header},
    response::Html,
};
use satisfice_core::TensorSpec;
use std::{fmt::Write, sync::Arc};

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content='width=device-width'><title>Satisfice</title><style>\
body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}\
td,th{text-align:left;padding:.1rem 1.5rem .1rem 0}pre{background:#8882;padding:.7rem;overflow:auto}\
</style><h1>Satisfice</h1>";

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
) -> Html<String> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let mut page = HEAD.to_owned();
    let mut models = app.service.models();
    models.retain(|model| asked.caller.sees(model.name()));
    for model in &models {
        model_section(&mut page, model, host);
    }
    if models.is_empty() {
        page.push_str("<p>No model is loaded.");
    }
    Html(page)
}

fn model_section(page: &mut String, model: &ServedModel, host: &str) {
    let description = model.describe();
    let metadata = &description.metadata;
    put(page, format_args!("<h2>{}</h2>", description.name));
    put(
        page,
        format_args!(
            "<p>{}, version {}<table><tr><th><th>name<th>datatype<th>shape",
            escape(&metadata.platform),
            description.versions.join(", ")
        ),
    );
    for (what, specs) in [("input", &metadata.inputs), ("output", &metadata.outputs)] {
        for TensorSpec {
            name,
            datatype,
            shape,
            ..
        } in specs
        {
            put(
                page,
                format_args!(
                    "<tr><td>{what}<td>{}<td>{datatype}<td>{shape:?}",
                    escape(name)
                ),
            );
        }
    }
    let inputs: Vec<_> = metadata.inputs.iter().map(example).collect();
    let curl = format!(
        "curl http://{host}/v2/models/{}/infer -d '{{\"inputs\": [{}]}}'",
        description.name,
        inputs.join(", ")
    );
    put(page, format_args!("</table><pre>{}</pre>", escape(&curl)));
}

/// An input as JSON, its elements left to the reader.
fn example(spec: &TensorSpec) -> String {
    let TensorSpec {
        name,
        datatype,
        shape,
        ..
    } = spec;
    format!(
        "{{\"name\": \"{name}\", \"datatype\": \"{datatype}\", \"shape\": {shape:?}, \"data\": [...]}}"
    )
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("invariant: writing to a String does not fail");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
