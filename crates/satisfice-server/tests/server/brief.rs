//! Requests that are over before another thread could begin with them.

use crate::fake::{Offering, ask, bare, begin, queue_up, serve, settings};
use satisfice_core::{Engine, Error, InferRequest, InferResponse, ModelMetadata, Parameter};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Takes as long as `ms` says, and notes the threads that it was executed by.
struct Noting {
    metadata: ModelMetadata,
    threads: Mutex<Vec<String>>,
}

impl Default for Noting {
    fn default() -> Self {
        let metadata = ModelMetadata {
            platform: "noting".to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        Self {
            metadata,
            threads: Mutex::default(),
        }
    }
}

impl Engine for Noting {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.threads.lock().unwrap().push(name);
        match request.parameters.get("do") {
            Some(&Parameter::Int(ms)) => std::thread::sleep(Duration::from_millis(ms as u64)),
            Some(_) => panic!("asked for"),
            None => {}
        }
        Ok(InferResponse::default())
    }
}

impl Noting {
    /// How many of the last `count` executions were an executor's.
    fn by_executors(&self, count: usize) -> usize {
        let threads = self.threads.lock().unwrap();
        let last = threads.iter().rev().take(count);
        last.filter(|name| name.starts_with("executor-")).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_executed_by_the_thread_that_brings_them() {
    let engine = Arc::new(Noting::default());
    let service = serve(settings(2), &[("m", engine.clone())]);
    for _ in 0..16 {
        ask(&service, "m", bare(&[])).await.unwrap();
    }
    assert_eq!(engine.by_executors(16), 16, "nothing is known yet");
    // How long executions take here is not in our hands; that none is brief would be a wonder.
    for _ in 0..500 {
        ask(&service, "m", bare(&[])).await.unwrap();
    }
    assert!(engine.by_executors(500) < 500);
    // One that was long is followed by some that are not trusted.
    ask(&service, "m", bare(&[("do", Parameter::Int(20))]))
        .await
        .unwrap();
    for _ in 0..20 {
        ask(&service, "m", bare(&[])).await.unwrap();
    }
    assert_eq!(engine.by_executors(20), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn their_panics_are_theirs_alone() {
    let engine = Arc::new(Noting::default());
    let service = serve(settings(2), &[("m", engine.clone())]);
    for turn in 0..200 {
        match turn % 10 {
            9 => {
                let panics = ask(&service, "m", bare(&[("do", "panic".into())])).await;
                assert_eq!(panics.unwrap_err().code(), "engine_panicked");
            }
            _ => drop(ask(&service, "m", bare(&[])).await.unwrap()),
        }
    }
    assert!(engine.by_executors(200) < 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_wait_while_every_executor_is_busy() {
    let brief = Arc::new(Noting::default());
    let long = Arc::new(Offering::new(&[]));
    let service = serve(
        settings(1),
        &[("brief", brief.clone()), ("long", long.clone())],
    );
    for _ in 0..500 {
        ask(&service, "brief", bare(&[])).await.unwrap();
    }
    long.log.hold();
    let running = begin(&service, "long", bare(&[]));
    long.log.wait(1);
    let waiting = queue_up(&service, "brief", vec![bare(&[]); 5]).await;
    assert_eq!(brief.threads.lock().unwrap().len(), 500);
    long.log.open();
    running.await.unwrap().unwrap();
    for request in waiting {
        request.await.unwrap().unwrap();
    }
}
