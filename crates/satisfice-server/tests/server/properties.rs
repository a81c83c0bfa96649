//! What holds for any request.

use crate::client::Server;
use half::{bf16, f16};
use proptest::{collection::vec, prelude::*};
use satisfice_core::{
    ByteStrings, InferRequest, InferResponse, NamedTensor, Parameter, Parameters, Tensor,
    TensorData,
};
use satisfice_server::protocol::{
    Answer, AnswerFormat, TensorLimits,
    client::{Format, decode_answer, encode_request},
    decode_request, encode_answer,
};

fn data(n: usize) -> BoxedStrategy<TensorData> {
    let finite32 = any::<f32>().prop_filter("JSON", |v| v.is_finite());
    let finite64 = any::<f64>().prop_filter("JSON", |v| v.is_finite());
    prop_oneof![
        vec(any::<bool>(), n).prop_map(TensorData::Bool),
        vec(any::<u8>(), n).prop_map(TensorData::Uint8),
        vec(any::<u16>(), n).prop_map(TensorData::Uint16),
        vec(any::<u32>(), n).prop_map(TensorData::Uint32),
        vec(any::<u64>(), n).prop_map(TensorData::Uint64),
        vec(any::<i8>(), n).prop_map(TensorData::Int8),
        vec(any::<i16>(), n).prop_map(TensorData::Int16),
        vec(any::<i32>(), n).prop_map(TensorData::Int32),
        vec(any::<i64>(), n).prop_map(TensorData::Int64),
        vec(finite32, n).prop_map(TensorData::Fp32),
        vec(finite64, n).prop_map(TensorData::Fp64),
        vec(".{0,8}", n).prop_map(|v| TensorData::Bytes(v.into_iter().collect())),
    ]
    .boxed()
}

fn raw_only_data(n: usize) -> BoxedStrategy<TensorData> {
    let strings = |v: Vec<Vec<u8>>| TensorData::Bytes(v.into_iter().collect::<ByteStrings>());
    let fp16 = (-1e4_f32..1e4).prop_map(f16::from_f32);
    let bf16 = (-1e4_f32..1e4).prop_map(bf16::from_f32);
    prop_oneof![
        vec(fp16, n).prop_map(TensorData::Fp16),
        vec(bf16, n).prop_map(TensorData::Bf16),
        vec(vec(any::<u8>(), 0..8), n).prop_map(strings),
    ]
    .boxed()
}

fn tensors(
    data: fn(usize) -> BoxedStrategy<TensorData>,
) -> impl Strategy<Value = Vec<NamedTensor>> {
    let tensor = vec(0_usize..4, 0..4).prop_flat_map(move |shape| {
        let elements = shape.iter().product();
        data(elements).prop_map(move |data| Tensor::new(shape.clone(), data).unwrap())
    });
    vec((".{0,6}", tensor), 0..4).prop_map(|tensors| {
        let mut named: Vec<NamedTensor> = Vec::new();
        for (name, tensor) in tensors {
            if named.iter().all(|other| other.name != name) {
                named.push(NamedTensor { name, tensor });
            }
        }
        named
    })
}

fn parameters() -> impl Strategy<Value = Parameters> {
    let value = prop_oneof![
        any::<bool>().prop_map(Parameter::Bool),
        any::<i64>().prop_map(Parameter::Int),
        any::<f64>()
            .prop_filter("JSON", |v| v.is_finite())
            .prop_map(Parameter::Float),
        ".{0,8}".prop_map(Parameter::String),
    ];
    proptest::collection::btree_map("[a-z]{1,4}", value, 0..4)
}

fn check_round_trips(
    tensors: Vec<NamedTensor>,
    parameters: Parameters,
    format: Format,
) -> Result<(), TestCaseError> {
    let limits = TensorLimits::default();
    let request = InferRequest {
        inputs: tensors.clone(),
        outputs: tensors.iter().map(|t| t.name.clone()).collect(),
        parameters: parameters.clone(),
        ..InferRequest::default()
    };
    let encoded = encode_request(&request, Some("i"), format).unwrap();
    let decoded = decode_request(&encoded.body[..], encoded.json_length, limits).unwrap();
    prop_assert_eq!(&decoded.request, &request);
    prop_assert_eq!(decoded.format.binary, format == Format::Binary);

    let answer = Answer {
        model: "m".to_owned(),
        version: Some("1".to_owned()),
        id: decoded.id,
        response: InferResponse {
            outputs: tensors,
            parameters,
        },
    };
    let encoded = encode_answer(answer.clone(), &decoded.format).unwrap();
    let decoded = decode_answer(encoded.body, encoded.json_length, limits).unwrap();
    prop_assert_eq!(decoded, answer);
    Ok(())
}

