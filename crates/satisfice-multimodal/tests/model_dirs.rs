//! Model directories that are not what they say are refused, with the file and the reason.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use satisfice_multimodal::ModelDir;
use std::{fs, path::Path};
use support::{copy, edit, open};

fn refusal(dir: &Path) -> String {
    match open(dir) {
        Ok(_) => panic!("the model was opened"),
        Err(error) => error.to_string(),
    }
}

/// A model, a piece of its sidecar, what stands there instead, and what the refusal says.
const WRONG: &[(&str, &str, &str, &str)] = &[
    ("fused", "format = 1", "format = 2", "format 2"),
    (
        "fused",
        r#"kind = "multimodal""#,
        r#"kind = "gnn""#,
        "kind is `gnn`",
    ),
    (
        "fused",
        "[output]",
        "smell = 1\n[output]",
        "unknown field `smell`",
    ),
    (
        "fused",
        "[output]",
        "runtime = \"fast\"\n[output]",
        "unknown variant `fast`",
    ),
    (
        "fused",
        r#"["red", "green", "blue"]"#,
        r#"["red"]"#,
        "fewer than 2 classes",
    ),
    (
        "fused",
        r#"["red", "green", "blue"]"#,
        r#"["red", "blue"]"#,
        "3 values a row",
    ),
    (
        "fused",
        r#"name = "logits""#,
        r#"name = "class""#,
        "cannot be named `class`",
    ),
    (
        "fused",
        r#"name = "logits""#,
        r#"name = "scores""#,
        "output `scores` is needed",
    ),
    (
        "fused",
        r#"name = "logits""#,
        "name = \"logits\"\nalso = [\"logits\"]",
        "names `logits` twice",
    ),
    (
        "fused",
        r#"name = "logits""#,
        "name = \"logits\"\nalso = [\"smell\"]",
        "output `smell` is needed",
    ),
    (
        "fused",
        r#"name = "logits""#,
        "name = \"logits\"\nnormalise = true",
        "normalise is of task",
    ),
    (
        "fused",
        r#"name = "logits""#,
        "name = \"logits\"\npool_mask = \"ids_mask\"",
        "[output]: pool_mask needs `pool`",
    ),
    (
        "fused",
        "shape = [3, 8, 8]",
        "shape = [\"batch\", 3, \"batch\"]",
        "\"batch\" stands more than once",
    ),
    (
        "fused",
        "shape = [3, 8, 8]",
        "shape = [\"colours\", 8, 8]",
        "a length or \"batch\", not \"colours\"",
    ),
    (
        "fused",
        "shape = [3, 8, 8]",
        "shape = [-3, 8, 8]",
        "a dimension is a length or \"batch\"",
    ),
    (
        "fused",
        "[fusion]",
        "[[constants]]\nname = \"image\"\ndatatype = \"FP32\"\nvalue = 1\n[fusion]",
        "input `image` stands twice",
    ),
    (
        "fused",
        "[fusion]",
        "[[constants]]\nname = \"sr\"\ndatatype = \"BYTES\"\nvalue = 1\n[fusion]",
        "constant `sr`: `BYTES` is not one of FP32",
    ),
    (
        "fused",
        "[fusion]",
        "[[constants]]\nname = \"sr\"\ndatatype = \"INT64\"\nshape = [0]\nvalue = 1\n[fusion]",
        "constant `sr` has 1 to",
    ),
    (
        "fused",
        "batch_max = 16",
        "batch_max = 0",
        "batch_max is 1 to",
    ),
    (
        "fused",
        "batch_max = 16",
        "batch_max = 100000",
        "batch_max is 1 to",
    ),
    (
        "fused",
        r#"datatype = "FP32", shape = [3, 8, 8]"#,
        r#"datatype = "FP16", shape = [3, 8, 8]"#,
        "`FP16` is not one of",
    ),
    (
        "fused",
        "shape = [3, 8, 8]",
        "shape = [3, 8, 9]",
        "input `image` FP32 [batch, 3, 8, 8]",
    ),
    (
        "fused",
        "shape = [3, 8, 8]",
        "shape = [4, 8, 8]",
        "[3 or 1, height, width]",
    ),
    ("fused", "shape = [4]", "shape = [0]", "1 to"),
    (
        "fused",
        "shape = [4]",
        "shape = [99999999999, 99999999999]",
        "1 to",
    ),
    (
        "fused",
        r#"name = "text""#,
        r#"name = "image""#,
        "`image` stands twice",
    ),
    (
        "fused",
        r#"name = "text""#,
        r#"name = "te xt""#,
        "a name is letters",
    ),
    (
        "fused",
        r#"input = "caption""#,
        r#"input = "ids""#,
        "`ids` stands twice",
    ),
    (
        "fused",
        r#"mask = "ids_mask""#,
        r#"mask = "mask""#,
        "each of the tensors once",
    ),
    (
        "fused",
        r#"type = "text""#,
        r#"type = "video""#,
        "unknown variant `video`",
    ),
    (
        "fused",
        r#"file = "image.onnx""#,
        r#"file = "../image.onnx""#,
        "leaves the version's directory",
    ),
    (
        "fused",
        r#"file = "image.onnx""#,
        r#"file = "/etc/passwd""#,
        "leaves the version's directory",
    ),
    (
        "fused",
        r#"file = "image.onnx""#,
        r#"file = "nothing.onnx""#,
        "nothing.onnx: No such file",
    ),
    (
        "fused",
        r#"file = "image.onnx""#,
        r#"file = "tokenizer.json""#,
        "not an ONNX file",
    ),
    (
        "fused",
        r#"file = "image.onnx""#,
        r#"file = "sensor.onnx""#,
        "no input `image`",
    ),
    (
        "fused",
        r#"mask = "present""#,
        r#"mask = "absent""#,
        "no input `absent`",
    ),
    (
        "fused",
        "modality = \"sensor\"",
        "modality = \"smell\"",
        "`smell` is none of",
    ),
    (
        "fused",
        "modality = \"sensor\"",
        "variant = \"int4\"\nmodality = \"sensor\"",
        "encoder of `sensor`: no network without `variant`",
    ),
    (
        "fused",
        "variant = \"int8\"\n",
        "",
        "two networks of the same variant",
    ),
    (
        "fused",
        "[fusion]",
        "[[joint]]\nfile = \"fusion.onnx\"\n[fusion]",
        "exactly one of",
    ),
    (
        "per_subset",
        "[output]",
        "combinations = [[\"image\"]]\n[output]",
        "those of [[subsets]]",
    ),
    (
        "per_subset",
        r#"["image", "text"]"#,
        r#"["image", "image"]"#,
        "is not a set",
    ),
    (
        "per_subset",
        r#"["image", "text"]"#,
        r#"["image", "sensor"]"#,
        "no input `sensor`",
    ),
    (
        "joint",
        "[output]",
        "combinations = []\n[output]",
        "offers nothing",
    ),
    (
        "joint",
        "presence = \"present\"\n",
        "",
        "`present` FP32 [batch, 3] that model.toml does not name",
    ),
];

