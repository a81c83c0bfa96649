//! Files that are truncated or changed in place while a server has them mapped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use std::{
    fs::{self, OpenOptions},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};
use support::{configured::Configured, text};

const MODEL: &str = "pyg_sage_mean_undirected";

/// The file of each model that is lost, and how.
const LOST: [(&str, &str, How); 4] = [
    ("features", "graph/features.safetensors", How::Truncated),
    ("topology", "graph/topology.safetensors", How::Truncated),
    ("embeddings", "1/embeddings/h1.safetensors", How::Truncated),
    ("rewritten", "graph/features.safetensors", How::Rewritten),
];

#[derive(PartialEq)]
enum How {
    Truncated,
    /// As long as it was.
    Rewritten,
}

impl How {
    fn lose(&self, path: &Path) {
        match self {
            Self::Truncated => {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(0).unwrap();
            }
            Self::Rewritten => {
                let bytes = vec![0; fs::read(path).unwrap().len()];
                fs::write(path, bytes).unwrap();
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn body(width: usize) -> Value {
    json!({
        "parameters": { "plan": "exact" },
        "inputs": [
            { "name": "x", "datatype": "FP32", "shape": [2, width], "data": vec![0.5; 2 * width] },
            { "name": "edge_index", "datatype": "INT64", "shape": [2, 3], "data": [0, 0, 1, 3, 4, 4] },
        ],
        "outputs": [{ "name": "logits" }],
    })
}

/// Ends the load, also when something is not as it should be.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_model_whose_file_is_lost_fails_by_its_name_and_the_others_go_on() {
    let models = support::repository(&[MODEL]);
    for (name, ..) in LOST {
        copy(&models.path().join(MODEL), &models.path().join(name));
    }
    let server =
        Configured::start_with(&["--listen", "127.0.0.1:0", "--models", text(models.path())]);
    let config = fs::read_to_string(models.path().join(MODEL).join("model.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    let width = config["layers"][0]["in"].as_integer().unwrap() as usize;
    let body = body(width);
    let (status, wanted) = server.infer(MODEL, &body);
    assert_eq!(status, 200, "{wanted}");
    let wanted = &wanted["outputs"];

    let (done, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (status, answer) = server.infer(MODEL, &body);
                assert_eq!((status, &answer["outputs"]), (200, wanted));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _done = Done(&done);
        for (model, file, how) in LOST {
            let path = models.path().join(model).join(file);
            assert_eq!(server.infer(model, &body).0, 200);
            how.lose(&path);
            // Until it is noticed an answer is made of pages that are there still, and right.
            let end = Instant::now() + Duration::from_mins(1);
            let refused = loop {
                let (status, answer) = server.infer(model, &body);
                if status != 200 {
                    break (status, answer);
                }
                if how == How::Truncated {
                    assert_eq!(&answer["outputs"], wanted, "{model}");
                }
                assert!(Instant::now() < end, "{model} goes on");
            };
            assert_eq!(refused.0, 503, "{refused:?}");
            assert_eq!(refused.1["code"], "file_lost", "{refused:?}");
            let message = refused.1["error"].as_str().unwrap();
            assert!(message.starts_with(text(&path)), "{message}");
            assert_eq!(server.get(&format!("/v2/models/{model}/ready"), ""), 400);
            server.wait_logged(&["ERROR", text(&path)]);
        }
        let before = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) == before {
            thread::yield_now();
        }
    });
    assert_eq!(server.get(&format!("/v2/models/{MODEL}/ready"), ""), 200);
    assert_eq!(server.get("/v2/health/ready", ""), 200);
}
