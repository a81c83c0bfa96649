//! Pictures and texts become the tensors that networks read, and bad ones are refused.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use png::ColorType;
use satisfice_core::{Engine, ErrorKind, InferRequest, TensorData};
use satisfice_multimodal::MultimodalEngine;
use std::fs;
use support::{bytes, copy, edit, engine, floats, named, open};

/// A PNG file of the pixels that `pixel` gives by column and row.
fn png<const N: usize>(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; N]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(match N {
        1 => ColorType::Grayscale,
        3 => ColorType::Rgb,
        _ => ColorType::Rgba,
    });
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let bytes: Vec<u8> = places.flat_map(|(x, y)| pixel(x, y)).collect();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&bytes).unwrap();
    writer.finish().unwrap();
    file
}

fn gradient(width: u32, height: u32) -> Vec<u8> {
    png(width, height, |x, y| [(x * 20) as u8, (y * 20) as u8, 7])
}

fn raw(input: &str, files: &[Vec<u8>]) -> InferRequest {
    InferRequest {
        inputs: vec![named(input, bytes(files))],
        ..InferRequest::default()
    }
}

/// The pixels that networks get of a picture: three planes of 8 x 8.
fn pixels(engine: &MultimodalEngine, file: Vec<u8>) -> Vec<f32> {
    let ready = engine.ready(raw("picture", &[file])).unwrap();
    assert_eq!((ready.len(), &*ready[0].name), (1, "image"));
    floats(&ready[0].tensor).to_vec()
}

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn pictures_of_the_right_size_are_their_pixels() {
    let engine = engine("fused");
    let values = pixels(&engine, gradient(8, 8));
    for y in 0..8 {
        for x in 0..8 {
            let at = y * 8 + x;
            assert!(close(values[at], (x * 20) as f32 / 255.0));
            assert!(close(values[64 + at], (y * 20) as f32 / 255.0));
            assert!(close(values[128 + at], 7.0 / 255.0));
        }
    }
    let grey = png(8, 8, |_, _| [51]);
    assert!(pixels(&engine, grey).iter().all(|&v| close(v, 0.2)));
}

#[test]
fn transparent_pictures_are_on_the_background() {
    // A fifth of black on white.
    let thin = png(8, 8, |_, _| [0, 0, 0, 51]);
    let values = pixels(&engine("fused"), thin);
    assert!(values.iter().all(|&v| close(v, 204.0 / 255.0)));
}

#[test]
fn mean_and_std_are_by_channel() {
    let dir = copy("fused");
    let preprocess = r#"input = "picture", pixels_max"#;
    let to = r#"input = "picture", scale = 1, mean = [1, 2, 3], std = [1, 2, 4], pixels_max"#;
    edit(dir.path(), preprocess, to);
    let picture = png(8, 8, |_, _| [11, 22, 43]);
    let values = pixels(&open(dir.path()).unwrap(), picture);
    assert!(close(values[0], 10.0) && close(values[64], 10.0) && close(values[128], 10.0));
}

/// A PNG header that claims a picture of this size, with a valid checksum and no data.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut file = gradient(1, 1);
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = u32::MAX;
    for &byte in &file[12..29] {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    file[29..33].copy_from_slice(&(!crc).to_be_bytes());
    file
}

#[test]
fn pictures_that_are_none_are_refused() {
    let engine = engine("fused");
    let whole = gradient(8, 8);
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let cases = [
        (vec![], "wrong_picture"),
        (b"not a picture".to_vec(), "wrong_picture"),
        (
            b"GIF89a\x01\x00\x01\x00\x00\x00\x00;".to_vec(),
            "wrong_picture",
        ),
        (whole[..whole.len() / 2].to_vec(), "wrong_picture"),
        (flipped, "wrong_picture"),
        (bomb(60_000, 60_000), "too_large"),
        (bomb(u32::MAX, u32::MAX), "too_large"),
        (gradient(101, 100), "too_large"),
    ];
    for (i, (file, code)) in cases.into_iter().enumerate() {
        let error = engine
            .infer(&raw("picture", &[whole.clone(), file]))
            .unwrap_err();
        assert_eq!(error.code(), code, "case {i}: {error}");
        assert!(error.message().contains("`picture` 1"), "case {i}: {error}");
    }
}

