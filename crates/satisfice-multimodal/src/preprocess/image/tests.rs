//! Tensors of pictures are Pillow's, on files that `bench/parity/multimodal/make_pictures.py` makes.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use safetensors::SafeTensors;
use serde::Deserialize;
use std::{fs, sync::LazyLock};

static FIXTURE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pictures.safetensors"
    );
    fs::read(path).unwrap()
});

#[derive(Debug, Deserialize)]
struct Case {
    file: String,
    keys: String,
    shape: Vec<usize>,
    off: u8,
}

fn bytes(name: &str) -> &'static [u8] {
    let tensors = SafeTensors::deserialize(&FIXTURE).unwrap();
    tensors.tensor(name).unwrap().data()
}

fn file(name: &str) -> &'static [u8] {
    bytes(&format!("file {name}"))
}

fn pictures(keys: &str, datatype: DataType, shape: &[usize]) -> Pictures {
    let config = toml::from_str(&format!("input = \"picture\"\n{keys}")).unwrap();
    let tensor = TensorConfig {
        name: "pixels".to_owned(),
        datatype,
        shape: shape.to_vec(),
        batch_axis: 0,
        fill: 0.0,
    };
    Pictures::new(&config, &tensor)
}

fn values(keys: &str, shape: &[usize], file: &[u8]) -> Result<Vec<u8>, MultimodalError> {
    let made = pictures(keys, DataType::Uint8, shape).decode(0, file)?;
    let TensorData::Uint8(values) = made.tensor.into_data() else {
        panic!("a UINT8 tensor was wanted")
    };
    Ok(values)
}

fn code(error: &MultimodalError) -> Option<&'static str> {
    match error {
        MultimodalError::Request { code, .. } => Some(code),
        _ => None,
    }
}

fn off(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    let off = a.iter().zip(b).map(|(&a, &b)| a.abs_diff(b));
    off.max().unwrap_or(0)
}

