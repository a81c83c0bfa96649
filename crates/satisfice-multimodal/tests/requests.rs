//! What an engine makes of requests: good ones, incomplete ones and wrong ones.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use satisfice_core::{
    Batching, Engine, ErrorKind, InferRequest, Parameter, Part, Tensor, TensorData,
};
use support::{
    Case, bytes, engine, floats, largest_difference, logits, named, parameter, with_plan,
};

#[test]
fn without_a_profile_the_most_modalities_answer() {
    let case = Case::open();
    let engine = engine("fused");
    for brought in ["image", "image+text", "image+text+sensor", "sensor"] {
        let answer = engine.infer(&case.request(brought, 0..3)).unwrap();
        assert_eq!(parameter(&answer, "plan"), brought);
        assert_eq!(parameter(&answer, "strategies"), format!("{brought}=3"));
        let ran: Vec<String> = brought.split('+').map(|m| format!("{m}=3")).collect();
        assert_eq!(parameter(&answer, "modalities"), ran.join(","));
        assert!(!answer.parameters.contains_key("expected_accuracy"));
    }
    // `per_subset` has no network for image and sensor.
    let answer = support::engine("per_subset")
        .infer(&case.request("image+sensor", 0..1))
        .unwrap();
    assert!(["image", "sensor"].contains(&parameter(&answer, "plan").as_str()));
}

#[test]
fn outputs_are_those_asked_for() {
    let case = Case::open();
    let engine = engine("joint");
    let mut request = case.request("image+text", 0..4);
    let values = logits(&engine, &request);
    request.outputs = ["class_name", "class", "logits"]
        .map(str::to_owned)
        .to_vec();
    let answer = engine.infer(&request).unwrap();
    let [names, classes, again] = &answer.outputs[..] else {
        panic!()
    };
    assert_eq!(floats(&again.tensor), values);
    let (TensorData::Bytes(names), TensorData::Int64(classes)) =
        (names.tensor.data(), classes.tensor.data())
    else {
        panic!()
    };
    for (i, row) in values.chunks(3).enumerate() {
        let class = (0..3).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        assert_eq!(classes[i], class as i64);
        let expected = ["red", "green", "blue"][class].as_bytes();
        assert_eq!(names.get(i).unwrap(), expected);
    }
}

#[test]
fn long_requests_are_cut_into_batches() {
    let case = Case::open();
    let engine = engine("fused");
    // 40 inputs where a batch holds 16.
    let mut request = case.request("sensor", 0..1);
    let row = floats(&request.inputs[0].tensor).to_vec();
    let tensor = Tensor::new(vec![40, 4], TensorData::Fp32(row.repeat(40))).unwrap();
    request.inputs[0].tensor = tensor;
    let answer = logits(&engine, &request);
    let alone = logits(&engine, &case.request("sensor", 0..1));
    assert!(largest_difference(&answer, &alone.repeat(40)) < 1e-5);
    let offers = engine.offers(&request).unwrap();
    let seconds = &engine
        .strategies()
        .iter()
        .find(|s| s.name == "sensor")
        .unwrap()
        .seconds;
    let offer = offers.iter().find(|offer| offer.plan == "sensor").unwrap();
    assert!((offer.seconds - 2.0 * seconds[15] - seconds[7]).abs() < 1e-12);
    assert_eq!(seconds.len(), 16);
}

#[test]
fn a_broken_input_fails_alone() {
    let case = Case::open();
    let engine = engine("fused");
    let good = engine.prepare(case.request("sensor", 0..3)).unwrap();
    // Finite, but the encoder's product overflows.
    let mut values = floats(&case.tensor("sensor", 0..3)).to_vec();
    values[4..8].fill(f32::MAX);
    let tensor = Tensor::new(vec![3, 4], TensorData::Fp32(values)).unwrap();
    let request = InferRequest {
        inputs: vec![named("sensor", tensor)],
        ..InferRequest::default()
    };
    let bad = engine.prepare(request.clone()).unwrap();
    let strategy = engine
        .strategies()
        .iter()
        .position(|s| s.name == "sensor")
        .unwrap();
    let parts = [
        Part {
            job: &bad,
            inputs: 0..1,
        },
        Part {
            job: &good,
            inputs: 0..3,
        },
        Part {
            job: &bad,
            inputs: 1..3,
        },
    ];
    let answers = engine.run(strategy, &parts).unwrap().parts;
    let wanted = case.tensor("fused/sensor", 0..3);
    let whole = floats(&answers[1].as_ref().unwrap()[0].tensor);
    assert!(largest_difference(whole, floats(&wanted)) < 1e-4);
    assert!(answers[0].is_ok());
    let error = answers[2].as_ref().unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Internal, "not_finite")
    );
    assert!(error.message().contains("input 1"), "{error}");
    assert_eq!(engine.infer(&request).unwrap_err().code(), "not_finite");
}

#[test]
fn jobs_hold_the_strategies_that_they_suffice_for() {
    let case = Case::open();
    let engine = engine("fused");
    let names = |request| {
        let job = engine.prepare(request).unwrap();
        let names = job
            .strategies
            .iter()
            .map(|&s| engine.strategies()[s].name.clone());
        names.collect::<Vec<_>>()
    };
    let job = case.request("image+sensor", 0..2);
    assert_eq!(
        names(job.clone()),
        [
            "image",
            "sensor",
            "image+sensor",
            "image@int8",
            "image+sensor@int8"
        ]
    );
    assert_eq!(names(with_plan(job, "sensor")), ["sensor"]);
}

