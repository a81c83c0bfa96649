//! Clients that are slow, rude or gone, and the server's end.

use crate::client::{Answer, Server, post};
use satisfice_server::{Admission, Limits};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const EMPTY: &str = r#"{"inputs":[]}"#;

fn server(change: impl FnOnce(&mut Limits)) -> Server {
    let mut limits = Limits::default();
    change(&mut limits);
    Server::with(Admission::default(), limits)
}

/// Whether the server ends the connection within 5 s.
fn is_closed(stream: &mut TcpStream) -> bool {
    let begun = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new());
    begun.elapsed() < Duration::from_secs(5)
}

#[test]
fn slow_headers() {
    let server = server(|limits| {
        limits.header_read_timeout = Duration::from_millis(200);
        limits.idle_timeout = Duration::from_millis(200);
    });
    assert!(is_closed(&mut server.connect()));
    for bytes in [&b"GET /v2 HT"[..], b"GET /v2 HTTP/1.1\r\nHost: t\r\nX: "] {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        Answer::read(&mut stream).refused(408, "headers_too_slow");
    }
    // One byte at a time does not help.
    let mut stream = server.connect();
    let begun = Instant::now();
    while stream.write_all(b"a").is_ok() && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Nor does a request before.
    let mut stream = server.connect();
    stream
        .write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n")
        .unwrap();
    assert!(is_closed(&mut stream));
}

#[test]
fn slow_bodies() {
    let server = server(|limits| limits.body_read_timeout = Duration::from_millis(200));
    let whole = post("/v2/models/echo/infer", "", EMPTY.as_bytes());
    let mut stream = server.connect();
    stream.write_all(&whole[..whole.len() - 1]).unwrap();
    Answer::read(&mut stream).refused(408, "body_too_slow");
}

#[test]
fn long_headers() {
    let server = server(|limits| limits.header_bytes_max = 8 << 10);
    let header = format!("X-Long: {}\r\n", "a".repeat(10 << 10));
    let answer = server.post("/v2/models/echo/infer", &header, EMPTY.as_bytes());
    answer.refused(431, "headers_too_large");
    // Far more than is read: the refusal arrives all the same.
    let header = format!("X-Long: {}\r\n", "a".repeat(100_000));
    let answer = server.post("/v2/models/echo/infer", &header, EMPTY.as_bytes());
    answer.refused(431, "headers_too_large");
    let header = format!("X-Long: {}\r\n", "a".repeat(4 << 10));
    let answer = server.post("/v2/models/echo/infer", &header, EMPTY.as_bytes());
    assert_eq!(answer.status, 200);
}

#[test]
fn large_bodies_are_refused_before_they_are_read() {
    let server = server(|limits| limits.body_bytes_max = 100);
    // Who waits to be told to continue is told not to.
    let announced = "POST /v2/models/echo/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 101\r\n\
                     Expect: 100-continue\r\n\r\n";
    server
        .raw(announced.as_bytes())
        .refused(413, "body_too_large");
    let chunked = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n64\r\n{}\r\n1\r\n \r\n0\r\n\r\n",
        " ".repeat(100)
    );
    server
        .raw(chunked.as_bytes())
        .refused(413, "body_too_large");
    let fits = format!("{EMPTY}{}", " ".repeat(100 - EMPTY.len()));
    assert_eq!(server.infer("echo", &fits).status, 200);
}

#[test]
fn refusals_reach_clients_that_send_everything_first() {
    let server = server(|limits| limits.body_bytes_max = 100);
    let large = vec![b' '; 32 << 20];
    for (path, headers, status, code) in [
        ("echo", "", 413, "body_too_large"),
        ("other", "", 404, "model_not_found"),
        (
            "echo",
            "Content-Encoding: br\r\n",
            415,
            "unsupported_encoding",
        ),
    ] {
        let path = format!("/v2/models/{path}/infer");
        server.post(&path, headers, &large).refused(status, code);
    }
}

#[test]
fn bodies_held_at_once_are_bounded() {
    let server = server(|limits| {
        limits.body_bytes_max = 1000;
        limits.bodies_bytes_max = 1000;
    });
    let mut stream = server.connect();
    let body = format!("{EMPTY}{}", " ".repeat(900));
    let whole = post("/v2/models/echo/infer", "", body.as_bytes());
    stream.write_all(&whole[..whole.len() - 1]).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    server.infer("echo", &body).refused(503, "bodies_full");
    assert_eq!(server.infer("echo", EMPTY).status, 200);
    stream.write_all(b" ").unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);
    assert_eq!(server.infer("echo", &body).status, 200);
}

