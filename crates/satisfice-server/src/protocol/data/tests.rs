use super::*;

fn int(text: &str, shape: &[usize]) -> Result<TensorData, String> {
    decode(text, DataType::Int64, shape, shape.iter().product(), false)
}

#[test]
fn flat_and_nested_are_the_same() {
    let expected = TensorData::Int64(vec![1, 2, 3, 4]);
    for text in ["[1,2,3,4]", "[[1,2],[3,4]]", " [ [1 ,\n2],\t[3,4 ] ]"] {
        assert_eq!(int(text, &[2, 2]), Ok(expected.clone()), "{text}");
    }
    assert_eq!(int("[[[1],[2]],[[3],[4]]]", &[2, 2, 1]), Ok(expected));
    assert_eq!(int("[7]", &[]), Ok(TensorData::Int64(vec![7])));
}

#[test]
fn nothing_has_several_forms() {
    for (text, shape) in [
        ("[]", &[0, 3][..]),
        ("[]", &[3, 0]),
        ("[[],[],[]]", &[3, 0]),
        ("[]", &[0]),
    ] {
        assert_eq!(int(text, shape), Ok(TensorData::Int64(vec![])), "{text}");
    }
    assert!(int("[[]]", &[3, 0]).is_err());
    assert!(int("[]", &[]).is_err());
}

#[test]
fn errors_name_the_element_wherever_it_is() {
    for (text, index) in [
        ("[true,2,3,4]", 0),
        ("[1,2.5,3,4]", 1),
        ("[1, 2,\n3, null]", 3),
        ("[[1,2],[3,1e9]]", 3),
        ("[[1, 2], [\"\", 4]]", 2),
    ] {
        let error = int(text, &[2, 2]).unwrap_err();
        assert!(
            error.starts_with(&format!("element {index} is ")),
            "{error}"
        );
    }
    let error = decode(r#"["a", "b", 3]"#, DataType::Bytes, &[3], 3, false).unwrap_err();
    assert!(error.starts_with("element 2 is 3, "), "{error}");
}

#[test]
fn other_nesting_is_refused() {
    for text in [
        "[[1,2,3,4]]",
        "[[1,2],3,4]",
        "[1,[2,3],4]",
        "[[1],[2,3,4]]",
        "[[1,2],[3]]",
        "[[1,2],[3,4],[]]",
        "[[[1,2],[3,4]]]",
        "[1,2,3]",
        "[1,2,3,4,5]",
        "[]",
        "1",
        "{}",
        "\"1\"",
        "[{\"a\":1},2,3,4]",
    ] {
        assert!(int(text, &[2, 2]).is_err(), "{text}");
    }
}

#[test]
fn elements_are_checked() {
    let error = decode("[1,300]", DataType::Uint8, &[2], 2, false).unwrap_err();
    assert!(error.contains("element 1 is 300"), "{error}");
    for (datatype, good, bad) in [
        (DataType::Uint8, "255", "256"),
        (DataType::Uint64, "18446744073709551615", "-1"),
        (DataType::Int8, "-128", "-129"),
        (
            DataType::Int64,
            "-9223372036854775808",
            "9223372036854775808",
        ),
        (DataType::Int32, "3", "3.0"),
        (DataType::Int32, "3", "3e0"),
        (DataType::Int32, "3", "null"),
        (DataType::Int32, "3", "\"3\""),
        (DataType::Bool, "1", "2"),
        (DataType::Bool, "true", "\"true\""),
        (DataType::Fp32, "3.4e38", "3.5e38"),
        (DataType::Fp64, "-1", "1e999"),
        (DataType::Fp32, "1E-3", "true"),
        (DataType::Bytes, "\"a,]\\\" b\"", "1"),
        (DataType::Bytes, "\"\\u00e9\"", "\"\\ud800\""),
    ] {
        let one = |element: &str| decode(&format!("[{element}]"), datatype, &[1], 1, false);
        assert!(one(good).is_ok(), "{datatype} {good}");
        assert!(one(bad).is_err(), "{datatype} {bad}");
    }
}

#[test]
fn numbers_are_those_of_the_standard_library() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut texts: Vec<String> = [
        "0",
        "-0",
        "-0.0",
        "1e-50",
        "1.17549435e-38",
        "1.1754942807573643e-38",
        "16777217",
        "1.00000005960464477539",
        "3.4028235677973366e38",
        "2.2250738585072011e-308",
        "5e-324",
        "9007199254740993",
        "0.1",
        "1E+2",
        "123456789012345678901234567890",
    ]
    .map(str::to_owned)
    .into();
    for _ in 0..20_000 {
        let (bits, digits) = (next(), next());
        texts.push(format!("{:e}", f64::from_bits(bits)));
        texts.push(format!("{:?}", f32::from_bits(bits as u32)));
        texts.push(format!(
            "{}.{:017}e{}",
            digits % 10,
            digits / 10,
            bits as i8 / 3
        ));
        // Half-way between two 32-bit floats, and a little more.
        let half = f64::from_bits(f64::from(f32::from_bits(bits as u32)).to_bits() | 1 << 28);
        texts.push(format!("{half:.30}"));
        texts.push(format!("{half:.30}1"));
    }
    texts.retain(|text| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok());
    assert!(texts.len() > 90_000, "{}", texts.len());
    for text in texts {
        let (single, double): (f32, f64) = (text.parse().unwrap(), text.parse().unwrap());
        let (found, length) = number::<f32>(&text).unwrap();
        assert_eq!(
            (found.to_bits(), length),
            (single.to_bits(), text.len()),
            "{text}"
        );
        let (found, length) = number::<f64>(&text).unwrap();
        assert_eq!(
            (found.to_bits(), length),
            (double.to_bits(), text.len()),
            "{text}"
        );
    }
}