proptest! {
    #[test]
    fn messages_come_back(
        tensors in tensors(data),
        parameters in parameters(),
        binary in any::<bool>(),
    ) {
        let format = if binary { Format::Binary } else { Format::Json };
        check_round_trips(tensors, parameters, format)?;
    }

    #[test]
    fn what_is_not_json_comes_back_as_binary(
        tensors in tensors(raw_only_data),
        parameters in parameters(),
    ) {
        check_round_trips(tensors, parameters, Format::Binary)?;
    }

    /// A changed byte gives an error or another request, never a panic.
    #[test]
    fn damaged_messages_do_not_panic(
        tensors in tensors(data),
        binary in any::<bool>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
    ) {
        let format = if binary { Format::Binary } else { Format::Json };
        let request = InferRequest { inputs: tensors, ..InferRequest::default() };
        let mut encoded = encode_request(&request, None, format).unwrap();
        for (at, byte) in damage {
            let at = at.index(encoded.body.len());
            encoded.body[at] = byte;
        }
        let limits = TensorLimits::default();
        let other = Some(length.index(encoded.body.len() + 2));
        for json_length in [None, encoded.json_length, other] {
            let _ = decode_request(&encoded.body[..], json_length, limits);
            let _ = decode_answer(&encoded.body[..], json_length, limits);
        }
    }

    /// Structure without sense.
    #[test]
    fn json_soup_does_not_panic(
        pieces in vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"inputs\"", "\"data\"", "\"shape\"", "\"x\"", "\"datatype\"",
            "\"FP32\"", "\"parameters\"", "1", "-1", "1e999", "null", "true", "\"\\u", "\\", " ",
        ]), 0..40),
    ) {
        let text = pieces.concat();
        let _ = decode_request(text.as_bytes(), None, TensorLimits::default());
        let data = format!("{{\"inputs\":[{{\"name\":\"x\",\"shape\":[2,1],\"datatype\":\"FP32\",\"data\":{text}}}]}}");
        let _ = decode_request(data.as_bytes(), None, TensorLimits::default());
    }
}

/// Random bytes over the wire; the chance that they are a request is none.
#[test]
fn random_bodies_are_refused() {
    let server = Server::start();
    let mut runner = proptest::test_runner::TestRunner::default();
    let strategy = (vec(any::<u8>(), 0..200), prop::option::of(1_usize..300));
    let outcome = runner.run(&strategy, |(body, json_length)| {
        let header = json_length.map_or(String::new(), |length| {
            format!("Inference-Header-Content-Length: {length}\r\n")
        });
        let answer = server.post("/v2/models/echo/infer", &header, &body);
        prop_assert!((400..500).contains(&answer.status));
        prop_assert!(!answer.body.is_empty());
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(server.get("/v2/health/live").status, 200);
}

#[test]
fn outputs_follow_the_request_s_format() {
    let output = |name: &str| NamedTensor {
        name: name.to_owned(),
        tensor: Tensor::new(vec![1], TensorData::Uint8(vec![7])).unwrap(),
    };
    let answer = Answer {
        model: "m".to_owned(),
        version: None,
        id: None,
        response: InferResponse {
            outputs: vec![output("a"), output("b")],
            parameters: Parameters::new(),
        },
    };
    let format = AnswerFormat {
        binary: false,
        outputs: [("b".to_owned(), true)].into(),
        ..AnswerFormat::default()
    };
    let encoded = encode_answer(answer, &format).unwrap();
    let body = encoded.body.join();
    assert_eq!(body.len(), encoded.json_length.unwrap() + 1);
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(
        text.contains(r#"{"name":"a","datatype":"UINT8","shape":[1],"data":[7]}"#),
        "{text}"
    );
}
