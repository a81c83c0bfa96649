//! A cluster of processes from outside: the answers of one machine, and what happens when nodes are
//! killed under load.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../satisfice-cluster/tests/support/address.rs"]
mod address;
mod support;

use address::free_address;
use satisfice_store::TensorFile;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{Server, run_err, run_ok, satisfice, text};
use tempfile::TempDir;

/// Longest wait for anything: the machine may be busy.
const LONG: Duration = Duration::from_mins(1);

/// A group's file and parts, and where its nodes serve.
struct Group {
    dir: TempDir,
    http: Vec<String>,
}

impl Group {
    /// `settings` are further lines of its file.
    fn new(model: &Path, nodes: usize, settings: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let parts = dir.path().join("parts");
        let count = nodes.to_string();
        run_ok(&[
            "partition",
            text(model),
            "--parts",
            &count,
            "--out",
            text(&parts),
        ]);
        // How slow a busy machine is says nothing about a group.
        let mut file =
            format!("group = \"fixture\"\nretry_ms = 30000\nslow_ms = 60000\n{settings}\n");
        for node in 0..nodes {
            let address = free_address();
            write!(
                file,
                "[[node]]\naddress = \"{address}\"\nparts = [\"parts/part-{node:03}\"]\n"
            )
            .unwrap();
        }
        fs::write(dir.path().join("cluster.toml"), file).unwrap();
        let http = (0..nodes).map(|_| free_address()).collect();
        Self { dir, http }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("cluster.toml")
    }

    fn start(&self, node: usize) -> Process {
        let mut child = satisfice()
            .args(["serve", "--cluster", text(&self.file())])
            .args(["--node", &node.to_string(), "--listen", &self.http[node]])
            .args(["--grpc-listen", "127.0.0.1:0", "--skip-checksums"])
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(
            line.starts_with("serving on http://"),
            "node {node}: {line:?}"
        );
        Process(child)
    }

    fn is_ready(&self, node: usize) -> bool {
        matches!(
            ask(&self.http[node], "GET", "/v2/health/ready", b""),
            Some((200, _))
        )
    }

