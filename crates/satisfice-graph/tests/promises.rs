//! Profiles: what is measured is kept, belongs to its model, and decides requests with a minimum.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_core::{Engine, ErrorKind, InferResponse, Measure, Parameter};
use satisfice_graph::{
    GraphEngine, ModelDir, Plan, Precision, PrecomputeOptions, ProfileOptions, ProfileReport,
    precompute, profile,
};
use satisfice_store::{Check, NoProgress, Queries};
use std::fs;
use support::{Ready, request};

fn queries() -> Queries {
    Queries::open(&support::bundle().join("queries.safetensors")).unwrap()
}

fn options() -> ProfileOptions {
    ProfileOptions {
        plans: [
            "pe",
            "recompute:10%:reach",
            "recompute:25%",
            "recompute:100%",
        ]
        .map(|plan| plan.parse().unwrap())
        .to_vec(),
        batches: vec![32, 256],
        limit: 6_000,
        timed: 4,
    }
}

/// Profiles a model and opens it again, with the profile.
fn profiled(ready: &Ready) -> (ProfileReport, GraphEngine) {
    profiled_with(ready, &options())
}

fn profiled_with(ready: &Ready, options: &ProfileOptions) -> (ProfileReport, GraphEngine) {
    let model_dir = ModelDir::open(ready.dir.path(), None).unwrap();
    let report = profile(&ready.engine, &model_dir, &queries(), options, &NoProgress).unwrap();
    report.profile.write(&model_dir.profile_path()).unwrap();
    let engine = GraphEngine::open(&model_dir, ready.store.clone(), Check::Structure).unwrap();
    let read = engine.profile().unwrap();
    assert!(
        read.plans == report.profile.plans,
        "what was written is read"
    );
    (report, engine)
}

fn text<'a>(response: &'a InferResponse, name: &str) -> &'a str {
    match &response.parameters[name] {
        Parameter::String(text) => text,
        other => panic!("{name} is {other:?}"),
    }
}

fn number(response: &InferResponse, name: &str) -> f64 {
    match response.parameters[name] {
        Parameter::Float(number) => number,
        ref other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn promises_hold_on_queries_that_the_calibration_has_not_seen() {
    let ready = support::debian("gcn2", PrecomputeOptions::default());
    let (report, _) = profiled(&ready);
    assert_eq!(report.coverage.len(), 2, "there are labels");
    for coverage in &report.coverage {
        assert!(coverage.classes > 100, "{coverage:?}");
        assert!(
            coverage.classes_met * 100 >= coverage.classes * 95,
            "{coverage:?}"
        );
    }
    for row in &report.rows {
        assert!(row.lower_fidelity <= row.expected_fidelity, "{row:?}");
        assert!(
            (row.expected_fidelity - row.fidelity).abs() < 0.02,
            "{row:?}"
        );
        assert!(
            row.fidelity - row.lower_fidelity < 0.05,
            "a bound that says something: {row:?}"
        );
    }
}

#[test]
fn a_minimum_gets_the_quickest_plan_that_promises_it() {
    let ready = support::debian("gcn2", PrecomputeOptions::default());
    let (_, engine) = profiled(&ready);
    let queries = queries();
    let request = |parameters: &[(&str, f64)]| request(&queries, 0..200, parameters);
    let offers = engine.offers(&request(&[])).unwrap();
    assert_eq!(offers.len(), 5, "the plans of the profile and `exact`");
    let lower = |plan: &str, measure| {
        let offer = offers.iter().find(|offer| offer.plan == plan).unwrap();
        let quality = offer.quality.iter().find(|q| q.measure == measure).unwrap();
        (quality.lower, offer.seconds)
    };
    for (parameter, measure) in [
        ("min_fidelity", Measure::Fidelity),
        ("min_accuracy", Measure::Accuracy),
    ] {
        for plan in ["pe", "recompute:25%", "exact"] {
            let minimum = lower(plan, measure).0;
            let response = engine.infer(&request(&[(parameter, minimum)])).unwrap();
            let chosen = lower(text(&response, "plan"), measure);
            assert!(chosen.0 >= minimum && chosen.1 <= lower(plan, measure).1);
            assert!(
                (number(&response, &format!("{}_lower_bound", measure.name())) - chosen.0).abs()
                    < 1e-12
            );
            assert!(number(&response, &format!("expected_{}", measure.name())) >= chosen.0);
        }
    }
    let least = engine.infer(&request(&[("min_fidelity", 0.1)])).unwrap();
    assert_ne!(text(&least, "plan"), "exact", "less work is enough");
    let all = engine.infer(&request(&[("min_fidelity", 1.0)])).unwrap();
    assert_eq!(text(&all, "plan"), "exact");
}

#[test]
fn where_refresh_is_the_quickest_plan_that_promises_enough_it_answers() {
    let ready = support::debian("gcn2", PrecomputeOptions::default());
    let options = ProfileOptions {
        plans: ["pe", "refresh", "recompute:10%"]
            .map(|plan| plan.parse().unwrap())
            .to_vec(),
        ..options()
    };
    let (_, engine) = profiled_with(&ready, &options);
    let queries = queries();
    let offers = engine.offers(&request(&queries, 0..256, &[])).unwrap();
    for measure in [Measure::Fidelity, Measure::Accuracy] {
        let lower = |plan: &str| {
            let offer = offers.iter().find(|offer| offer.plan == plan).unwrap();
            let quality = offer.quality.iter().find(|q| q.measure == measure).unwrap();
            quality.lower
        };
        let minimum = lower("refresh");
        for less in ["pe", "recompute:10%"] {
            assert!(lower(less) < minimum, "{less} promises less");
        }
        let name = format!("min_{}", measure.name());
        let response = engine
            .infer(&request(&queries, 0..256, &[(&name, minimum)]))
            .unwrap();
        assert_eq!(text(&response, "plan"), "refresh", "{name} {minimum}");
    }
}

#[test]
fn what_cannot_be_promised_is_refused_with_what_can() {
    let ready = support::debian("gcn2", PrecomputeOptions::default());
    let queries = queries();
    let minimum = |name, share| request(&queries, 0..50, &[(name, share)]);
    let refused = ready
        .engine
        .infer(&minimum("min_fidelity", 0.5))
        .unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Unsupported, "no_profile")
    );
    assert_eq!(
        ready.engine.offers(&minimum("min_fidelity", 0.5)).unwrap(),
        []
    );

    let (_, engine) = profiled(&ready);
    let refused = engine.infer(&minimum("min_accuracy", 0.999)).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Unsupported, "minimum_not_promised")
    );
    assert!(refused.message().contains("at most 0."), "{refused}");
    let mut named = minimum("min_fidelity", 1.0);
    named.parameters.insert("plan".to_owned(), "pe".into());
    assert_eq!(
        engine.infer(&named).unwrap_err().code(),
        "minimum_not_promised"
    );
    named
        .parameters
        .insert("min_fidelity".to_owned(), 0.5.into());
    assert_eq!(text(&engine.infer(&named).unwrap(), "plan"), "pe");
    for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let refused = engine.infer(&minimum("min_fidelity", wrong)).unwrap_err();
        assert_eq!(refused.code(), "wrong_parameter", "{wrong}");
    }
    let both = request(
        &queries,
        0..50,
        &[("min_fidelity", 0.5), ("min_accuracy", 0.5)],
    );
    assert_eq!(engine.infer(&both).unwrap_err().code(), "two_minimums");
}

