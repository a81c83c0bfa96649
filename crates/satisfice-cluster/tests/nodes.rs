//! Nodes that reach each other over sockets: every layer type and plan, and how groups form.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_cluster::{
    ClusterEngine, ClusterError, ClusterNode, Compression, Exchange, GroupState, Method, Part,
    PartManifest, PartPrecision, PartitionOptions, Wire, node_status, part_dir, partition,
};
use satisfice_core::{Engine, ErrorKind, Readiness};
use satisfice_graph::{Attachment, Plan};
use satisfice_store::{Check, NoProgress, Queries};
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use support::{MINUTE, PLANS, Ready, config, eventually, fixture_dir, start};

fn check(dir: &Path, nodes: usize, per_node: usize) -> Vec<String> {
    let (ready, batch) = support::fixture(dir);
    let dirs = ready.cut(nodes * per_node, Method::Hash);
    let config = config("fixtures", &dirs, per_node);
    let nodes = start(&config);
    let mut problems = Vec::new();
    for plan in PLANS {
        let wanted = ready.engine.answer(&batch, plan).unwrap();
        for (at, node) in nodes.iter().enumerate() {
            let found = node.answer(&batch, plan, Exchange::Partials, None).unwrap();
            let width = ready.model.outputs();
            let difference = support::difference(&found.outputs, &wanted.outputs, width);
            if difference > 1e-5 {
                problems.push(format!(
                    "{plan} asked of node {at}: differs by {difference}"
                ));
            }
        }
    }
    let rows: u64 = nodes.iter().map(|node| node.status().rows_sent).sum();
    if rows > 0 {
        problems.push(format!("{rows} rows crossed from one worker to another"));
    }
    problems
}

