//! The best classes of an output instead of its values (the `classification` extension).

use super::message::invalid;
use crate::clip::clip;
use half::{bf16, f16};
use satisfice_core::{
    ByteStrings, Error, InferResponse, NamedTensor, Tensor, TensorData, TensorSpec,
};
use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt::{Display, Write},
};

/// Replaces each output that `classes` names, `[.., width]`, by strings `[.., n]`: the `n` largest
/// values of each row, largest first, as `value:index` or, where the output has labels,
/// `value:index:label`. Equal values come in the order of their indices, NaN comes last, and `n` is
/// at most `width`.
pub(crate) fn classify(
    mut response: InferResponse,
    classes: &BTreeMap<String, usize>,
    specs: &[TensorSpec],
) -> Result<InferResponse, Error> {
    for output in &mut response.outputs {
        if let Some(&classes) = classes.get(&output.name) {
            let spec = specs.iter().find(|spec| spec.name == output.name);
            let labels = spec.and_then(|spec| spec.labels.as_deref());
            output.tensor = best(output, classes, labels.unwrap_or_default())?;
        }
    }
    Ok(response)
}

fn best(output: &NamedTensor, classes: usize, labels: &[String]) -> Result<Tensor, Error> {
    let wrong = || {
        let (name, datatype) = (clip(&output.name), output.tensor.datatype());
        let text = format!("output `{name}` is {datatype} {:?}", output.tensor.shape());
        invalid("not_classifiable", text)
            .with_hint("`classification` is for numbers with a dimension")
    };
    let mut shape = output.tensor.shape().to_vec();
    let width = shape.last_mut().ok_or_else(wrong)?;
    let rows = Rows {
        width: *width,
        classes: classes.min(*width),
        labels,
    };
    *width = rows.classes;
    let strings = match output.tensor.data() {
        TensorData::Uint8(v) => rows.best(v),
        TensorData::Uint16(v) => rows.best(v),
        TensorData::Uint32(v) => rows.best(v),
        TensorData::Uint64(v) => rows.best(v),
        TensorData::Int8(v) => rows.best(v),
        TensorData::Int16(v) => rows.best(v),
        TensorData::Int32(v) => rows.best(v),
        TensorData::Int64(v) => rows.best(v),
        TensorData::Fp16(v) => rows.best(&v.iter().copied().map(f16::to_f32).collect::<Vec<_>>()),
        TensorData::Bf16(v) => rows.best(&v.iter().copied().map(bf16::to_f32).collect::<Vec<_>>()),
        TensorData::Fp32(v) => rows.best(v),
        TensorData::Fp64(v) => rows.best(v),
        TensorData::Bool(_) | TensorData::Bytes(_) => return Err(wrong()),
    };
    Tensor::new(shape, TensorData::Bytes(strings))
        .map_err(|mismatch| invalid("not_classifiable", mismatch.to_string()))
}

struct Rows<'a> {
    width: usize,
    classes: usize,
    labels: &'a [String],
}

impl Rows<'_> {
    fn best<T: Copy + PartialOrd + Display>(&self, values: &[T]) -> ByteStrings {
        let mut strings = ByteStrings::default();
        let mut text = String::new();
        let mut order: Vec<usize> = Vec::with_capacity(self.width);
        for row in values.chunks_exact(self.width.max(1)) {
            let compare = |a: &usize, b: &usize| largest_first(row, *a, *b);
            order.clear();
            order.extend(0..row.len());
            if self.classes < row.len() {
                order.select_nth_unstable_by(self.classes, compare);
            }
            order.truncate(self.classes);
            order.sort_unstable_by(compare);
            for &index in &order {
                text.clear();
                self.write(&mut text, row[index], index);
                strings.push(text.as_bytes());
            }
        }
        strings
    }

    fn write(&self, text: &mut String, value: impl Display, index: usize) {
        let result = match self.labels.get(index) {
            Some(label) => write!(text, "{value}:{index}:{label}"),
            None => write!(text, "{value}:{index}"),
        };
        result.expect("invariant: writing to a String does not fail");
    }
}

#[expect(clippy::eq_op, reason = "only NaN differs from itself")]
fn largest_first<T: Copy + PartialOrd>(row: &[T], a: usize, b: usize) -> Ordering {
    let (x, y) = (row[a], row[b]);
    let is_nan = |value: T| value != value;
    let order = y
        .partial_cmp(&x)
        .unwrap_or_else(|| is_nan(x).cmp(&is_nan(y)));
    order.then(a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use satisfice_core::DataType;

    fn classify(
        data: TensorData,
        shape: &[usize],
        n: usize,
    ) -> Result<(Vec<usize>, String), Error> {
        let tensor = Tensor::new(shape.to_vec(), data).unwrap();
        let name = "y".to_owned();
        let response = InferResponse {
            outputs: vec![NamedTensor { name, tensor }],
            ..InferResponse::default()
        };
        let spec = TensorSpec {
            name: "y".to_owned(),
            datatype: DataType::Fp32,
            shape: vec![-1, 3],
            labels: Some(["a", "b"].map(str::to_owned).into()),
        };
        let classes = BTreeMap::from([("y".to_owned(), n)]);
        let response = super::classify(response, &classes, &[spec])?;
        let tensor = &response.outputs[0].tensor;
        let TensorData::Bytes(strings) = tensor.data() else {
            panic!("not strings")
        };
        let strings: Vec<_> = strings.iter().map(String::from_utf8_lossy).collect();
        Ok((tensor.shape().to_vec(), strings.join(" ")))
    }

    #[test]
    fn the_largest_come_first() {
        let values = TensorData::Fp32(vec![0.5, 2.0, -1.0, 1.0, f32::NAN, 1.0]);
        let best = classify(values.clone(), &[2, 3], 2).unwrap();
        assert_eq!(best, (vec![2, 2], "2:1:b 0.5:0:a 1:0:a 1:2".to_owned()));
        let all = classify(values, &[1, 2, 3], 100).unwrap();
        assert_eq!(
            all,
            (
                vec![1, 2, 3],
                "2:1:b 0.5:0:a -1:2 1:0:a 1:2 NaN:1:b".to_owned()
            )
        );
        let whole = classify(TensorData::Int64(vec![3, 3, 7]), &[3], 1).unwrap();
        assert_eq!(whole, (vec![1], "7:2".to_owned()));
        let none = classify(TensorData::Int64(vec![]), &[4, 0], 1).unwrap();
        assert_eq!(none, (vec![4, 0], String::new()));
    }

    #[test]
    fn what_has_no_order_is_refused() {
        for (data, shape) in [
            (TensorData::Bool(vec![true]), &[1][..]),
            (TensorData::Bytes(["a"].into_iter().collect()), &[1]),
            (TensorData::Fp32(vec![1.0]), &[]),
        ] {
            let error = classify(data, shape, 1).unwrap_err();
            assert_eq!(error.code(), "not_classifiable");
        }
    }
}