#[test]
fn a_profile_of_other_embeddings_or_a_damaged_one_is_left_aside() {
    let ready = support::debian("gcn2", PrecomputeOptions::default());
    profiled(&ready);
    let model_dir = ModelDir::open(ready.dir.path(), None).unwrap();
    let path = model_dir.profile_path();
    let open = || GraphEngine::open(&model_dir, ready.store.clone(), Check::Structure).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let damaged = [
        whole.replacen("\"agreeing\": ", "\"agreeing\": 1", 1),
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        "{}".to_owned(),
    ];
    for text in damaged {
        fs::write(&path, text).unwrap();
        let engine = open();
        assert!(engine.profile().is_none());
        let problem = engine.profile_problem().unwrap().to_string();
        assert!(problem.contains("profile.json"), "{problem}");
    }
    fs::write(&path, &whole).unwrap();
    assert!(open().profile().is_some());

    let model = satisfice_graph::GnnModel::load(model_dir.config(), &model_dir.weights_path());
    let other = PrecomputeOptions {
        precision: Precision::F16,
        ..PrecomputeOptions::default()
    };
    precompute(
        &model_dir,
        &model.unwrap(),
        &ready.store,
        other,
        &NoProgress,
    )
    .unwrap();
    let engine = open();
    let problem = engine.profile_problem().unwrap().to_string();
    assert!(
        problem.contains("other") && engine.profile().is_none(),
        "{problem}"
    );
    let answer = engine.infer(&request(&queries(), 0..5, &[])).unwrap();
    assert_eq!(text(&answer, "plan"), engine.default_plan().to_string());
}

#[test]
fn only_plans_that_can_be_predicted_are_profiled() {
    let ready = support::debian("sage2", PrecomputeOptions::default());
    let model_dir = ModelDir::open(ready.dir.path(), None).unwrap();
    let oracle: Plan = "recompute:10%:oracle".parse().unwrap();
    let refused = |options: ProfileOptions| {
        let report = profile(&ready.engine, &model_dir, &queries(), &options, &NoProgress);
        report.unwrap_err().to_string()
    };
    let oracle = ProfileOptions {
        plans: vec![oracle],
        ..options()
    };
    assert!(refused(oracle).contains("cannot be predicted"));
    let few = ProfileOptions {
        limit: 10,
        ..options()
    };
    assert!(refused(few).contains("100 held-out queries"));
}
