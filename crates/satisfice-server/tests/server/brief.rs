//! Requests that are over before another thread could begin with them.

use crate::{
    client::{Answer, post},
    engines::anything,
    fake::{Offering, ask, bare, begin, serve, settings},
};
use satisfice_core::{
    Engine, Error, InferRequest, InferResponse, ModelMetadata, Parameter, parameters::ParameterSpec,
};
use satisfice_server::{Front, Limits};
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Takes as long as `ms` says, and notes the threads that it was executed by.
struct Noting {
    metadata: ModelMetadata,
    threads: Mutex<Vec<String>>,
    /// Whether who hangs goes on.
    goes_on: AtomicBool,
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
            goes_on: AtomicBool::new(false),
        }
    }
}

impl Engine for Noting {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn parameters(&self) -> &'static [ParameterSpec] {
        &const { [anything("do")] }
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.threads.lock().unwrap().push(name);
        match request.parameters.get("do") {
            Some(&Parameter::Int(ms)) => std::thread::sleep(Duration::from_millis(ms as u64)),
            Some(Parameter::String(what)) if what == "hang" => {
                while !self.goes_on.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Some(Parameter::String(what)) if what == "panic" => panic!("asked for"),
            _ => {}
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_let_in_by_an_executor_while_every_core_is_busy() {
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
    for _ in 0..5 {
        ask(&service, "brief", bare(&[])).await.unwrap();
    }
    assert_eq!(brief.by_executors(5), 5);
    long.log.open();
    running.await.unwrap().unwrap();
}

/// Sends one request on a connection of its own.
fn infer(address: SocketAddr, what: &str) -> TcpStream {
    let body = format!(r#"{{"inputs":[],"parameters":{{"do":"{what}"}}}}"#);
    let mut stream = connect(address);
    let request = post("/v2/models/m/infer", "", body.as_bytes());
    stream.write_all(&request).unwrap();
    stream
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let longest = Some(Duration::from_secs(30));
    stream.set_read_timeout(longest).unwrap();
    stream
}

#[test]
fn one_that_hangs_on_an_async_thread_holds_up_nobody_else() {
    const LIVE: &[u8] = b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let engine = Arc::new(Noting::default());
    let service = serve(settings(4), &[("m", engine.clone())]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    let front = Front::new(Limits::default());
    let never = std::future::pending();
    let serving = runtime.spawn(satisfice_server::serve(listener, service, front, never));
    // Connections that are there before, and wait.
    let before: Vec<TcpStream> = (0..8).map(|_| connect(address)).collect();
    let hung = (0..50).find_map(|_| {
        for _ in 0..100 {
            assert_eq!(Answer::read(&mut infer(address, "good")).status, 200);
        }
        let asked = engine.threads.lock().unwrap().len();
        let mut hung = infer(address, "hang");
        while engine.threads.lock().unwrap().len() == asked {
            std::thread::sleep(Duration::from_millis(1));
        }
        if engine.by_executors(1) == 0 {
            return Some(hung);
        }
        // Its thread was an executor's: the machine was busy, and requests were not brief.
        engine.goes_on.store(true, Ordering::Release);
        assert_eq!(Answer::read(&mut hung).status, 200);
        engine.goes_on.store(false, Ordering::Release);
        None
    });
    let mut hung = hung.expect("requests are brief at some time");
    let after = std::iter::repeat_with(|| connect(address)).take(8);
    for mut stream in before.into_iter().chain(after) {
        stream.write_all(LIVE).unwrap();
        assert_eq!(Answer::read(&mut stream).status, 200);
    }
    // Others of the same model are for the executors meanwhile.
    for _ in 0..20 {
        assert_eq!(Answer::read(&mut infer(address, "good")).status, 200);
    }
    assert_eq!(engine.by_executors(20), 20);
    engine.goes_on.store(true, Ordering::Release);
    assert_eq!(Answer::read(&mut hung).status, 200);
    serving.abort();
}
