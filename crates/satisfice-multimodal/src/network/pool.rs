//! From a network's output to what is read of it.

use crate::{
    config::{ModalityConfig, ModelConfig, Pool, PreprocessConfig},
    signature::Port,
};
use satisfice_core::{Tensor, TensorData};

/// How the output of a row is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    pub(crate) pool: Option<Pool>,
    /// The input that says which tokens count.
    pub(crate) mask: Option<String>,
    /// Which dimension is the batch, if that is said.
    pub(crate) batch_axis: Option<usize>,
    /// Whether a row may have any shape, not only that of a vector.
    pub(crate) any_shape: bool,
}

impl Reading {
    /// An output as it is.
    pub(crate) fn whole() -> Self {
        Self {
            any_shape: true,
            ..Self::default()
        }
    }

    /// How model.toml has the output of a network that reads `modalities` read.
    pub(crate) fn of(
        pool: Option<Pool>,
        pool_mask: Option<&String>,
        batch_axis: Option<usize>,
        modalities: &[&ModalityConfig],
    ) -> Result<Self, String> {
        if let Some(mask) = pool_mask {
            if pool.is_none() {
                return Err("pool_mask needs `pool`".to_owned());
            }
            let mut tensors = modalities.iter().flat_map(|m| &m.tensors);
            if tensors.all(|tensor| tensor.name != *mask) {
                return Err(format!("pool_mask `{mask}` is none of its tensors"));
            }
        }
        let mut attention = modalities.iter().filter_map(|m| match &m.preprocess {
            Some(PreprocessConfig::Text(text)) => text.mask.clone(),
            _ => None,
        });
        Ok(Self {
            pool,
            mask: pool_mask.cloned().or_else(|| attention.next()),
            batch_axis,
            any_shape: false,
        })
    }

    /// How the model's output is read from a network that reads `modalities`.
    pub(crate) fn of_answer(
        config: &ModelConfig,
        modalities: &[&ModalityConfig],
    ) -> Result<Self, String> {
        let output = &config.output;
        let mask = output.pool_mask.as_ref();
        let reading = Self::of(output.pool, mask, output.batch_axis, modalities);
        let reading = reading.map_err(|message| format!("[output]: {message}"))?;
        Ok(Self {
            any_shape: config.output.classes.is_empty(),
            ..reading
        })
    }

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

    /// `values` are `[rows, ...of_row]`; dimensions of length 1 do not count, unless rows are given as they
    /// are. Returns the shape of a row and the values of all.
    pub(super) fn read(
        &self,
        of_row: Vec<usize>,
        values: Vec<f32>,
        mask: Option<&[bool]>,
    ) -> Result<(Vec<usize>, Vec<f32>), String> {
        let Some(pool) = self.pool else {
            if self.any_shape {
                return Ok((of_row, values));
            }
            let wide = of_row.iter().filter(|&&length| length != 1).count();
            return match wide <= 1 {
                true => Ok((vec![of_row.iter().product()], values)),
                false => Err(format!(
                    "gives {of_row:?} for a row, not one vector: `pool` makes one of it"
                )),
            };
        };
        let pooled = match (of_row.as_slice(), pool) {
            (&[tokens, width], _) => {
                if mask.is_some_and(|mask| mask.len() * width != values.len()) {
                    return Err(format!(
                        "gives {tokens} tokens for a row, and its mask has others"
                    ));
                }
                (width, of_tokens(tokens, width, &values, pool, mask))
            }
            (&[channels, height, width], Pool::Mean) if mask.is_none() && channels > 0 => {
                let plane = (height * width).max(1);
                let mean = |plane: &[f32]| mean_of(plane.iter().copied());
                (channels, values.chunks_exact(plane).map(mean).collect())
            }
            _ => {
                return Err(format!(
                    "gives {of_row:?} for a row; `pool` is of [tokens, width], and \"mean\" without a mask \
                     of [channels, height, width]"
                ));
            }
        };
        Ok((vec![pooled.0], pooled.1))
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

    fn pooling(pool: Pool) -> Reading {
        Reading {
            pool: Some(pool),
            ..Reading::default()
        }
    }

    #[test]
    fn tokens_become_one_vector() {
        // Two rows of three tokens of two numbers.
        let values: Vec<f32> = (0..12_u8).map(f32::from).collect();
        let mask = [false, true, true, true, false, false];
        let of = |pool, mask| {
            let read = pooling(pool).read(vec![3, 2], values.clone(), mask);
            read.map(|(shape, values)| {
                assert_eq!(shape, [2]);
                values
            })
        };
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
        let mean = pooling(Pool::Mean).read(vec![2, 2, 2], values.clone(), None);
        assert_eq!(mean, Ok((vec![2], vec![1.5, 5.5])));
        let first = pooling(Pool::First).read(vec![2, 2, 2], values.clone(), None);
        assert!(first.is_err());
        let plain = Reading::default();
        let squeezed = plain.read(vec![1, 4, 1], values.clone(), None);
        assert_eq!(squeezed, Ok((vec![4], values.clone())));
        let refusal = plain.read(vec![2, 4], values.clone(), None);
        let refusal = refusal.err().unwrap_or_default();
        assert!(refusal.contains("`pool`"), "{refusal}");
        let whole = Reading::whole().read(vec![2, 4], values.clone(), None);
        assert_eq!(whole, Ok((vec![2, 4], values)));
    }
}
