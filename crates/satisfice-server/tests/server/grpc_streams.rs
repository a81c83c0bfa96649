//! Streams of requests over gRPC.

use crate::client::Server;
use crate::grpc::{channel, client, parameter, request, text, typed};
use axum::http;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use satisfice_server::{
    Admission, Limits,
    grpc::proto::{ModelInferRequest, infer_parameter::ParameterChoice},
};
use std::time::Duration;
use tonic::{Status, body::Body};
use tower::ServiceExt;

fn numbered(model: &str, number: usize) -> ModelInferRequest {
    ModelInferRequest {
        id: number.to_string(),
        ..request(model, vec![typed("x", &[number as f32])])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_order_and_an_error_ends_nothing() {
    let server = Server::start();
    let mut client = client(&server).await;
    let requests: Vec<_> = (0..50)
        .map(|number| match number % 3 {
            0 => numbered("echo", number),
            1 => numbered("nobody", number),
            _ => {
                let mut request = numbered("failing", number);
                request.parameters.insert("do".to_owned(), text("panic"));
                request
            }
        })
        .collect();
    let answers = client.model_stream_infer(stream::iter(requests));
    let mut answers = answers.await.unwrap().into_inner();
    for number in 0..50 {
        let answer = answers.message().await.unwrap().unwrap();
        let response = answer.infer_response.unwrap();
        assert_eq!(response.id, number.to_string());
        let message = answer.error_message;
        match number % 3 {
            0 => assert_eq!((&*message, response.outputs.len()), ("", 1)),
            1 => assert!(message.contains("no model `nobody`"), "{message}"),
            _ => assert!(message.contains("failed on this request"), "{message}"),
        }
    }
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_that_it_is_the_last_where_that_is_asked_for() {
    let server = Server::start();
    let mut client = client(&server).await;
    let requests = [false, true].map(|wanted| {
        let mut request = numbered("echo", 1);
        let flag = parameter(ParameterChoice::BoolParam(wanted));
        request
            .parameters
            .insert("triton_enable_empty_final_response".to_owned(), flag);
        request
    });
    let answers = client.model_stream_infer(stream::iter(requests));
    let mut answers = answers.await.unwrap().into_inner();
    for expected in [None, Some(parameter(ParameterChoice::BoolParam(true)))] {
        let answer = answers.message().await.unwrap().unwrap();
        let parameters = answer.infer_response.unwrap().parameters;
        assert_eq!(parameters.get("triton_final_response"), expected.as_ref());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_ends_when_the_server_drains() {
    let mut server = Server::start();
    let mut client = client(&server).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|request| (request, receiver))
    });
    let requests = Box::pin(requests);
    sender.send(numbered("echo", 1)).await.unwrap();
    let mut answers = client
        .model_stream_infer(requests)
        .await
        .unwrap()
        .into_inner();
    assert!(answers.message().await.unwrap().is_some());
    server.stop();
    let end = tokio::time::timeout(Duration::from_secs(10), answers.message());
    assert!(matches!(end.await.unwrap(), Ok(None)));
    drop((sender, client));
    server.join();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_counts_no_more() {
    let limits = Limits {
        bodies_bytes_max: 100_000,
        body_bytes_max: 100_000,
        ..Limits::default()
    };
    let server = Server::with(Admission::default(), limits);
    let mut client = client(&server).await;
    // More bytes than the server holds at once.
    let requests = stream::iter((0..5000).map(|number| numbered("echo", number)));
    let answers = client.model_stream_infer(requests).await.unwrap();
    let mut answers = answers.into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.error_message, "");
        count += 1;
    }
    assert_eq!(count, 5000);
}

/// A message of which only the beginning arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_too_slowly_is_given_up() {
    let limits = Limits {
        body_read_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = Server::with(Admission::default(), limits);
    let prefix = Ok::<_, Status>(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 100, 1])));
    let frames = stream::iter([prefix]).chain(stream::pending());
    let request = http::Request::post("/inference.GRPCInferenceService/ModelInfer")
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(frames)))
        .unwrap();
    let answer = channel(&server).await.oneshot(request);
    let answer = tokio::time::timeout(Duration::from_secs(10), answer);
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4");
}
