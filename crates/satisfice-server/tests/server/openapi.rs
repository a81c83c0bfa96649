//! The OpenAPI document, the committed copy of it, and the routes say the same.

use crate::client::Server;
use satisfice_server::http::openapi;
use serde_json::Value;
use std::{collections::BTreeSet, env, fs};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

#[test]
fn the_committed_copy_is_the_document() {
    let text = serde_json::to_string_pretty(&openapi()).unwrap() + "\n";
    if env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(COMMITTED, &text).unwrap();
    }
    let committed = fs::read_to_string(COMMITTED).unwrap();
    assert!(
        committed == text,
        "docs/openapi.json is out of date: run this test with UPDATE_OPENAPI=1"
    );
}

/// Method and path of every operation.
fn operations() -> Vec<(String, String)> {
    let document = openapi();
    let paths = document["paths"].as_object().unwrap().iter();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().keys();
        let methods = methods.filter(|key| *key != "parameters");
        methods
            .map(|method| (method.to_uppercase(), path.clone()))
            .collect::<Vec<_>>()
    };
    paths.flat_map(of_path).collect()
}

#[test]
fn every_operation_is_a_route_and_other_methods_are_not() {
    let server = Server::start();
    let operations = operations();
    let documented: BTreeSet<_> = operations.iter().cloned().collect();
    for (_, path) in &operations {
        let filled = path.replace("{model}", "echo").replace("{version}", "2");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let request = format!(
                "{method} {filled} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
            );
            let answer = server.raw(request.as_bytes());
            if documented.contains(&(method.to_owned(), path.clone())) {
                assert_ne!(answer.status, 405, "{method} {path}");
                assert_ne!(answer.status, 404, "{method} {path}");
            } else {
                assert_eq!(answer.status, 405, "{method} {path}");
            }
        }
    }
}

#[test]
fn what_the_error_for_wrong_paths_names_is_documented() {
    let server = Server::start();
    let message = server.get("/nothing").refused(404, "route_not_found");
    for (_, path) in operations() {
        let last = path.rsplit('/').next().unwrap_or_default();
        let known = path == "/" || path == "/openapi.json" || last.starts_with('{');
        assert!(
            known || message.contains(last),
            "{path} is not in: {message}"
        );
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(document: &Value, value: &Value) {
        match value {
            Value::Object(entries) => {
                if let Some(Value::String(reference)) = entries.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                entries.values().for_each(|value| check(document, value));
            }
            Value::Array(items) => items.iter().for_each(|item| check(document, item)),
            _ => {}
        }
    }
    let document = openapi();
    check(&document, &document);
    assert_eq!(Server::start().get("/openapi.json").json(), document);
}
