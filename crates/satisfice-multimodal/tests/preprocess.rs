//! Pictures and texts become the tensors that networks read, and bad ones are refused.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use image::{DynamicImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use satisfice_core::{Engine, ErrorKind, InferRequest, TensorData};
use satisfice_multimodal::MultimodalEngine;
use std::io::Cursor;
use support::{bytes, copy, edit, engine, floats, named, open};

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    encoded(picture, ImageFormat::Png)
}

fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 20) as u8, (y * 20) as u8, 7])
    })
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
    let values = pixels(&engine, png(gradient(8, 8)));
    for y in 0..8 {
        for x in 0..8 {
            let at = y * 8 + x;
            assert!(close(values[at], (x * 20) as f32 / 255.0));
            assert!(close(values[64 + at], (y * 20) as f32 / 255.0));
            assert!(close(values[128 + at], 7.0 / 255.0));
        }
    }
    let grey = image::GrayImage::from_pixel(8, 8, Luma([51]));
    assert!(pixels(&engine, png(grey)).iter().all(|&v| close(v, 0.2)));
}

#[test]
fn jpeg_and_transparent_pictures() {
    let engine = engine("fused");
    let red = RgbImage::from_pixel(16, 16, Rgb([200, 10, 10]));
    let values = pixels(&engine, encoded(red, ImageFormat::Jpeg));
    assert!((values[0] - 200.0 / 255.0).abs() < 0.03);
    assert!((values[64] - 10.0 / 255.0).abs() < 0.03);
    // A fifth of black on white.
    let thin = RgbaImage::from_pixel(8, 8, Rgba([0, 0, 0, 51]));
    assert!(
        pixels(&engine, png(thin))
            .iter()
            .all(|&v| close(v, 204.0 / 255.0))
    );
}

#[test]
fn other_sizes_are_stretched_cut_or_padded() {
    // Left half black, right half white, twice as wide as high.
    let halves = RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 0 } else { 255 }; 3]));
    let with = |resize: &str| {
        let dir = copy("fused");
        let preprocess = r#"input = "picture", pixels_max"#;
        let to = format!(
            r#"input = "picture", resize = "{resize}", background = [51, 51, 51], pixels_max"#
        );
        edit(dir.path(), preprocess, &to);
        pixels(&open(dir.path()).unwrap(), png(halves.clone()))
    };
    for resize in ["stretch", "cover"] {
        let values = with(resize);
        assert!(close(values[0], 0.0) && close(values[7], 1.0), "{resize}");
        assert!(close(values[56], 0.0) && close(values[63], 1.0), "{resize}");
    }
    let contained = with("contain");
    // Two rows of padding above and below.
    assert!(contained[..16].iter().all(|&v| close(v, 0.2)));
    assert!(contained[48..64].iter().all(|&v| close(v, 0.2)));
    assert!(close(contained[16], 0.0) && close(contained[23], 1.0));
}

#[test]
fn mean_and_std_are_by_channel() {
    let dir = copy("fused");
    let preprocess = r#"input = "picture", pixels_max"#;
    let to = r#"input = "picture", scale = 1, mean = [1, 2, 3], std = [1, 2, 4], pixels_max"#;
    edit(dir.path(), preprocess, to);
    let picture = RgbImage::from_pixel(8, 8, Rgb([11, 22, 43]));
    let values = pixels(&open(dir.path()).unwrap(), png(picture));
    assert!(close(values[0], 10.0) && close(values[64], 10.0) && close(values[128], 10.0));
}

/// A PNG header that claims a picture of this size, with a valid checksum and no data.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut file = png(RgbImage::new(1, 1));
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
    let whole = png(gradient(8, 8));
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
        (bomb(u32::MAX, u32::MAX), "wrong_picture"),
        (png(RgbImage::new(101, 100)), "too_large"),
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
    let (picture, caption) = (png(gradient(8, 8)), "red".as_bytes());
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
