//! The whole way of a graph model by commands: a graph, embeddings, a profile, a server, and queries that say what they need.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::Value;
use std::{fs, path::PathBuf};
use support::{Server, run, run_err, run_ok, text};
use tempfile::TempDir;

const MODEL: &str = "pyg_sage_mean_undirected";

/// A generated graph with a model that has embeddings.
struct Generated {
    dir: TempDir,
    model: PathBuf,
    queries: PathBuf,
}

impl Generated {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        // The widths of the fixture's weights.
        let shape = "--scale 0.01 --edges 1000000 --features 7 --classes 5 --out";
        let mut generate = vec!["generate", "reddit-like"];
        generate.extend(shape.split(' '));
        generate.push(text(&data));
        run_ok(&generate);
        let model = dir.path().join("models").join(MODEL);
        fs::create_dir_all(model.join("1")).unwrap();
        for file in ["model.toml", "1/weights.safetensors"] {
            fs::copy(support::fixture(MODEL).join(file), model.join(file)).unwrap();
        }
        fs::rename(data.join("graph"), model.join("graph")).unwrap();
        let generated = Self {
            dir,
            model,
            queries: data.join("queries.safetensors"),
        };
        generated.precompute(&[]);
        generated
    }

    fn precompute(&self, more: &[&str]) {
        run_ok(&[&["precompute", text(&self.model)], more].concat());
    }

    fn serve(&self) -> Server {
        Server::start(&self.dir.path().join("models"))
    }

    /// What `profile` says, in JSON.
    fn profile(&self, more: &[&str]) -> Value {
        let profile = [
            "profile",
            text(&self.model),
            "--queries",
            text(&self.queries),
        ];
        let said = run_ok(&[&profile[..], &["--quick", "--json"], more].concat());
        serde_json::from_str(&said).unwrap()
    }

    /// A command that asks `server` for the answers to 16 queries.
    fn query<'a>(&'a self, url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut query = vec!["query", "--url", url, "--model", MODEL];
        query.extend(["--queries", text(&self.queries), "--rows", "0..16"]);
        query.extend(more);
        query
    }

    fn answer(&self, server: &Server, more: &[&str]) -> Value {
        let said = run_ok(&[&self.query(&server.url(), more)[..], &["--json"]].concat());
        serde_json::from_str(&said).unwrap()
    }

    fn manifest(&self) -> String {
        fs::read_to_string(self.model.join("1/embeddings/manifest.toml")).unwrap()
    }
}

#[test]
fn from_a_generated_graph_to_answers_that_keep_a_minimum() {
    let generated = Generated::new();
    run_ok(&["verify", text(&generated.model)]);
    let server = generated.serve();
    let exact = generated.answer(&server, &["--plan", "exact"]);
    assert_eq!(exact["parameters"]["plan"], "exact");
    assert_eq!(exact["answers"].as_array().unwrap().len(), 16);
    let said = run_err(&generated.query(&server.url(), &["--min-fidelity", "0.5"]));
    assert!(
        said.contains("400") && said.contains("satisfice profile"),
        "{said}"
    );
    server.stop();

    generated.profile(&["--plans", "pe,recompute:25%", "--batches", "16,64"]);
    let server = generated.serve();
    let contract = "--min-fidelity 0.3 --deadline-ms 60000 --priority 1";
    let contract: Vec<&str> = contract.split(' ').collect();
    let parameters = &generated.answer(&server, &contract)["parameters"];
    assert!(
        parameters["fidelity_lower_bound"].as_f64().unwrap() >= 0.3,
        "{parameters}"
    );
    assert!(
        parameters["deadline_left_ms"].as_f64().unwrap() > 0.0,
        "{parameters}"
    );
    // What only the dearest plan can promise, it answers.
    let all = generated.answer(&server, &["--min-fidelity", "1"]);
    assert_eq!(all["parameters"]["plan"], "exact");
    assert_eq!(all["answers"], exact["answers"]);

    let plans = ["plans", "--url", &server.url(), "--model", MODEL];
    let said: Value = serde_json::from_str(&run_ok(&[&plans[..], &["--json"]].concat())).unwrap();
    let offered = said["plans"].as_array().unwrap();
    // On so small a graph any of them may be the quickest.
    let named = |name| offered.iter().find(|plan| plan["plan"] == name).unwrap();
    assert_eq!(offered.len(), 3);
    assert!(named("pe")["predicted_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(named("exact")["promises"]["fidelity"]["lower_bound"], 1.0);
    let said = run_ok(&plans);
    assert!(said.contains("predicted ms"), "{said}");
    let said = run_ok(&generated.query(&server.url(), &["--min-fidelity", "1", "--explain"]));
    assert!(
        said.contains("the cheapest choice that promises the minimum"),
        "{said}"
    );
    let chosen = said.lines().find(|line| line.ends_with("chosen"));
    assert!(
        chosen.is_some_and(|line| line.starts_with("exact")),
        "{said}"
    );
    server.stop();
}

#[test]
fn a_profile_stores_embeddings_as_small_as_the_loss_allowed() {
    let generated = Generated::new();
    // A loss of everything is allowed: the smallest is kept, and it is what the profile is of.
    let chosen = generated.profile(&["--plans", "pe", "--choose-storage=1"]);
    assert_eq!(chosen["stored_as"], "int8");
    assert_eq!(chosen["storage"].as_array().unwrap().len(), 9);
    let kept = generated.manifest();
    assert!(
        kept.contains("precision = \"int8\"") && kept.contains("s1."),
        "{kept}"
    );
    let left = fs::read_dir(generated.model.join("1")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.contains("trial")));
    let server = generated.serve();
    let parameters = &generated.answer(&server, &["--min-fidelity", "0.3"])["parameters"];
    assert!(parameters["fidelity_lower_bound"].as_f64().unwrap() >= 0.3);
    server.stop();

    // None allowed: as they were, sums left out as they were left out.
    generated.precompute(&["--no-sums"]);
    let chosen = generated.profile(&["--plans", "pe", "--choose-storage=0"]);
    let kept = generated.manifest();
    let named = chosen["stored_as"].as_str().unwrap();
    assert!(
        kept.contains(&format!("precision = \"{named}\"")) && !kept.contains("s1."),
        "{kept}"
    );
    let (model, queries) = (text(&generated.model), text(&generated.queries));
    let both = [
        "profile",
        model,
        "--queries",
        queries,
        "--choose-storage",
        "--dry-run",
    ];
    let refused = run(&both);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot be used with"));
}
