//! Commands that write: on a disk that is full, and two at once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use support::{add_model, fixture, run_err, run_ok, text};
use tempfile::TempDir;

const MODEL: &str = "pyg_sage_mean_undirected";

/// Every file below `dir`, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Commands that write something below `dir`, each with the lock that it takes.
fn commands(dir: &Path) -> Vec<(Vec<String>, PathBuf)> {
    let model = add_model(dir, MODEL);
    let generated = dir.join("generated");
    let generate = [
        "generate",
        "reddit-like",
        "--scale",
        "0.001",
        "--classes",
        "4",
        "--out",
        text(&generated),
    ];
    run_ok(&[&["--json"], &generate[..]].concat());
    let export = fixture(MODEL).join("graph.safetensors");
    let (graph, parts) = (model.join("graph"), dir.join("parts"));
    let own = |arguments: &[&str]| arguments.iter().map(|&a| a.to_owned()).collect();
    vec![
        (
            own(&[
                "import",
                "--from",
                text(&export),
                "--out",
                text(&graph),
                "--overwrite",
            ]),
            model.join(".graph.lock"),
        ),
        (
            own(&["precompute", text(&model), "--store-as", "f16"]),
            model.join("1/.embeddings.lock"),
        ),
        (
            own(&[
                "partition",
                text(&model),
                "--parts",
                "2",
                "--out",
                text(&parts),
            ]),
            dir.join(".parts.lock"),
        ),
        (
            own(&[&generate[..], &["--overwrite"]].concat()),
            generated.join(".graph.lock"),
        ),
    ]
}

#[test]
fn a_full_disk_is_told_and_leaves_no_temporary_file() {
    let dir = TempDir::new().unwrap();
    for (command, _) in commands(dir.path()) {
        let before = files(dir.path());
        // No file may get longer than a block of 512 bytes, and the signal that says so is ignored.
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_satisfice"))
            .args(&command)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(
            said.contains("error: ") && said.contains("File too large"),
            "{command:?}: {said}"
        );
        let after = files(dir.path());
        let new: Vec<_> = after.iter().filter(|path| !before.contains(path)).collect();
        let odd = |path: &&&PathBuf| {
            let path = path.to_string_lossy();
            path.contains(".partial") || path.contains("/.")
        };
        assert_eq!(new.iter().filter(odd).count(), 0, "{command:?}: {new:?}");
    }
}

#[test]
fn two_at_once_are_not_and_the_one_at_work_is_named() {
    let dir = TempDir::new().unwrap();
    let mut commands = commands(dir.path());
    let model = dir.path().join(MODEL);
    let profile = ["profile", text(&model), "--queries", "any.safetensors"];
    commands.push((
        profile.iter().map(|&a| a.to_owned()).collect(),
        model.join("1/.profile.json.lock"),
    ));
    for (command, lock) in commands {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        fs::write(&lock, "4711\nsatisfice at work\n").unwrap();
        let file = fs::OpenOptions::new().write(true).open(&lock).unwrap();
        file.lock().unwrap();
        let before = files(dir.path());
        let said = run_err(&arguments);
        let named = "process 4711 (`satisfice at work`) is writing it";
        assert!(said.contains(named), "{command:?}: {said}");
        assert_eq!(files(dir.path()), before, "{command:?}");
        // A lock file whose process has gone keeps nobody out, and does not stay.
        drop(file);
        if command[0] != "profile" {
            run_ok(&arguments);
            assert!(!lock.exists(), "{command:?}");
        }
    }
}
