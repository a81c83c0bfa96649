//! The targets over the committed corpus and random changes of it, without a fuzzer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use satisfice_fuzz::{TARGETS, Target};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// Changes of each file; more with `SATISFICE_FUZZ_CHANGES`.
const CHANGES: u64 = 400;
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");

/// `SplitMix64`: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Bytes that mean something to one parser or another.
const TELLING: [&[u8]; 12] = [
    b"",
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"\"",
    b"[[",
    b"]}",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\x80",
    b"18446744073709551616",
    b"\xf0\x9f",
];

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            1 => bytes.truncate(at),
            2 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + random.below(64)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let telling = TELLING[random.below(TELLING.len())];
                let end = (at + random.below(telling.len() + 1)).min(bytes.len());
                bytes.splice(at..end, telling.iter().copied());
            }
        }
    }
}

fn run(target: &Target) {
    let changes = std::env::var("SATISFICE_FUZZ_CHANGES").map_or(CHANGES, |n| n.parse().unwrap());
    let dir = Path::new(CORPUS).join(target.name);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", dir.display());
    let seeds: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    for (file, seed) in files.iter().zip(&seeds) {
        for number in 0..changes {
            let mut random = Random(number);
            let mut bytes = seed.clone();
            if number > 0 {
                let other = &seeds[random.below(seeds.len())];
                change(&mut bytes, other, &mut random);
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
            assert!(
                outcome.is_ok(),
                "{} panicked at change {number} of {}: {:?}",
                target.name,
                file.display(),
                String::from_utf8_lossy(&bytes)
            );
        }
    }
}

#[test]
fn json_requests() {
    run(&TARGETS[0]);
}

#[test]
fn json_answers() {
    run(&TARGETS[1]);
}

#[test]
fn grpc_requests() {
    run(&TARGETS[2]);
}

#[test]
fn tensor_files() {
    run(&TARGETS[3]);
}

#[test]
fn queries_files() {
    run(&TARGETS[4]);
}

#[test]
fn model_tomls() {
    run(&TARGETS[5]);
}

#[test]
fn every_target_has_a_fuzzer_and_a_test() {
    let targets = Path::new(CORPUS).join("../fuzz_targets");
    let mut fuzzers: Vec<_> = fs::read_dir(targets)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
        .collect();
    fuzzers.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(fuzzers, names);
    assert_eq!(TARGETS.len(), 6, "give the new target a test");
}