fn check_all(nodes: usize, per_node: usize, every: usize) {
    let mut failures = Vec::new();
    for dir in support::fixtures().iter().step_by(every) {
        let problems = check(dir, nodes, per_node);
        if !problems.is_empty() {
            let name = dir.file_name().unwrap().display();
            failures.push(format!("{name}: {}", problems.join("; ")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn two_nodes_answer_as_one_machine() {
    check_all(2, 1, 1);
}

#[test]
fn four_nodes_and_nodes_of_two_parts_answer_as_one_machine() {
    check_all(4, 1, 7);
    check_all(2, 2, 11);
}

#[test]
fn a_group_forms_anew_when_a_node_comes_back_and_batches_wait_for_it() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gat_directed"));
    let config = config("anew", &ready.cut(3, Method::Random), 1);
    let mut nodes = start(&config);
    let wanted = ready.engine.answer(&batch, Plan::Exact).unwrap().outputs;
    for gone in [2, 0, 1] {
        drop(nodes.remove(gone));
        let (nodes_ref, batch_ref) = (&nodes, &batch);
        let back = thread::scope(|scope| {
            let asked = scope.spawn(move || {
                nodes_ref[0]
                    .answer(batch_ref, Plan::Exact, Exchange::Partials, None)
                    .unwrap()
            });
            let back = ClusterNode::start(&config, gone, Check::Structure).unwrap();
            let found = asked.join().unwrap();
            assert!(support::difference(&found.outputs, &wanted, ready.model.outputs()) < 1e-5);
            back
        });
        nodes.insert(gone, back);
        for node in &nodes {
            node.wait(MINUTE).unwrap();
        }
    }
}

#[test]
fn another_replica_answers_while_a_group_is_broken() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gat_directed"));
    let dirs = ready.cut(2, Method::Hash);
    let mut config = config("replicas", &[dirs.clone(), dirs].concat(), 1);
    config.nodes[2].replica = 1;
    config.nodes[3].replica = 1;
    let mut nodes = start(&config);
    let wanted = ready.engine.answer(&batch, Plan::Exact).unwrap().outputs;
    drop(nodes.remove(1));
    for _ in 0..3 {
        let found = nodes[0]
            .answer(&batch, Plan::Exact, Exchange::Partials, None)
            .unwrap();
        assert!(support::difference(&found.outputs, &wanted, ready.model.outputs()) < 1e-5);
    }
    assert!(nodes[0].handed_on() > 0, "node 0's own group lacks a node");
    // Both replicas say what is missing: one its own group, the other one its replica.
    let degraded = |node: &ClusterNode, says: &str| match node.status().state {
        GroupState::Degraded { why } => why.contains(says),
        _ => false,
    };
    eventually(|| degraded(&nodes[0], "replica 1 answers for its group"));
    eventually(|| degraded(&nodes[1], "replica 0 is not whole"));
    assert!(!nodes[0].status().whole && nodes[1].status().whole);
    let back = ClusterNode::start(&config, 1, Check::Structure).unwrap();
    let is_ready = |node: &ClusterNode| matches!(node.status().state, GroupState::Ready { .. });
    eventually(|| is_ready(&nodes[0]) && is_ready(&nodes[1]) && is_ready(&back));
    drop(back);
    drop(nodes.remove(2));
    let mut alone = config.clone();
    alone.retry_ms = 50;
    drop(nodes);
    let node = ClusterNode::start(&alone, 0, Check::Structure).unwrap();
    let error = node
        .answer(&batch, Plan::Exact, Exchange::Partials, None)
        .unwrap_err();
    assert!(matches!(error, ClusterError::Forming { .. }), "{error}");
}

#[test]
fn a_request_waits_for_the_group_until_its_deadline_and_no_longer() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gat_directed"));
    // `retry_ms` and `round_max_ms` are a minute.
    let config = config("late", &ready.cut(2, Method::Hash), 1);
    let first = ClusterNode::start(&config, 0, Check::Structure).unwrap();
    let ask = |time: Duration| {
        let deadline = Some(Instant::now() + time);
        first.answer(&batch, Plan::Exact, Exchange::Partials, deadline)
    };
    let start = Instant::now();
    let error = ask(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, ClusterError::Late { .. }), "{error}");
    assert!(
        error.to_string().contains("node 1"),
        "who is missing: {error}"
    );
    assert!(start.elapsed() < MINUTE);
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let second = ClusterNode::start(&config, 1, Check::Structure).unwrap();
    let wanted = ready.engine.answer(&batch, Plan::Exact).unwrap().outputs;
    let found = ask(MINUTE).unwrap();
    assert!(support::difference(&found.outputs, &wanted, ready.model.outputs()) < 1e-5);
    let error = ask(Duration::ZERO).unwrap_err();
    assert!(matches!(error, ClusterError::Late { .. }), "{error}");
    assert!(second.status().whole, "a late request breaks no group");
}

#[test]
fn nodes_that_differ_in_anything_are_refused_by_its_name() {
    let model = fixture_dir("pyg_gcn_3_layers_directed");
    let (ready, _) = support::fixture(&model);
    let other_graph = support::fixture(&fixture_dir("pyg_gat_directed")).0;
    let other_model = fixture_dir("pyg_gcn_2_layers_directed");
    let other_model = Ready::new(&other_model, &model.join("graph.safetensors"));
    let dirs = ready.cut(2, Method::Hash);
    let of_three = ready.cut(3, Method::Hash);
    let f32 = (Wire::F32, "same");
    for (second_dir, (wire, group), says) in [
        (&ready.cut(2, Method::Random)[1], f32, "the partition map"),
        (&other_graph.cut(2, Method::Hash)[1], f32, "the graph store"),
        (&other_model.cut(2, Method::Hash)[1], f32, "the model"),
        (&dirs[1], (Wire::F16, "same"), "the precision"),
        (&dirs[1], (Wire::F32, "other"), "the group"),
        (&of_three[1], f32, "the number of nodes"),
    ] {
        let first = config("same", &dirs, 1);
        let mut second = first.clone();
        second.group = group.to_owned();
        second.wire = wire;
        second.nodes[1].parts = vec![second_dir.clone()];
        if says == "the number of nodes" {
            second.nodes.push(second.nodes[1].clone());
        }
        let _first = ClusterNode::start(&first, 0, Check::Structure).unwrap();
        let second = ClusterNode::start(&second, 1, Check::Structure).unwrap();
        let mut why = String::new();
        eventually(|| match second.status().state {
            GroupState::Forming { why: now } => {
                why = now;
                why.contains("refused")
            }
            _ => false,
        });
        assert!(why.contains(says) && why.contains("node 0 at"), "{why}");
    }
}

#[test]
fn a_second_process_with_the_number_of_a_node_is_refused_and_the_group_goes_on() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gcn_3_layers_directed"));
    let config = config("numbers", &ready.cut(2, Method::Hash), 1);
    let mut elsewhere = config.clone();
    elsewhere.nodes[1].address = support::free_address();
    let refused = |node: &ClusterNode, says: &str| {
        eventually(|| match node.status().state {
            GroupState::Forming { why } => why.contains("refused") && why.contains(says),
            _ => false,
        });
    };
    let first = ClusterNode::start(&config, 0, Check::Structure).unwrap();
    let impostor = ClusterNode::start(&elsewhere, 1, Check::Structure).unwrap();
    refused(&impostor, "cannot be reached there");
    assert!(!first.status().whole);
    let second = ClusterNode::start(&config, 1, Check::Structure).unwrap();
    second.wait(MINUTE).unwrap();
    first.wait(MINUTE).unwrap();
    refused(&impostor, "another process is node 1 at");
    let formed = first.status().formed;
    let answer = |node: &ClusterNode| node.answer(&batch, Plan::Exact, Exchange::Partials, None);
    assert_eq!(
        answer(&first).unwrap().outputs,
        answer(&second).unwrap().outputs
    );
    drop(impostor);
    let impostor = ClusterNode::start(&elsewhere, 1, Check::Structure).unwrap();
    refused(&impostor, "another process is node 1 at");
    assert_eq!(first.status().formed, formed, "it is still the same group");
    assert!(first.status().whole && second.status().whole);
}

