//! What the server says of what it has done.

use crate::client::Server;
use crate::engines::eventually;
use satisfice_server::{Admission, Limits};
use std::time::Duration;

#[test]
fn what_was_done_is_kept_over_time() {
    let server = Server::start();
    server.service.note();
    let body = r#"{"inputs":[],"parameters":{"plan":"own","deadline_ms":60000}}"#;
    for _ in 0..3 {
        assert_eq!(server.infer("echo", body).status, 200);
    }
    std::thread::sleep(Duration::from_millis(2));
    server.service.note();
    let history = server.get("/v2/history").json();
    assert_eq!(
        (&history["state"], &history["range"], &history["step_s"]),
        (&"ready".into(), &"10m".into(), &1.into())
    );
    let models = history["models"].as_array().unwrap();
    let echo = models
        .iter()
        .find(|model| model["version"] == "10")
        .unwrap();
    assert_eq!(echo["answered"], serde_json::json!([0, 3]));
    assert_eq!(echo["kept"], serde_json::json!([0, 3]));
    assert_eq!(echo["late"], serde_json::json!([0, 0]));
    assert_eq!(echo["plans"], serde_json::json!(["own"]));
    assert_eq!(echo["by_plan"], serde_json::json!([[], [3]]));
    let durations = echo["durations"][1].as_array().unwrap();
    assert_eq!(durations.last().unwrap(), 3);
    assert_eq!(
        durations.len(),
        history["bounds_ms"].as_array().unwrap().len() + 1
    );

    // Only what is new.
    let at = echo["at_ms"][0].as_u64().unwrap();
    let later = server
        .get(&format!("/v2/history?range=10m&since_ms={at}"))
        .json();
    assert_eq!(later["models"][0]["at_ms"].as_array().unwrap().len(), 1);
    for query in ["range=1h", "range=10m&since_ms=-1", "since=1"] {
        let answer = server.get(&format!("/v2/history?{query}"));
        answer.refused(400, "wrong_query");
    }
}

#[test]
fn what_was_done_is_counted() {
    let server = Server::start();
    let body = r#"{"inputs":[],"parameters":{"plan":"a\"b"}}"#;
    for _ in 0..3 {
        assert_eq!(server.infer("echo", body).status, 200);
    }
    server.infer("echo", "{}").refused(400, "invalid_message");
    let stats = server.get("/v2/models/echo/versions/10/stats").json();
    let stats = &stats["model_stats"][0];
    assert_eq!(
        (&stats["name"], &stats["version"]),
        (&"echo".into(), &"10".into())
    );
    assert_eq!(stats["inference_count"], 3);
    assert_eq!(stats["execution_count"], 3);
    assert!(stats["last_inference"].as_u64() > Some(0));
    let times = &stats["inference_stats"];
    for (what, count) in [
        ("success", 3),
        ("fail", 1),
        ("queue", 3),
        ("compute_input", 3),
        ("compute_infer", 3),
        ("compute_output", 3),
        ("cache_hit", 0),
    ] {
        assert_eq!(times[what]["count"], count, "{what}");
        assert_eq!(times[what]["ns"].as_u64() > Some(0), count > 0, "{what}");
    }
    let batches = &stats["batch_stats"];
    assert_eq!(batches.as_array().unwrap().len(), 1);
    assert_eq!(batches[0]["batch_size"], 1);
    assert_eq!(batches[0]["compute_infer"]["count"], 3);

    let count = |path: &str| {
        server.get(path).json()["model_stats"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("/v2/models/echo/stats"), 2);
    assert_eq!(count("/v2/models/stats"), 4);
    server
        .get("/v2/models/nobody/stats")
        .refused(404, "model_not_found");

    let metrics = server.get("/metrics");
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = String::from_utf8(metrics.body).unwrap();
    let labels = r#"model="echo",version="10""#;
    for line in [
        format!("nv_inference_request_success{{{labels}}} 3"),
        format!("nv_inference_count{{{labels}}} 3"),
        format!("nv_inference_exec_count{{{labels}}} 3"),
        format!("nv_model_load_duration_secs{{{labels}}} 0"),
        format!("nv_inference_pending_request_count{{{labels}}} 0"),
        format!("nv_inference_request_failure{{{labels},reason=\"OTHER\"}} 1"),
        format!("satisfice_refusals_total{{{labels},code=\"invalid_message\"}} 1"),
        format!("satisfice_plan_requests_total{{{labels},plan=\"a\\\"b\"}} 3"),
        format!("nv_inference_first_response_histogram_ms_bucket{{{labels},le=\"5000\"}} 3"),
        format!("nv_inference_first_response_histogram_ms_count{{{labels}}} 3"),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
    for histogram in ["request", "queue", "execution"] {
        check_histogram(
            &text,
            &format!("satisfice_{histogram}_duration_seconds"),
            &format!("{labels},plan=\"a\\\"b\""),
        );
    }
}

/// Three durations of less than 50 s: cumulative counts that end with all of them, and their sum.
fn check_histogram(text: &str, name: &str, labels: &str) {
    assert!(
        text.contains(&format!("# TYPE {name} histogram\n")),
        "{name}"
    );
    let value = |start: String| {
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start} is not in {text}"))
            .trim()
            .to_owned()
    };
    let bounds = ["0.0001", "0.001", "0.01", "0.1", "1", "10", "50", "+Inf"];
    let counts = bounds.map(|le| value(format!("{name}_bucket{{{labels},le=\"{le}\"}}")));
    let counts = counts.map(|count| count.parse::<u64>().unwrap());
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!(counts[6..], [3, 3]);
    assert_eq!(value(format!("{name}_count{{{labels}}}")), "3");
    let sum: f64 = value(format!("{name}_sum{{{labels}}}")).parse().unwrap();
    assert!((0.0..150.0).contains(&sum), "{sum}");
}

#[test]
fn refused_canceled_and_waiting_requests_are_counted() {
    let admission = Admission {
        executing_max: 1,
        waiting_max: 1,
        ..Admission::default()
    };
    let server = Server::with(admission, Limits::default());
    let body = r#"{"inputs":[]}"#;
    let _first = server.begin("gate", body);
    server.gate.wait_started(1);
    let second = server.begin("gate", body);
    let has = |line: &str| {
        let text = String::from_utf8(server.get("/metrics").body).unwrap();
        text.lines().any(|l| l == line)
    };
    let labels = r#"model="gate",version="1""#;
    let pending = |count: usize| {
        let line = format!("nv_inference_pending_request_count{{{labels}}} {count}");
        eventually(|| has(&line));
    };
    pending(1);
    server.infer("gate", body).refused(503, "queue_full");
    assert!(has(&format!(
        "nv_inference_request_failure{{{labels},reason=\"REJECTED\"}} 1"
    )));
    drop(second);
    pending(0);
    std::thread::sleep(Duration::from_millis(10));
    assert!(has(&format!(
        "nv_inference_request_failure{{{labels},reason=\"CANCELED\"}} 1"
    )));
}