#[test]
fn every_case_is_pillows() {
    let (_, metadata) = SafeTensors::read_metadata(&FIXTURE).unwrap();
    let cases = metadata.metadata().as_ref().unwrap()["cases"].as_str();
    let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
    assert!(cases.len() > 100);
    let mut wrong = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let found = values(&case.keys, &case.shape, file(&case.file)).unwrap();
        let off = off(&found, bytes(&format!("case {i}")));
        if off > case.off {
            wrong.push(format!("{case:?}: off by {off}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file that is shorter by anything is refused, but for what follows the pixels of a PNG; bytes
/// behind a whole file do not count.
#[test]
fn cut_files_are_refused() {
    for name in ["jpeg 420", "jpeg progressive", "jpeg restarts", "jpeg 6"] {
        let whole = file(name);
        let shape = [3, 29, 37];
        let right = values("", &shape, whole).unwrap();
        let garbage = [whole, &[0x17; 99], whole].concat();
        assert_eq!(values("", &shape, &garbage).unwrap(), right, "{name}");
        for length in (0..whole.len()).rev().step_by(3) {
            let cut = values("", &shape, &whole[..length]);
            assert_eq!(
                cut.err().and_then(|e| code(&e)),
                Some("wrong_picture"),
                "{name}, {length}"
            );
        }
    }
    let whole = file("rgba");
    let right = values("", &[3, 5, 7], whole).unwrap();
    let pixels_end = whole.windows(4).position(|w| w == b"IEND").unwrap() - 4;
    for length in 0..whole.len() {
        match values("", &[3, 5, 7], &whole[..length]) {
            Ok(cut) => assert!(cut == right && length > pixels_end, "{length}"),
            Err(error) => assert_eq!(code(&error), Some("wrong_picture"), "{length}"),
        }
    }
    let garbage = [whole, &[0x17; 99]].concat();
    assert_eq!(values("", &[3, 5, 7], &garbage).unwrap(), right);
}

/// A second frame that tells a small picture does not hide a first one that tells a huge one.
#[test]
fn the_size_that_is_decoded_is_limited() {
    for name in ["jpeg 420", "jpeg progressive 420"] {
        let mut huge = file(name).to_vec();
        let is_frame = |w: &[u8]| w[0] == 0xff && matches!(w[1], 0xc0 | 0xc2);
        let frame = huge.windows(2).position(is_frame).unwrap();
        let small = [
            &huge[frame..frame + 5],
            &[0, 1, 0, 1],
            &huge[frame + 9..frame + 19],
        ]
        .concat();
        huge[frame + 5..frame + 9].fill(0xff);
        let end = huge.len() - 2;
        assert_eq!(huge[end..], [0xff, 0xd9]);
        huge.splice(end..end, small);
        let error = values("pixels_max = 100000", &[3, 4, 4], &huge).unwrap_err();
        assert!(
            matches!(error, MultimodalError::TooLarge { .. }),
            "{name}: {error}"
        );
    }
}

/// Whatever a changed byte makes of a file, it is answered or refused.
#[test]
fn damaged_files_end_in_an_answer_or_a_refusal() {
    let names = [
        "palette with alpha",
        "rgba",
        "packed xmp",
        "packed raw",
        "interlaced",
        "jpeg 6",
        "jpeg 420",
        "jpeg progressive 420",
        "jpeg restarts",
        "jpeg cmyk",
        "jpeg xmp",
    ];
    for name in names {
        let whole = file(name);
        for position in (0..whole.len()).step_by(1 + whole.len() / 150) {
            for change in [0xff, 0x01, 0x40] {
                let mut damaged = whole.to_vec();
                damaged[position] ^= change;
                let made = values("pixels_max = 100000", &[3, 4, 4], &damaged);
                if let Err(error) = made {
                    let known = code(&error) == Some("wrong_picture")
                        || matches!(error, MultimodalError::TooLarge { .. });
                    assert!(known, "{name}, {position}: {error}");
                }
            }
        }
    }
}

#[test]
fn pictures_that_are_not_served_are_named() {
    let rgb = file("rgb");
    let mut grey = rgb.to_vec();
    grey[24..26].copy_from_slice(&[16, 0]);
    let checksum = crc(&grey[12..29]).to_be_bytes();
    grey[29..33].copy_from_slice(&checksum);
    let inks = file("jpeg cmyk").to_vec();
    let at = inks.windows(5).position(|w| w == b"Adobe").unwrap();
    let mut unnamed = inks.clone();
    unnamed[at..at + 5].copy_from_slice(b"Other");
    for (file, message) in [
        (&b"R0lGODlhAQABAIAAAP"[..], "base64 text of a picture"),
        (
            b"GIF89a\x01\0\x01\0\0\0\0;",
            "a GIF file, neither PNG nor JPEG",
        ),
        (&grey, "a grey PNG of 16 bits"),
        (&unnamed, "a CMYK JPEG without Adobe's marker"),
    ] {
        let error = values("", &[3, 5, 7], file).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// PNG's checksum.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    !crc
}

#[test]
fn dimensions_and_numbers_are_as_the_network_reads_them() {
    let planes = values("", &[3, 5, 7], file("rgb")).unwrap();
    let pixels = values("layout = \"nhwc\"", &[5, 7, 3], file("rgb")).unwrap();
    let interleaved = (0..35).flat_map(|i| [planes[i], planes[35 + i], planes[70 + i]]);
    assert_eq!(pixels, interleaved.collect::<Vec<u8>>());
    let keys = "scale = 1\nmean = [1, 2, 3]\nstd = [1, 2, 4]\ncolours = \"bgr\"";
    let made = pictures(keys, DataType::Fp32, &[3, 5, 7]);
    let made = made.decode(0, file("rgb")).unwrap();
    let TensorData::Fp32(floats) = made.tensor.into_data() else {
        panic!("an FP32 tensor was wanted")
    };
    // Mean and deviation are those of the tensor's channels: blue's come first.
    let wanted = (0..35).map(|i| f32::from(planes[70 + i]) - 1.0);
    assert_eq!(&floats[..35], wanted.collect::<Vec<f32>>());
    let wanted = (0..35).map(|i| (f32::from(planes[i]) - 3.0) / 4.0);
    assert_eq!(&floats[70..], wanted.collect::<Vec<f32>>());
}