fn tokens(engine: &MultimodalEngine, text: &str) -> (Vec<i64>, Vec<i64>) {
    let ready = engine.ready(raw("caption", &[text.into()])).unwrap();
    let get = |name| {
        let tensor = ready.iter().find(|ready| ready.name == name).unwrap();
        match tensor.tensor.data() {
            TensorData::Int64(values) => values.clone(),
            other => panic!("{}", other.datatype()),
        }
    };
    (get("ids"), get("ids_mask"))
}

#[test]
fn texts_are_tokenized_padded_and_cut() {
    let engine = engine("fused");
    assert_eq!(
        tokens(&engine, "The RED thing"),
        (vec![7, 4, 10, 0, 0, 0], vec![1, 1, 1, 0, 0, 0])
    );
    assert_eq!(
        tokens(&engine, "purple"),
        (vec![1, 0, 0, 0, 0, 0], vec![1, 0, 0, 0, 0, 0])
    );
    assert_eq!(tokens(&engine, ""), (vec![0; 6], vec![0; 6]));
    let (ids, mask) = tokens(&engine, &"blue ".repeat(50));
    assert_eq!((ids, mask), (vec![6; 6], vec![1; 6]));
}

/// The `fused` model with other padding or truncation in its tokenizer, and other keys in model.toml.
fn text_model(padding: &str, truncation: &str, keys: &str) -> Result<MultimodalEngine, String> {
    let dir = copy("fused");
    let path = dir.path().join("1/tokenizer.json");
    let mut json = fs::read_to_string(&path).unwrap();
    json = json.replace("\"padding\": null", &format!("\"padding\": {padding}"));
    json = json.replace(
        "\"truncation\": null",
        &format!("\"truncation\": {truncation}"),
    );
    fs::write(&path, json).unwrap();
    edit(
        dir.path(),
        r#"input = "caption""#,
        &format!(r#"input = "caption"{keys}"#),
    );
    open(dir.path()).map_err(|error| error.to_string())
}

fn padding(direction: &str, multiple: &str) -> String {
    format!(
        r#"{{"strategy": {{"Fixed": 4}}, "direction": "{direction}", "pad_to_multiple_of": {multiple},
            "pad_id": 3, "pad_type_id": 1, "pad_token": "[SEP]"}}"#
    )
}

fn truncation(direction: &str, length: usize, strategy: &str) -> String {
    format!(
        r#"{{"direction": "{direction}", "max_length": {length}, "strategy": "{strategy}", "stride": 0}}"#
    )
}

