//! Class labels: whole numbers from 0, or -1 where a node's class is not known.

use super::array::Array;
use crate::StoreError;
use std::path::Path;

/// Labels read at a time.
const CHUNK: usize = 1 << 16;

/// Labels `[nodes]` or `[nodes, 1]`; in an array of floats NaN stands for an unknown class.
pub(crate) fn of_array(
    array: &Array,
    nodes: usize,
    classes: Option<usize>,
) -> Result<Vec<i32>, StoreError> {
    if array.shape != [nodes] && array.shape != [nodes, 1] {
        return Err(array.malformed(format!(
            "shape {:?}, but labels are one class a node, [{nodes}]; leave them out otherwise",
            array.shape
        )));
    }
    let mut labels = Vec::with_capacity(nodes);
    let mut values = vec![0.0; CHUNK.min(nodes)];
    while labels.len() < nodes {
        let start = labels.len();
        let values = &mut values[..CHUNK.min(nodes - start)];
        array.read_doubles(super::array::Strided { start, stride: 1 }, values);
        for (i, &value) in values.iter().enumerate() {
            labels.push(of_number(&array.path, start + i, value, classes)?);
        }
    }
    Ok(labels)
}

/// The label of a node from a number; NaN stands for an unknown class.
pub(crate) fn of_number(
    path: &Path,
    node: usize,
    value: f64,
    classes: Option<usize>,
) -> Result<i32, StoreError> {
    if value.is_nan() {
        return Ok(-1);
    }
    let end = classes.map_or(f64::from(i32::MAX), |classes| classes as f64);
    if value.fract() == 0.0 && value >= -1.0 && value < end {
        return Ok(value as i32);
    }
    Err(StoreError::Label {
        path: path.to_owned(),
        node,
        label: value.to_string(),
        expected: match classes {
            Some(classes) => format!("there are {classes} class names; -1 = unknown"),
            None => "labels are whole numbers from 0; -1 = unknown".to_owned(),
        },
    })
}
