//! What a cluster promises: the same as one machine, since all that a promise is made of travels with a part.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_cluster::{
    ClusterConfig, ClusterEngine, ClusterError, ClusterNode, Method, NodeConfig, Wire,
};
use satisfice_core::{Engine, ErrorKind, InferResponse, Parameter};
use satisfice_graph::{GraphEngine, Plan, ProfileOptions, profile};
use satisfice_store::{Check, NoProgress, Queries};
use std::{net::TcpListener, path::PathBuf, sync::Arc, time::Duration};
use support::{Ready, request};

fn queries() -> Queries {
    Queries::open(&support::bundle().join("queries.safetensors")).unwrap()
}

/// The Debian example, profiled.
fn profiled() -> (Ready, GraphEngine) {
    let bundle = support::bundle();
    let ready = Ready::new(
        &bundle.join("models/gcn2"),
        &bundle.join("graph.safetensors"),
    );
    let options = ProfileOptions {
        plans: vec![Plan::Precomputed, Plan::recompute(0.25)],
        batches: vec![64],
        limit: 1_500,
        timed: 2,
    };
    let report = profile(
        &ready.engine,
        &ready.model_dir,
        &queries(),
        &options,
        &NoProgress,
    );
    let path = ready.model_dir.profile_path();
    report.unwrap().profile.write(&path).unwrap();
    let engine = GraphEngine::open(&ready.model_dir, ready.store.clone(), Check::Structure);
    (ready, engine.unwrap())
}

fn config(dirs: &[PathBuf], wire: Wire) -> ClusterConfig {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.toml");
    let text = "group = \"promises\"\n[[node]]\naddress = \"x\"\nparts = [\"y\"]\n";
    std::fs::write(&path, text).unwrap();
    let mut config = ClusterConfig::read(&path).unwrap();
    let node = |part: &PathBuf| NodeConfig {
        address: TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string(),
        listen: None,
        replica: 0,
        parts: vec![part.clone()],
    };
    config.nodes = dirs.iter().map(node).collect();
    config.wire = wire;
    config
}

/// The engines of all nodes of a cluster.
fn engines(dirs: &[PathBuf], wire: Wire) -> Vec<ClusterEngine> {
    let config = config(dirs, wire);
    let start = |node| ClusterNode::start(&config, node, Check::Checksums);
    let nodes: Result<Vec<ClusterNode>, ClusterError> = (0..dirs.len()).map(start).collect();
    let nodes = nodes.unwrap().into_iter().map(Arc::new);
    let nodes: Vec<Arc<ClusterNode>> = nodes.collect();
    for node in &nodes {
        node.wait(Duration::from_mins(1)).unwrap();
    }
    let engines = nodes.into_iter().map(ClusterEngine::new);
    engines.collect::<Result<_, _>>().unwrap()
}

fn plan(response: &InferResponse) -> &str {
    match &response.parameters["plan"] {
        Parameter::String(plan) => plan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_promises_what_one_machine_promises() {
    let (ready, single) = profiled();
    let engines = engines(&ready.cut(2, Method::Hash), Wire::F32);
    let queries = queries();
    for (size, engine) in [(64, &engines[0]), (7, &engines[1])] {
        assert!(engine.profile_problem().is_none());
        let plain = request(&queries, 0..size, &[]);
        let (wanted, found) = (
            single.offers(&plain).unwrap(),
            engine.offers(&plain).unwrap(),
        );
        assert_eq!(wanted.len(), 3);
        for (wanted, found) in wanted.iter().zip(&found) {
            assert_eq!(
                (&found.plan, &found.quality),
                (&wanted.plan, &wanted.quality)
            );
            assert!(found.seconds.is_finite() && found.seconds > 0.0);
        }
        // Whatever plan is taken, it promises what was asked for.
        for lower in wanted.iter().map(|offer| offer.quality[1].lower) {
            let minimum = request(&queries, 0..size, &[("min_fidelity", lower)]);
            let response = engine.infer(&minimum).unwrap();
            let taken = wanted.iter().find(|offer| offer.plan == plan(&response));
            assert!(taken.unwrap().quality[1].lower >= lower);
            let said = &response.parameters["fidelity_lower_bound"];
            assert!(
                matches!(said, Parameter::Float(said) if *said >= lower),
                "{said:?}"
            );
        }
        let too_much = request(&queries, 0..size, &[("min_accuracy", 0.9999)]);
        let refused = engine.infer(&too_much).unwrap_err();
        assert_eq!(
            (refused.kind(), refused.code()),
            (ErrorKind::Unsupported, "minimum_not_promised")
        );
    }
}

#[test]
fn nothing_is_promised_without_a_profile_or_over_a_rounding_wire() {
    let (ready, _) = profiled();
    let rounding = engines(&ready.cut(2, Method::Hash), Wire::F16);
    std::fs::remove_file(ready.model_dir.profile_path()).unwrap();
    let bare = engines(&ready.cut(2, Method::Random), Wire::F32);
    let minimum = request(&queries(), 0..5, &[("min_fidelity", 0.5)]);
    for engine in [&rounding[0], &bare[0]] {
        assert_eq!(engine.offers(&minimum).unwrap(), []);
        assert_eq!(engine.infer(&minimum).unwrap_err().code(), "no_profile");
    }
}
