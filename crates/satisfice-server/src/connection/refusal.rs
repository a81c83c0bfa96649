//! Refusals that are written before there is a request.

use crate::{
    Front, Limits,
    edge::{Transport, next_id},
    http,
    observe::Observer,
};
use satisfice_core::{Error, ErrorKind};
use std::{sync::Arc, time::SystemTime};

/// How the library writes that nothing follows.
const NO_BODY: &[u8] = b"content-length: 0\r\n";

/// What is said to clients whose requests are not understood, and counted.
#[derive(Clone)]
pub(super) struct Refusals {
    observer: Arc<Observer>,
    transport: Transport,
    limits: Limits,
}

impl Refusals {
    pub(super) fn new(front: &Front, transport: Transport) -> Self {
        Self {
            observer: Arc::clone(front.observer()),
            transport,
            limits: front.limits(),
        }
    }

    /// Counts a refusal.
    pub(super) fn count(&self, code: &'static str) {
        self.observer.refused(self.transport.name(), code);
    }

    /// A head that the library has written by itself, with the body that belongs to its status.
    pub(super) fn with_body(&self, head: Vec<u8>) -> Vec<u8> {
        let status = head
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let error = match status {
            Some("400") => malformed(),
            Some("414") => Error::new(
                ErrorKind::TooLarge,
                "uri_too_long",
                "the request's path is too long",
            ),
            Some("431") => self.limits.headers_too_large(),
            _ => return head,
        };
        let at = head.windows(NO_BODY.len()).position(|part| part == NO_BODY);
        let Some(at) = at else {
            return head;
        };
        self.count(error.code());
        let body = http::error_body(&error);
        [
            &head[..at],
            fields(&body).as_bytes(),
            &head[at + NO_BODY.len()..],
            &body,
        ]
        .concat()
    }

    /// The whole answer to a client whose headers took too long.
    pub(super) fn slow_head(&self) -> Vec<u8> {
        let text = "the request's headers did not arrive in time";
        self.whole(
            "408 Request Timeout",
            &Error::new(ErrorKind::InvalidInput, "headers_too_slow", text),
        )
    }

    /// The whole answer to a client that speaks HTTP/1 where HTTP/2 is spoken.
    pub(super) fn not_http_2(&self) -> Vec<u8> {
        let text = "this port speaks gRPC, which is HTTP/2, and nothing else";
        let error = Error::new(ErrorKind::InvalidInput, "not_http_2", text);
        self.whole(
            "400 Bad Request",
            &error.with_hint("send HTTP/1.1 to the address of `http.listen`"),
        )
    }

    fn whole(&self, status: &str, error: &Error) -> Vec<u8> {
        self.count(error.code());
        let body = http::error_body(error);
        let date = httpdate::fmt_http_date(SystemTime::now());
        let fields = fields(&body);
        let head =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\n{fields}date: {date}\r\n\r\n");
        [head.as_bytes(), &body].concat()
    }
}

fn malformed() -> Error {
    let text = "this is no request that HTTP/1.1 allows";
    Error::new(ErrorKind::InvalidInput, "malformed_request", text).with_hint(
        "a request is a line of method, path and version, headers of a name, a colon and a value, and one length of the body",
    )
}

fn fields(body: &[u8]) -> String {
    let (length, id) = (body.len(), next_id());
    format!("content-type: application/json\r\ncontent-length: {length}\r\nx-request-id: {id}\r\n")
}
