//! Jobs sent to a small server over loopback: every one is counted, from its own time on.
#![allow(clippy::unwrap_used, reason = "tests")]

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use satisfice_core::{NamedTensor, Tensor, TensorData};
use satisfice_load::open::{Arrival, Client, Contract, Inputs, Job, Summary, run};
use satisfice_server::protocol::client::Format;
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Barrier};

/// Answers `class` = the first element of each row of `x`; refuses jobs of 3 inputs. Jobs of the plan
/// `slow` wait until there are two of them, and then are late.
async fn answer(
    State(both_are_here): State<Arc<Barrier>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let length: usize = headers["inference-header-content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&body[..length]).unwrap();
    let rows: Vec<i64> = body[length..]
        .chunks_exact(8)
        .map(|row| f32::from_le_bytes(row[..4].try_into().unwrap()) as i64)
        .collect();
    if rows.len() == 3 {
        let refusal = serde_json::json!({"error": "no", "code": "queue_full"});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(refusal)).into_response();
    }
    if json["parameters"]["plan"] == "slow" {
        both_are_here.wait().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    Json(serde_json::json!({
        "model_name": "m",
        "parameters": {"expected_accuracy": 0.75, "strategies": format!("a={}", rows.len())},
        "outputs": [{"name": "class", "datatype": "INT64", "shape": [rows.len()], "data": rows}],
    }))
    .into_response()
}

async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v2/models/m/infer", post(answer))
        .with_state(Arc::new(Barrier::new(2)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn inputs() -> Inputs {
    let data = vec![0.0, 9.0, 1.0, 9.0, 2.0, 9.0, 3.0, 9.0];
    let x = NamedTensor {
        name: "x".to_owned(),
        tensor: Tensor::new(vec![4, 2], TensorData::Fp32(data)).unwrap(),
    };
    // The server calls the last one 3.
    Inputs::new(vec![x], vec![0, 1, 2, 7]).unwrap()
}

fn job(at_ms: u64, inputs: usize, plan: Option<&str>) -> Job {
    Job {
        arrival: Arrival {
            at: Duration::from_millis(at_ms),
            inputs,
        },
        contract: Contract {
            deadline: Some(Duration::from_millis(200)),
            min_accuracy: Some(0.5),
        },
        deadline: Some(Duration::from_millis(200)),
        plan: plan.map(str::to_owned),
        tensors: None,
    }
}

#[tokio::test]
async fn counts_answers_lateness_and_refusals() {
    let client = Arc::new(Client::new(&server().await, "m", Format::Binary).unwrap());
    // Inputs go round: the jobs' labels are 0 1 | 2 7 0 | 1 2 7 0.
    let jobs = [
        job(0, 2, Some("slow")),
        job(10, 3, None),
        job(20, 4, Some("slow")),
    ];
    let outcomes = run(&client, &inputs(), &jobs, usize::MAX).await.unwrap();
    let summary = Summary::of(&outcomes);
    assert_eq!((summary.jobs, summary.answered, summary.late), (3, 2, 2));
    assert_eq!(summary.refused["queue_full"], 1);
    assert!((summary.accuracy - 5.0 / 6.0).abs() < 1e-9, "{summary:?}");
    assert_eq!(summary.expected, Some(0.75));
    assert_eq!(summary.strategies["a"], 6);
    assert!(summary.p50_ms >= 400.0, "{summary:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_every_job() {
    let client = Arc::new(Client::new("http://127.0.0.1:1", "m", Format::Binary).unwrap());
    let jobs = [0, 1, 500].map(|at| job(at, 1, None));
    for (misses_max, sent) in [(usize::MAX, 3), (1, 2)] {
        let outcomes = run(&client, &inputs(), &jobs, misses_max).await.unwrap();
        let summary = Summary::of(&outcomes);
        assert_eq!(summary.jobs, sent);
        assert_eq!(summary.failed.values().sum::<usize>(), sent);
        assert!(summary.on_time == 0.0);
    }
}

#[test]
fn addresses_are_checked() {
    for url in ["localhost:8000", "https://127.0.0.1:1", "http://", "%"] {
        assert!(Client::new(url, "m", Format::Binary).is_err(), "{url}");
    }
}

#[test]
fn inputs_are_checked() {
    let x = |rows| NamedTensor {
        name: "x".to_owned(),
        tensor: Tensor::new(vec![rows, 1], TensorData::Fp32(vec![0.0; rows])).unwrap(),
    };
    assert!(Inputs::new(vec![x(2)], vec![0, 1]).is_ok());
    assert!(Inputs::new(vec![x(2), x(3)], vec![0, 1]).is_err());
    assert!(Inputs::new(Vec::new(), vec![0, 1]).is_err());
    assert!(Inputs::new(vec![x(0)], Vec::new()).is_err());
}
