//! Requests that are answered.

use crate::{client::Server, engines::Echo};
use half::{bf16, f16};
use satisfice_core::{ByteStrings, InferRequest, NamedTensor, Parameter, Tensor, TensorData};
use satisfice_server::{
    Admission, Limits, Role, Routes,
    protocol::{
        Answer, TensorLimits,
        client::{Format, decode_answer, decode_metadata, encode_request},
    },
};
use serde_json::json;

fn all_datatypes() -> Vec<TensorData> {
    let strings: ByteStrings = ["", "a\"\\\n", "日本"].into_iter().collect();
    vec![
        TensorData::Bool(vec![true, false, true]),
        TensorData::Uint8(vec![0, 1, u8::MAX]),
        TensorData::Uint16(vec![0, 1, u16::MAX]),
        TensorData::Uint32(vec![0, 1, u32::MAX]),
        TensorData::Uint64(vec![0, 1, u64::MAX]),
        TensorData::Int8(vec![i8::MIN, -1, i8::MAX]),
        TensorData::Int16(vec![i16::MIN, -1, i16::MAX]),
        TensorData::Int32(vec![i32::MIN, -1, i32::MAX]),
        TensorData::Int64(vec![i64::MIN, -1, i64::MAX]),
        TensorData::Fp16([0.5, -2.0, f16::MAX.to_f32()].map(f16::from_f32).into()),
        TensorData::Bf16([0.5, -2.0, 3e38].map(bf16::from_f32).into()),
        TensorData::Fp32(vec![0.1, f32::MIN_POSITIVE / 2.0, f32::MAX]),
        TensorData::Fp64(vec![0.1, f64::MIN_POSITIVE / 2.0, f64::MAX]),
        TensorData::Bytes(strings),
    ]
}

fn request(data: TensorData) -> InferRequest {
    let tensor = Tensor::new(vec![1, data.len()], data).unwrap();
    InferRequest {
        inputs: vec![NamedTensor {
            name: "x".to_owned(),
            tensor,
        }],
        ..InferRequest::default()
    }
}

fn ask(server: &Server, request: &InferRequest, format: Format) -> Answer {
    let encoded = encode_request(request, Some("id-1"), format).unwrap();
    let header = match encoded.json_length {
        Some(length) => format!("Inference-Header-Content-Length: {length}\r\n"),
        None => String::new(),
    };
    let answer = server.post("/v2/models/echo/infer", &header, &encoded.body);
    assert_eq!(
        answer.status,
        200,
        "{:?}",
        String::from_utf8_lossy(&answer.body)
    );
    let binary = format == Format::Binary;
    assert_eq!(answer.json_length().is_some(), binary);
    let content_type = if binary {
        "application/octet-stream"
    } else {
        "application/json"
    };
    assert_eq!(answer.header("content-type"), Some(content_type));
    decode_answer(
        &answer.body[..],
        answer.json_length(),
        TensorLimits::default(),
    )
    .unwrap()
}

#[test]
fn every_datatype_comes_back() {
    let server = Server::start();
    for data in all_datatypes() {
        let request = request(data);
        let raw_only = matches!(
            request.inputs[0].tensor.data(),
            TensorData::Fp16(_) | TensorData::Bf16(_)
        );
        for format in [Format::Json, Format::Binary] {
            if raw_only && format == Format::Json {
                let error = encode_request(&request, None, format).unwrap_err();
                assert_eq!(error.code(), "needs_binary");
                continue;
            }
            let answer = ask(&server, &request, format);
            assert_eq!(answer.response.outputs, request.inputs);
            assert_eq!(
                (&*answer.model, answer.id.as_deref()),
                ("echo", Some("id-1"))
            );
            assert_eq!(answer.version.as_deref(), Some("10"));
        }
    }
}

#[test]
fn nan_and_bytes_that_are_no_text_travel_as_binary() {
    let server = Server::start();
    let mut bits = request(TensorData::Fp32(vec![f32::INFINITY, -0.0]));
    let strings: ByteStrings = [&b"\xff\x00"[..], b""].into_iter().collect();
    let y = Tensor::new(vec![2], TensorData::Bytes(strings)).unwrap();
    bits.inputs.push(NamedTensor {
        name: "y".to_owned(),
        tensor: y,
    });
    let answer = ask(&server, &bits, Format::Binary);
    assert_eq!(answer.response.outputs, bits.inputs);
}

#[test]
fn parameters_reach_the_engine_and_come_back() {
    let server = Server::start();
    let mut request = request(TensorData::Bool(vec![true]));
    for (name, value) in [
        ("plan", Parameter::from("exact")),
        ("n", Parameter::Int(i64::MIN)),
        ("f", Parameter::Float(0.1)),
        ("b", Parameter::Bool(false)),
    ] {
        request.parameters.insert(name.to_owned(), value);
    }
    let mut sent = request.clone();
    sent.parameters
        .insert("deadline_ms".to_owned(), Parameter::Int(60_000));
    sent.parameters
        .insert("timeout".to_owned(), Parameter::Int(60_000_000));
    for format in [Format::Json, Format::Binary] {
        let mut parameters = ask(&server, &sent, format).response.parameters;
        let Some(Parameter::Float(left)) = parameters.remove("deadline_left_ms") else {
            panic!("{parameters:?}");
        };
        assert!((1.0..60_000.0).contains(&left), "{left}");
        assert_eq!(parameters, request.parameters);
    }
}

