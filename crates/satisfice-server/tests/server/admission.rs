//! Waiting, refusing, giving up.

use crate::client::{Answer, Server};
use crate::engines::eventually;
use satisfice_server::{Admission, Limits};
use std::time::{Duration, Instant};

const EMPTY: &str = r#"{"inputs":[]}"#;

fn server(waiting_max: usize, bytes_max: usize) -> Server {
    let admission = Admission {
        executing_max: 1,
        waiting_max,
        bytes_max,
        ..Admission::default()
    };
    Server::with(admission, Limits::default())
}

/// Whether the queue of `gate` has room for one more request.
fn has_room(server: &Server) -> bool {
    let gate = server.service.find("gate", None).unwrap();
    gate.check_room(EMPTY.len()).is_ok()
}

#[test]
fn a_full_queue_refuses_at_once_and_others_go_on() {
    let server = server(1, 1 << 20);
    let mut running = server.begin("gate", EMPTY);
    server.gate.wait_started(1);
    let mut waiting = server.begin("gate", EMPTY);
    eventually(|| !has_room(&server));

    let begun = Instant::now();
    server.infer("gate", EMPTY).refused(503, "queue_full");
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(server.infer("echo", EMPTY).status, 200);

    server.gate.open();
    assert_eq!(Answer::read(&mut running).status, 200);
    assert_eq!(Answer::read(&mut waiting).status, 200);
    assert_eq!(server.infer("gate", EMPTY).status, 200);
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    let server = server(100, 30);
    let _running = server.begin("gate", EMPTY);
    server.gate.wait_started(1);
    let _waiting = server.begin("gate", EMPTY);
    eventually(|| !has_room(&server));
    server.infer("gate", EMPTY).refused(503, "queue_full");
    let large = format!("{EMPTY}{}", " ".repeat(30));
    server
        .infer("echo", &large)
        .refused(413, "request_too_large");
}

#[test]
fn a_client_that_has_gone_is_not_served() {
    let server = server(1, 1 << 20);
    let mut running = server.begin("gate", EMPTY);
    server.gate.wait_started(1);
    let waiting = server.begin("gate", EMPTY);
    eventually(|| !has_room(&server));
    drop(waiting);
    eventually(|| has_room(&server));
    server.gate.open();
    assert_eq!(Answer::read(&mut running).status, 200);
    assert_eq!(server.infer("gate", EMPTY).status, 200);
    assert_eq!(server.gate.started(), 2);
}

#[test]
fn a_client_that_goes_while_it_is_served_keeps_its_turn() {
    let server = server(0, 1 << 20);
    let running = server.begin("gate", EMPTY);
    server.gate.wait_started(1);
    drop(running);
    std::thread::sleep(Duration::from_millis(100));
    server.infer("gate", EMPTY).refused(503, "queue_full");
    server.gate.open();
    eventually(|| has_room(&server));
}

#[test]
fn deadlines_pass_while_waiting() {
    let server = server(10, 1 << 20);
    let mut running = server.begin("gate", EMPTY);
    server.gate.wait_started(1);
    for parameters in [
        r#"{"deadline_ms":50}"#,
        r#"{"deadline_ms":0.5}"#,
        r#"{"timeout":50000}"#,
        r#"{"timeout":50000,"deadline_ms":100000}"#,
    ] {
        let body = format!(r#"{{"inputs":[],"parameters":{parameters}}}"#);
        server
            .infer("gate", &body)
            .refused(504, "deadline_exceeded");
    }
    server.gate.open();
    assert_eq!(Answer::read(&mut running).status, 200);
    assert_eq!(server.gate.started(), 1);

    let wide = r#"{"inputs":[],"parameters":{"timeout":0,"deadline_ms":1e12}}"#;
    assert_eq!(server.infer("gate", wide).status, 200);
    let past = r#"{"inputs":[],"parameters":{"deadline_ms":1e-6}}"#;
    server.infer("echo", past).refused(504, "deadline_exceeded");
    for parameters in [
        r#"{"deadline_ms":0}"#,
        r#"{"deadline_ms":-1}"#,
        r#"{"deadline_ms":"50 ms"}"#,
        r#"{"timeout":-1}"#,
        r#"{"timeout":0.5}"#,
    ] {
        let body = format!(r#"{{"inputs":[],"parameters":{parameters}}}"#);
        server.infer("echo", &body).refused(400, "wrong_parameter");
    }
}
