//! The protocol over gRPC, through a client made from the same `.proto`.

use crate::client::Server;
use crate::engines::eventually;
use futures_util::stream;
use satisfice_server::{
    Admission, Limits,
    grpc::proto::{
        InferParameter, InferTensorContents, ModelConfigRequest, ModelInferRequest,
        ModelInferResponse, ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest,
        ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        health::{HealthCheckRequest, health_client::HealthClient},
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
};
use std::time::Duration;
use tonic::{Code, Request, Status, codec::CompressionEncoding, transport::Channel};

pub(crate) type Client = GrpcInferenceServiceClient<Channel>;

pub(crate) async fn channel(server: &Server) -> Channel {
    let address = format!("http://{}", server.grpc_address);
    let endpoint = Channel::from_shared(address).unwrap();
    endpoint.connect().await.unwrap()
}

pub(crate) async fn client(server: &Server) -> Client {
    Client::new(channel(server).await).max_decoding_message_size(usize::MAX)
}

pub(crate) fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

pub(crate) fn text(value: &str) -> InferParameter {
    parameter(ParameterChoice::StringParam(value.to_owned()))
}

pub(crate) fn typed(name: &str, values: &[f32]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![values.len() as i64],
        contents: Some(InferTensorContents {
            fp32_contents: values.to_vec(),
            ..InferTensorContents::default()
        }),
        ..InferInputTensor::default()
    }
}

pub(crate) fn request(model: &str, inputs: Vec<InferInputTensor>) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        id: "7".to_owned(),
        inputs,
        ..ModelInferRequest::default()
    }
}

fn raw(model: &str, tensors: &[(&str, &str, i64, &[u8])]) -> ModelInferRequest {
    let input = |&(name, datatype, elements, _): &(&str, &str, i64, _)| InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![elements],
        ..InferInputTensor::default()
    };
    let contents = tensors.iter().map(|(.., bytes)| bytes.to_vec().into());
    ModelInferRequest {
        raw_input_contents: contents.collect(),
        ..request(model, tensors.iter().map(input).collect())
    }
}

async fn infer(client: &mut Client, request: ModelInferRequest) -> ModelInferResponse {
    client.model_infer(request).await.unwrap().into_inner()
}

