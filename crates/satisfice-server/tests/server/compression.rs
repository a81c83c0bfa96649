//! Compressed requests and answers.

use crate::client::{Answer, Server};
use flate2::{
    Compression,
    read::{GzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use satisfice_server::{Admission, Limits};
use std::io::{Read, Write};

const PATH: &str = "/v2/models/echo/infer";

fn compress(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let level = Compression::best();
    if encoding == "gzip" {
        let mut encoder = GzEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    } else {
        let mut encoder = ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }
}

fn decompress(encoding: &str, answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = match encoding {
        "gzip" => GzDecoder::new(&*answer.body).read_to_end(&mut bytes),
        _ => ZlibDecoder::new(&*answer.body).read_to_end(&mut bytes),
    };
    read.unwrap();
    bytes
}

fn body(elements: usize) -> String {
    let data = vec!["1"; elements].join(",");
    format!(
        r#"{{"inputs":[{{"name":"x","datatype":"INT8","shape":[{elements}],"data":[{data}]}}]}}"#
    )
}

#[test]
fn both_ways() {
    let server = Server::start();
    for elements in [1000, 1_000_000] {
        let body = body(elements);
        let plain = server.infer("echo", &body);
        for encoding in ["gzip", "deflate"] {
            let headers =
                format!("Content-Encoding: {encoding}\r\nAccept-Encoding: {encoding}\r\n");
            let answer = server.post(PATH, &headers, &compress(encoding, body.as_bytes()));
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-encoding"), Some(encoding));
            assert!(answer.body.len() < plain.body.len() / 4);
            assert_eq!(decompress(encoding, &answer), plain.body);
        }
    }
}

#[test]
fn small_answers_and_those_not_asked_for_stay_as_they_are() {
    let server = Server::start();
    let small = server.post(PATH, "Accept-Encoding: gzip\r\n", body(1).as_bytes());
    assert_eq!(
        (small.status, small.header("content-encoding")),
        (200, None)
    );
    let body = body(1000);
    for accepted in ["br", "identity", "gzip;q=0"] {
        let header = format!("Accept-Encoding: {accepted}\r\n");
        let answer = server.post(PATH, &header, body.as_bytes());
        assert_eq!(
            (answer.status, answer.header("content-encoding")),
            (200, None)
        );
    }
}

#[test]
fn a_small_body_that_would_be_large_is_refused() {
    let limits = Limits {
        body_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let server = Server::with(Admission::default(), limits);
    let zeros = vec![0; 64 << 20];
    for encoding in ["gzip", "deflate"] {
        let header = format!("Content-Encoding: {encoding}\r\n");
        let answer = server.post(PATH, &header, &compress(encoding, &zeros));
        answer.refused(413, "body_too_large");
    }
}

#[test]
fn what_is_not_compressed_is_refused() {
    let server = Server::start();
    let whole = compress("gzip", body(1000).as_bytes());
    for bytes in [&b"{}"[..], &whole[..whole.len() / 2], b""] {
        let answer = server.post(PATH, "Content-Encoding: gzip\r\n", bytes);
        answer.refused(400, "wrong_compression");
    }
    let answer = server.post(PATH, "Content-Encoding: deflate\r\n", &whole);
    answer.refused(400, "wrong_compression");
}

#[test]
fn bodies_that_hold_far_more_than_their_length() {
    let limits = Limits {
        decompression_ratio_max: 100,
        ..Limits::default()
    };
    let server = Server::with(Admission::default(), limits);
    let large = compress("gzip", body(4_000_000).as_bytes());
    let headers = "Content-Encoding: gzip\r\n";
    server
        .post(PATH, headers, &large)
        .refused(413, "compressed_too_much");
    // What is small may grow.
    let small = compress("gzip", body(100_000).as_bytes());
    assert_eq!(server.post(PATH, headers, &small).status, 200);
}
