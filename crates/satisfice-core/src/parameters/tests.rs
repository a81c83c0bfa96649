use super::*;
use std::collections::BTreeSet;

#[test]
fn names_are_unique_at_their_place_and_said() {
    let mut seen = BTreeSet::new();
    for spec in all() {
        assert!(seen.insert((spec.place.what(), spec.name)), "{}", spec.name);
        assert!(!spec.doc.is_empty(), "{}", spec.name);
        assert!(spec.name.len() <= NAME_BYTES_MAX);
        assert_eq!(
            nearest(spec.name, all()).map(|near| near.name),
            Some(spec.name)
        );
    }
}

fn code(spec: ParameterSpec, value: impl Into<Parameter>) -> Option<(ErrorKind, &'static str)> {
    let read = spec.read(&value.into());
    read.err().map(|error| {
        assert!(error.hint().is_some(), "{error}");
        (error.kind(), error.code())
    })
}

#[test]
fn what_is_clearly_meant_is_taken() {
    for (spec, given, taken) in [
        (DEADLINE_MS, Parameter::Int(20), Parameter::Float(20.0)),
        (DEADLINE_MS, "2.5".into(), Parameter::Float(2.5)),
        (MIN_FIDELITY, "1".into(), Parameter::Float(1.0)),
        (MIN_FIDELITY, Parameter::Int(0), Parameter::Float(0.0)),
        (PRIORITY, Parameter::Float(2.0), Parameter::Int(2)),
        (PRIORITY, "7".into(), Parameter::Int(7)),
        (BINARY_DATA, "true".into(), Parameter::Bool(true)),
        (NODE_IDS, "own".into(), "own".into()),
        (SEQUENCE_ID, Parameter::Int(0), Parameter::Int(0)),
        (SEQUENCE_ID, "".into(), "".into()),
        (SEQUENCE_END, false.into(), false.into()),
    ] {
        assert_eq!(spec.read(&given), Ok(taken), "{}", spec.name);
    }
}

#[test]
fn other_values_are_refused_with_the_parameters_code() {
    let wrong = Some((ErrorKind::InvalidInput, "wrong_parameter"));
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(code(DEADLINE_MS, value), wrong, "{value}");
    }
    for value in ["", "NaN", "inf", "20 ms", "0x10", " "] {
        assert_eq!(code(DEADLINE_MS, value), wrong, "{value}");
        assert_eq!(code(PRIORITY, value), wrong, "{value}");
    }
    for value in [-0.1, 1.1, f64::NAN] {
        assert_eq!(code(MIN_ACCURACY, value), wrong, "{value}");
    }
    for value in [0.5, -1.0, 1e300, f64::NAN] {
        assert_eq!(code(PRIORITY, value), wrong, "{value}");
    }
    assert_eq!(code(PRIORITY, true), wrong);
    assert_eq!(code(BINARY_DATA, 1_i64), wrong);
    let with = |code| Some((ErrorKind::InvalidInput, code));
    assert_eq!(code(PLAN, 1_i64), with("unknown_plan"));
    assert_eq!(code(EDGE_DIRECTION, "IN"), with("unknown_direction"));
    let unsupported = |code| Some((ErrorKind::Unsupported, code));
    assert_eq!(
        code(SEQUENCE_ID, 7_i64),
        unsupported("unsupported_parameter")
    );
    assert_eq!(code(INPUT[3], "region"), unsupported("shared_memory"));
}

#[test]
fn a_misspelt_name_gets_the_nearest() {
    let hint = |name: &str| {
        let mut parameters = Parameters::from([(name.to_owned(), Parameter::Int(1))]);
        let known = CONTRACT.iter().chain(&GRAPH);
        let error = check(&mut parameters, &known, Place::Request).unwrap_err();
        assert_eq!(error.code(), "unknown_parameter");
        error.hint().unwrap_or_default().to_owned()
    };
    for (name, meant) in [
        ("min_fidelty", "min_fidelity"),
        ("deadline_msec", "deadline_ms"),
        ("deadline-ms", "deadline_ms"),
        ("Plan", "plan"),
        ("PRIORITY", "priority"),
        ("edge_directions", "edge_direction"),
    ] {
        let hint = hint(name);
        assert!(
            hint.starts_with(&format!("did you mean `{meant}`")),
            "{name}: {hint}"
        );
    }
    assert!(
        hint("exchange").contains("clusters"),
        "{}",
        hint("exchange")
    );
    assert!(hint("classification").contains("an output"));
    for name in ["", "batch", &"long".repeat(1000)] {
        assert!(
            hint(name).starts_with("parameters there are `deadline_ms`"),
            "{name}"
        );
    }
}

#[test]
fn what_is_known_is_left_as_its_reader_takes_it() {
    let mut parameters = Parameters::from([
        ("priority".to_owned(), Parameter::Float(3.0)),
        ("plan".to_owned(), "exact".into()),
    ]);
    check(&mut parameters, &CONTRACT.iter(), Place::Request).unwrap();
    assert_eq!(parameters["priority"], Parameter::Int(3));
}
