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
use support::{Server, run_err, run_ok, satisfice, spaces::Spaces, text};
use tempfile::TempDir;

/// Longest wait for anything: the machine may be busy.
const LONG: Duration = Duration::from_mins(1);

/// A group's file and parts, and where its nodes serve.
struct Group {
    dir: TempDir,
    http: Vec<String>,
    /// Namespaces of the nodes, if each has its own.
    spaces: Option<Spaces>,
}

impl Group {
    /// One part a node, on loopback; `settings` are further lines of its file.
    fn new(model: &Path, nodes: usize, settings: &str) -> Self {
        Self::with((model, settings), (nodes, 1), None)
    }

    /// `replicas` times as many nodes as parts.
    fn with(
        (model, settings): (&Path, &str),
        (parts, replicas): (usize, usize),
        spaces: Option<Spaces>,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let out = dir.path().join("parts");
        let count = parts.to_string();
        let model = text(model);
        run_ok(&["partition", model, "--parts", &count, "--out", text(&out)]);
        // How slow a busy machine is says nothing about a group.
        let mut file =
            format!("group = \"fixture\"\nretry_ms = 30000\nslow_ms = 60000\n{settings}\n");
        let mut http = Vec::new();
        for node in 0..parts * replicas {
            let (replica, part) = (node / parts, node % parts);
            let place = |port: u16| match &spaces {
                Some(spaces) => spaces.address(node, port),
                None => free_address(),
            };
            let address = place(7000);
            write!(
                file,
                "[[node]]\naddress = \"{address}\"\nreplica = {replica}\nparts = [\"parts/part-{part:03}\"]\n"
            )
            .unwrap();
            http.push(place(8000));
        }
        fs::write(dir.path().join("cluster.toml"), file).unwrap();
        Self { dir, http, spaces }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("cluster.toml")
    }