#[test]
fn strings_are_unescaped() {
    let text = r#"["a\"]", "", "\\", "é\n"]"#;
    let expected: ByteStrings = ["a\"]", "", "\\", "é\n"].into_iter().collect();
    assert_eq!(
        decode(text, DataType::Bytes, &[4], 4, false),
        Ok(TensorData::Bytes(expected))
    );
}

#[test]
fn bytes_come_as_base64_where_it_is_said() {
    let bytes = |text: &str, shape: &[usize], base64: bool| {
        let elements = shape.iter().product();
        match decode(text, DataType::Bytes, shape, elements, base64)? {
            TensorData::Bytes(strings) => Ok(strings.iter().map(<[u8]>::to_vec).collect()),
            other => Err(format!("{other:?}")),
        }
    };
    let expected: Vec<Vec<u8>> = vec![b"\xff\x00".to_vec(), b"text".to_vec()];
    for text in [
        r#"[{"b64":"/wA="},"text"]"#,
        r#"[[{ "b64" : "\/wA" } ],["text"]]"#,
    ] {
        let shape: &[usize] = if text.starts_with("[[") {
            &[2, 1]
        } else {
            &[2]
        };
        assert_eq!(bytes(text, shape, false), Ok(expected.clone()), "{text}");
    }
    assert_eq!(bytes(r#"["/wA=", "dGV4dA=="]"#, &[2], true), Ok(expected));
    for (text, base64) in [
        (r#"[{"b64":"?"}]"#, false),
        (r#"[{"b64":"/wA=","more":1}]"#, false),
        (r#"[{"b65":"/wA="}]"#, false),
        (r#"[{"b64":["/wA="]}]"#, false),
        (r#"[{"b64":"/wA="}]"#, true),
        (r#"["not base64!"]"#, true),
        (r#"["/wA=", {"b64":"/wA="}]"#, false),
    ] {
        let error = bytes(text, &[1], base64).unwrap_err();
        assert!(
            error.contains("b64") || error.contains("more than"),
            "{text}: {error}"
        );
    }
}
