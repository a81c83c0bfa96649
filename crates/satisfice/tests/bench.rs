//! `generate` and `bench` from outside.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use support::{run, run_err, run_ok, text};
use tempfile::TempDir;

/// A directory of peers whose program prints `answer`, after checking how it is called.
fn peer(dir: &Path, answer: &str) {
    peer_program(dir, &format!("cat <<'END'\n{answer}\nEND"));
}

/// A directory of peers whose program does what `script` says, after checking how it is called.
fn peer_program(dir: &Path, script: &str) {
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = other ] && [ \"$2\" = --model ] && [ -f \"$3/model.toml\" ] || exit 3\n{script}\n"
    );
    let program = dir.join("run");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What a peer prints for a row.
fn peer_row(name: &str, batch: usize) -> String {
    format!(
        r#"{{"begins": "{name}", "batch": {batch}}}
{{"peer": "{name}", "batch": {batch}, "batches": 2, "queries": 128, "accuracy": 0.5, "p50_ms": 1000.0, "p90_ms": 1500.0, "p99_ms": 2000.0, "max_ms": 2000.0, "attach_ms": 1.0, "build_ms": 2.0, "model_ms": 3.0, "classes": []}}"#
    )
}

#[test]
fn plans_and_a_peer_are_measured_and_drawn() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("results");
    peer(dir.path(), &peer_row("other <full>", 64));
    let printed = run_ok(&[
        "--json",
        "bench",
        "graph",
        "--quick",
        "--limit",
        "128",
        "--against",
        text(dir.path()),
        "--peers",
        "other",
        "--out",
        text(&out),
    ]);
    let report: Value = serde_json::from_str(&printed).unwrap();
    let plans = report["plans"].as_array().unwrap();
    assert_eq!(plans.len(), 10, "five plans at two batch sizes");
    let of = |plan: &str| {
        plans
            .iter()
            .find(|row| row["plan"] == plan && row["batch"] == 64)
            .unwrap()
    };
    assert!(of("pe")["rows"].as_f64() < of("exact")["rows"].as_f64());
    assert_eq!(of("exact")["agreement"], 1.0);
    for row in plans {
        let time = |name: &str| row[name].as_f64().unwrap();
        assert!(
            time("p50_ms") <= time("p99_ms") && time("p99_ms") <= time("max_ms"),
            "{row}"
        );
        assert!(time("limit_ms") > 0.0, "{row}");
    }
    let limit = |plan: &str| of(plan)["limit_ms"].as_f64().unwrap();
    assert!(limit("pe") < limit("refresh") && limit("refresh") <= limit("exact"));
    assert!(report["read_gb_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(report["http"].as_array().unwrap().len(), 5);
    assert_eq!(report["http"][4]["accuracy"], plans[9]["accuracy"]);
    assert_eq!(report["http"][4]["limit_ms"], plans[9]["limit_ms"]);
    let memory = |name: &str| report["memory"][name].as_u64().unwrap();
    assert!(memory("resident_peak") >= memory("anonymous") && memory("embeddings") > 0);
    assert_eq!(report["peers"][0]["p99_ms"], 2000.0);
    assert_eq!(
        serde_json::from_str::<Value>(&fs::read_to_string(out.join("bench.json")).unwrap())
            .unwrap(),
        report
    );
    let table = fs::read_to_string(out.join("bench.md")).unwrap();
    assert!(table.contains("| 64 | exact | other <full> |"), "{table}");
    let plot = fs::read_to_string(out.join("latency-accuracy-64.svg")).unwrap();
    assert_eq!(
        plot.matches("<circle").count(),
        6,
        "five plans and the peer"
    );
    assert!(plot.contains("other &lt;full>"), "{plot}");
}

/// `bench graph` with a peer that ends early: what it says, and what it has written.
fn bench_with_failure(dir: &Path, peers: &str) -> (String, Value, String) {
    let out = dir.join("results");
    let ended = run(&[
        "bench",
        "graph",
        "--quick",
        "--limit",
        "16",
        "--against",
        text(dir),
        "--peers",
        peers,
        "--out",
        text(&out),
    ]);
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    let report = fs::read_to_string(out.join("bench.json")).unwrap();
    let table = fs::read_to_string(out.join("bench.md")).unwrap();
    (said, serde_json::from_str(&report).unwrap(), table)
}

#[test]
fn a_peer_that_is_killed_loses_one_row_and_nobody_elses() {
    let dir = TempDir::new().unwrap();
    // Killed while it measures its second row at 64; asked again for 1,024 alone.
    let (sampled, full) = (peer_row("other sampled", 64), peer_row("other full", 1024));
    peer_program(
        dir.path(),
        &format!(
            "case \"$*\" in *'--batches 64,1024 '*)\n\
             cat <<'END'\n{sampled}\n{{\"begins\": \"other full\", \"batch\": 64}}\nEND\n\
             seq 30 >&2; echo out of luck >&2; kill -9 $$;;\n\
             *'--batches 1024 '*) cat <<'END'\n{full}\nEND\n;;\nesac"
        ),
    );
    let (said, report, table) = bench_with_failure(dir.path(), "unknown,other");
    assert_eq!(report["plans"].as_array().unwrap().len(), 10);
    let rows: Vec<(&str, u64)> = report["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["peer"].as_str().unwrap(),
                row["batch"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(rows, [("other sampled", 64), ("other full", 1024)]);
    let failures = report["peer_failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2);
    assert_eq!(failures[0]["peer"], "unknown");
    assert_eq!(failures[0]["row"], Value::Null);
    assert_eq!(failures[0]["problem"], "exit status: 3");
    assert_eq!(failures[1]["row"], "other full");
    assert_eq!(failures[1]["batch"], 64);
    assert_eq!(failures[1]["problem"], "signal: 9 (SIGKILL)");
    let stderr = failures[1]["stderr"].as_array().unwrap();
    assert_eq!((stderr.len(), &stderr[19]), (20, &"out of luck".into()));
    for told in [&said, &table] {
        assert!(
            told.contains("other at other full, batches of 64: signal: 9 (SIGKILL)"),
            "{told}"
        );
    }
    assert!(table.contains("out of luck\n```"), "{table}");
}

#[test]
fn a_peer_that_prints_no_rows_or_is_not_there_is_named() {
    let dir = TempDir::new().unwrap();
    peer(dir.path(), "this is not JSON");
    let (said, report, _) = bench_with_failure(dir.path(), "other");
    assert!(
        said.contains("other: it printed something else than a row: `this is not JSON`"),
        "{said}"
    );
    assert_eq!(report["peers"].as_array().unwrap().len(), 0);
    fs::remove_file(dir.path().join("run")).unwrap();
    let (said, _, _) = bench_with_failure(dir.path(), "other");
    assert!(said.contains("other: cannot run"), "{said}");
}

#[test]
fn a_graph_is_generated_as_asked() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("graph");
    let place = text(&out);
    let generate = |more: &[&'static str]| {
        let size = [
            "--nodes",
            "4000",
            "--edges",
            "40000",
            "--features",
            "6",
            "--classes",
            "3",
        ];
        let command = [
            "--json",
            "generate",
            "products-like",
            "--scale",
            "0.25",
            "--out",
        ];
        [&command[..], &[place], &size[..], more].concat()
    };
    let summary: Value = serde_json::from_str(&run_ok(&generate(&["--queries", "50"]))).unwrap();
    assert_eq!(summary["nodes"], 775);
    assert_eq!(summary["held_out"], 225);
    assert_eq!(summary["queries"], 50);
    assert!(run_ok(&["verify", text(&out.join("graph"))]).contains("every checksum is right"));
    assert!(run_err(&generate(&[])).contains("exists already"));
    assert!(run_err(&generate(&["--homophily", "2", "--overwrite"])).contains("between 0 and 1"));
}

#[test]
fn every_request_of_a_soak_is_accounted_for() {
    let soak = ["--json", "bench", "soak", "--minutes"];
    let report: Value = serde_json::from_str(&run_ok(&[&soak[..], &["0.1"]].concat())).unwrap();
    assert_eq!(report["accounted_for"], true, "{report}");
    let requests = &report["requests"];
    assert_eq!(requests["stuck"], 0);
    for status in ["200", "400", "404"] {
        assert!(requests["answered"][status].as_u64() > Some(0), "{report}");
    }
    assert!(requests["left"].as_u64() > Some(0) && requests["garbage"].as_u64() > Some(0));
    for wrong in ["0", "NaN", "1e300"] {
        let refused = run(&[&soak[..], &[wrong]].concat());
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("between 0.05 and 10,000"));
    }
}

#[test]
fn kernels_are_measured_against_the_limits_of_the_same_run() {
    let report: Value =
        serde_json::from_str(&run_ok(&["--json", "bench", "kernels", "--quick"])).unwrap();
    let gathers = report["gathers"].as_array().unwrap();
    assert!(gathers.len() >= 20);
    for row in gathers {
        let rate = |name: &str| row[name].as_f64().unwrap();
        assert!(rate("rows_gb_per_s") > 0.0 && rate("read_gb_per_s") > 0.0);
        assert!(rate("lines_gb_per_s") >= rate("rows_gb_per_s"), "{row}");
    }
    assert!(
        report["updates"]
            .as_array()
            .unwrap()
            .iter()
            .all(|u| u["gflop_per_s"].as_f64() > Some(0.0))
    );
}