    fn start(&self, node: usize) -> Process {
        let mut command = match &self.spaces {
            Some(spaces) => spaces.within(node, satisfice().get_program()),
            None => satisfice(),
        };
        let mut child = command
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

    fn health(&self, node: usize) -> Option<(u16, String)> {
        ask(&self.http[node], "GET", "/v2/health/ready", b"")
    }

    fn is_ready(&self, node: usize) -> bool {
        matches!(self.health(node), Some((200, _)))
    }

    /// Waits until all nodes are ready, and lack nothing.
    fn wait(&self) {
        let start = Instant::now();
        let lacks_nothing = |node: usize| match self.health(node) {
            Some((200, answer)) => body_of(&answer)["state"] == "ready",
            _ => false,
        };
        while !(0..self.http.len()).all(lacks_nothing) {
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

    /// Stops every thread of it, and waits until they are stopped: one that runs goes on for a while.
    fn stop(&self) {
        self.signal("-STOP");
        let start = Instant::now();
        while !self.is_stopped() {
            assert!(start.elapsed() < LONG, "it is stopped");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_stopped(&self) -> bool {
        let mut threads = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        threads.all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            // The name before the state is in parentheses, and may hold any character.
            stat.rsplit(") ").next().unwrap().starts_with('T')
        })
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

/// A model of every layer type and every way to reduce sources.
const LAYERS: [&str; 16] = [
    "pyg_gcn_3_layers_directed",
    "pyg_gcn_2_layers_undirected",
    "dgl_graph_conv_both_directed",
    "pyg_sage_mean_directed",
    "pyg_sage_max_undirected",
    "pyg_sage_sum_directed",
    "dgl_sage_gcn_directed",
    "dgl_sage_pool_undirected",
    "pyg_gin_batch_norm_directed",
    "dgl_gin_max_directed",
    "pyg_gat_directed",
    "dgl_gat_self_loops_undirected",
    "pyg_gatv2_undirected",
    "dgl_gatv2_directed",
    "dgl_gcn2_own_weights_directed",
    "pyg_jumping_lstm_directed",
];

const PLANS: [&str; 7] = [
    "pe",
    "refresh",
    "recompute:25%",
    "recompute:50%:reach",
    "recompute:50%:oracle",
    "recompute:100%",
    "exact",
];

/// Asks every node of groups of processes for what one machine answers, by every plan and exchange.
fn processes_answer_as_one_machine(sizes: &[usize], spaces: impl Fn(usize) -> Option<Spaces>) {
    let repository = support::repository(&LAYERS);
    let single = Server::start(repository.path());
    for name in LAYERS {
        let fixture = support::fixture(name);
        let wanted = PLANS.map(|plan| (plan, single.infer(name, &request(&fixture, plan)).1));
        for &nodes in sizes {
            let model = (&*repository.path().join(name), "round_max_ms = 60000");
            let group = Group::with(model, (nodes, 1), spaces(nodes));
            let processes: Vec<Process> = (0..nodes).map(|node| group.start(node)).collect();
            group.wait();
            for (plan, wanted) in &wanted {
                for node in 0..nodes {
                    let mut request = request(&fixture, plan);
                    let exchange = ["partials", "rows"][node % 2];
                    request["parameters"]["exchange"] = json!(exchange);
                    let answer = group.infer(node, request.to_string().as_bytes());
                    let (status, answer) = answer.unwrap();
                    let at = format!("{name}, {nodes} nodes, {plan}, {exchange}, asked of {node}");
                    assert_eq!(status, 200, "{at}: {answer}");
                    let answer = body_of(&answer);
                    assert!(close(&values(&answer), &values(wanted)), "{at}");
                    let parameters = &answer["parameters"];
                    assert_eq!(parameters["exchange"], exchange, "{at}");
                    // Among neighbours that nothing changes, rounding decides which of them the oracle takes.
                    if !plan.ends_with("oracle") {
                        assert_eq!(parameters["edges"], wanted["parameters"]["edges"], "{at}");
                    }
                    assert!(parameters["exchange_bytes"].as_u64().unwrap() > 0, "{at}");
                    let moved = parameters["rows_moved"].as_u64().unwrap();
                    assert_eq!(moved > 0, exchange == "rows", "{at}: {moved} rows moved");
                }
            }
            if group.spaces.is_none() {
                let status = run_ok(&["cluster", "status", text(&group.file()), "--json"]);
                let status: Value = serde_json::from_str(&status).unwrap();
                assert_eq!(status[nodes - 1]["status"]["state"], "ready");
                drop(processes);
                let gone = run_err(&["cluster", "status", text(&group.file())]);
                assert!(gone.contains("0 of"), "{gone}");
            }
        }
    }
}

#[test]
fn two_processes_answer_as_one_machine() {
    processes_answer_as_one_machine(&[2], |_| None);
}

#[test]
fn four_processes_answer_as_one_machine() {
    processes_answer_as_one_machine(&[4], |_| None);
}

#[test]
fn four_processes_with_network_namespaces_of_their_own_answer_as_one_machine() {
    match Spaces::new(1) {
        Some(_) => processes_answer_as_one_machine(&[4], |nodes| {
            Some(Spaces::new(nodes).expect("as many namespaces as one"))
        }),
        None => println!("skipped: network namespaces are not permitted here"),
    }
}

/// Counts of what became of requests.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    /// 503 with `Retry-After`.
    refused: AtomicU64,
    /// The connection to a killed node broke or could not be made; another node is asked, as by a load balancer.
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
        processes[hung].stop();
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
    processes[1].stop();
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

/// Sends a signal that ends it to random nodes of a group under load, and starts them again. What became of requests, and how long it
/// took each time from the restart until the group was whole.
fn end_under_load(
    (signal, times_ended): (&str, usize),
    (parts, replicas): (usize, usize),
) -> (Counts, Vec<Duration>) {
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
    let nodes = parts * replicas;
    let model = repository.path().join(name);
    let group = Group::with((&model, ""), (parts, replicas), None);
    let mut processes: Vec<Process> = (0..nodes).map(|node| group.start(node)).collect();
    group.wait();
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let mut random = Random(seed);
    let mut times = Vec::new();
    thread::scope(|scope| {
        for client in 0..4 {
            let (group, cases, stop, counts) = (&group, &cases, &stop, &counts);
            scope.spawn(move || load(group, cases, stop, seed.wrapping_add(client * 7919), counts));
        }
        for _ in 0..times_ended {
            thread::sleep(Duration::from_millis(100 + random.next(900)));
            let node = random.next(nodes as u64) as usize;
            processes[node].signal(signal);
            let ended = processes[node].0.wait().unwrap();
            assert_eq!(ended.success(), signal == "-TERM", "node {node}: {ended}");
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
        "{signal} {times_ended} times: {} answered, {} refused, {} unreachable, {} wrong, 0 hung; whole again after its \
         restart within {:?} (median) and {:?} (longest)",
        count(&counts.answered),
        count(&counts.refused),
        count(&counts.unreachable),
        count(&counts.wrong),
        times[times_ended / 2],
        times[times_ended - 1],
    );
    let other = counts.other.lock().unwrap();
    assert!(other.is_empty(), "other answers: {}", other[0]);
    drop(other);
    assert_eq!(count(&counts.wrong), 0);
    assert!(count(&counts.answered) > times_ended as u64);
    (counts, times)
}

#[test]
fn nodes_killed_under_load_come_back_and_no_answer_is_wrong_or_lost() {
    let (_, times) = end_under_load(("-KILL", 20), (3, 1));
    assert!(times[10] < Duration::from_secs(2), "{times:?}");
}

#[test]
fn nodes_killed_under_load_fail_no_request_where_there_is_another_replica() {
    let (counts, _) = end_under_load(("-KILL", 10), (2, 2));
    assert_eq!(counts.refused.into_inner(), 0);
}

#[test]
fn nodes_that_are_drained_leave_when_they_have_answered_and_fail_no_request() {
    let (counts, _) = end_under_load(("-TERM", 5), (2, 2));
    assert_eq!(counts.refused.into_inner(), 0);
}
