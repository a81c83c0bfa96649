//! Several models on few executors.

use crate::{
    engines::eventually,
    fake::{Offering, ask, bare, begin, queue_up, serve, settings},
};
use satisfice_core::{
    Engine, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata, Parameter,
};
use satisfice_server::Admission;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_model_does_not_hold_up_a_light_one() {
    const HEAVY: Duration = Duration::from_millis(400);
    let mut heavy = Offering::new(&[]);
    heavy.takes = HEAVY;
    let heavy = Arc::new(heavy);
    let light = Arc::new(Offering::new(&[]));
    let service = serve(settings(2), &[("heavy", heavy.clone()), ("light", light)]);
    let flood: Vec<_> = (0..100)
        .map(|_| begin(&service, "heavy", bare(&[])))
        .collect();
    heavy.log.wait(2);
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    while begun.elapsed() < 8 * HEAVY {
        let sent = Instant::now();
        ask(&service, "light", bare(&[])).await.unwrap();
        slowest = slowest.max(sent.elapsed());
    }
    // 100 heavy ones are 20 s of work for two executors; an executor is free after one of them.
    assert!(slowest < 2 * HEAVY, "{slowest:?}");
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_shared_by_weight() {
    let engine = |takes: u64| {
        let mut engine = Offering::new(&[]);
        engine.takes = Duration::from_millis(takes);
        Arc::new(engine)
    };
    // Twice the time each, so that numbers of requests are not what is shared.
    let (large, small) = (engine(20), engine(10));
    let mut settings = settings(1);
    let share = |share| Admission {
        share,
        ..settings.admission
    };
    settings.models = [
        ("large".to_owned(), share(3.0)),
        ("small".to_owned(), share(1.0)),
    ]
    .into();
    let service = serve(
        settings,
        &[("large", large.clone()), ("small", small.clone())],
    );
    // What is not known may be short, and begins at once.
    for model in ["large", "small"] {
        ask(&service, model, bare(&[])).await.unwrap();
    }
    large.log.hold();
    let mut requests = vec![begin(&service, "large", bare(&[]))];
    large.log.wait(2);
    requests.extend(queue_up(&service, "large", vec![bare(&[]); 40]).await);
    requests.extend(queue_up(&service, "small", vec![bare(&[]); 40]).await);
    large.log.open();
    large.log.wait(31);
    let (of_large, of_small) = (
        large.log.entries().len() as f64,
        small.log.entries().len() as f64,
    );
    let ratio = 2.0 * of_large / of_small;
    assert!(
        (2.0..=4.5).contains(&ratio),
        "{of_large} and {of_small} requests"
    );
    for request in requests {
        request.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_when_it_will_have_been_worked_off() {
    const TAKES: Duration = Duration::from_millis(300);
    let mut engine = Offering::new(&[]);
    engine.takes = TAKES;
    let engine = Arc::new(engine);
    let mut settings = settings(1);
    settings.admission.waiting_max = 10;
    let service = serve(settings, &[("m", engine.clone())]);
    // What it takes has to be known.
    ask(&service, "m", bare(&[])).await.unwrap();
    engine.log.hold();
    let mut requests = vec![begin(&service, "m", bare(&[]))];
    engine.log.wait(2);
    requests.extend(queue_up(&service, "m", vec![bare(&[]); 10]).await);
    let refusal = ask(&service, "m", bare(&[])).await.unwrap_err();
    assert_eq!(refusal.code(), "queue_full");
    let wait = refusal.retry_after().unwrap();
    assert!(wait >= 10 * TAKES, "{wait:?}");
    requests.iter().for_each(tokio::task::JoinHandle::abort);
    engine.log.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_may_be_kept_from_taking_every_executor() {
    let heavy = Arc::new(Offering::new(&[]));
    let light = Arc::new(Offering::new(&[]));
    let mut settings = settings(2);
    let one = Admission {
        executing_max: 1,
        ..settings.admission
    };
    settings.models.insert("heavy".to_owned(), one);
    let service = serve(settings, &[("heavy", heavy.clone()), ("light", light)]);
    heavy.log.hold();
    let requests = [(); 3].map(|()| begin(&service, "heavy", bare(&[])));
    heavy.log.wait(1);
    for _ in 0..20 {
        ask(&service, "light", bare(&[])).await.unwrap();
    }
    assert_eq!(heavy.log.entries().len(), 1);
    heavy.log.open();
    for request in requests {
        request.await.unwrap().unwrap();
    }
}

/// Goes through blocks, each of which stands at the gate.
struct Blocks {
    inner: Offering,
    blocks: usize,
}

impl Blocks {
    fn new(blocks: usize) -> Arc<Self> {
        let inner = Offering::new(&[]);
        inner.log.hold();
        Arc::new(Self { inner, blocks })
    }
}

impl Engine for Blocks {
    fn metadata(&self) -> &ModelMetadata {
        self.inner.metadata()
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let block = |(): &mut (), at: usize| {
            self.inner.log.enter(at.to_string());
            None
        };
        let ended = request.cores.each(0..self.blocks, || (), block);
        ended.map_err(|stopped| {
            Error::new(ErrorKind::DeadlineExceeded, "canceled", stopped.to_string())
        })?;
        Ok(InferResponse::default())
    }

    fn shares_cores(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn light_requests_are_answered_within_a_block_of_a_heavy_one() {
    let heavy = Blocks::new(50);
    let light = Arc::new(Offering::new(&[]));
    let service = serve(settings(2), &[("heavy", heavy.clone()), ("light", light)]);
    let running = begin(&service, "heavy", bare(&[]));
    heavy.inner.log.wait(1);
    // No block of it ends meanwhile.
    for _ in 0..64 {
        ask(&service, "light", bare(&[])).await.unwrap();
    }
    assert!(heavy.inner.log.entries().len() <= 2);
    heavy.inner.log.open();
    running.await.unwrap().unwrap();
    let mut blocks: Vec<usize> = heavy
        .inner
        .log
        .entries()
        .iter()
        .map(|block| block.parse().unwrap())
        .collect();
    blocks.sort_unstable();
    assert!(blocks.into_iter().eq(0..50), "every block once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_ends_at_its_next_boundary() {
    let heavy = Blocks::new(50);
    let service = serve(settings(2), &[("heavy", heavy.clone())]);
    for late in [false, true] {
        let before = heavy.inner.log.entries().len();
        let parameters: &[_] = match late {
            true => &[("deadline_ms", Parameter::Int(50))],
            false => &[],
        };
        let running = begin(&service, "heavy", bare(parameters));
        heavy.inner.log.wait(before + 1);
        if late {
            let error = running.await.unwrap().unwrap_err();
            assert_eq!(error.code(), "deadline_exceeded");
        } else {
            running.abort();
            assert!(running.await.unwrap_err().is_cancelled());
        }
        heavy.inner.log.open();
        eventually(|| service.find("heavy", None).unwrap().waiting() == 0);
        // The next one begins, and ends, when the last one has given up its cores.
        heavy.inner.log.hold();
        let begun = heavy.inner.log.entries().len();
        assert!(begun <= before + 2, "{begun} blocks, {before} before");
    }
}
