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

/// A model of one layer on features of 4 values, with lines of a layer put in.
fn with_lines(lines: &str, head: &str) -> String {
    format!(
        "format = 1\nkind = \"gnn\"\nframework = \"pyg\"\ngraph = \"graph\"\nhead = [{head}]\n\
         [[layers]]\ntype = \"propagate\"\nin = 4\nout = 4\n{lines}\n"
    )
}

/// A file of no weights.
fn no_weights(dir: &Path) {
    fs::create_dir(dir.join("1")).unwrap();
    let header = b"{}";
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    fs::write(dir.join("1/weights.safetensors"), bytes).unwrap();
}

#[test]
fn row_programs_that_do_not_fit_are_refused_by_place_and_reason() {
    let dir = tempfile::TempDir::new().unwrap();
    no_weights(dir.path());
    let doubled: Vec<String> = (0..64)
        .map(|_| "{ op = \"cat\", of = [\"r\", \"r\"], as = \"r\" }".to_owned())
        .collect();
    let doubled = format!("{{ op = \"relu\", as = \"r\" }}, {}", doubled.join(", "));
    let cases = [
        (
            "after = [{ op = \"add\" }]",
            "",
            "layers[0].after[0]: add reads the rows that `of` names",
        ),
        (
            "after = [{ op = \"mul\", of = [\"made\", \"nobody\"] }]",
            "",
            "no rows are called `nobody` here; there are made, below, initial",
        ),
        (
            "after = [{ op = \"slice\", start = 3, width = 2 }]",
            "",
            "slice takes 2 values from 3 on of rows of width 4",
        ),
        (
            "after = [{ op = \"slice\", start = 18446744073709551615, width = 2 }]",
            "",
            "",
        ),
        (
            "after = [{ op = \"slice\", start = 0, width = 3, as = \"a\" }, { op = \"add\", of = [\"a\", \"made\"] }]",
            "",
            "add joins rows of width 4 and 3",
        ),
        (
            "before = [{ op = \"slice\", start = 0, width = 3 }]",
            "",
            "reads width 4, but what it is given has width 3",
        ),
        (
            "after = [{ op = \"relu\", of = [\"made\", \"below\"] }]",
            "",
            "relu reads one row, but `of` names 2",
        ),
        (
            "after = [{ op = \"relu\", of = 3 }]",
            "",
            "3 is no name of rows",
        ),
        (
            "after = [{ op = \"scale\", slope = 1.0 }]",
            "",
            "unknown field",
        ),
        (
            "after = [{ op = \"relu\", negative_slope = 0.1 }]",
            "",
            "unknown field `negative_slope`",
        ),
        (
            "before = [{ op = \"residual\" }]",
            "",
            "residual belongs in a layer's `after`",
        ),
        (
            "aggregator = \"max\"\nnorm = \"symmetric\"",
            "",
            "does not go with norm",
        ),
        ("reads = \"above\"", "", "unknown variant"),
        ("", doubled.as_str(), "but at most 1048576 are read"),
    ];
    for (lines, head, wanted) in cases {
        let message = load(&with_lines(lines, head), dir.path()).unwrap_err();
        assert!(message.contains(wanted), "{lines}: {message}");
    }
}

#[test]
fn an_edge_layer_of_widths_that_do_not_go_together_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    no_weights(dir.path());
    for (inputs, out, lines) in [
        (4, 4, "message = \"dot\""),
        (7, 4, "message = \"dot\""),
        (8, 3, "message = \"dot\"\nheads = 2"),
        (9, 4, "message = \"gate\""),
        (6, 4, "message = \"film\""),
        (6, 4, "message = \"source\""),
        (7, 4, "message = \"gated_dot\""),
        (12, 4, "message = \"gate\"\naggregator = \"max\""),
        (
            12,
            4,
            "message = \"film\"\nactivation = { op = \"softmax\" }",
        ),
    ] {
        let text = with_lines(lines, "")
            .replace("propagate", "edge")
            .replace("in = 4\nout = 4", &format!("in = {inputs}\nout = {out}"));
        let message = load(&text, dir.path()).unwrap_err();
        assert!(message.contains("layers[0]"), "{lines}: {message}");
    }
}

#[test]
fn a_message_layer_whose_program_does_not_fit_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    no_weights(dir.path());
    for (lines, wanted) in [
        ("aggregator = \"sum\"\ntarget = 8", "which leaves nothing"),
        ("aggregator = \"sum\"\ntarget = 3", "reads 4"),
        ("aggregator = \"sum\"\nheads = 2\ntarget = 4", "of 2 heads"),
        ("aggregator = \"softmax\"\nheads = 2\ntarget = 4", "reads 6"),
        (
            "aggregator = \"softmax\"\nheads = 3\ntarget = 1",
            "of 3 heads",
        ),
        ("aggregator = \"middle\"", "unknown variant"),
        (
            "aggregator = \"sum\"\nprogram = [{ op = \"relu\", of = \"target\" }]",
            "no rows are called `target`",
        ),
        (
            "aggregator = \"sum\"\ntarget = 4\nself_loops = true",
            "invalid type",
        ),
    ] {
        let text = with_lines(lines, "")
            .replace("propagate", "message")
            .replace("in = 4\nout", "in = 8\nout");
        let message = load(&text, dir.path()).unwrap_err();
        assert!(message.contains(wanted), "{lines}: {message}");
    }
}
