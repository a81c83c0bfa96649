//! Damaged sidecars: an error that says what is wrong, and never a panic.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use proptest::prelude::*;
use satisfice_graph::{GnnModel, ModelConfig};
use std::{fs, path::Path};

fn load(text: &str, dir: &Path) -> Result<GnnModel, String> {
    let config = ModelConfig::parse(text)?;
    GnnModel::load(&config, &dir.join("1/weights.safetensors")).map_err(|e| e.to_string())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        prop_assert!(ModelConfig::parse(&text).is_err());
    }

    #[test]
    fn a_number_changed_is_read_or_refused(
        case in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        value in prop_oneof![Just(i64::MAX), Just(-1), Just(0), -3..300_i64],
    ) {
        let cases = support::fixtures();
        let dir = case.get(&cases);
        let text = fs::read_to_string(dir.join("model.toml")).unwrap();
        let digits: Vec<(usize, &str)> = text
            .match_indices(|c: char| c.is_ascii_digit())
            .collect();
        let (position, _) = digits[at.index(digits.len())];
        let changed = format!("{}{value}{}", &text[..position], &text[position + 1..]);
        if let Err(message) = load(&changed, dir) {
            prop_assert!(!message.is_empty());
        }
    }

    #[test]
    fn a_line_left_out_is_read_or_refused(
        case in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let cases = support::fixtures();
        let dir = case.get(&cases);
        let text = fs::read_to_string(dir.join("model.toml")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let left_out = at.index(lines.len());
        let kept: Vec<&str> = lines.iter().copied().enumerate().filter(|&(i, _)| i != left_out).map(|(_, l)| l).collect();
        if let Err(message) = load(&kept.join("\n"), dir) {
            prop_assert!(!message.is_empty());
        }
    }

    #[test]
    fn damaged_weights_are_read_or_refused(
        case in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let cases = support::fixtures();
        let dir = case.get(&cases);
        let text = fs::read_to_string(dir.join("model.toml")).unwrap();
        let mut weights = fs::read(dir.join("1/weights.safetensors")).unwrap();
        // The header is where damage can mislead.
        let header = weights.len().min(1_500);
        let position = at.index(header);
        weights[position] = byte;
        let damaged = tempfile::TempDir::new().unwrap();
        fs::create_dir(damaged.path().join("1")).unwrap();
        fs::write(damaged.path().join("1/weights.safetensors"), weights).unwrap();
        if let Err(message) = load(&text, damaged.path()) {
            prop_assert!(!message.is_empty());
        }
    }
}

#[test]
fn every_fixture_loads() {
    for dir in support::fixtures() {
        let text = fs::read_to_string(dir.join("model.toml")).unwrap();
        let model = load(&text, &dir).unwrap();
        assert!(model.outputs() > 0 && model.layers() > 0);
    }
}