#[test]
fn a_node_that_loses_a_file_leaves_the_group_which_says_why() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gcn_3_layers_directed"));
    let dirs = ready.cut(2, Method::Hash);
    let mut config = config("lost", &dirs, 1);
    config.retry_ms = 50;
    let mut nodes = start(&config);
    let wanted = ready.engine.answer(&batch, Plan::Exact).unwrap().outputs;
    let lost = dirs[1].join("features.safetensors");
    let whole = std::fs::read(&lost).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&lost);
    file.unwrap().set_len(0).unwrap();
    let is_lost = |node: &ClusterNode| match node.status().state {
        GroupState::Forming { why } => why.contains(lost.to_str().unwrap()),
        _ => false,
    };
    // No answer is made of what is not there, whoever is asked.
    while !is_lost(&nodes[1]) {
        for node in &nodes {
            if let Ok(answer) = node.answer(&batch, Plan::Exact, Exchange::Partials, None) {
                let difference =
                    support::difference(&answer.outputs, &wanted, ready.model.outputs());
                assert!(difference < 1e-5, "{difference}");
            }
        }
    }
    eventually(|| match nodes[0].status().state {
        GroupState::Forming { why } => why.contains("node 1 at"),
        _ => false,
    });
    let engine = ClusterEngine::new(Arc::new(nodes.remove(1))).unwrap();
    assert_eq!(engine.readiness(), Readiness::Failed);
    // With a whole file in its place and a new process it is a node again.
    drop(engine);
    let new = dirs[1].join("new");
    std::fs::write(&new, whole).unwrap();
    std::fs::rename(&new, &lost).unwrap();
    let back = ClusterNode::start(&config, 1, Check::Checksums).unwrap();
    back.wait(MINUTE).unwrap();
}

