//! A state dict whose every tensor must be asked for, in the shape that the sidecar says.

use crate::GraphError;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use satisfice_kernels::MappedFile;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The tensors of one weights file, as f32. Each is taken once; what is left over at the end is an
/// error.
#[derive(Debug)]
pub(crate) struct Weights {
    path: PathBuf,
    tensors: RefCell<BTreeMap<String, Stored>>,
}

#[derive(Debug)]
struct Stored {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Weights {
    pub(crate) fn open(path: &Path) -> Result<Self, GraphError> {
        let map = MappedFile::open(path).map_err(|source| GraphError::Io {
            path: path.to_owned(),
            source,
        })?;
        let file = SafeTensors::deserialize(&map).map_err(|e| GraphError::Config {
            path: path.to_owned(),
            message: format!("not a whole safetensors file: {e}"),
        })?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            if name.ends_with("num_batches_tracked") {
                continue;
            }
            let values = read_f32(&view).map_err(|dtype| GraphError::Weights {
                path: path.to_owned(),
                tensor: name.to_owned(),
                message: format!("dtype {dtype:?} is not a float"),
                hint: "save the state dict as float32".to_owned(),
            })?;
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return Err(GraphError::Weights {
                    path: path.to_owned(),
                    tensor: name.to_owned(),
                    message: format!("value {at} is {}", values[at]),
                    hint: "training has diverged".to_owned(),
                });
            }
            let shape = view.shape().to_vec();
            tensors.insert(name.to_owned(), Stored { shape, values });
        }
        map.check()?;
        Ok(Self {
            path: path.to_owned(),
            tensors: RefCell::new(tensors),
        })
    }

    /// Takes `prefix.name`, whose shape must be `shape`; leading dimensions of length 1 do not
    /// count.
    pub(crate) fn take(
        &self,
        prefix: &str,
        name: &str,
        shape: &[usize],
    ) -> Result<Vec<f32>, GraphError> {
        let full = join(prefix, name);
        let found = self.tensors.borrow_mut().remove(&full);
        let Some(stored) = found else {
            return Err(self.missing(&full, prefix, shape));
        };
        if without_leading_ones(&stored.shape) == without_leading_ones(shape) {
            Ok(stored.values)
        } else {
            Err(self.misshapen(full, &stored.shape, shape))
        }
    }

    /// Takes `prefix.name` where `wanted`.
    pub(crate) fn take_if(
        &self,
        wanted: bool,
        prefix: &str,
        name: &str,
        shape: &[usize],
    ) -> Result<Option<Vec<f32>>, GraphError> {
        wanted.then(|| self.take(prefix, name, shape)).transpose()
    }

    /// Takes `prefix.name`, kept as `[in, out]`, as `[out, in]`.
    pub(crate) fn take_transposed(
        &self,
        prefix: &str,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Vec<f32>, GraphError> {
        let values = self.take(prefix, name, &[inputs, outputs])?;
        Ok((0..outputs)
            .flat_map(|o| values.iter().skip(o).step_by(outputs).copied())
            .collect())
    }

    /// Whether `prefix.name` is (still) there.
    pub(crate) fn has(&self, prefix: &str, name: &str) -> bool {
        self.tensors.borrow().contains_key(&join(prefix, name))
    }

    /// Refuses tensors that no layer has taken.
    pub(crate) fn finish(self) -> Result<(), GraphError> {
        let Some((tensor, stored)) = self.tensors.into_inner().pop_first() else {
            return Ok(());
        };
        let last = tensor.rsplit('.').next().unwrap_or_default();
        let hint = if last == "bias" {
            "a layer that `model.toml` gives no bias has one"
        } else if tensor.contains("norm") {
            "`model.toml` lacks the layer's norm in `after`"
        } else if tensor.ends_with("lin_r.weight") || tensor.ends_with("fc_self.weight") {
            "`model.toml` says root_weight = false, or the layer is of another type"
        } else {
            "the weights are of another architecture than `model.toml` says, or it has fewer layers"
        };
        Err(GraphError::Weights {
            path: self.path,
            tensor,
            message: format!(
                "shape {:?}, but no layer of `model.toml` uses it",
                stored.shape
            ),
            hint: hint.to_owned(),
        })
    }

    fn missing(&self, full: &str, prefix: &str, shape: &[usize]) -> GraphError {
        let tensors = self.tensors.borrow();
        // The layer's other tensors: `convs.0.` of `convs.0.lin_l`.
        let layer = match prefix.match_indices('.').nth(1) {
            Some((end, _)) => &prefix[..=end],
            None => prefix,
        };
        let near: Vec<&str> = tensors
            .keys()
            .filter(|k| k.starts_with(layer))
            .map(String::as_str)
            .take(6)
            .collect();
        let hint = if near.is_empty() {
            format!("nothing is called `{layer}...`: the weights have fewer layers or other names")
        } else {
            format!(
                "there are {}: the layer's type or options in `model.toml` differ from the weights'",
                near.join(", ")
            )
        };
        GraphError::Weights {
            path: self.path.clone(),
            tensor: full.to_owned(),
            message: format!("missing; `model.toml` asks for shape {shape:?}"),
            hint,
        }
    }

    fn misshapen(&self, tensor: String, found: &[usize], wanted: &[usize]) -> GraphError {
        let reversed: Vec<usize> = wanted.iter().rev().copied().collect();
        let hint = if found == reversed {
            "the weights are transposed: `framework` in `model.toml` may be the other one"
        } else if found.len() == wanted.len() {
            "`in`, `out` or `heads` in `model.toml` differ from the trained model's"
        } else {
            "the layer's type in `model.toml` differs from the trained model's"
        };
        GraphError::Weights {
            path: self.path.clone(),
            tensor,
            message: format!("shape {found:?}, but `model.toml` asks for {wanted:?}"),
            hint: hint.to_owned(),
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

fn without_leading_ones(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().take_while(|&&d| d == 1).count();
    // A single value keeps one dimension, whatever it is written as.
    &shape[ones.min(shape.len().saturating_sub(1))..]
}

fn read_f32(view: &TensorView<'_>) -> Result<Vec<f32>, Dtype> {
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => values(data, f32::from_le_bytes),
        Dtype::F64 => values(data, |b| f64::from_le_bytes(b) as f32),
        Dtype::F16 => values(data, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => values(data, |b| bf16::from_le_bytes(b).to_f32()),
        other => return Err(other),
    })
}

fn values<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.as_chunks::<N>().0.iter().map(|&b| read(b)).collect()
}
