//! Every route, and what is no route.

use crate::client::Server;
use serde_json::json;

#[test]
fn health() {
    let server = Server::start();
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/echo/ready",
        "/v2/models/echo/versions/2/ready",
    ] {
        let answer = server.get(path);
        let json = answer.json();
        let said = json.get("ready").or(json.get("live"));
        assert_eq!((answer.status, said), (200, Some(&json!(true))), "{path}");
    }
    for path in [
        "/v2/models/other/ready",
        "/v2/models/echo/versions/3/ready",
        "/v2/models/..%2f..%2fetc/ready",
    ] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, &answer.json()["ready"]),
            (400, &json!(false)),
            "{path}"
        );
    }
    server.service.drain();
    assert_eq!(server.get("/v2/health/live").status, 200);
    assert_eq!(server.get("/v2/health/ready").status, 400);
    assert_eq!(server.get("/v2/models/echo/ready").status, 400);
}

#[test]
fn metadata() {
    let server = Server::start();
    for path in ["/v2", "/v2/"] {
        let json = server.get(path).json();
        assert_eq!(json["name"], "satisfice");
        assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(json["extensions"][0], "binary_tensor_data");
    }
    for path in ["/v2/models/echo", "/v2/models/echo/versions/2"] {
        let json = server.get(path).json();
        assert_eq!(json["name"], "echo");
        assert_eq!(json["versions"], json!(["2", "10"]));
        assert_eq!(json["platform"], "echo");
        let x = json!({"name": "x", "datatype": "FP32", "shape": [-1]});
        assert_eq!(json["inputs"][0], x);
        assert_eq!(json["outputs"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn the_latest_version_is_the_highest_number() {
    let server = Server::start();
    let body = r#"{"inputs":[]}"#;
    assert_eq!(server.infer("echo", body).json()["model_version"], "10");
    let answer = server.infer("echo/versions/2", body);
    assert_eq!(answer.json()["model_version"], "2");
}

#[test]
fn what_is_not_there() {
    let server = Server::start();
    for path in [
        "/v2/models/other",
        "/v2/models/..%2f..%2fetc%2fpasswd",
        "/v2/models/%00",
        "/v2/models/echo%20",
        "/v2/models/a%0d%0aX:1",
    ] {
        let message = server.get(path).refused(404, "model_not_found");
        assert!(message.contains("`echo`, `failing`"), "{message}");
    }
    for version in ["3", "02", "+2", "-2", "latest", "2%20"] {
        let path = format!("/v2/models/echo/versions/{version}");
        let message = server.get(&path).refused(404, "version_not_found");
        assert!(message.contains("`2`, `10`"), "{message}");
    }
    for path in ["/v3", "/v2/models", "/v2/models/echo/none", "/%2e%2e"] {
        server.get(path).refused(404, "route_not_found");
    }
    assert_eq!(server.post("/v2/models//infer", "", b"{}").status, 404);
    server.get("/v2/models/%ff").refused(400, "wrong_path");
    server.infer("other", "{}").refused(404, "model_not_found");
}

#[test]
fn wrong_methods() {
    let server = Server::start();
    let answer = server.get("/v2/models/echo/infer");
    answer.refused(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
    server
        .post("/v2/health/live", "", b"")
        .refused(405, "method_not_allowed");
}

#[test]
fn the_page_shows_every_model() {
    let server = Server::start();
    let answer = server.get("/");
    let page = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200);
    for text in ["<h2>echo</h2>", "<h2>gate</h2>", "/v2/models/failing/infer"] {
        assert!(page.contains(text), "{page}");
    }
    assert!(!page.contains("src="));
}

#[test]
fn a_model_without_measured_plans_has_none_to_show() {
    let server = Server::start();
    for path in ["/v2/models/echo/plans", "/v2/models/echo/versions/2/plans"] {
        let plans = server.get(path).json();
        assert_eq!(plans["model_name"], "echo");
        assert_eq!(plans["plans"].as_array().unwrap().len(), 0);
    }
    let answer = server.get("/v2/models/nobody/plans");
    answer.refused(404, "model_not_found");
}

#[test]
fn every_answer_has_a_request_id() {
    let server = Server::start();
    let first = server.get("/v2").header("x-request-id").unwrap().to_owned();
    let second = server.get("/nothing");
    assert_ne!(second.header("x-request-id"), Some(&*first));
    let named = server
        .raw(b"GET /v2 HTTP/1.1\r\nHost: t\r\nConnection: close\r\nX-Request-Id: mine\r\n\r\n");
    assert_eq!(named.header("x-request-id"), Some("mine"));
    let long = format!(
        "GET /v2 HTTP/1.1\r\nHost: t\r\nConnection: close\r\nX-Request-Id: {}\r\n\r\n",
        "a".repeat(129)
    );
    let answer = server.raw(long.as_bytes());
    assert!(answer.header("x-request-id").unwrap().len() < 129);
}