#[test]
fn wrong_sidecars() {
    for (model, from, to, message) in WRONG {
        let dir = copy(model);
        edit(dir.path(), from, to);
        let refusal = refusal(dir.path());
        assert!(refusal.contains(message), "{to}: {refusal}");
    }
}

#[test]
fn combinations_restrict_what_is_offered() {
    let dir = copy("joint");
    let to = "combinations = [[\"image\"], [\"text\", \"image\"]]\n[output]";
    edit(dir.path(), "[output]", to);
    let engine = open(dir.path()).unwrap();
    let strategies = satisfice_core::Batching::strategies(&engine);
    let names: Vec<&str> = strategies.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["image", "image+text"]);
}

#[test]
fn damaged_networks() {
    let dir = copy("fused");
    let path = dir.path().join("1/image.onnx");
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(37) {
        fs::write(&path, &whole[..length]).unwrap();
        let refusal = refusal(dir.path());
        assert!(refusal.contains("image.onnx"), "{length}: {refusal}");
    }
    // Whatever a flipped bit makes of the network, nothing panics.
    for position in (0..whole.len()).step_by(5) {
        let mut flipped = whole.clone();
        flipped[position] ^= 0x10;
        fs::write(&path, flipped).unwrap();
        if let Err(error) = open(dir.path()) {
            assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn weights_outside_the_directory() {
    let dir = copy("per_subset");
    let path = dir.path().join("1/image.onnx");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(9).position(|w| w == b"image.bin").unwrap();
    let mut escaped = bytes;
    escaped[at..at + 9].copy_from_slice(b"../im.bin");
    fs::write(&path, escaped).unwrap();
    assert!(refusal(dir.path()).contains("outside the model's directory"));
}

#[test]
fn a_missing_weights_file_is_named() {
    let dir = copy("per_subset");
    fs::remove_file(dir.path().join("1/sensor.bin")).unwrap();
    let refusal = refusal(dir.path());
    assert!(refusal.contains("sensor"), "{refusal}");
}

#[test]
fn damaged_tokenizers() {
    let dir = copy("fused");
    fs::write(dir.path().join("1/tokenizer.json"), "{}").unwrap();
    assert!(refusal(dir.path()).contains("tokenizer.json"));
}

#[test]
fn the_highest_version_is_opened() {
    let dir = copy("joint");
    fs::rename(dir.path().join("1"), dir.path().join("7")).unwrap();
    for other in ["03", "x", "0"] {
        fs::create_dir(dir.path().join(other)).unwrap();
    }
    assert_eq!(ModelDir::open(dir.path(), None).unwrap().version(), 7);
    fs::rename(dir.path().join("7"), dir.path().join("nothing")).unwrap();
    assert!(
        ModelDir::open(dir.path(), None)
            .unwrap_err()
            .to_string()
            .contains("no version")
    );
}
