//! Features on their way from an array to a store.

use super::{
    FeatureDType,
    array::{Array, Scalar},
};
use crate::{Progress, StoreError, TensorWriter, node_ids::NODES_MAX};
use bytemuck::cast_slice;
use half::{f16, slice::HalfFloatSliceExt};
use satisfice_kernels::quantize_row;

/// Values converted at a time.
const CHUNK: usize = 1 << 20;

/// The shape `[nodes, features]`.
pub(crate) fn shape(array: &Array) -> Result<[usize; 2], StoreError> {
    let [nodes, width] = array.shape[..] else {
        return Err(array.malformed(format!(
            "shape {:?}, but features are [nodes, features]",
            array.shape
        )));
    };
    if !(1..=NODES_MAX).contains(&nodes) {
        return Err(StoreError::NodeCount {
            path: array.path.clone(),
            nodes,
        });
    }
    if width == 0 {
        return Err(array.malformed("the nodes have no features; a model reads one at least"));
    }
    Ok([nodes, width])
}

/// The type in which the features of an array are kept unless another is asked for.
pub(crate) fn own_dtype(array: &Array) -> FeatureDType {
    match array.scalar {
        Scalar::F16 => FeatureDType::F16,
        _ => FeatureDType::F32,
    }
}

/// Writes the rows of `array`, which must be finite as `dtype`.
pub(crate) fn write(
    array: &Array,
    dtype: FeatureDType,
    writer: &mut TensorWriter,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    let [nodes, width] = shape(array)?;
    let rows = (CHUNK / width).clamp(1, nodes);
    let mut values = vec![0.0_f32; rows * width];
    let mut halves = vec![
        f16::ZERO;
        if dtype == FeatureDType::F16 {
            rows * width
        } else {
            0
        }
    ];
    let mut bytes = Vec::new();
    progress.start("writing features", Some(nodes as u64));
    for start in (0..nodes).step_by(rows) {
        let end = nodes.min(start + rows);
        let values = &mut values[..(end - start) * width];
        array.read_rows(start..end, width, values);
        let mut not_finite = values.iter().position(|value| !value.is_finite());
        match dtype {
            FeatureDType::F32 => {
                writer.append(cast_slice(values))?;
            }
            FeatureDType::F16 => {
                let halves = &mut halves[..values.len()];
                halves.convert_from_f32_slice(values);
                writer.append(cast_slice(halves))?;
                not_finite = halves.iter().position(|value| !value.is_finite());
            }
            FeatureDType::Int8 if not_finite.is_none() => {
                bytes.clear();
                for row in values.chunks_exact(width) {
                    quantize_row(row, &mut bytes);
                }
                writer.append(cast_slice(&bytes))?;
            }
            FeatureDType::Int8 => {}
        }
        if let Some(at) = not_finite {
            return Err(StoreError::NotFinite {
                path: array.path.clone(),
                node: start + at / width,
                column: at % width,
                dtype: dtype.dtype(),
            });
        }
        progress.advance((end - start) as u64);
    }
    progress.finish();
    Ok(())
}