#[test]
fn json_and_binary_in_and_out() {
    let server = Server::start();
    let raw = [0_u8, 0, 128, 63]; // 1.0
    for binary_in in [false, true] {
        for binary_out in [false, true] {
            let mut input = json!({"name": "x", "datatype": "FP32", "shape": [1]});
            if binary_in {
                input["parameters"] = json!({"binary_data_size": 4});
            } else {
                input["data"] = json!([1]);
            }
            let head = json!({"inputs": [input], "outputs": [
                {"name": "x", "parameters": {"binary_data": binary_out}}]});
            let mut body = head.to_string().into_bytes();
            let header = format!("Inference-Header-Content-Length: {}\r\n", body.len());
            if binary_in {
                body.extend(raw);
            }
            let answer = server.post("/v2/models/echo/infer", &header, &body);
            assert_eq!(answer.status, 200);
            let length = answer.json_length();
            assert_eq!(length.is_some(), binary_out);
            let (json, tail) = answer.body.split_at(length.unwrap_or(answer.body.len()));
            let json: serde_json::Value = serde_json::from_slice(json).unwrap();
            let output = &json["outputs"][0];
            assert_eq!(output["shape"], json!([1]));
            if binary_out {
                assert_eq!(tail, raw);
                assert_eq!(output["parameters"]["binary_data_size"], 4);
                assert!(output.get("data").is_none());
            } else {
                assert_eq!(output["data"], json!([1.0]));
            }
        }
    }
}

#[test]
fn inputs_and_outputs_may_be_mixed() {
    let server = Server::start();
    let head = json!({
        "parameters": {"binary_data_output": true},
        "inputs": [
            {"name": "x", "datatype": "INT16", "shape": [2], "parameters": {"binary_data_size": 4}},
            {"data": [["a", ""]], "shape": [1, 2], "datatype": "BYTES", "name": "y"},
            {"name": "z", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
        ],
        "outputs": [
            {"name": "x", "parameters": {"binary_data": false}},
            {"name": "y"},
            {"name": "z", "parameters": {"binary_data": true}},
        ],
    });
    let mut body = head.to_string().into_bytes();
    let header = format!("inference-header-content-length: {}\r\n", body.len());
    body.extend([1, 0, 255, 255, 1, 0, 0, 0, b'z']);
    let answer = server.post("/v2/models/echo/infer", &header, &body);
    assert_eq!(answer.status, 200);
    let (json, tail) = answer.body.split_at(answer.json_length().unwrap());
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["data"], json!([1, -1]));
    assert_eq!(json["outputs"][1]["parameters"]["binary_data_size"], 9);
    assert_eq!(tail, b"\x01\0\0\0a\0\0\0\0\x01\0\0\0z");
}

#[test]
fn single_precision_is_written_as_short_as_it_can_be() {
    let server = Server::start();
    let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[0.1,16777216]}]}"#;
    let answer = server.infer("echo", body);
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains("[0.1,16777216.0]"), "{text}");
}

#[test]
fn large_messages_pass() {
    let server = Server::start();
    let values: Vec<f32> = (0..1_000_000).map(|i| i as f32 * 0.37).collect();
    let request = request(TensorData::Fp32(values));
    for format in [Format::Json, Format::Binary] {
        let answer = ask(&server, &request, format);
        assert_eq!(answer.response.outputs, request.inputs);
    }
}

#[test]
fn chunked_bodies_pass() {
    let server = Server::start();
    let answer = server.raw(
        b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
          Transfer-Encoding: chunked\r\n\r\n5\r\n{\"inp\r\n8\r\nuts\":[]}\r\n0\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
}

#[test]
fn metadata_is_read_back() {
    let server = Server::start();
    let body = server.get("/v2/models/echo").body;
    let description = decode_metadata(&body).unwrap();
    assert_eq!(
        description,
        server.service.find("echo", None).unwrap().describe()
    );
}

#[test]
fn the_best_classes_instead_of_values() {
    let server = Server::start();
    let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[0.5,2,1]}],
        "outputs":[{"name":"x","parameters":{"classification":2}}]}"#;
    let answer = server.infer("echo", body).json();
    let output = &answer["outputs"][0];
    assert_eq!(output["datatype"], "BYTES");
    assert_eq!(output["shape"], json!([1, 2]));
    assert_eq!(output["data"], json!(["2:1", "1:2"]));
}

#[tokio::test]
async fn raw_bytes_are_a_model_s_only_input() {
    let service = crate::fake::serve(Admission::default().into(), &[("one", Echo::of_one())]);
    let routes = Routes::new(Role::Main, service, Limits::default());
    let values = [0.5_f32, -1.0, f32::NAN];
    let body: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let request = axum::http::Request::post("/v2/models/one/infer")
        .header("inference-header-content-length", "0")
        .body(axum::body::Body::from(body.clone()))
        .unwrap();
    let answer = routes.answer(request).await;
    assert_eq!(answer.status(), 200);
    let json_length = &answer.headers()["inference-header-content-length"];
    let json_length: usize = json_length.to_str().unwrap().parse().unwrap();
    let answer = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
    let answer = answer.unwrap();
    let (json, tail) = answer.split_at(json_length);
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["shape"], serde_json::json!([3]));
    assert_eq!(tail, body);
}
