//! Safetensors files, written piece by piece and read in place.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use half::f16;
use safetensors::SafeTensors;
use satisfice_store::{DType, StoreError, TensorFile, TensorSpec, TensorWriter};
use std::{collections::BTreeMap, fs};
use support::{Workshop, bytes_of};

fn specs() -> Vec<TensorSpec> {
    vec![
        TensorSpec::new("empty", DType::U64, vec![0]),
        TensorSpec::new("wide", DType::I64, vec![3]),
        TensorSpec::new("rows", DType::F32, vec![2, 2]),
        TensorSpec::new("half", DType::F16, vec![3, 1]),
        TensorSpec::new("none", DType::U8, vec![4, 0]),
        TensorSpec::new("bytes", DType::U8, vec![5]),
    ]
}

#[test]
fn what_is_written_in_pieces_is_read_in_place_and_by_the_reference_reader() {
    let workshop = Workshop::new();
    let path = workshop.path("t.safetensors");
    let metadata = BTreeMap::from([
        ("b".to_owned(), "2".to_owned()),
        ("a".to_owned(), "1".to_owned()),
    ]);
    let mut writer = TensorWriter::create_with_metadata(&path, &specs(), &metadata).unwrap();
    assert!(!path.exists(), "the name is taken when the file is whole");
    let halves = [f16::ONE, f16::NEG_ONE, f16::ZERO];
    writer.append(&bytes_of(&[1_i64, -2])).unwrap();
    writer.append(&bytes_of(&[3_i64])).unwrap();
    writer.append(&bytes_of(&[0.5_f32, 1.5, 2.5, 3.5])).unwrap();
    writer.append(&bytes_of(&halves)).unwrap();
    for byte in 0..5 {
        writer.append(&[byte]).unwrap();
    }
    let record = writer.finish().unwrap();
    record.verify(workshop.0.path()).unwrap();
    assert_eq!(record.bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(record.tensors.len(), 6);

    let file = TensorFile::open(&path).unwrap();
    assert_eq!(
        file.names().collect::<Vec<_>>(),
        ["bytes", "empty", "half", "none", "rows", "wide"]
    );
    assert_eq!(file.metadata("a"), Some("1"));
    assert_eq!(file.slice::<i64>("wide").unwrap(), [1, -2, 3]);
    assert_eq!(file.slice::<u64>("empty").unwrap(), [0_u64; 0]);
    assert_eq!(file.slice::<f16>("half").unwrap(), halves);
    assert_eq!(file.vector::<u8>("bytes", 5).unwrap(), [0, 1, 2, 3, 4]);
    let rows = file.rows("rows").unwrap();
    let mut row = [0.0; 2];
    rows.read(1, &mut row);
    assert_eq!((row, rows.len()), ([2.5, 3.5], 2));

    let bytes = fs::read(&path).unwrap();
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(
        reference.tensor("wide").unwrap().data(),
        bytes_of(&[1_i64, -2, 3])
    );
    assert_eq!(reference.tensor("none").unwrap().shape(), [4, 0]);
}

#[test]
fn a_tensor_of_another_type_or_shape_is_named() {
    let workshop = Workshop::new();
    let path = workshop.path("t.safetensors");
    let mut writer = TensorWriter::create(&path, &specs()[1..3]).unwrap();
    writer.append(&[0; 24]).unwrap();
    writer.append(&[0; 16]).unwrap();
    writer.finish().unwrap();
    let file = TensorFile::open(&path).unwrap();
    let message = |error: Option<StoreError>| {
        let message = error.unwrap().to_string();
        assert!(message.contains("t.safetensors"), "{message}");
        message
    };
    assert!(
        message(file.slice::<u8>("gone").err())
            .contains("no tensor `gone`; there are `rows`, `wide`")
    );
    assert!(message(file.slice::<f32>("wide").err()).contains("`wide` holds I64, but F32"));
    assert!(message(file.vector::<i64>("wide", 4).err()).contains("shape [3], but [4]"));
    assert!(message(file.rows("wide").err()).contains("F32 or F16"));
}

#[test]
fn what_does_not_fit_its_declaration_is_refused_and_nothing_is_left() {
    let workshop = Workshop::new();
    let path = workshop.path("t.safetensors");
    let spec = |name: &str, dtype, len| TensorSpec::new(name, dtype, vec![len]);
    let wrong = [
        vec![spec("a", DType::U8, 3), spec("b", DType::I64, 1)],
        vec![spec("a", DType::U8, 3), spec("a", DType::U8, 1)],
        vec![TensorSpec::new("a", DType::F32, vec![usize::MAX, 2])],
        vec![spec("a", DType::U8, usize::MAX)],
    ];
    for specs in wrong {
        let error = TensorWriter::create(&path, &specs).err();
        assert!(
            matches!(error, Some(StoreError::Declaration { .. })),
            "{error:?}"
        );
    }
    let mut writer = TensorWriter::create(&path, &[spec("a", DType::U8, 3)]).unwrap();
    writer.append(&[1, 2]).unwrap();
    assert!(
        writer
            .append(&[3, 4])
            .unwrap_err()
            .to_string()
            .contains("it lacks 1")
    );
    assert!(
        writer
            .finish()
            .unwrap_err()
            .to_string()
            .contains("it lacks 1 bytes")
    );
    let mut writer = TensorWriter::create(&path, &[spec("a", DType::U8, 1)]).unwrap();
    writer.append(&[1]).unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(workshop.0.path()).unwrap().count(), 0);
}

#[test]
fn a_header_that_is_not_padded_is_read_or_refused_but_never_misread() {
    let workshop = Workshop::new();
    for pad in 0..8 {
        let mut json = r#"{"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#.to_owned();
        json.push_str(&" ".repeat(pad));
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.extend(bytes_of(&[1.0_f32, 2.0]));
        let file = TensorFile::open(&workshop.write("t.safetensors", bytes)).unwrap();
        match file.slice::<f32>("x") {
            Ok(values) => assert_eq!(values, [1.0, 2.0]),
            Err(error) => assert!(matches!(error, StoreError::Misaligned { .. }), "{error}"),
        }
        assert_eq!(file.slice::<f32>("x").is_ok(), json.len().is_multiple_of(4));
    }
}
