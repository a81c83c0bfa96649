//! Rows of 8-bit integers, each with its own scale.
//!
//! A row is its scale, a little-endian f32 in four bytes, then its values: one place in memory a row.

/// Bytes of a row before its values.
pub(crate) const SCALE_BYTES: usize = size_of::<f32>();

/// Rounds a row to 8-bit integers with the scale `max |v| / 127`, and appends scale and values to
/// `out`. No value is off by more than half the scale.
///
/// # Panics
/// When a value is not finite.
pub fn quantize_row(values: &[f32], out: &mut Vec<i8>) {
    let largest = values.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
    assert!(
        largest.is_finite() && values.iter().all(|v| v.is_finite()),
        "rows to be rounded are finite"
    );
    let scale = largest / f32::from(i8::MAX);
    out.extend(scale.to_le_bytes().map(|byte| byte as i8));
    // A row of zeros, or of values too small for a scale, is a row of zeros.
    let inverse = if scale > 0.0 {
        f32::from(i8::MAX) / largest
    } else {
        0.0
    };
    if inverse.is_finite() {
        out.extend(values.iter().map(|v| (v * inverse).round() as i8));
    } else {
        out.extend(values.iter().map(|v| (v / scale).round() as i8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;

    #[test]
    fn no_value_is_off_by_more_than_half_the_scale() {
        for values in [
            vec![0.0, -0.0, 0.0],
            vec![1.0, -2.0, 0.003, 1.999],
            vec![f32::MAX, f32::MIN, 1.0],
            vec![f32::MIN_POSITIVE / 8.0, 0.0],
            vec![2.0e-37, -0.4e-37, 0.0],
            vec![-7.25],
        ] {
            let mut rows = Vec::new();
            quantize_row(&values, &mut rows);
            let (scale, rounded) = i8::row(&rows, 0, values.len());
            assert_eq!(rounded.len(), values.len());
            for (value, rounded) in values.iter().zip(rounded) {
                let off = (value / 2.0 - scale / 2.0 * f32::from(*rounded)).abs();
                assert!(
                    off <= scale / 4.0 * 1.001 + f32::MIN_POSITIVE,
                    "{value} {rounded} {scale}"
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "finite")]
    fn what_is_no_number_is_not_rounded() {
        quantize_row(&[1.0, f32::NAN], &mut Vec::new());
    }
}
