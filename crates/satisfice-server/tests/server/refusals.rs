//! Requests that are refused, with their status and code.

use crate::client::Server;
use satisfice_server::{
    Admission, Limits,
    protocol::{TensorLimits, client::decode_refusal},
};

fn input(rest: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x",{rest}}}]}}"#)
}

#[test]
fn malformed_messages() {
    let server = Server::start();
    for (body, code) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[]", "invalid_message"),
        ("null", "invalid_message"),
        ("{}", "invalid_message"),
        (r#"{"inputs":{}}"#, "invalid_message"),
        (r#"{"inputs":[]} garbage"#, "invalid_json"),
        (r#"{"inputs":[],"id":7}"#, "invalid_message"),
        (r#"{"inputs":[],"outputs":[{}]}"#, "invalid_message"),
        (
            r#"{"inputs":[],"parameters":{"a":{"b":1}}}"#,
            "wrong_parameter",
        ),
        (r#"{"inputs":[],"output":[]}"#, "misspelled_key"),
    ] {
        server.infer("echo", body).refused(400, code);
    }
    let not_utf8 = server.post("/v2/models/echo/infer", "", b"{\"inputs\":[\xff]}");
    not_utf8.refused(400, "invalid_json");
}

/// The rest of an input, the code of the refusal, and what its message says.
const WRONG_TENSORS: &[(&str, &str, &str)] = &[
    (
        r#""datatype":"FP8","shape":[1],"data":[1]"#,
        "unknown_datatype",
        "FP8",
    ),
    (r#""datatype":"INT8","shape":[1]"#, "data_missing", "`x`"),
    (
        r#""datatype":"INT8","shape":[-1],"data":[1]"#,
        "negative_shape",
        "-1",
    ),
    (
        r#""datatype":"INT8","shape":[1.5],"data":[1]"#,
        "invalid_message",
        "1.5",
    ),
    (
        r#""datatype":"INT8","shape":[2],"data":[1]"#,
        "wrong_data",
        "[2]",
    ),
    (
        r#""datatype":"INT8","shape":[1],"data":[1,2]"#,
        "wrong_data",
        "[1]",
    ),
    (
        r#""datatype":"INT8","shape":[1],"data":[[1]]"#,
        "wrong_data",
        "deeper",
    ),
    (
        r#""datatype":"INT8","shape":[1],"data":1"#,
        "wrong_data",
        "not an array",
    ),
    (
        r#""datatype":"UINT8","shape":[2],"data":[1,300]"#,
        "wrong_data",
        "element 1 is 300",
    ),
    (
        r#""datatype":"INT32","shape":[1],"data":[1.5]"#,
        "wrong_data",
        "1.5",
    ),
    (
        r#""datatype":"BOOL","shape":[1],"data":[2]"#,
        "wrong_data",
        "true, false, 1 or 0",
    ),
    (
        r#""datatype":"BYTES","shape":[1],"data":[2]"#,
        "wrong_data",
        "a string",
    ),
    (
        r#""datatype":"FP32","shape":[1],"data":[1e39]"#,
        "wrong_data",
        "1e39",
    ),
    (
        r#""datatype":"FP32","shape":[1],"data":[NaN]"#,
        "invalid_json",
        "",
    ),
    (
        r#""datatype":"FP32","shape":[1],"data":[Infinity]"#,
        "invalid_json",
        "",
    ),
    (
        r#""datatype":"FP32","shape":[1],"data":["NaN"]"#,
        "wrong_data",
        "NaN",
    ),
    (
        r#""datatype":"FP16","shape":[1],"data":[1]"#,
        "needs_binary",
        "binary",
    ),
    (
        r#""datatype":"BF16","shape":[1],"data":[1]"#,
        "needs_binary",
        "binary",
    ),
    (
        r#""datatype":"INT8","shape":[1],"data":[1],"data":[2]"#,
        "invalid_message",
        "data",
    ),
    (
        r#""datatype":"INT8","shape":[1],"data":[1],"parameters":{"binary_data_size":1}"#,
        "ambiguous_data",
        "",
    ),
    (
        r#""datatype":"INT8","shape":[1],"parameters":{"binary_data_size":1}"#,
        "wrong_binary_data",
        "inference-header",
    ),
    (
        r#""datatype":"INT8","shape":[1],"parameters":{"binary_data_size":-1}"#,
        "wrong_parameter",
        "",
    ),
];

#[test]
fn wrong_tensors() {
    let server = Server::start();
    for &(rest, code, word) in WRONG_TENSORS {
        let message = server.infer("echo", &input(rest)).refused(400, code);
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn shapes_over_the_limits() {
    let server = Server::start();
    for shape in [
        "[9223372036854775807]",
        "[4294967296,4294967296]",
        "[9223372036854775807,9223372036854775807,9223372036854775807]",
        "[67108865]",
    ] {
        let rest = format!(r#""datatype":"INT8","shape":{shape},"data":[]"#);
        let answer = server.infer("echo", &input(&rest));
        answer.refused(413, "too_many_elements");
    }
    let dimensions = vec!["1"; 100_000].join(",");
    let rest = format!(r#""datatype":"INT8","shape":[{dimensions}],"data":[1]"#);
    let answer = server.infer("echo", &input(&rest));
    answer.refused(413, "too_many_dimensions");
}

#[test]
fn ten_million_elements_over_the_limit() {
    let limits = Limits {
        tensors: TensorLimits {
            elements_max: 1_000_000,
            ..TensorLimits::default()
        },
        ..Limits::default()
    };
    let server = Server::with(Admission::default(), limits);
    let data = vec!["1"; 10_000_000].join(",");
    for (shape, status, code) in [
        (10_000_000, 413, "too_many_elements"),
        (1_000_000, 400, "wrong_data"),
    ] {
        let rest = format!(r#""datatype":"FP32","shape":[{shape}],"data":[{data}]"#);
        server.infer("echo", &input(&rest)).refused(status, code);
    }
}

#[test]
fn deep_nesting() {
    let server = Server::start();
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let rest = format!(r#""datatype":"INT8","shape":[1],"data":{deep}"#);
    let message = server
        .infer("echo", &input(&rest))
        .refused(400, "wrong_data");
    assert!(message.contains("deeper"), "{message}");
    for body in [
        format!(r#"{{"inputs":{deep}}}"#),
        format!(r#"{{"inputs":[],"parameters":{deep}}}"#),
    ] {
        server.infer("echo", &body).refused(400, "invalid_message");
    }
    let parameter = format!(r#"{{"inputs":[],"parameters":{{"a":{deep}}}}}"#);
    server
        .infer("echo", &parameter)
        .refused(400, "wrong_parameter");
    for body in [
        format!(
            r#"{{"inputs":[],"parameters":{{"a":{}"#,
            "[".repeat(1_000_000)
        ),
        format!(
            r#"{{"inputs":[],"parameters":{}"#,
            r#"{"a":"#.repeat(1_000_000)
        ),
    ] {
        server.infer("echo", &body).refused(400, "invalid_json");
    }
    // A key that the protocol does not know is skipped without recursion.
    let unknown = format!(r#"{{"inputs":[],"other":{deep}}}"#);
    assert_eq!(server.infer("echo", &unknown).status, 200);
}

#[test]
fn names() {
    let server = Server::start();
    let x = r#"{"name":"x","datatype":"INT8","shape":[1],"data":[1]}"#;
    let twice = format!(r#"{{"inputs":[{x},{x}]}}"#);
    server.infer("echo", &twice).refused(400, "duplicate_name");
    let outputs = r#"{"inputs":[],"outputs":[{"name":"x"},{"name":"x"}]}"#;
    server.infer("echo", outputs).refused(400, "duplicate_name");
    let other = x.replace("\"x\"", "\"w\"");
    let message = server
        .infer("echo", &format!(r#"{{"inputs":[{other}]}}"#))
        .refused(400, "unknown_input");
    assert!(message.contains("`x`, `y`, `z`"), "{message}");
    let message = server
        .infer("echo", r#"{"inputs":[],"outputs":[{"name":"w"}]}"#)
        .refused(400, "unknown_output");
    assert!(message.contains("`x`, `y`, `z`"), "{message}");
    // What a client sent does not fill the answer.
    let long = "n".repeat(1_000_000);
    let body = format!(r#"{{"inputs":[],"outputs":[{{"name":"{long}"}}]}}"#);
    let message = server.infer("echo", &body).refused(400, "unknown_output");
    assert!(message.len() < 300);
    let body = format!(r#"{{"inputs":"{long}"}}"#);
    let message = server.infer("echo", &body).refused(400, "invalid_message");
    assert!(message.len() < 400);
}

#[test]
fn too_many_tensors() {
    let server = Server::start();
    let inputs: Vec<_> = (0..10_000)
        .map(|i| format!(r#"{{"name":"{i}","datatype":"INT8","shape":[0],"data":[]}}"#))
        .collect();
    let body = format!(r#"{{"inputs":[{}]}}"#, inputs.join(","));
    let message = server.infer("echo", &body).refused(413, "too_many_tensors");
    assert!(message.contains("10000 inputs"), "{message}");
    let outputs: Vec<_> = (0..300).map(|i| format!(r#"{{"name":"{i}"}}"#)).collect();
    let body = format!(r#"{{"inputs":[],"outputs":[{}]}}"#, outputs.join(","));
    server.infer("echo", &body).refused(413, "too_many_tensors");
}

#[test]
fn wrong_binary_tensors() {
    let server = Server::start();
    let path = "/v2/models/echo/infer";
    let head = |size: usize| {
        input(&format!(
            r#""datatype":"INT16","shape":[2],"parameters":{{"binary_data_size":{size}}}"#
        ))
    };
    let send = |head: &str, tail: &[u8]| {
        let header = format!("Inference-Header-Content-Length: {}\r\n", head.len());
        let mut body = head.as_bytes().to_vec();
        body.extend(tail);
        server.post(path, &header, &body)
    };
    assert_eq!(send(&head(4), &[0; 4]).status, 200);
    send(&head(4), &[0; 3]).refused(400, "wrong_binary_data");
    send(&head(4), &[0; 5]).refused(400, "bytes_left_over");
    send(&head(2), &[0; 2]).refused(400, "wrong_binary_data");
    send(&head(6), &[0; 6]).refused(400, "wrong_binary_data");
    send(&head(usize::MAX / 2), &[0; 6]).refused(400, "wrong_binary_data");
    let bytes = input(r#""datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}"#);
    send(&bytes, &[9, 0, 0, 0, 0]).refused(400, "wrong_binary_data");

    let body = head(4);
    for (value, status, code) in [
        ("0", 400, "raw_request"),
        ("1", 400, "invalid_json"),
        ("1000000", 400, "wrong_json_length"),
        ("99999999999999999999999999", 400, "wrong_json_length"),
        ("-1", 400, "wrong_header"),
        ("abc", 400, "wrong_header"),
        ("+5", 400, "wrong_header"),
        ("", 400, "wrong_header"),
        (
            "5\r\nInference-Header-Content-Length: 6",
            400,
            "wrong_header",
        ),
    ] {
        let header = format!("Inference-Header-Content-Length: {value}\r\n");
        let answer = server.post(path, &header, body.as_bytes());
        answer.refused(status, code);
    }
}

#[test]
fn answers_that_json_cannot_hold() {
    let server = Server::start();
    for (datatype, raw) in [
        ("FP32", &[0, 0, 192, 127][..]),
        ("FP16", &[0, 0]),
        ("BYTES", &[1, 0, 0, 0, 255]),
    ] {
        let size = raw.len();
        let head = input(&format!(
            r#""datatype":"{datatype}","shape":[1],"parameters":{{"binary_data_size":{size}}}"#
        ));
        let header = format!("Inference-Header-Content-Length: {}\r\n", head.len());
        let body = [head.as_bytes(), raw].concat();
        let answer = server.post("/v2/models/echo/infer", &header, &body);
        let message = answer.refused(400, "needs_binary");
        assert!(message.contains("output `x`"), "{message}");
    }
}

#[test]
fn what_is_not_offered() {
    let server = Server::start();
    let body =
        r#"{"inputs":[],"outputs":[{"name":"x","parameters":{"shared_memory_region":"r"}}]}"#;
    server
        .infer("echo", body)
        .refused(501, "unsupported_output");
    let path = "/v2/models/echo/infer";
    let answer = server.post(path, "Content-Encoding: br\r\n", b"xx");
    let message = answer.refused(415, "unsupported_encoding");
    assert!(message.contains("without Content-Encoding"), "{message}");
    let identity = "Content-Encoding: identity\r\n";
    assert_eq!(server.post(path, identity, b"{\"inputs\":[]}").status, 200);
}

#[test]
fn every_kind_has_its_status() {
    let server = Server::start();
    for (kind, status) in [
        ("InvalidInput", 400),
        ("NotFound", 404),
        ("Unsupported", 501),
        ("TooLarge", 413),
        ("Unavailable", 503),
        ("DeadlineExceeded", 504),
        ("Internal", 500),
    ] {
        let body = format!(r#"{{"inputs":[],"parameters":{{"do":"{kind}"}}}}"#);
        let answer = server.infer("failing", &body);
        let message = answer.refused(status, "asked_for");
        assert_eq!(message, format!("{kind} ask for something else"));
        let refusal = decode_refusal(&answer.body).unwrap();
        assert_eq!(
            (&*refusal.message, refusal.code.as_deref()),
            (kind, Some("asked_for"))
        );
    }
    assert_eq!(decode_refusal(b"<html>"), None);
}

#[test]
fn a_panic_fails_one_request() {
    let server = Server::start();
    let panic = r#"{"inputs":[],"parameters":{"do":"panic"}}"#;
    for _ in 0..20 {
        server
            .infer("failing", panic)
            .refused(500, "engine_panicked");
    }
    assert_eq!(server.infer("failing", r#"{"inputs":[]}"#).status, 200);
}