#[test]
fn truncated_bodies_do_no_harm() {
    let server = Server::start();
    for cut in [1, 5, EMPTY.len()] {
        let whole = post("/v2/models/echo/infer", "", EMPTY.as_bytes());
        let mut stream = server.connect();
        stream.write_all(&whole[..whole.len() - cut]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        Answer::read(&mut stream).refused(400, "body_incomplete");
    }
    assert_eq!(server.infer("echo", EMPTY).status, 200);
}

#[test]
fn connections_with_work_are_bounded() {
    let server = server(|limits| limits.connections_max = 1);
    let mut first = server.begin("gate", EMPTY);
    server.gate.wait_started(1);
    let mut second = server.begin("echo", EMPTY);
    let wait = |stream: &TcpStream, time| stream.set_read_timeout(Some(time)).unwrap();
    wait(&second, Duration::from_millis(200));
    assert!(second.read(&mut [0]).is_err(), "it was served");
    server.gate.open();
    assert_eq!(Answer::read(&mut first).status, 200);
    wait(&second, Duration::from_secs(20));
    assert_eq!(Answer::read(&mut second).status, 200);
}

#[test]
fn connections_without_work_make_room() {
    let server = server(|limits| limits.connections_max = 4);
    // None of them would go for a long time: silent, in the middle of headers, between two requests.
    let mut idle = Vec::new();
    for bytes in [
        &b""[..],
        b"GET /v2 HTTP/1.1\r\nHost: t\r\nX: ",
        b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n",
    ] {
        for _ in 0..10 {
            let mut stream = server.connect();
            stream.write_all(bytes).unwrap();
            idle.push(stream);
        }
        for stream in [server.address, server.grpc_address].map(TcpStream::connect) {
            idle.push(stream.unwrap());
        }
        let begun = Instant::now();
        assert_eq!(server.infer("echo", EMPTY).status, 200);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    assert!(is_closed(&mut idle[0]));
}

#[test]
fn clients_that_do_not_read_are_cut_off() {
    let server = server(|limits| {
        limits.write_timeout = Duration::from_millis(200);
        limits.connections_max = 1;
    });
    let count = 2_000_000;
    let data = vec!["1"; count].join(",");
    let body = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP64","shape":[{count}],"data":[{data}]}}]}}"#
    );
    let mut deaf = Vec::new();
    for _ in 0..3 {
        deaf.push(server.begin("echo", &body));
    }
    assert_eq!(server.infer("echo", EMPTY).status, 200);
}

#[test]
fn one_connection_serves_many_requests() {
    let server = Server::start();
    let mut stream = server.connect();
    let keep = String::from_utf8(post("/v2/models/echo/infer", "", EMPTY.as_bytes())).unwrap();
    let keep = keep.replace("Connection: close\r\n", "");
    for _ in 0..3 {
        stream.write_all(keep.as_bytes()).unwrap();
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn shutdown_lets_running_requests_end() {
    let mut server = Server::start();
    let mut running = server.begin("gate", EMPTY);
    server.gate.wait_started(1);
    let mut idle = server.connect();
    idle.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n")
        .unwrap();
    assert!(idle.read(&mut [0; 1024]).unwrap() > 0);
    server.stop();
    assert!(is_closed(&mut idle));
    crate::engines::eventually(|| TcpStream::connect(server.address).is_err());
    assert!(!server.service.is_ready());
    server.gate.open();
    assert_eq!(Answer::read(&mut running).status, 200);
    server.join();
}

#[test]
fn shutdown_does_not_wait_for_ever() {
    let mut server = server(|limits| limits.drain_timeout = Duration::from_millis(200));
    let mut stuck = server.begin("gate", EMPTY);
    server.gate.wait_started(1);
    server.stop();
    assert!(is_closed(&mut stuck));
    server.gate.open();
    server.join();
}

#[test]
fn many_headers_and_long_paths() {
    let server = server(|limits| {
        limits.headers_max = 20;
        limits.uri_bytes_max = 300;
    });
    let headers = "X-A: a\r\n".repeat(20);
    let answer = server.post("/v2/models/echo/infer", &headers, EMPTY.as_bytes());
    answer.refused(431, "headers_too_large");
    let long = format!("/v2/models/echo?{}", "a".repeat(300));
    server.get(&long).refused(414, "uri_too_long");
    assert_eq!(server.get("/v2/models/echo?a").status, 200);
}

#[test]
fn grpc_clients_that_never_greet_are_cut_off() {
    let server = server(|limits| {
        limits.header_read_timeout = Duration::from_millis(200);
        limits.idle_timeout = Duration::from_millis(200);
    });
    for bytes in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(server.grpc_address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(bytes).unwrap();
        assert!(is_closed(&mut stream), "{bytes:?}");
    }
}