#[test]
fn texts_are_padded_and_cut_as_the_tokenizer_says() {
    let (left, right) = (padding("Left", "null"), padding("Right", "3"));
    let cut_left = truncation("Left", 4, "LongestFirst");
    for (padding, truncation, keys, text, ids, mask) in [
        (
            &*left,
            "null",
            "",
            "red thing",
            [3, 3, 3, 3, 4, 10],
            [0, 0, 0, 0, 1, 1],
        ),
        (
            &right,
            "null",
            "",
            "red thing",
            [4, 10, 3, 3, 3, 3],
            [1, 1, 0, 0, 0, 0],
        ),
        (
            &left,
            "null",
            ", pad = 9",
            "red",
            [9, 9, 9, 9, 9, 4],
            [0, 0, 0, 0, 0, 1],
        ),
        (
            &left,
            "null",
            r#", pad_side = "right""#,
            "red",
            [4, 3, 3, 3, 3, 3],
            [1, 0, 0, 0, 0, 0],
        ),
        (
            "null",
            "null",
            r#", pad_side = "left""#,
            "red",
            [0, 0, 0, 0, 0, 4],
            [0, 0, 0, 0, 0, 1],
        ),
        // No more tokens than the tokenizer says, and the last of them.
        (
            "null",
            &cut_left,
            "",
            "red red green blue on a",
            [5, 6, 11, 8, 0, 0],
            [1, 1, 1, 1, 0, 0],
        ),
        (
            "null",
            &cut_left,
            r#", truncate_side = "right""#,
            "red red green blue on a",
            [4, 4, 5, 6, 0, 0],
            [1, 1, 1, 1, 0, 0],
        ),
    ] {
        let engine = text_model(padding, truncation, keys).unwrap();
        let found = tokens(&engine, text);
        assert_eq!(
            found,
            (ids.to_vec(), mask.to_vec()),
            "{padding} {truncation} {keys}"
        );
    }
    let refused = text_model("null", &cut_left, r#", too_long = "refuse""#).unwrap();
    let five = raw("caption", &["red red green blue on".into()]);
    assert_eq!(refused.infer(&five).unwrap_err().code(), "too_large");
    for (padding, truncation, message) in [
        (
            &*padding("Left", "4"),
            "null",
            "pads to multiples of 4 tokens",
        ),
        (
            "null",
            &truncation("Right", 6, "OnlySecond"),
            "the second text of a pair",
        ),
    ] {
        let refusal = text_model(padding, truncation, "").unwrap_err();
        assert!(
            refusal.contains(message) && refusal.contains("tokenizer.json"),
            "{refusal}"
        );
    }
}

/// Where nothing is said of padding, the vocabulary's own token fills up.
#[test]
fn texts_are_padded_with_the_token_for_it() {
    for (name, pad) in [("<pad>", 2), ("nothing", 0)] {
        let dir = copy("fused");
        let path = dir.path().join("1/tokenizer.json");
        let json = fs::read_to_string(&path).unwrap();
        let json = json.replace("[PAD]", "[OTHER]").replace("[CLS]", name);
        fs::write(&path, json).unwrap();
        let (ids, _) = tokens(&open(dir.path()).unwrap(), "red");
        assert_eq!(ids, [4, pad, pad, pad, pad, pad], "{name}");
    }
}

#[test]
fn texts_that_are_none_are_refused() {
    let dir = copy("fused");
    let preprocess = r#"ids = "ids", mask"#;
    edit(
        dir.path(),
        preprocess,
        r#"ids = "ids", too_long = "refuse", bytes_max = 40, mask"#,
    );
    let engine = open(dir.path()).unwrap();
    let cases = [
        (vec![0xff, 0xfe], ErrorKind::InvalidInput, "not UTF-8"),
        (
            "a a a a a a a".into(),
            ErrorKind::TooLarge,
            "tokens of `caption` 0: 7",
        ),
        (
            vec![b'a'; 41],
            ErrorKind::TooLarge,
            "bytes of `caption` 0: 41",
        ),
    ];
    for (text, kind, message) in cases {
        let error = engine.infer(&raw("caption", &[text])).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(message), "{error}");
    }
    assert!(
        engine
            .infer(&raw("caption", &["a a a a a a".into()]))
            .is_ok()
    );
}

/// A request with the text and the picture, to be answered by `plan`.
fn asked(picture: &[u8], caption: &[u8], plan: &str) -> InferRequest {
    let mut request = raw("picture", &[picture.to_vec()]);
    request
        .inputs
        .push(named("caption", bytes(&[caption.to_vec()])));
    let plan = ("plan".to_owned(), plan.into());
    request.parameters.extend([plan]);
    request
}

#[test]
fn what_a_strategy_does_not_read_is_not_decoded() {
    let engine = engine("fused");
    let (picture, caption) = (gradient(8, 8), "red".as_bytes());
    let torn = &picture[..picture.len() / 2];
    for (good, bad, plan) in [
        (
            asked(&picture, caption, "text"),
            asked(torn, caption, "text"),
            "text",
        ),
        (
            asked(&picture, caption, "image"),
            asked(&picture, b"\xff", "image"),
            "image",
        ),
    ] {
        let [good, bad] = [good, bad].map(|request| engine.infer(&request).unwrap());
        assert_eq!(good, bad, "{plan}");
    }
    for (picture, caption, code) in [
        (torn, caption, "wrong_picture"),
        (&picture[..], b"\xff".as_slice(), "wrong_text"),
    ] {
        let error = engine
            .infer(&asked(picture, caption, "image+text"))
            .unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
}