/// Clients of batching models send texts and other single values as `[n, 1]`.
#[test]
fn single_values_may_have_a_dimension_of_one() {
    let engine = engine("fused");
    let texts = || satisfice_core::ByteStrings::from_iter(["a red thing", "blue"]);
    let of = |shape: Vec<usize>| InferRequest {
        inputs: vec![named(
            "caption",
            Tensor::new(shape, TensorData::Bytes(texts())).unwrap(),
        )],
        ..InferRequest::default()
    };
    assert_eq!(
        logits(&engine, &of(vec![2])),
        logits(&engine, &of(vec![2, 1]))
    );
    for shape in [vec![1, 2], vec![2, 1, 1], vec![]] {
        let count = shape.iter().product();
        let strings = texts().iter().take(count).map(<[u8]>::to_vec).collect();
        let tensor = Tensor::new(shape.clone(), TensorData::Bytes(strings)).unwrap();
        let request = InferRequest {
            inputs: vec![named("caption", tensor)],
            ..InferRequest::default()
        };
        let error = engine.infer(&request).unwrap_err();
        let code = if shape.is_empty() {
            "no_inputs"
        } else {
            "wrong_shape"
        };
        assert_eq!(error.code(), code, "{shape:?}: {error}");
        if code == "wrong_shape" {
            assert!(error.message().contains("BYTES [n] or [n, 1]"), "{error}");
            assert!(error.hint().is_some());
        }
    }
}

/// A wrong request: what is done to a good one with image and text.
type Spoil = fn(&mut InferRequest);

#[test]
fn wrong_requests_are_refused() {
    fn floats_of(shape: &[usize], value: f32) -> Tensor {
        let count = shape.iter().product();
        Tensor::new(shape.to_vec(), TensorData::Fp32(vec![value; count])).unwrap()
    }
    let spoils: [(&str, Spoil); 17] = [
        ("no_inputs", |r| r.inputs.clear()),
        ("no_inputs", |r| {
            r.inputs = vec![named("sensor", floats_of(&[0, 4], 0.0))];
        }),
        ("no_inputs", |r| {
            r.inputs = vec![named("sensor", floats_of(&[], 0.0))];
        }),
        ("too_large", |r| {
            r.inputs = vec![named("sensor", floats_of(&[65, 4], 0.0))];
        }),
        ("unknown_input", |r| {
            r.inputs.push(named("smell", floats_of(&[2, 4], 0.0)));
        }),
        ("duplicate_input", |r| r.inputs.push(r.inputs[0].clone())),
        ("wrong_shape", |r| {
            r.inputs.push(named("sensor", floats_of(&[3, 4], 0.0)));
        }),
        ("wrong_shape", |r| {
            r.inputs.push(named("sensor", floats_of(&[2, 5], 0.0)));
        }),
        ("wrong_shape", |r| {
            r.inputs.push(named("sensor", floats_of(&[2, 4, 1], 0.0)));
        }),
        ("wrong_shape", |r| {
            r.inputs.push(named("sensor", bytes(["a", "b"])));
        }),
        ("wrong_shape", |r| {
            r.inputs = vec![named("picture", floats_of(&[2], 0.0))];
        }),
        ("not_finite", |r| {
            r.inputs.push(named("sensor", floats_of(&[2, 4], f32::NAN)));
        }),
        ("not_finite", |r| {
            r.inputs
                .push(named("sensor", floats_of(&[2, 4], f32::INFINITY)));
        }),
        ("duplicate_modality", |r| {
            r.inputs.push(named("picture", bytes(["a", "b"])));
        }),
        ("incomplete_modality", |r| r.inputs.truncate(2)),
        ("unknown_output", |r| {
            r.outputs = vec!["embedding".to_owned()];
        }),
        ("duplicate_output", |r| {
            r.outputs = vec!["class".to_owned(), "class".to_owned()];
        }),
    ];
    let case = Case::open();
    let engine = engine("fused");
    for (i, (code, spoil)) in spoils.into_iter().enumerate() {
        let mut request = case.request("image+text", 0..2);
        engine.prepare(request.clone()).unwrap();
        spoil(&mut request);
        let error = engine.prepare(request.clone()).unwrap_err();
        assert_eq!(error.code(), code, "case {i}: {error}");
        assert_eq!(engine.infer(&request).unwrap_err(), error, "case {i}");
        assert_ne!(error.kind(), ErrorKind::Internal, "case {i}: {error}");
    }
}

#[test]
fn plans_that_cannot_be_followed_are_refused() {
    let case = Case::open();
    let engine = engine("per_subset");
    let request = case.request("image", 0..1);
    let refused = |request: InferRequest| engine.infer(&request).unwrap_err();
    let error = refused(with_plan(request.clone(), "smell"));
    assert_eq!(error.code(), "unknown_plan");
    assert!(error.hint().unwrap().contains("image+text"), "{error}");
    let error = refused(with_plan(request.clone(), "image+text"));
    assert_eq!(error.code(), "missing_modality");
    assert!(error.message().contains("image+text"), "{error}");
    let mut number = request;
    number
        .parameters
        .insert("plan".to_owned(), Parameter::Int(3));
    assert_eq!(refused(number).code(), "unknown_plan");
    // No network reads text alone.
    let error = refused(case.request("text", 0..1));
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::InvalidInput, "missing_modality")
    );
}
