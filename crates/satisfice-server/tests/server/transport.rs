//! What is spoken on which port, requests that HTTP does not allow, and clients that send no more.

use crate::client::{Answer, Server, post};
use crate::engines::eventually;
use crate::grpc::{Client, request, typed};
use axum::http::{Request, Response, Uri};
use flate2::{Compression, write::GzEncoder};
use http_body_util::BodyExt;
use satisfice_server::{Admission, Limits, grpc::proto::ServerReadyRequest};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};
use tonic::{
    Code,
    body::Body,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tower::Service;

const EMPTY: &[u8] = br#"{"inputs":[]}"#;

/// An HTTP/2 connection.
async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

fn over_http_2(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let path: Uri = path.parse().unwrap();
    let request = Request::builder().method("POST").uri(path);
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.body(Body::empty()).unwrap()
}

async fn ask(channel: &mut Channel, request: Request<Body>) -> (Response<()>, Value) {
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let (parts, body) = channel.call(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (Response::from_parts(parts, ()), json)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_port_speaks_http_2_and_grpc() {
    let server = Server::start();
    let mut channel = channel(server.address).await;
    let mut client = Client::new(channel.clone());
    let ready = client.server_ready(ServerReadyRequest {}).await.unwrap();
    assert!(ready.into_inner().ready);
    let asked = request("echo", vec![typed("x", &[1.5])]);
    let answer = client.model_infer(asked).await.unwrap().into_inner();
    assert_eq!(
        answer.outputs[0].contents.as_ref().unwrap().fp32_contents,
        [1.5]
    );
    // Beside calls, on the same connection, what HTTP/1.1 clients get.
    let (answer, json) = ask(&mut channel, over_http_2("/v2/repository/index", &[])).await;
    assert_eq!(
        (answer.status().as_u16(), json[0]["name"].as_str()),
        (200, Some("echo"))
    );
    let (answer, json) = ask(&mut channel, over_http_2("/v2/nothing", &[])).await;
    assert_eq!(
        (answer.status().as_u16(), json["code"].as_str()),
        (404, Some("route_not_found"))
    );
    assert_eq!(server.get("/v2/health/live").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grpc_port_says_what_it_speaks() {
    let server = Server::start();
    let mut channel = channel(server.grpc_address).await;
    let (answer, json) = ask(&mut channel, over_http_2("/v2/models/echo/infer", &[])).await;
    assert_eq!(
        (answer.status().as_u16(), json["code"].as_str()),
        (415, Some("not_grpc"))
    );
    let address = server.grpc_address;
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /v2 HTTP/1.1\r\n").unwrap();
        Answer::read(&mut stream)
    });
    answer.await.unwrap().refused(400, "not_http_2");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_http_2_are_bounded() {
    let limits = Limits {
        header_bytes_max: 8 << 10,
        ..Limits::default()
    };
    let server = Server::with(Admission::default(), limits);
    let long = "a".repeat(9 << 10);
    for address in [server.address, server.grpc_address] {
        let mut channel = channel(address).await;
        let call = [("content-type", "application/grpc"), ("x-long", &long)];
        let path = "/inference.GRPCInferenceService/ServerReady";
        let (answer, _) = ask(&mut channel, over_http_2(path, &call)).await;
        assert_eq!(answer.headers()["grpc-status"], "8");
        assert_eq!(answer.headers()["error-code"], "headers_too_large");
    }
    let mut channel = channel(server.address).await;
    let (answer, json) = ask(&mut channel, over_http_2("/v2", &[("x-long", &long)])).await;
    assert_eq!(
        (answer.status().as_u16(), json["code"].as_str()),
        (431, Some("headers_too_large"))
    );
    // The library itself refuses what is far more.
    let longer = "a".repeat(40 << 10);
    let (answer, _) = ask(&mut channel, over_http_2("/v2", &[("x-long", &longer)])).await;
    assert_eq!(answer.status().as_u16(), 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_are_named() {
    let server = Server::start();
    let mut channel = channel(server.grpc_address).await;
    for path in [
        "/inference.GRPCInferenceService/ModelInfr",
        "/nobody.Service/Method",
    ] {
        let call = [("content-type", "application/grpc")];
        let (answer, _) = ask(&mut channel, over_http_2(path, &call)).await;
        assert_eq!(answer.headers()["grpc-status"], "12");
        assert_eq!(answer.headers()["error-code"], "unknown_method");
        let message = answer.headers()["grpc-message"].to_str().unwrap();
        assert!(
            message.contains(path) && message.contains("hint"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_describe_themselves() {
    let server = Server::start();
    let mut client = ServerReflectionClient::new(channel(server.grpc_address).await);
    let ask = |request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let requests = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "inference.GRPCInferenceService.ModelInfer".to_owned(),
        )),
    ];
    let answers = client.server_reflection_info(futures_util::stream::iter(requests));
    let mut answers = answers.await.unwrap().into_inner();
    let mut next = async || {
        let answer = answers.message().await.unwrap().unwrap();
        answer.message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = next().await else {
        panic!("no list");
    };
    let names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    for name in [
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let MessageResponse::FileDescriptorResponse(files) = next().await else {
        panic!("no file");
    };
    assert!(!files.file_descriptor_proto.is_empty());
}

/// A request that ends in the middle of a connection.
fn whole(path: &str) -> Vec<u8> {
    let text = String::from_utf8(post(path, "", EMPTY)).unwrap();
    text.replace("Connection: close\r\n", "").into_bytes()
}

#[test]
fn who_sends_no_more_gets_the_answer() {
    let server = Server::start();
    let mut stream = server.connect();
    stream.write_all(&whole("/v2/models/echo/infer")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);
    // Also after it was asked whether it is there.
    let mut stream = server.connect();
    stream.write_all(&whole("/v2/models/gate/infer")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    server.gate.wait_started(1);
    let provisional = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut asked = [0; 25];
    for _ in 0..2 {
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, provisional);
    }
    server.gate.open();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let mut rest = &rest[..];
    while let Some(after) = rest.strip_prefix(provisional) {
        rest = after;
    }
    assert_eq!(Answer::parse(rest).status, 200);
}

#[test]
fn who_has_gone_does_not() {
    let admission = Admission {
        executing_max: 1,
        ..Admission::default()
    };
    let server = Server::with(admission, Limits::default());
    let _first = server.begin("gate", "{\"inputs\":[]}");
    server.gate.wait_started(1);
    let model = server.service.find("gate", None).unwrap();
    let waits = |count| eventually(|| model.waiting() == count);
    // Closed without a word, and closed with bytes unread, which resets the connection.
    let gone = server.begin("gate", "{\"inputs\":[]}");
    waits(1);
    drop(gone);
    waits(0);
    let mut gone = server.begin("gate", "{\"inputs\":[]}");
    waits(1);
    gone.shutdown(Shutdown::Write).unwrap();
    gone.read_exact(&mut [0]).unwrap();
    drop(gone);
    waits(0);
    assert_eq!(server.gate.started(), 1);
}

#[test]
fn what_http_does_not_allow() {
    let server = Server::start();
    let live = "/v2/health/live";
    for (head, status, code) in [
        (format!("GET {live} HTTP/1.1\r\n"), 400, "wrong_host"),
        (
            format!("GET {live} HTTP/1.1\r\nHost: a\r\nHost: a\r\n"),
            400,
            "wrong_host",
        ),
        (
            format!("GET {live} HTTP/1.1\r\nHost: a b\r\n"),
            400,
            "wrong_host",
        ),
        (
            format!("GET {live} HTTP/1.0\r\nHost: a\r\nHost: b\r\n"),
            400,
            "wrong_host",
        ),
        (
            format!("GET {live} HTTP/1.1\r\nHost: a\r\nExpect: nonsense\r\n"),
            417,
            "unsupported_expectation",
        ),
        (
            format!("POST {live} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n"),
            501,
            "unsupported_transfer_encoding",
        ),
        (
            format!(
                "POST {live} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"
            ),
            501,
            "unsupported_transfer_encoding",
        ),
        ("GARBAGE\r\n".to_owned(), 400, "malformed_request"),
        (
            format!("GET {live} HTTP/1.1\r\nHost: a\r\nno colon\r\n"),
            400,
            "malformed_request",
        ),
        (
            format!("GET {live} HTTP/1.1\r\nHost: a\r\nA : b\r\n"),
            400,
            "malformed_request",
        ),
        (
            format!("GET {live} HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n"),
            400,
            "malformed_request",
        ),
        (
            format!("GET {live} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n"),
            400,
            "malformed_request",
        ),
        (
            format!("GET {live} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n"),
            400,
            "malformed_request",
        ),
        (
            format!("GET {live} HTTP/4.0\r\nHost: a\r\n"),
            400,
            "malformed_request",
        ),
    ] {
        let answer = server.raw(format!("{head}Connection: close\r\n\r\n").as_bytes());
        let message = answer.refused(status, code);
        assert!(answer.json()["hint"].is_string(), "{message}");
        assert!(answer.header("x-request-id").is_some(), "{head}");
    }
    let refused = String::from_utf8(server.get("/metrics").body).unwrap();
    let line = r#"satisfice_refused_requests_total{transport="http",code="malformed_request"} 7"#;
    assert!(refused.contains(line), "{refused}");
    for head in [
        format!("GET {live} HTTP/1.0\r\n"),
        format!("GET {live} HTTP/1.1\r\nHost:\r\n"),
        format!("GET {live} HTTP/1.1\r\nHost: [::1]:8000\r\n"),
        format!("GET http://other:1{live} HTTP/1.1\r\nHost: a\r\n"),
        format!("GET {live} HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n"),
    ] {
        let answer = server.raw(format!("{head}Connection: close\r\n\r\n").as_bytes());
        assert_eq!(answer.status, 200, "{head}");
    }
}

#[test]
fn a_refusal_ends_a_connection_that_has_served() {
    let server = Server::start();
    let mut stream = server.connect();
    stream.write_all(&whole("/v2/models/echo/infer")).unwrap();
    let mut first = [0; 4096];
    let length = stream.read(&mut first).unwrap();
    assert_eq!(Answer::parse(&first[..length]).status, 200);
    stream.write_all(b"GARBAGE\r\n\r\n").unwrap();
    Answer::read(&mut stream).refused(400, "malformed_request");
}

/// Spaces behind an empty request, compressed.
fn bomb(length: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(EMPTY).unwrap();
    encoder.write_all(&vec![b' '; length]).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bodies_hold_is_bounded() {
    let limits = Limits {
        body_bytes_max: 4 << 20,
        bodies_bytes_max: 6 << 20,
        ..Limits::default()
    };
    let server = Server::with(Admission::default(), limits);
    let mut client = Client::new(channel(server.grpc_address).await)
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let zeros = |model: &str| request(model, vec![typed("x", &vec![0.0; 700_000])]);
    // One that holds much may wait for its answer; a second is more than the server holds.
    let mut stream = server.connect();
    let held = post(
        "/v2/models/gate/infer",
        "Content-Encoding: gzip\r\n",
        &bomb(3_400_000),
    );
    stream.write_all(&held).unwrap();
    let gate = server.gate.clone();
    let started = tokio::task::spawn_blocking(move || gate.wait_started(1));
    started.await.unwrap();
    let refusal = client.model_infer(zeros("echo")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
    assert_eq!(refusal.metadata().get("error-code").unwrap(), "bodies_full");
    let ask = move |server: &Server| {
        let path = "/v2/models/echo/infer";
        server.post(path, "Content-Encoding: gzip\r\n", &bomb(3_400_000))
    };
    let server = tokio::task::spawn_blocking(move || {
        ask(&server).refused(503, "bodies_full");
        server.gate.open();
        assert_eq!(Answer::read(&mut stream).status, 200);
        assert_eq!(ask(&server).status, 200);
        server
    })
    .await
    .unwrap();
    let answer = client
        .model_infer(zeros("echo"))
        .await
        .unwrap()
        .into_inner();
    let values = &answer.outputs[0].contents.as_ref().unwrap().fp32_contents;
    assert_eq!(values.len(), 700_000);
    drop(client);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_that_are_wrong() {
    let server = Server::start();
    let mut channel = channel(server.grpc_address).await;
    let no_message = bomb(10);
    for (flag, body) in [
        (1, &no_message[..]),
        (1, b"no gzip"),
        (2, b"a flag that there is not"),
        (0, b"\xff"),
    ] {
        let mut message = vec![flag];
        message.extend((body.len() as u32).to_be_bytes());
        message.extend(body);
        let call = [
            ("content-type", "application/grpc"),
            ("grpc-encoding", "gzip"),
        ];
        let path = "/inference.GRPCInferenceService/ModelInfer";
        let request = over_http_2(path, &call);
        let request = request.map(|_| Body::new(http_body_util::Full::from(message)));
        let (answer, _) = ask(&mut channel, request).await;
        assert_eq!(answer.headers()["grpc-status"], "3", "{flag} {body:?}");
    }
}
