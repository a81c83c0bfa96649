//! Requests of many inputs: cut, mixed, batched, put together again.

use crate::fake::{Modal, ask, begin, number, of, queue_up, serve, settings, text};
use satisfice_core::{ErrorKind, InferResponse, TensorData};
use satisfice_server::Service;
use std::{sync::Arc, time::Duration};

fn modal(batch_max: usize) -> (Arc<Modal>, Arc<Service>) {
    let engine = Arc::new(Modal::new(batch_max));
    let service = serve(settings(1), &[("m", engine.clone())]);
    (engine, service)
}

/// Inputs and strategies, row by row.
fn rows(response: &InferResponse) -> Vec<(f32, f32)> {
    match response.outputs[0].tensor.data() {
        TensorData::Fp32(y) => y.chunks(2).map(|row| (row[0], row[1])).collect(),
        other => panic!("{other:?}"),
    }
}

fn inputs(response: &InferResponse) -> Vec<f32> {
    rows(response).into_iter().map(|row| row.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_of_several_jobs_share_a_batch() {
    let (engine, service) = modal(8);
    engine.log.hold();
    let running = begin(&service, "m", of(&[0.0], &[]));
    engine.log.wait(1);
    let jobs: Vec<[f32; 2]> = vec![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
    let requests = jobs.iter().map(|x| of(x, &[])).collect();
    let waiting = queue_up(&service, "m", requests).await;
    engine.log.open();
    running.await.unwrap().unwrap();
    for (request, x) in waiting.into_iter().zip(jobs) {
        let answer = request.await.unwrap().unwrap();
        assert_eq!(inputs(&answer), x);
        assert_eq!(text(&answer, "plan"), "both");
    }
    assert_eq!(engine.log.entries(), ["both=1", "both=6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minimum_mixes_strategies_and_the_order_stays() {
    let (_, service) = modal(8);
    let x: Vec<f32> = (0..10).map(|i| i as f32).collect();
    for _ in 0..5 {
        let answer = ask(&service, "m", of(&x, &[("min_accuracy", 0.85.into())]))
            .await
            .unwrap();
        assert_eq!(inputs(&answer), x);
        let by_both = rows(&answer).iter().filter(|row| row.1 > 0.5).count();
        // A mean of 0.85 needs 5 of 10 at 0.9; a batch may make one more cheap.
        assert!((5..=6).contains(&by_both), "{answer:?}");
        assert_eq!(
            text(&answer, "strategies"),
            format!("text={},both={by_both}", 10 - by_both)
        );
        assert_eq!(text(&answer, "plan"), "mixed");
        assert!(number(&answer, "accuracy_lower_bound") >= 0.85 - 1e-9);
        assert!(number(&answer, "expected_accuracy") >= 0.86 - 1e-9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_choose_strategies() {
    let (_, service) = modal(8);
    let with = |seconds: f64| of(&[1.0, 2.0], &[("deadline_ms", (1e3 * seconds).into())]);
    let strategies = async |service, seconds| {
        text(
            &ask(service, "m", with(seconds)).await.unwrap(),
            "strategies",
        )
    };
    assert_eq!(strategies(&service, 5.0).await, "text=2");
    let (_, service) = modal(8);
    assert_eq!(strategies(&service, 11.5).await, "both=2");
    let (_, service) = modal(8);
    let error = ask(&service, "m", with(0.5)).await.unwrap_err();
    assert_eq!(error.code(), "deadline_too_short");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_named_is_taken() {
    let (engine, service) = modal(4);
    let plan = |plan: &str| of(&[1.0; 6], &[("plan", plan.into())]);
    let answer = ask(&service, "m", plan("text")).await.unwrap();
    assert_eq!(text(&answer, "strategies"), "text=6");
    assert_eq!(engine.log.entries().len(), 2);
    for (request, code, words) in [
        (plan("video"), "unknown_plan", "`text`, `both`"),
        (
            of(
                &[1.0],
                &[("plan", "both".into()), ("text_only", true.into())],
            ),
            "unknown_plan",
            "suffice for `text`",
        ),
        (
            of(
                &[1.0],
                &[("plan", "text".into()), ("min_accuracy", 0.85.into())],
            ),
            "minimum_unmeetable",
            "0.8000, by `text`",
        ),
        (
            of(
                &[1.0],
                &[("min_accuracy", 0.85.into()), ("text_only", true.into())],
            ),
            "minimum_unmeetable",
            "no plan promises",
        ),
        (
            of(&[1.0], &[("min_fidelity", 0.85.into())]),
            "minimum_unmeetable",
            "no fidelity",
        ),
        (of(&[], &[]), "no_input", ""),
    ] {
        let error = ask(&service, "m", request).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::InvalidInput, code)
        );
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_jobs_fault_is_not_anothers() {
    for (bad, code) in [
        (f32::NAN, "not_a_number"),
        (f32::INFINITY, "engine_panicked"),
        (f32::NEG_INFINITY, "too_small"),
    ] {
        let (engine, service) = modal(8);
        engine.log.hold();
        let running = begin(&service, "m", of(&[0.0], &[]));
        engine.log.wait(1);
        let requests = vec![of(&[1.0], &[]), of(&[2.0, bad], &[]), of(&[3.0], &[])];
        let waiting = queue_up(&service, "m", requests).await;
        engine.log.open();
        running.await.unwrap().unwrap();
        let mut answers = Vec::new();
        for request in waiting {
            answers.push(request.await.unwrap());
        }
        assert_eq!(inputs(answers[0].as_ref().unwrap()), [1.0]);
        assert_eq!(answers[1].as_ref().unwrap_err().code(), code);
        assert_eq!(inputs(answers[2].as_ref().unwrap()), [3.0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_not_executed() {
    let (engine, service) = modal(2);
    engine.log.hold();
    let large = begin(&service, "m", of(&[1.0; 100], &[]));
    engine.log.wait(1);
    large.abort();
    assert!(large.await.unwrap_err().is_cancelled());
    engine.log.open();
    ask(&service, "m", of(&[2.0], &[])).await.unwrap();
    assert_eq!(engine.log.entries(), ["both=2", "both=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_to_be_filled_but_not_for_long() {
    let engine = Arc::new(Modal::new(4));
    let mut settings = settings(1);
    settings.admission.batch_delay = Duration::from_secs(3);
    let service = serve(settings, &[("m", engine.clone())]);
    let four: Vec<_> = (0..4)
        .map(|i| begin(&service, "m", of(&[i as f32], &[])))
        .collect();
    for request in four {
        request.await.unwrap().unwrap();
    }
    assert_eq!(engine.log.entries(), ["both=4"]);
    ask(&service, "m", of(&[5.0], &[])).await.unwrap();
    assert_eq!(engine.log.entries(), ["both=4", "both=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_at_once_are_all_answered_in_order() {
    let engine = Arc::new(Modal::new(8));
    let mut settings = settings(3);
    settings.admission.waiting_max = 1000;
    let service = serve(settings, &[("m", engine)]);
    let requests: Vec<_> = (0..200_usize)
        .map(|i| {
            let x: Vec<f32> = (0..=i % 23).map(|j| (100 * i + j) as f32).collect();
            let minimum = [("min_accuracy", (0.8 + 0.02 * (i % 5) as f64).into())];
            (x.clone(), begin(&service, "m", of(&x, &minimum)))
        })
        .collect();
    for (x, request) in requests {
        assert_eq!(inputs(&request.await.unwrap().unwrap()), x);
    }
}
