//! A long time with clients of every kind.

use super::{
    super::Output,
    child::{IDENTITY, Server},
};
use crate::{cli::BenchSoak, commands::serve::runtime, report};
use anyhow::{Context, Result};
use satisfice_core::{InferRequest, NamedTensor, Tensor, TensorData};
use satisfice_load::closed::{HttpRequest, Soak, SoakReport, soak};
use satisfice_server::protocol::client::Format;
use serde::Serialize;
use std::{
    fmt::Write,
    sync::mpsc,
    time::{Duration, Instant},
};

const CONNECTIONS: usize = 16;
/// Time between two looks at the server's memory.
const MEMORY_EVERY: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Document {
    minutes: f64,
    requests: SoakReport,
    server: Counted,
    /// Whether the server counted every answer that a client read, and no more requests than were sent.
    accounted_for: bool,
    /// Resident memory by time: seconds and bytes.
    memory: Vec<(f64, u64)>,
    /// Growth over the last two thirds, in bytes an hour.
    memory_slope: f64,
}

/// What the server says of the model.
#[derive(Serialize)]
struct Counted {
    answered: u64,
    failed: u64,
    waiting: u64,
}

pub(super) fn run(args: &BenchSoak, output: Output) -> Result<()> {
    let minutes = args.minutes.unwrap_or(if args.quick { 0.5 } else { 20.0 });
    let duration = Duration::from_secs_f64(60.0 * minutes);
    let server = Server::of_this_program(&["bench", "serve-identity"])?;
    let soak_of = Soak {
        address: server.http,
        requests: requests()?,
        connections: CONNECTIONS,
        duration,
    };
    output.say(&format!("{minutes} minutes of load on {}", server.http))?;
    let (stop, stopped) = mpsc::channel::<()>();
    let (requests, memory) = std::thread::scope(|scope| {
        let server = &server;
        let memory = scope.spawn(move || watch(server, &stopped));
        let report = runtime().and_then(|runtime| Ok(runtime.block_on(soak(soak_of))?));
        drop(stop);
        (report, memory.join().unwrap_or_default())
    });
    let requests = requests?;
    // What clients have left may still be executed.
    std::thread::sleep(Duration::from_secs(1));
    let server = counted(&server)?;
    let answered = requests.answered.get(&200).copied().unwrap_or(0);
    let unread = requests.left + requests.broken.values().sum::<u64>();
    let document = Document {
        minutes,
        accounted_for: requests.stuck == 0
            && server.waiting == 0
            && (answered..=answered + unread).contains(&server.answered)
            && requests.answered.values().sum::<u64>() + unread + requests.stuck == requests.sent,
        requests,
        server,
        memory_slope: slope(&memory),
        memory,
    };
    output.print(&document, || text(&document))
}

/// What good clients ask: small and large, quick and slow, in time and late, right and wrong.
fn requests() -> Result<Vec<HttpRequest>> {
    let path = format!("/v2/models/{IDENTITY}/infer");
    let with = |parameters: &str| {
        let body = format!(
            r#"{{"parameters":{{{parameters}}},"inputs":[{{"name":"x","datatype":"FP32","shape":[2],"data":[0.5,1]}}]}}"#
        );
        HttpRequest::post(&path, "", body.as_bytes())
    };
    let large = InferRequest {
        inputs: vec![NamedTensor {
            name: "x".to_owned(),
            tensor: Tensor::new(vec![1 << 18], TensorData::Fp32(vec![0.5; 1 << 18]))?,
        }],
        ..InferRequest::default()
    };
    Ok(vec![
        with(""),
        with(r#""work_ms":2"#),
        with(r#""work_ms":5,"deadline_ms":20,"priority":1"#),
        HttpRequest::infer(IDENTITY, &large, Format::Binary)?,
        with(""),
        with(r#""deadline_ms":1"#),
        with(r#""min_accuracy":0.9"#),
        HttpRequest::post(
            &path,
            "",
            br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1]}]}"#,
        ),
        HttpRequest::post("/v2/models/nobody/infer", "", b"{}"),
        HttpRequest::post(&path, "", b"{"),
    ])
}

fn watch(server: &Server, stopped: &mpsc::Receiver<()>) -> Vec<(f64, u64)> {
    let begun = Instant::now();
    let mut memory = Vec::new();
    loop {
        memory.push((begun.elapsed().as_secs_f64(), server.memory().0));
        match stopped.recv_timeout(MEMORY_EVERY) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            _ => return memory,
        }
    }
}

/// Least squares over the last two thirds, in bytes an hour.
fn slope(memory: &[(f64, u64)]) -> f64 {
    let settled = &memory[memory.len() / 3..];
    let count = settled.len() as f64;
    let mean_time = settled.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_bytes = settled.iter().map(|point| point.1 as f64).sum::<f64>() / count;
    let (mut both, mut times) = (0.0, 0.0);
    for &(time, bytes) in settled {
        both += (time - mean_time) * (bytes as f64 - mean_bytes);
        times += (time - mean_time).powi(2);
    }
    if times > 0.0 {
        3600.0 * both / times
    } else {
        0.0
    }
}

fn counted(server: &Server) -> Result<Counted> {
    let url = format!("http://{}/metrics", server.http);
    let text = ureq::get(&url).call()?.body_mut().read_to_string()?;
    let sum = |name: &str| -> Result<u64> {
        let lines = text.lines().filter(|line| line.starts_with(name));
        let of_model = lines.filter(|line| line.contains(&format!("model=\"{IDENTITY}\"")));
        let numbers =
            of_model.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>());
        let numbers: Result<Vec<u64>, _> = numbers.collect();
        Ok(numbers
            .with_context(|| format!("metric {name}"))?
            .iter()
            .sum())
    };
    Ok(Counted {
        answered: sum("nv_inference_request_success")?,
        failed: sum("nv_inference_request_failure")?,
        waiting: sum("nv_inference_pending_request_count")?,
    })
}

fn text(document: &Document) -> String {
    let SoakReport {
        sent,
        answered,
        left,
        broken,
        stuck,
        garbage,
        slow,
    } = &document.requests;
    let last = document.memory.last().map_or(0, |point| point.1);
    let first = document.memory.first().map_or(0, |point| point.1);
    let mut text = format!(
        "{sent} requests: answers by status {answered:?}, left by their clients {left} ({slow} read slowly), broken {broken:?}, stuck {stuck}; {garbage} connections of garbage\n"
    );
    let Counted {
        answered,
        failed,
        waiting,
    } = document.server;
    let _ = writeln!(
        text,
        "the server answered {answered}, refused or lost {failed}, and has {waiting} waiting: {}",
        match document.accounted_for {
            true => "every request is accounted for",
            false => "REQUESTS ARE MISSING",
        }
    );
    let _ = writeln!(
        text,
        "memory {} at the start, {} at the end, growing by {:.2} MiB an hour",
        report::bytes(first),
        report::bytes(last),
        document.memory_slope / f64::from(1 << 20)
    );
    text
}