fn error_code(status: &Status) -> &str {
    let code = status.metadata().get("error-code");
    code.map_or("", |code| code.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metadata() {
    let server = Server::start();
    let mut client = client(&server).await;
    let live = client.server_live(ServerLiveRequest {}).await.unwrap();
    assert!(live.into_inner().live);
    let ready = client.server_ready(ServerReadyRequest {}).await.unwrap();
    assert!(ready.into_inner().ready);
    for (name, version, wanted) in [("echo", "", true), ("echo", "3", false), ("x", "", false)] {
        let (name, version) = (name.to_owned(), version.to_owned());
        let ready = client.model_ready(ModelReadyRequest { name, version });
        assert_eq!(ready.await.unwrap().into_inner().ready, wanted);
    }
    let metadata = client.server_metadata(ServerMetadataRequest {});
    assert_eq!(metadata.await.unwrap().into_inner().name, "satisfice");
    let (name, version) = ("echo".to_owned(), "2".to_owned());
    let metadata = client.model_metadata(ModelMetadataRequest { name, version });
    let metadata = metadata.await.unwrap().into_inner();
    assert_eq!(
        (metadata.versions.join(" "), metadata.outputs.len()),
        ("2 10".to_owned(), 3)
    );
    assert_eq!(metadata.inputs[0].shape, [-1]);
    let (name, version) = ("echo".to_owned(), String::new());
    let config = client.model_config(ModelConfigRequest { name, version });
    let config = config.await.unwrap().into_inner().config.unwrap();
    assert_eq!(
        (config.input[2].name.as_str(), config.input[2].data_type),
        ("z", 11)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_service_follows_the_server() {
    let server = Server::start();
    let mut client = HealthClient::new(channel(&server).await);
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    for service in ["", "inference.GRPCInferenceService", "echo"] {
        let answer = client.check(ask(service)).await.unwrap();
        assert_eq!(answer.into_inner().status, 1);
    }
    let refusal = client.check(ask("nobody")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound);
    let mut watch = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    server.service.drain();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
    assert_eq!(client.check(ask("")).await.unwrap().into_inner().status, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_travel_as_they_came() {
    let server = Server::start();
    let mut client = client(&server).await;
    let mut typed = request("echo", vec![typed("x", &[0.5, f32::NAN])]);
    typed.parameters.insert("plan".to_owned(), text("exact"));
    let answer = infer(&mut client, typed.clone()).await;
    assert_eq!((&*answer.id, &*answer.model_version), ("7", "10"));
    assert_eq!(answer.parameters, typed.parameters);
    let values = &answer.outputs[0].contents.as_ref().unwrap().fp32_contents;
    assert!(values[0] > 0.4 && values[1].is_nan());
    assert!(answer.raw_output_contents.is_empty());

    let strings = b"\x01\0\0\0a\0\0\0\0";
    let both = [
        ("x", "FP16", 1, &b"\x01\x02"[..]),
        ("y", "BYTES", 2, strings),
    ];
    let answer = infer(&mut client, raw("echo", &both)).await;
    assert_eq!(answer.raw_output_contents, [&b"\x01\x02"[..], strings]);
    assert!(answer.outputs[0].contents.is_none());
    assert_eq!(answer.outputs[1].datatype, "BYTES");

    let mut named = request(
        "echo",
        vec![self::typed("x", &[1.0]), self::typed("y", &[2.0])],
    );
    named.outputs.push(InferRequestedOutputTensor {
        name: "y".to_owned(),
        ..InferRequestedOutputTensor::default()
    });
    let answer = infer(&mut client, named).await;
    assert_eq!((answer.outputs.len(), &*answer.outputs[0].name), (1, "y"));
    let name = "echo".to_owned();
    let stats = client.model_statistics(ModelStatisticsRequest {
        name,
        ..ModelStatisticsRequest::default()
    });
    let stats = stats.await.unwrap().into_inner().model_stats;
    let newest = stats.iter().find(|stats| stats.version == "10").unwrap();
    assert_eq!((stats.len(), newest.inference_count), (2, 3));

    let mut classes = request("echo", vec![self::typed("x", &[1.0, 3.0])]);
    classes.outputs.push(InferRequestedOutputTensor {
        name: "x".to_owned(),
        parameters: [(
            "classification".to_owned(),
            parameter(ParameterChoice::Int64Param(1)),
        )]
        .into(),
    });
    let answer = infer(&mut client, classes).await;
    let strings = &answer.outputs[0].contents.as_ref().unwrap().bytes_contents;
    assert_eq!(strings[0], &b"3:1"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_compressed_messages() {
    let server = Server::start();
    let mut client = client(&server)
        .await
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let bytes = vec![1; 4 << 20];
    let answer = infer(&mut client, raw("echo", &[("x", "FP32", 1 << 20, &bytes)])).await;
    assert_eq!(answer.raw_output_contents[0], bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_over_the_limit_are_refused() {
    let limits = Limits {
        body_bytes_max: 1000,
        ..Limits::default()
    };
    let server = Server::with(Admission::default(), limits);
    let bytes = vec![0; 4000];
    let large = raw("echo", &[("x", "FP32", 1000, &bytes)]);
    let mut client = client(&server).await;
    let too_large = |refusal: Status| {
        assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
        assert_eq!(error_code(&refusal), "body_too_large");
        assert!(refusal.message().contains("hint: send less"), "{refusal}");
    };
    too_large(client.model_infer(large.clone()).await.unwrap_err());
    let stream = client
        .model_stream_infer(stream::iter([large.clone()]))
        .await;
    too_large(stream.unwrap().into_inner().message().await.unwrap_err());
    // A small message that would be a large one.
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    too_large(client.model_infer(large).await.unwrap_err());
    infer(&mut client, request("echo", vec![typed("x", &[1.0])])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused() {
    let server = Server::start();
    let mut client = client(&server).await;
    let one = || typed("x", &[1.0]);
    let four = &b"\0\0\0\0"[..];
    let mut both = raw("echo", &[("x", "FP32", 1, four)]);
    both.inputs[0].contents = one().contents;
    let mut fewer = raw("echo", &[("x", "FP32", 1, four), ("y", "FP32", 1, four)]);
    fewer.raw_input_contents.pop();
    let mut shape = one();
    shape.shape = vec![2];
    let mut negative = one();
    negative.shape = vec![-1];
    let mut half = one();
    half.datatype = "FP16".to_owned();
    let mut none = request("echo", vec![one()]);
    none.parameters
        .insert("a".to_owned(), InferParameter::default());
    let mut large = one();
    large.shape = vec![i64::MAX, i64::MAX];
    for (request, code, error) in [
        (both, Code::InvalidArgument, "ambiguous_data"),
        (fewer, Code::InvalidArgument, "wrong_raw_contents"),
        (
            raw("echo", &[("x", "FP32", 2, four)]),
            Code::InvalidArgument,
            "wrong_binary_data",
        ),
        (
            request("echo", vec![one(), one()]),
            Code::InvalidArgument,
            "duplicate_name",
        ),
        (
            request("echo", vec![shape]),
            Code::InvalidArgument,
            "wrong_data",
        ),
        (
            request("echo", vec![negative]),
            Code::InvalidArgument,
            "negative_shape",
        ),
        (
            request("echo", vec![half]),
            Code::InvalidArgument,
            "wrong_data",
        ),
        (
            request("echo", vec![large]),
            Code::ResourceExhausted,
            "too_many_elements",
        ),
        (none, Code::InvalidArgument, "invalid_message"),
        (
            request("nobody", vec![one()]),
            Code::NotFound,
            "model_not_found",
        ),
        (
            request("echo", vec![typed("w", &[1.0])]),
            Code::InvalidArgument,
            "unknown_input",
        ),
    ] {
        let refusal = client.model_infer(request).await.unwrap_err();
        assert_eq!(
            (refusal.code(), error_code(&refusal)),
            (code, error),
            "{refusal}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_has_its_code() {
    let server = Server::start();
    let mut client = client(&server).await;
    for (kind, code) in [
        ("InvalidInput", Code::InvalidArgument),
        ("NotFound", Code::NotFound),
        ("Unsupported", Code::Unimplemented),
        ("TooLarge", Code::ResourceExhausted),
        ("Unavailable", Code::Unavailable),
        ("DeadlineExceeded", Code::DeadlineExceeded),
        ("Internal", Code::Internal),
        ("panic", Code::Internal),
    ] {
        let mut request = request("failing", vec![]);
        request.parameters.insert("do".to_owned(), text(kind));
        let refusal = client.model_infer(request).await.unwrap_err();
        assert_eq!(refusal.code(), code);
        let pushback = refusal.metadata().get("grpc-retry-pushback-ms").is_some();
        assert_eq!(pushback, kind == "Unavailable");
        if kind != "panic" {
            assert_eq!(
                refusal.message(),
                format!("{kind} (hint: ask for something else)")
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_of_a_call_is_its_deadline() {
    let admission = Admission {
        executing_max: 1,
        ..Admission::default()
    };
    let server = Server::with(admission, Limits::default());
    let client = client(&server).await;
    let gated = || request("gate", vec![]);
    let mut first = client.clone();
    let first = tokio::spawn(async move { first.model_infer(gated()).await });
    let gate = server.gate.clone();
    tokio::task::spawn_blocking(move || gate.wait_started(1))
        .await
        .unwrap();
    let model = server.service.find("gate", None).unwrap();
    let waiting = |count| {
        let model = model.clone();
        tokio::task::spawn_blocking(move || eventually(|| model.waiting() == count))
    };
    let mut late = Request::new(gated());
    late.metadata_mut()
        .insert("grpc-timeout", "500m".parse().unwrap());
    let mut second = client.clone();
    let late = tokio::spawn(async move { second.model_infer(late).await });
    waiting(1).await.unwrap();
    // The client's library gives up too, perhaps a moment earlier.
    let refusal = late.await.unwrap().unwrap_err();
    assert!(
        matches!(refusal.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{refusal}"
    );
    waiting(0).await.unwrap();
    server.gate.open();
    first.await.unwrap().unwrap();
    assert_eq!(server.gate.started(), 1);
    let mut wrong = Request::new(gated());
    wrong
        .metadata_mut()
        .insert("grpc-timeout", "soon".parse().unwrap());
    let refusal = client.clone().model_infer(wrong).await.unwrap_err();
    assert_eq!(error_code(&refusal), "wrong_header");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_running_requests_end() {
    let admission = Admission {
        executing_max: 1,
        waiting_max: 0,
        ..Admission::default()
    };
    let mut server = Server::with(admission, Limits::default());
    let client = client(&server).await;
    let mut first = client.clone();
    let first = tokio::spawn(async move { first.model_infer(request("gate", vec![])).await });
    let gate = server.gate.clone();
    tokio::task::spawn_blocking(move || gate.wait_started(1))
        .await
        .unwrap();
    let mut second = client.clone();
    let refusal = second
        .model_infer(request("gate", vec![]))
        .await
        .unwrap_err();
    assert_eq!(
        (refusal.code(), error_code(&refusal)),
        (Code::Unavailable, "queue_full")
    );
    server.stop();
    let service = server.service.clone();
    tokio::task::spawn_blocking(move || eventually(|| !service.is_ready()))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.gate.open();
    first.await.unwrap().unwrap();
    drop((client, second));
    server.join();
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_checked_as_over_http() {
    let server = Server::start();
    let mut client = client(&server).await;
    let refused = Some;
    for (name, value, code) in [
        (
            "min_fidelty",
            parameter(ParameterChoice::DoubleParam(0.9)),
            refused((Code::InvalidArgument, "unknown_parameter")),
        ),
        (
            "deadline_ms",
            parameter(ParameterChoice::DoubleParam(f64::NAN)),
            refused((Code::InvalidArgument, "wrong_parameter")),
        ),
        (
            "sequence_id",
            parameter(ParameterChoice::Int64Param(7)),
            refused((Code::Unimplemented, "unsupported_parameter")),
        ),
        // Some clients have no fractions, and some no signed numbers.
        ("deadline_ms", text("60000.5"), None),
        ("priority", parameter(ParameterChoice::Uint64Param(2)), None),
        ("sequence_id", text(""), None),
    ] {
        let mut request = request("echo", vec![]);
        request.parameters.insert(name.to_owned(), value);
        let answer = client.model_infer(request).await;
        let status = answer.as_ref().err();
        let found = status.map(|status| (status.code(), error_code(status)));
        assert_eq!(found, code, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn base64_is_read_where_the_content_type_says_it() {
    let server = Server::start();
    let mut client = client(&server).await;
    let ask = |element: &'static [u8]| {
        let input = InferInputTensor {
            name: "x".to_owned(),
            datatype: "BYTES".to_owned(),
            shape: vec![1],
            parameters: [("content_type".to_owned(), text("base64"))].into(),
            contents: Some(InferTensorContents {
                bytes_contents: vec![element.into()],
                ..InferTensorContents::default()
            }),
        };
        request("echo", vec![input])
    };
    let answer = infer(&mut client, ask(b"/wA=")).await;
    let contents = answer.outputs[0].contents.as_ref().unwrap();
    assert_eq!(&contents.bytes_contents[0][..], b"\xff\x00");
    let status = client.model_infer(ask(b"no base64!")).await.unwrap_err();
    assert_eq!(error_code(&status), "wrong_data");
}
