//! What a request asks for besides an answer, and which plan that gets it. Times that engines announce
//! are made long, so that it does not matter how fast the machine is.

use crate::fake::{Modal, Offering, ask, bare, begin, number, of, queue_up, serve, settings, text};
use satisfice_core::{ErrorKind, InferResponse, Parameter};
use satisfice_server::{Service, SpareTime};
use serde_json::Value;
use std::sync::Arc;

const PLANS: [(&str, f64, f64); 3] = [
    ("exact", 100.0, 0.999),
    ("quick", 1.0, 0.7),
    ("half", 20.0, 0.9),
];

fn deadline(seconds: f64) -> (&'static str, Parameter) {
    ("deadline_ms", Parameter::Float(seconds * 1e3))
}

fn fidelity(share: f64) -> (&'static str, Parameter) {
    ("min_fidelity", share.into())
}

fn offering() -> (Arc<Offering>, Arc<Service>) {
    let engine = Arc::new(Offering::new(&PLANS));
    let service = serve(settings(1), &[("m", engine.clone())]);
    (engine, service)
}

async fn plan(service: &Arc<Service>, parameters: &[(&str, Parameter)]) -> String {
    text(&ask(service, "m", bare(parameters)).await.unwrap(), "plan")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_gets_the_plan_that_keeps_it() {
    let (_, service) = offering();
    assert_eq!(plan(&service, &[]).await, "default");
    assert_eq!(plan(&service, &[fidelity(0.5)]).await, "quick");
    assert_eq!(plan(&service, &[fidelity(0.8)]).await, "half");
    assert_eq!(
        plan(&service, &[fidelity(0.8), ("plan", "exact".into())]).await,
        "exact"
    );
    // What was executed so far took less than announced, and the planner has seen it: a new service.
    let (_, service) = offering();
    assert_eq!(plan(&service, &[deadline(1000.0)]).await, "exact");
    let (_, service) = offering();
    assert_eq!(plan(&service, &[deadline(50.0)]).await, "half");
    let (_, service) = offering();
    let both = [deadline(1000.0), fidelity(0.8)];
    assert_eq!(plan(&service, &both).await, "half");
}

#[tokio::test(flavor = "multi_thread")]
async fn spare_time_may_go_into_quality() {
    let mut settings = settings(1);
    settings.admission.spare_time = SpareTime::Quality;
    let engine = Arc::new(Offering::new(&PLANS));
    let service = serve(settings.clone(), &[("m", engine)]);
    let both = [deadline(50.0), fidelity(0.3)];
    assert_eq!(plan(&service, &both).await, "half");
    assert_eq!(plan(&service, &[fidelity(0.3)]).await, "quick");
    let service = serve(settings, &[("m", Arc::new(Modal::new(8)))]);
    let request = |minimum: f64, seconds| {
        let parameters = [("min_accuracy", minimum.into()), deadline(seconds)];
        of(&[1.0, 2.0], &parameters)
    };
    let answer = ask(&service, "m", request(0.8, 11.5)).await.unwrap();
    assert_eq!(text(&answer, "strategies"), "both=2");
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_get_just_enough_too() {
    let service = serve(settings(1), &[("m", Arc::new(Modal::new(8)))]);
    let parameters = [("min_accuracy", 0.8.into()), deadline(1000.0)];
    let answer = ask(&service, "m", of(&[1.0, 2.0], &parameters));
    assert_eq!(text(&answer.await.unwrap(), "strategies"), "text=2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_says_what_was_promised() {
    let (_, service) = offering();
    let request = bare(&[deadline(50.0), fidelity(0.8)]);
    let answer = ask(&service, "m", request).await.unwrap();
    assert_eq!(text(&answer, "strategies"), "half=1");
    assert!((number(&answer, "fidelity_lower_bound") - 0.9).abs() < 1e-9);
    assert!((number(&answer, "expected_fidelity") - 0.925).abs() < 1e-9);
    let left = number(&answer, "deadline_left_ms");
    assert!((1.0..50_000.0).contains(&left), "{left}");
}

/// The explanation of an answer, and the verdicts of its plans.
fn explained(answer: &InferResponse) -> (Value, String) {
    let explanation: Value = serde_json::from_str(&text(answer, "explanation")).unwrap();
    let plans = explanation["plans"].as_array().unwrap().iter();
    let verdict = |field: &Value| field.as_str().unwrap().to_owned();
    let verdicts = plans.map(|plan| verdict(&plan["plan"]) + " " + &verdict(&plan["verdict"]));
    let verdicts = verdicts.collect::<Vec<_>>().join(", ");
    (explanation, verdicts)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_says_why_its_plan_was_taken() {
    let explain = || ("explain", Parameter::Bool(true));
    let (_, service) = offering();
    let request = bare(&[deadline(50.0), fidelity(0.8), explain()]);
    let answer = ask(&service, "m", request).await.unwrap();
    let (explanation, verdicts) = explained(&answer);
    assert_eq!(verdicts, "quick below_minimum, half chosen, exact too_slow");
    assert!(explanation["reason"].as_str().unwrap().contains("cheapest"));
    assert_eq!(explanation["next_more_expensive"]["plan"], "exact");
    let more = explanation["next_more_expensive"]["more_ms"].as_f64();
    assert!((more.unwrap() - 80_000.0).abs() < 1.0);
    let lower = &explanation["plans"][1]["promises"]["fidelity"]["lower_bound"];
    assert!((lower.as_f64().unwrap() - 0.9).abs() < 1e-9);

    // To ask why changes nothing.
    let (_, service) = offering();
    let answer = ask(&service, "m", bare(&[explain()])).await.unwrap();
    assert_eq!(text(&answer, "plan"), "default");
    let (explanation, verdicts) = explained(&answer);
    assert_eq!(verdicts, "quick possible, half possible, exact possible");
    assert!(
        explanation["reason"]
            .as_str()
            .unwrap()
            .contains("default plan")
    );
    let answer = ask(&service, "m", bare(&[])).await.unwrap();
    assert!(!answer.parameters.contains_key("explanation"));

    let named = bare(&[("plan", "quick".into()), explain()]);
    let answer = ask(&service, "m", named).await.unwrap();
    assert_eq!(text(&answer, "plan"), "quick");
    assert_eq!(
        explained(&answer).1,
        "quick chosen, half not_named, exact not_named"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_are_explained_too() {
    let service = serve(settings(1), &[("m", Arc::new(Modal::new(8)))]);
    let parameters = [("min_accuracy", 0.8.into()), ("explain", true.into())];
    let answer = ask(&service, "m", of(&[1.0, 2.0], &parameters))
        .await
        .unwrap();
    assert_eq!(text(&answer, "strategies"), "text=2");
    let (explanation, verdicts) = explained(&answer);
    assert!(verdicts.contains("text chosen"), "{verdicts}");
    assert!(verdicts.contains("both possible"), "{verdicts}");
    assert_eq!(explanation["next_more_expensive"]["plan"], "both");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_refused() {
    let (engine, service) = offering();
    for (parameters, kind, code, words) in [
        (
            vec![("min_accuracy", 0.5.into())],
            ErrorKind::InvalidInput,
            "minimum_unmeetable",
            "no accuracy was measured",
        ),
        (
            vec![fidelity(1.0)],
            ErrorKind::InvalidInput,
            "minimum_unmeetable",
            "0.9990, by `exact`",
        ),
        (
            vec![fidelity(0.8), ("plan", "quick".into())],
            ErrorKind::InvalidInput,
            "minimum_unmeetable",
            "plan `quick` does not promise",
        ),
        (
            vec![deadline(0.9)],
            ErrorKind::DeadlineExceeded,
            "deadline_too_short",
            "the cheapest plan takes 1000",
        ),
        (
            vec![deadline(50.0), ("plan", "exact".into())],
            ErrorKind::DeadlineExceeded,
            "deadline_too_short",
            "",
        ),
        (
            vec![deadline(50.0), fidelity(0.95)],
            ErrorKind::DeadlineExceeded,
            "deadline_too_short",
            "",
        ),
        (
            vec![fidelity(1.5)],
            ErrorKind::InvalidInput,
            "wrong_parameter",
            "min_fidelity",
        ),
        (
            vec![("priority", Parameter::Int(-1))],
            ErrorKind::InvalidInput,
            "wrong_parameter",
            "priority",
        ),
    ] {
        let error = ask(&service, "m", bare(&parameters)).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(engine.log.entries().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_plans_get_cheaper_until_nothing_is_left() {
    let (engine, service) = offering();
    engine.log.hold();
    let running = begin(&service, "m", bare(&[]));
    engine.log.wait(1);
    // 65 s for three of 20 s.
    let mut three = queue_up(&service, "m", vec![bare(&[deadline(65.0)]); 3]).await;
    engine.log.open();
    running.await.unwrap().unwrap();
    // It takes less than announced, so that the others may get better plans.
    let first = three.remove(0).await.unwrap().unwrap();
    assert_eq!(text(&first, "plan"), "half");
    let (engine, service) = offering();
    engine.log.hold();
    let running = begin(&service, "m", bare(&[]));
    engine.log.wait(1);
    // 2.9 s for as many as fit before them.
    let _three = queue_up(&service, "m", vec![bare(&[deadline(65.0)]); 3]).await;
    let more = queue_up(&service, "m", vec![bare(&[deadline(2.9)]); 3]).await;
    engine.log.open();
    running.await.unwrap().unwrap();
    let mut answered = 0;
    for request in more {
        match request.await.unwrap() {
            Ok(answer) => {
                assert_eq!(text(&answer, "plan"), "quick");
                answered += 1;
            }
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.code()),
                    (ErrorKind::Unavailable, "deadline_unmeetable")
                );
                assert!(
                    error.retry_after().is_some_and(|wait| wait.as_secs() >= 2),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(answered, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_ends_the_request_wherever_it_is() {
    let engine = Arc::new(Offering::new(&[]));
    let service = serve(settings(1), &[("m", engine.clone())]);
    engine.log.hold();
    for place in ["executed", "queued"] {
        let error = ask(&service, "m", bare(&[deadline(0.05)]))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "deadline_exceeded", "{place}");
    }
    assert_eq!(engine.log.entries().len(), 1);
    engine.log.open();
    assert!(ask(&service, "m", bare(&[])).await.is_ok());
    assert_eq!(engine.log.entries().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn higher_priorities_go_first() {
    let (engine, service) = offering();
    engine.log.hold();
    let running = begin(&service, "m", bare(&[("name", "first".into())]));
    engine.log.wait(1);
    let named =
        |name: &str, priority: i64| bare(&[("name", name.into()), ("priority", priority.into())]);
    let requests = vec![
        named("low", 101),
        named("default", 0),
        named("high", 1),
        named("next", 2),
        named("late", 2),
    ];
    let waiting = queue_up(&service, "m", requests).await;
    engine.log.open();
    running.await.unwrap().unwrap();
    for request in waiting {
        request.await.unwrap().unwrap();
    }
    assert_eq!(
        engine.log.entries(),
        ["first", "high", "next", "late", "default", "low"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_are_seen_correct_those_announced() {
    let engine = Arc::new(Offering::new(&[("only", 100.0, 0.9)]));
    let service = serve(settings(1), &[("m", engine)]);
    let late = || bare(&[deadline(20.0)]);
    assert_eq!(
        ask(&service, "m", late()).await.unwrap_err().code(),
        "deadline_too_short"
    );
    for _ in 0..20 {
        ask(&service, "m", bare(&[deadline(1000.0)])).await.unwrap();
    }
    ask(&service, "m", late()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prediction_that_refuses_everything_is_tried_now_and_then() {
    let engine = Arc::new(Offering::new(&[("only", 100.0, 0.9)]));
    let service = serve(settings(1), &[("m", engine.clone())]);
    // Trials alone would answer one in sixteen: 250 of these at most.
    let mut answered = 0;
    for _ in 0..4000 {
        answered += u32::from(ask(&service, "m", bare(&[deadline(60.0)])).await.is_ok());
    }
    assert!(answered > 500, "{answered}");
}
