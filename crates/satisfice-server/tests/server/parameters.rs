//! The table of all parameters, and what is generated from it; unknown and ill-typed ones on both transports.

use crate::client::Server;
use satisfice_core::parameters::{self, ParameterSpec, Place, Reader, Use, Values};
use std::{env, fmt::Write as _, fs};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn check_committed(path: &str, text: &str) {
    let file = format!("{ROOT}/{path}");
    if env::var_os("UPDATE_PARAMETERS").is_some() {
        fs::write(&file, text).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "{path} is out of date: run this test with UPDATE_PARAMETERS=1"
    );
}

fn of_place(place: Place) -> impl Iterator<Item = &'static ParameterSpec> {
    parameters::all().filter(move |spec| spec.place == place)
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn outcome(spec: &ParameterSpec) -> String {
    let status = |kind: &str| format!("{kind} `{}`", spec.code);
    match spec.usage {
        Use::Served if spec.values == Values::Anything => "never".to_owned(),
        Use::Ignored if spec.values == Values::Anything => {
            "never; nothing depends on it".to_owned()
        }
        Use::Served => status("400"),
        Use::Ignored => status("400") + "; otherwise nothing depends on it",
        Use::Refused(way_out) => format!(
            "{} unless it is `false`, 0 or empty: {way_out}",
            status("501")
        ),
    }
}

fn rows(text: &mut String, place: Place) {
    text.push_str("\n| parameter | what it may be | without it | what it says | for | refused |\n|---|---|---|---|---|---|\n");
    for spec in of_place(place) {
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            spec.name,
            cell(&spec.values.to_string()),
            cell(spec.default),
            cell(spec.doc),
            spec.reader.name(),
            cell(&outcome(spec)),
        )
        .unwrap();
    }
}

/// `docs/parameters.md`.
fn document() -> String {
    let mut text = include_str!("parameters-head.md").to_owned();
    for (place, title, words) in [
        (
            Place::Request,
            "Of a request",
            "`parameters` of the request, over HTTP and gRPC alike.",
        ),
        (
            Place::Input,
            "Of an input",
            "`parameters` of an entry of `inputs`.",
        ),
        (
            Place::Output,
            "Of an output that is asked for",
            "`parameters` of an entry of `outputs`.",
        ),
        (
            Place::Control,
            "Of a request to load or unload a model",
            "Files of a model in `file:<path>` are refused with 501 `unsupported_parameter`: put them into the repository.",
        ),
        (
            Place::Write,
            "Of a write to a graph",
            "`parameters` of what is sent to `/v2/graphs/{graph}/apply`, over HTTP and gRPC alike.",
        ),
    ] {
        write!(text, "\n## {title}\n\n{words}\n").unwrap();
        rows(&mut text, place);
    }
    text.push_str("\n## Of an answer\n\n`parameters` of an answer say what was done.\n\n| parameter | what it is | what it says | of |\n|---|---|---|---|\n");
    for spec in of_place(Place::Answer) {
        let (values, doc, reader) = (spec.values.to_string(), spec.doc, spec.reader.name());
        writeln!(
            text,
            "| `{}` | {} | {} | {reader} |",
            spec.name,
            cell(&values),
            cell(doc)
        )
        .unwrap();
    }
    text
}

/// The Python client's table: what a caller may give.
fn python() -> String {
    let mut text = "\"\"\"Parameters that requests may have; generated from the server's table, do not edit.\"\"\"\n\n\
        from __future__ import annotations\n\n\
        # What each may be: a kind, and its words or its least value.\n\
        PARAMETERS: dict[str, tuple[str, tuple[str, ...] | float | None]] = {\n"
        .to_owned();
    let given =
        |spec: &&ParameterSpec| !matches!(spec.reader, Reader::Transport | Reader::Compatibility);
    for spec in of_place(Place::Request).filter(given) {
        let (kind, bound) = match spec.values {
            Values::Flag => ("flag", "None".to_owned()),
            Values::Whole(least) => ("whole", least.to_string()),
            Values::Over(least) => ("over", format!("{least:?}")),
            Values::Share => ("share", "None".to_owned()),
            Values::Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                ("word", format!("({})", words.join(", ")))
            }
            Values::Text => ("text", "None".to_owned()),
            Values::Anything => ("anything", "None".to_owned()),
        };
        writeln!(text, "    \"{}\": (\"{kind}\", {bound}),", spec.name).unwrap();
    }
    text + "}\n"
}

#[test]
fn documents_and_clients_have_the_table() {
    check_committed("docs/parameters.md", &document());
    check_committed("python/src/satisfice/_parameters.py", &python());
}

#[test]
fn a_parameter_that_nobody_reads_is_refused_with_the_nearest() {
    let server = Server::start();
    let ask = |parameters: &str| {
        let body = format!(r#"{{"inputs":[],"parameters":{parameters}}}"#);
        server.post("/v2/models/echo/infer", "", body.as_bytes())
    };
    for (parameters, code, words) in [
        (
            r#"{"min_fidelty":0.9}"#,
            "unknown_parameter",
            "`min_fidelity`",
        ),
        (r#"{"Plan":"exact"}"#, "unknown_parameter", "`plan`"),
        (r#"{"node_ids":"own"}"#, "unknown_parameter", "graph models"),
        (r#"{"":1}"#, "unknown_parameter", "`deadline_ms`"),
        (r#"{"plan":1}"#, "unknown_plan", "`plan`: the plan"),
        (r#"{"deadline_ms":[20]}"#, "wrong_parameter", "milliseconds"),
        (
            r#"{"contract":{"deadline_ms":20}}"#,
            "wrong_parameter",
            "of their own",
        ),
        (
            r#"{"priority":1e300}"#,
            "wrong_parameter",
            "higher numbers later",
        ),
    ] {
        let message = ask(parameters).refused(400, code);
        assert!(message.contains(words), "{parameters}: {message}");
    }
    let sequence = ask(r#"{"sequence_id":7}"#).refused(501, "unsupported_parameter");
    assert!(sequence.contains("leave it out"), "{sequence}");
    for parameters in [
        "null",
        r#"{"priority":null,"content_type":"np","headers":{"a":["b"]}}"#,
        r#"{"priority":"2","deadline_ms":"60000","timeout":60000000.0}"#,
        r#"{"sequence_id":0,"sequence_start":false,"sequence_end":false}"#,
    ] {
        assert_eq!(ask(parameters).status, 200, "{parameters}");
    }
}