#[test]
fn callers_that_speak_rubbish_are_dropped_and_the_group_goes_on() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gcn_3_layers_directed"));
    let config = config("rubbish", &ready.cut(2, Method::Hash), 1);
    let nodes = start(&config);
    let generation = |node: &ClusterNode| match node.status().state {
        GroupState::Ready { generation } => Some(generation),
        _ => None,
    };
    // On a busy machine the first try may not be the one that lasts.
    eventually(|| {
        generation(&nodes[0]).is_some() && generation(&nodes[0]) == generation(&nodes[1])
    });
    let formed = generation(&nodes[0]);
    for (at, node) in config.nodes.iter().enumerate() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 4096],
            b"SATISFCL\xff\xff\xff\x7f",
            b"",
        ] {
            let mut stream = TcpStream::connect(&node.address).unwrap();
            stream.set_read_timeout(Some(MINUTE)).unwrap();
            stream.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            // The other end resets the connection as soon as it has read enough of the bytes.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty());
        }
        assert!(matches!(
            node_status(&config, at).unwrap().state,
            GroupState::Ready { .. }
        ));
    }
    nodes[1]
        .answer(&batch, Plan::Exact, Exchange::Partials, None)
        .unwrap();
    assert_eq!(generation(&nodes[0]), formed, "it is still the same group");
}

#[test]
fn halves_on_the_wire_are_close_and_fewer_bytes() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gat_directed"));
    let dirs = ready.cut(2, Method::Hash);
    let answer = |wire| {
        let mut config = config("wire", &dirs, 1);
        config.wire = wire;
        start(&config)[0]
            .answer(&batch, Plan::Exact, Exchange::Partials, None)
            .unwrap()
    };
    let (full, halves) = (answer(Wire::F32), answer(Wire::F16));
    let difference = support::difference(&halves.outputs, &full.outputs, ready.model.outputs());
    assert!(difference > 0.0 && difference < 1e-2, "{difference}");
    assert!(halves.layer_bytes < full.layer_bytes);
}

#[test]
fn compressed_messages_are_fewer_bytes_and_the_same_answers() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gat_directed"));
    let dirs = ready.cut(2, Method::Hash);
    let answers = |compression| {
        let mut config = config("compression", &dirs, 1);
        config.compression = compression;
        let nodes = start(&config);
        let of_plan = |plan| {
            nodes[0]
                .answer(&batch, plan, Exchange::Partials, None)
                .unwrap()
                .outputs
        };
        let answers: Vec<Vec<f32>> = PLANS.map(of_plan).into();
        (answers, nodes[0].status().link_bytes_sent)
    };
    let (whole, bytes) = answers(Compression::None);
    let (compressed, compressed_bytes) = answers(Compression::Zstd);
    assert!(compressed == whole);
    assert!(compressed_bytes < bytes, "{compressed_bytes} of {bytes}");
}

/// Two parts without embeddings.
fn bare(ready: &Ready) -> Vec<PathBuf> {
    let out = ready.dir.path().join("bare");
    let options = PartitionOptions {
        parts: 2,
        method: Method::Hash,
        seed: 0,
        embeddings: false,
    };
    let to = (options, &*out);
    partition(
        &ready.model_dir,
        &ready.model,
        &ready.store,
        to,
        &NoProgress,
    )
    .unwrap();
    (0..2).map(|part| part_dir(&out, part)).collect()
}

