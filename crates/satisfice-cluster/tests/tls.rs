//! Nodes that show each other certificates, and who is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use satisfice_cluster::{
    ClusterConfig, ClusterNode, Compression, Exchange, GroupState, Method, TlsFiles, node_status,
};
use satisfice_store::Check;
use std::{fs, path::Path};
use support::{MINUTE, PLANS, config, eventually, fixture_dir, start};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate of a host, and whom its owner believes.
    fn files(&self, dir: &Path, host: &str) -> TlsFiles {
        fs::create_dir_all(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let write = |name: &str, text: String| {
            fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        TlsFiles {
            certificate: write("node.pem", certificate.pem()),
            key: write("node.key", key.serialize_pem()),
            ca: write("ca.pem", self.0.pem()),
        }
    }
}

fn host(config: &ClusterConfig) -> String {
    let (host, _) = config.nodes[0].address.rsplit_once(':').unwrap();
    host.to_owned()
}

#[test]
fn nodes_with_certificates_answer_as_one_machine_and_form_anew() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gat_directed"));
    for (parts, per_node, compression) in [(2, 1, Compression::None), (6, 2, Compression::Zstd)] {
        let dirs = ready.cut(parts, Method::Hash);
        let mut config = config("secure", &dirs, per_node);
        let files =
            Authority::new("authority").files(&ready.dir.path().join("tls"), &host(&config));
        config.tls = Some(files);
        config.compression = compression;
        let mut nodes = start(&config);
        let check = |nodes: &[ClusterNode]| {
            for plan in PLANS {
                let wanted = ready.engine.answer(&batch, plan).unwrap().outputs;
                for node in nodes {
                    let found = node.answer(&batch, plan, Exchange::Rows, None).unwrap();
                    let width = ready.model.outputs();
                    let difference = support::difference(&found.outputs, &wanted, width);
                    assert!(difference < 1e-5, "{plan}: {difference}");
                }
            }
        };
        check(&nodes);
        drop(nodes.pop());
        let last = config.nodes.len() - 1;
        nodes.push(ClusterNode::start(&config, last, Check::Structure).unwrap());
        nodes.iter().for_each(|node| node.wait(MINUTE).unwrap());
        check(&nodes);
        assert!(node_status(&config, last).unwrap().whole);
    }
}

#[test]
fn another_replica_is_reached_with_certificates_too() {
    let (ready, batch) = support::fixture(&fixture_dir("pyg_gat_directed"));
    let dirs = ready.cut(1, Method::Hash);
    let mut config = config("secure", &[dirs.clone(), dirs].concat(), 1);
    config.nodes[1].replica = 1;
    config.tls =
        Some(Authority::new("authority").files(&ready.dir.path().join("tls"), &host(&config)));
    let nodes = start(&config);
    let is_ready = |node: &ClusterNode| matches!(node.status().state, GroupState::Ready { .. });
    eventually(|| nodes.iter().all(is_ready));
    assert_eq!(nodes[0].status().replicas_whole, 1);
    let found = nodes[0].answer(&batch, PLANS[0], Exchange::Partials, None);
    assert!(found.is_ok());
}

#[test]
fn who_shows_no_certificate_or_a_wrong_one_is_refused_by_name() {
    let (ready, _) = support::fixture(&fixture_dir("pyg_gat_directed"));
    let mut first = config("secure", &ready.cut(2, Method::Hash), 1);
    let authority = Authority::new("authority");
    let dir = |name: &str| ready.dir.path().join(name);
    let good = authority.files(&dir("good"), &host(&first));
    let mut two_faced = Authority::new("another authority").files(&dir("two_faced"), &host(&first));
    two_faced.ca.clone_from(&good.ca);
    let elsewhere = authority.files(&dir("elsewhere"), "192.0.2.1");
    for (of_first, of_second, says) in [
        // The second believes the first, but not the other way round.
        (&good, Some(&two_faced), "UnknownCA"),
        (&two_faced, Some(&good), "UnknownIssuer"),
        (&elsewhere, Some(&good), "not valid for name"),
        (&good, None, ""),
    ] {
        first.tls = Some(of_first.clone());
        let mut second = first.clone();
        second.tls = of_second.cloned();
        let node = ClusterNode::start(&first, 0, Check::Structure).unwrap();
        let caller = ClusterNode::start(&second, 1, Check::Structure).unwrap();
        let mut why = String::new();
        eventually(|| match caller.status().state {
            GroupState::Forming { why: now } => {
                why = now;
                why.contains("node 0 at") && why.contains(says)
            }
            _ => false,
        });
        println!("{why}");
        let error = node_status(&second, 0).unwrap_err().to_string();
        assert!(error.contains(&first.nodes[0].address), "{error}");
        assert!(!node.status().whole && !caller.status().whole);
    }
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let (ready, _) = support::fixture(&fixture_dir("pyg_gat_directed"));
    let mut config = config("secure", &ready.cut(1, Method::Hash), 1);
    let good = Authority::new("authority").files(&ready.dir.path().join("tls"), &host(&config));
    let missing = ready.dir.path().join("missing.pem");
    let mut other =
        Authority::new("authority").files(&ready.dir.path().join("other"), &host(&config));
    other.certificate.clone_from(&good.certificate);
    let empty = ready.dir.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for (files, says) in [
        (
            TlsFiles {
                key: missing.clone(),
                ..good.clone()
            },
            "missing.pem",
        ),
        (
            TlsFiles {
                ca: empty.clone(),
                ..good.clone()
            },
            "empty.pem",
        ),
        (
            TlsFiles {
                certificate: empty,
                ..good.clone()
            },
            "empty.pem",
        ),
        (other, "node.pem"),
    ] {
        config.tls = Some(files);
        let error = ClusterNode::start(&config, 0, Check::Structure).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}
