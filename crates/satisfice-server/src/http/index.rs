//! A page for people: what is served, how it fares, and how to ask. What is drawn comes from `/v2/history`.
//!
//! A browser cannot show a token by itself: where tokens are asked for, the page has a form that takes one, and asks for
//! the page with it. The page brings nothing from elsewhere.

mod example;

use super::{App, error::HttpError};
use crate::{
    access::Caller,
    edge::{Asked, ErrorCode},
    protocol::base64,
    service::{IndexEntry, ModelState, ServedModel},
};
use axum::{
    extract::{Extension, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::Authority},
    response::{Html, IntoResponse, Response},
};
use example::Asking;
use satisfice_core::TensorSpec;
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    sync::{Arc, LazyLock},
};

const STYLE: &str = include_str!("index/page.css");
const SCRIPT: &str = include_str!("index/page.js");

const FORM: &str = "<form method=post><p><label>This server asks for a token: \
<input name=token type=password autocomplete=off spellcheck=false required autofocus></label> <button>Show</button>\
<p>It is kept until this tab is closed. Programs send it as <code>Authorization: Bearer</code>.</form>\
<p><output></output> <button id=forget type=button hidden>Forget the token</button>\
<noscript><p>Without scripts a browser cannot send a token: ask with curl.</noscript>";

/// The state of the server, and how far back is looked.
const BAR: &str = "<div class=bar><span id=state role=status></span><fieldset><legend>Show the last</legend>\
<label><input type=radio name=range value=10m checked> 10 minutes</label>\
<label><input type=radio name=range value=2h> 2 hours</label>\
<label><input type=radio name=range value=24h> 24 hours</label></fieldset></div>";

/// Nothing but the page's own style and script, and requests to where it came from.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| base64::encode(&Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::try_from(policy).expect("invariant: base64 is visible ASCII")
});

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    if let Caller::Nobody(error) = &asked.caller {
        return match takes_html(&headers) {
            true => {
                let mut form = respond(StatusCode::UNAUTHORIZED, FORM, "<main></main>");
                form.extensions_mut().insert(ErrorCode(error.code()));
                Ok(form)
            }
            false => Err(error.clone().into()),
        };
    }
    let entries = app.service.index().await.unwrap_or_default();
    // HTTP/2 has the host in the address.
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or(uri.authority().map(Authority::as_str));
    let asking = Asking {
        scheme: match app.front.tls() {
            Some(_) => "https",
            None => "http",
        },
        host: host.unwrap_or("localhost"),
        with_token: matches!(asked.caller, Caller::Token(_)),
    };
    let main = main(&app, &asked.caller, &entries, &asking);
    Ok(respond(StatusCode::OK, "", &main))
}

/// Whether a person may be there to read.
fn takes_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|types| types.contains("text/html"))
}

fn respond(status: StatusCode, form: &str, main: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content='width=device-width'><title>Satisfice</title><link rel=icon href='data:,'><style>{STYLE}</style></head>\
         <body><header><h1>Satisfice</h1>{form}</header>{main}<script>{SCRIPT}</script></body></html>"
    );
    let mut response = (status, Html(page)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    let fixed = HeaderValue::from_static;
    headers.insert(header::REFERRER_POLICY, fixed("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(header::CACHE_CONTROL, fixed("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, fixed("Bearer"));
    }
    response
}

fn main(app: &App, caller: &Caller, entries: &[IndexEntry], asking: &Asking<'_>) -> String {
    let mut main = format!("<main>{BAR}");
    let mut models = app.service.models();
    models.retain(|model| caller.sees(model.name()));
    for model in &models {
        model_section(&mut main, model, asking);
    }
    let missing = entries
        .iter()
        .filter(|entry| entry.state != ModelState::Ready && caller.sees(&entry.name));
    for IndexEntry {
        name,
        state,
        reason,
        ..
    } in missing
    {
        let (name, reason) = (escape(name), escape(reason));
        let state = state.name();
        put(
            &mut main,
            format_args!("<h2>{name}</h2><p>{state}: {reason}"),
        );
    }
    if models.is_empty() {
        main.push_str("<p>No model is loaded.");
    }
    main.push_str("<p><a href=/openapi.json>The interface as OpenAPI</a></main>");
    main
}

fn model_section(page: &mut String, model: &ServedModel, asking: &Asking<'_>) {
    let description = model.describe();
    let metadata = &description.metadata;
    let name = &description.name;
    put(page, format_args!("<h2>{name}</h2>"));
    put(
        page,
        format_args!(
            "<section class=charts aria-label='What {name} does' data-model='{name}' data-version='{}'></section>",
            model.version()
        ),
    );
    put(
        page,
        format_args!(
            "<details><summary>Signature and an example</summary><p>{}, version {}<table><tr><th><th>name<th>datatype<th>shape",
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
    page.push_str("</table>");
    match example::line(model, asking) {
        Ok(Some(line)) => put(page, format_args!("<pre>{}</pre>", escape(&line))),
        Ok(None) | Err(_) => page.push_str("<p>Its inputs travel as binary data only."),
    }
    page.push_str("</details>");
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