    /// Waits until all nodes are ready.
    fn wait(&self) {
        let start = Instant::now();
        while !(0..self.http.len()).all(|node| self.is_ready(node)) {
            assert!(start.elapsed() < LONG, "the group is whole in time");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn infer(&self, node: usize, body: &[u8]) -> Option<(u16, String)> {
        ask(&self.http[node], "POST", "/v2/models/fixture/infer", body)
    }
}

/// Killed when dropped.
struct Process(Child);

impl Process {
    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([name, &id])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One request; nothing when the connection failed. A hang is a panic.
fn ask(address: &str, method: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(
            !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
            "no answer within {LONG:?}: hung"
        );
        return None;
    }
    let answer = String::from_utf8(answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

fn body_of(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// The case of a fixture as a request.
fn request(fixture: &Path, plan: &str) -> Value {
    let case = TensorFile::open(&fixture.join("case.safetensors")).unwrap();
    let mut inputs = vec![
        json!({
            "name": "x", "datatype": "FP32", "shape": case.shape("x").unwrap(),
            "data": case.slice::<f32>("x").unwrap(),
        }),
        json!({
            "name": "edge_index", "datatype": "INT64", "shape": case.shape("edge_index").unwrap(),
            "data": case.slice::<i64>("edge_index").unwrap(),
        }),
    ];
    if case.has("edge_direction") {
        inputs.push(json!({
            "name": "edge_direction", "datatype": "UINT8",
            "shape": case.shape("edge_direction").unwrap(),
            "data": case.slice::<u8>("edge_direction").unwrap(),
        }));
    }
    if case.has("query_edge_index") {
        inputs.push(json!({
            "name": "query_edge_index", "datatype": "INT64",
            "shape": case.shape("query_edge_index").unwrap(),
            "data": case.slice::<i64>("query_edge_index").unwrap(),
        }));
    }
    json!({ "inputs": inputs, "parameters": { "plan": plan, "node_ids": "position" } })
}

fn values(answer: &Value) -> Vec<f64> {
    let data = answer["outputs"][0]["data"].as_array().unwrap();
    data.iter().map(|v| v.as_f64().unwrap()).collect()
}

fn close(found: &[f64], wanted: &[f64]) -> bool {
    let scale = wanted.iter().fold(1.0_f64, |top, v| top.max(v.abs()));
    found.len() == wanted.len()
        && found
            .iter()
            .zip(wanted)
            .all(|(a, b)| (a - b).abs() <= 1e-5 * scale)
}

#[test]
fn processes_answer_as_one_machine() {
    for name in [
        "pyg_gcn_3_layers_directed",
        "pyg_sage_mean_directed",
        "dgl_sage_pool_undirected",
        "dgl_gin_sum_directed",
        "pyg_gat_directed",
        "dgl_gatv2_directed",
        "dgl_gcn2_own_weights_directed",
    ] {
        let repository = support::repository(&[name]);
        let single = Server::start(repository.path());
        let fixture = support::fixture(name);
        let wanted: Vec<(&str, Value)> = ["pe", "recompute:25%", "exact"]
            .map(|plan| (plan, single.infer(name, &request(&fixture, plan)).1))
            .into();
        for nodes in [2, 4] {
            let group = Group::new(&repository.path().join(name), nodes, "round_max_ms = 60000");
            let processes: Vec<Process> = (0..nodes).map(|node| group.start(node)).collect();
            group.wait();
            for (plan, wanted) in &wanted {
                for node in 0..nodes {
                    let body = request(&fixture, plan).to_string();
                    let (status, answer) = group.infer(node, body.as_bytes()).unwrap();
                    let at = format!("{name}, {nodes} nodes, {plan}, asked of node {node}");
                    assert_eq!(status, 200, "{at}: {answer}");
                    let answer = body_of(&answer);
                    assert!(close(&values(&answer), &values(wanted)), "{at}");
                    let parameters = &answer["parameters"];
                    assert_eq!(parameters["edges"], wanted["parameters"]["edges"], "{at}");
                    assert!(parameters["exchange_bytes"].as_u64().unwrap() > 0, "{at}");
                }
            }
            let status = run_ok(&["cluster", "status", text(&group.file()), "--json"]);
            let status: Value = serde_json::from_str(&status).unwrap();
            assert_eq!(status[nodes - 1]["status"]["state"], "ready");
            drop(processes);
            let gone = run_err(&["cluster", "status", text(&group.file())]);
            assert!(gone.contains("0 of"), "{gone}");
        }
    }
}

/// Counts of what became of requests.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    /// 503 with `Retry-After`.
    refused: AtomicU64,
    /// The connection to a killed node broke or could not be made.
    unreachable: AtomicU64,
    wrong: AtomicU64,
    other: Mutex<Vec<String>>,
}

/// A small generator with a seed. Source: Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn seed() -> u64 {
    let given = std::env::var("SATISFICE_SEED").ok();
    given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_micros() as u64 | 1
    })
}

/// Asks random nodes until told to stop.
fn load(
    group: &Group,
    cases: &[(Vec<u8>, Vec<f64>)],
    stop: &AtomicBool,
    seed: u64,
    counts: &Counts,
) {
    let mut random = Random(seed | 1);
    while !stop.load(Ordering::Relaxed) {
        let node = random.next(group.http.len() as u64) as usize;
        let (body, wanted) = &cases[random.next(cases.len() as u64) as usize];
        match group.infer(node, body) {
            None => {
                counts.unreachable.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
            Some((200, answer)) => {
                let found = body_of(&answer);
                let counter = match close(&values(&found), wanted) {
                    true => &counts.answered,
                    false => &counts.wrong,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Some((503, answer)) if answer.to_lowercase().contains("retry-after:") => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
            }
            Some((_, answer)) => counts.other.lock().unwrap().push(answer),
        }
    }
}

#[test]
fn a_node_that_hangs_is_given_up_and_requests_are_answered_when_it_goes_on() {
    let name = "pyg_gcn_3_layers_directed";
    let repository = support::repository(&[name]);
    let single = Server::start(repository.path());
    let request = request(&support::fixture(name), "exact");
    let wanted = values(&single.infer(name, &request).1);
    let body = request.to_string().into_bytes();
    let group = Group::new(&repository.path().join(name), 3, "");
    let processes: Vec<Process> = (0..3).map(|node| group.start(node)).collect();
    group.wait();
    for (hung, asked) in [(2, 0), (0, 1)] {
        processes[hung].signal("-STOP");
        thread::scope(|scope| {
            let answer = scope.spawn(|| group.infer(asked, &body).unwrap());
            // Until it is noticed that the peer does not answer.
            let start = Instant::now();
            while group.is_ready(asked) {
                assert!(start.elapsed() < LONG, "a hung peer is noticed");
                thread::sleep(Duration::from_millis(20));
            }
            processes[hung].signal("-CONT");
            let (status, answer) = answer.join().unwrap();
            assert_eq!(status, 200, "{answer}");
            assert!(close(&values(&body_of(&answer)), &wanted));
        });
        group.wait();
    }
}

#[test]
fn a_hung_peer_costs_a_request_no_more_than_its_deadline_and_is_noticed_all_the_same() {
    let name = "pyg_gcn_3_layers_directed";
    let repository = support::repository(&[name]);
    let group = Group::new(&repository.path().join(name), 2, "");
    let processes: Vec<Process> = (0..2).map(|node| group.start(node)).collect();
    group.wait();
    let mut request = request(&support::fixture(name), "exact");
    let body = request.to_string().into_bytes();
    let (status, answer) = group.infer(0, &body).unwrap();
    assert_eq!(status, 200, "{answer}");
    processes[1].signal("-STOP");
    request["parameters"]["deadline_ms"] = json!(300);
    // Nobody but this request, which gives up long before `round_max_ms`, asks for the peer.
    let (status, answer) = group.infer(0, request.to_string().as_bytes()).unwrap();
    assert_eq!(status, 504, "{answer}");
    assert_eq!(body_of(&answer)["code"], "deadline_exceeded");
    let start = Instant::now();
    while group.is_ready(0) {
        assert!(start.elapsed() < LONG, "a hung peer is noticed");
        thread::sleep(Duration::from_millis(20));
    }
    let (_, answer) = ask(&group.http[0], "GET", "/v2/health/ready", b"").unwrap();
    assert_eq!(
        body_of(&answer),
        json!({ "ready": false, "state": "forming" })
    );
    processes[1].signal("-CONT");
    group.wait();
    let (status, answer) = group.infer(0, &body).unwrap();
    assert_eq!(status, 200, "{answer}");
    let (_, answer) = ask(&group.http[0], "GET", "/v2/health/ready", b"").unwrap();
    assert_eq!(body_of(&answer)["state"], "ready");
}

#[test]
fn nodes_killed_under_load_come_back_and_no_answer_is_wrong_or_lost() {
    const NODES: usize = 3;
    const KILLS: usize = 20;
    let seed = seed();
    println!("SATISFICE_SEED={seed}");
    let name = "pyg_gat_directed";
    let repository = support::repository(&[name]);
    let single = Server::start(repository.path());
    let fixture = support::fixture(name);
    let cases: Vec<(Vec<u8>, Vec<f64>)> = ["pe", "recompute:25%", "recompute:100%", "exact"]
        .iter()
        .map(|plan| {
            let request = request(&fixture, plan);
            let wanted = values(&single.infer(name, &request).1);
            (request.to_string().into_bytes(), wanted)
        })
        .collect();
    let group = Group::new(&repository.path().join(name), NODES, "");
    let mut processes: Vec<Process> = (0..NODES).map(|node| group.start(node)).collect();
    group.wait();
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let mut random = Random(seed);
    let mut times = Vec::new();
    thread::scope(|scope| {
        for client in 0..4 {
            let (group, cases, stop, counts) = (&group, &cases, &stop, &counts);
            scope.spawn(move || load(group, cases, stop, seed.wrapping_add(client * 7919), counts));
        }
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(100 + random.next(900)));
            let node = random.next(NODES as u64) as usize;
            processes[node].0.kill().unwrap();
            processes[node].0.wait().unwrap();
            thread::sleep(Duration::from_millis(random.next(300)));
            let restarted = Instant::now();
            processes[node] = group.start(node);
            group.wait();
            times.push(restarted.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
    });
    times.sort();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{KILLS} kills: {} answered, {} refused, {} unreachable, {} wrong, 0 hung; whole again after its \
         restart within {:?} (median) and {:?} (longest)",
        count(&counts.answered),
        count(&counts.refused),
        count(&counts.unreachable),
        count(&counts.wrong),
        times[KILLS / 2],
        times[KILLS - 1],
    );
    let other = counts.other.into_inner().unwrap();
    assert!(other.is_empty(), "other answers: {}", other[0]);
    assert_eq!(counts.wrong.into_inner(), 0);
    assert!(counts.answered.into_inner() > KILLS as u64);
}
