//! From an encoder's output to one vector a row.

use crate::{config::Pool, signature::Port};
use satisfice_core::{Tensor, TensorData};

/// How the output of a row becomes a vector.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pooling {
    pub(crate) pool: Option<Pool>,
    /// The input that says which tokens count.
    pub(crate) mask: Option<String>,
}

impl Pooling {
    /// For every token of every row, whether it counts; nothing where all do.
    pub(super) fn mask(&self, ports: &[Port], inputs: &[Tensor]) -> Option<Vec<bool>> {
        self.pool?;
        let name = self.mask.as_ref()?;
        let at = ports.iter().position(|port| port.name == *name)?;
        Some(match inputs[at].data() {
            TensorData::Int64(v) => v.iter().map(|&v| v != 0).collect(),
            TensorData::Int32(v) => v.iter().map(|&v| v != 0).collect(),
            TensorData::Int8(v) => v.iter().map(|&v| v != 0).collect(),
            TensorData::Uint8(v) => v.iter().map(|&v| v != 0).collect(),
            TensorData::Bool(v) => v.clone(),
            TensorData::Fp32(v) => v.iter().map(|&v| v != 0.0).collect(),
            _ => return None,
        })
    }

    /// `values` are `[rows, ...of_row]`; dimensions of length 1 do not count.
    pub(super) fn pool(
        &self,
        of_row: &[usize],
        values: Vec<f32>,
        mask: Option<&[bool]>,
    ) -> Result<Vec<f32>, String> {
        let Some(pool) = self.pool else {
            let wide = of_row.iter().filter(|&&length| length != 1).count();
            return match wide <= 1 {
                true => Ok(values),
                false => Err(format!(
                    "gives {of_row:?} for a row, not one vector: an encoder's `pool` makes one of it"
                )),
            };
        };
        match (of_row, pool) {
            (&[tokens, width], _) => {
                if mask.is_some_and(|mask| mask.len() * width != values.len()) {
                    return Err(format!(
                        "gives {tokens} tokens for a row, and its mask has others"
                    ));
                }
                Ok(of_tokens(tokens, width, &values, pool, mask))
            }
            (&[channels, height, width], Pool::Mean) if mask.is_none() && channels > 0 => {
                let plane = (height * width).max(1);
                let mean = |plane: &[f32]| mean_of(plane.iter().copied());
                Ok(values.chunks_exact(plane).map(mean).collect())
            }
            _ => Err(format!(
                "gives {of_row:?} for a row; `pool` is of [tokens, width], and \"mean\" without a mask of \
                 [channels, height, width]"
            )),
        }
    }
}

/// One vector of each row of `[tokens, width]`.
fn of_tokens(
    tokens: usize,
    width: usize,
    values: &[f32],
    pool: Pool,
    mask: Option<&[bool]>,
) -> Vec<f32> {
    let mut pooled = Vec::new();
    for (row, values) in values.chunks_exact((tokens * width).max(1)).enumerate() {
        let counts = |token: usize| mask.is_none_or(|mask| mask[row * tokens + token]);
        let mut counted = (0..tokens).filter(|&token| counts(token));
        let of = |token: usize| &values[token * width..(token + 1) * width];
        match pool {
            Pool::Mean => {
                let counted: Vec<usize> = counted.collect();
                let column = |i: usize| mean_of(counted.iter().map(|&token| of(token)[i]));
                pooled.extend((0..width).map(column));
            }
            Pool::First => pooled.extend(of(counted.next().unwrap_or(0))),
            Pool::Last => pooled.extend(of(counted.next_back().unwrap_or(0))),
        }
    }
    pooled
}

/// The mean; 0 of nothing.
fn mean_of(values: impl Iterator<Item = f32>) -> f32 {
    let (mut sum, mut count) = (0.0_f64, 0.0_f64);
    for value in values {
        sum += f64::from(value);
        count += 1.0;
    }
    (sum / count.max(1.0)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooling(pool: Pool) -> Pooling {
        Pooling {
            pool: Some(pool),
            mask: None,
        }
    }

    #[test]
    fn tokens_become_one_vector() {
        // Two rows of three tokens of two numbers.
        let values: Vec<f32> = (0..12_u8).map(f32::from).collect();
        let mask = [false, true, true, true, false, false];
        let of = |pool, mask| pooling(pool).pool(&[3, 2], values.clone(), mask);
        for (pool, masked, all) in [
            (Pool::Mean, [3.0, 4.0, 6.0, 7.0], [2.0, 3.0, 8.0, 9.0]),
            (Pool::First, [2.0, 3.0, 6.0, 7.0], [0.0, 1.0, 6.0, 7.0]),
            (Pool::Last, [4.0, 5.0, 6.0, 7.0], [4.0, 5.0, 10.0, 11.0]),
        ] {
            assert_eq!(of(pool, Some(&mask)).as_deref(), Ok(&masked[..]));
            assert_eq!(of(pool, None).as_deref(), Ok(&all[..]));
        }
        // Where no token counts there is nothing to say.
        let none = of(Pool::Mean, Some(&[false; 6]));
        assert_eq!(none.as_deref(), Ok(&[0.0; 4][..]));
        assert!(of(Pool::Mean, Some(&[true; 4])).is_err());
    }

    #[test]
    fn planes_and_dimensions_of_one() {
        let values: Vec<f32> = (0..8_u8).map(f32::from).collect();
        let mean = pooling(Pool::Mean).pool(&[2, 2, 2], values.clone(), None);
        assert_eq!(mean.as_deref(), Ok(&[1.5, 5.5][..]));
        assert!(
            pooling(Pool::First)
                .pool(&[2, 2, 2], values.clone(), None)
                .is_err()
        );
        let plain = Pooling::default();
        assert_eq!(
            plain.pool(&[1, 4, 1], values.clone(), None),
            Ok(values.clone())
        );
        let refusal = plain.pool(&[2, 4], values, None).err().unwrap_or_default();
        assert!(refusal.contains("`pool`"), "{refusal}");
    }
}