#[test]
fn a_precomputation_that_loses_a_node_goes_on_with_the_table_that_it_was_at() {
    let bundle = support::bundle();
    let ready = Ready::new(
        &bundle.join("models/gcn2"),
        &bundle.join("graph.safetensors"),
    );
    let dirs = bare(&ready);
    let config = config("resumed", &dirs, 1);
    let tables = |dir: &Path| PartManifest::read(dir).unwrap().tables;
    let written = |dir: &Path, name: &str| dir.join(name).metadata().unwrap().modified().unwrap();
    let mut nodes = start(&config);
    let second = nodes.pop().unwrap();
    let first = &nodes[0];
    let (kept, computed) = thread::scope(|scope| {
        let computing = scope.spawn(|| first.precompute(PartPrecision::F32).unwrap());
        eventually(|| !tables(&dirs[0]).is_empty() && !tables(&dirs[1]).is_empty());
        drop(second);
        let kept = tables(&dirs[1])
            .into_iter()
            .map(|table| (written(&dirs[1], &table.name), table.name))
            .collect::<Vec<_>>();
        let back = ClusterNode::start(&config, 1, Check::Checksums).unwrap();
        let computed = computing.join().unwrap();
        back.wait(MINUTE).unwrap();
        nodes_agree(&ready, &back);
        (kept, computed)
    });
    println!("kept {kept:?}, then computed {computed:?}");
    assert!(!kept.is_empty());
    for (time, name) in kept {
        assert_eq!(
            written(&dirs[1], &name),
            time,
            "{name} is not computed anew"
        );
    }
}

fn nodes_agree(ready: &Ready, node: &ClusterNode) {
    let queries = Queries::open(&support::bundle().join("queries.safetensors")).unwrap();
    let slice = queries.batch(0..64);
    let batch = ready.engine.attach(Attachment::from(&slice)).unwrap();
    for plan in PLANS {
        let wanted = ready.engine.answer(&batch, plan).unwrap().outputs;
        let found = node.answer(&batch, plan, Exchange::Partials, None).unwrap();
        let difference = support::difference(&found.outputs, &wanted, ready.model.outputs());
        // Which nodes `oracle` takes is decided by rounding where changes are about the same.
        let bound = if plan.to_string().contains("oracle") {
            1e-2
        } else {
            1e-5
        };
        assert!(difference < bound, "{plan}: {difference}");
    }
}

#[test]
fn a_cluster_computes_the_embeddings_that_one_machine_computes() {
    for name in [
        "pyg_gcn_3_layers_directed",
        "pyg_gat_directed",
        "pyg_sage_mean_directed",
        "dgl_sage_pool_directed",
        "dgl_gcn2_own_weights_undirected",
    ] {
        let (ready, batch) = support::fixture(&fixture_dir(name));
        let dirs = bare(&ready);
        let missing = Part::open(&dirs[0], Check::Checksums)
            .unwrap()
            .missing_tables();
        let config = config("precompute", &dirs, 1);
        let nodes = start(&config);
        let computed = nodes[0].precompute(PartPrecision::F32).unwrap();
        let (kept, needed): (Vec<_>, Vec<_>) = computed
            .into_iter()
            .partition(|table| table.starts_with(['s', 'o']));
        assert_eq!(needed, missing, "{name}");
        let own = usize::from(ready.model.split_layer(0).own_width() > 0);
        let layers = ready.model.layers();
        assert_eq!(kept.len(), layers - 1 + own, "{name}: {kept:?}");
        let again = nodes[0].precompute(PartPrecision::F32).unwrap();
        assert!(again.is_empty(), "{name}: finished tables are kept");
        for plan in PLANS {
            let wanted = ready.engine.answer(&batch, plan).unwrap().outputs;
            let found = nodes[1]
                .answer(&batch, plan, Exchange::Partials, None)
                .unwrap()
                .outputs;
            let difference = support::difference(&found, &wanted, ready.model.outputs());
            assert!(difference < 1e-5, "{name} {plan}: {difference}");
        }
        drop(nodes);
        let opened = Part::open(&dirs[1], Check::Checksums).unwrap();
        assert!(
            opened.missing_tables().is_empty(),
            "{name}: they are kept on disk"
        );
    }
}
