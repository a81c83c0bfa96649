use crate::LoadError;
use satisfice_core::{NamedTensor, Tensor, TensorData};

/// Labelled inputs that jobs are cut from, round and round.
#[derive(Debug, Clone)]
pub struct Inputs {
    tensors: Vec<NamedTensor>,
    labels: Vec<i64>,
    /// Which input comes when.
    order: Vec<usize>,
}

impl Inputs {
    /// Inputs along the first dimension of every tensor, and each one's class.
    ///
    /// # Errors
    /// [`LoadError::Inputs`] when there are none, or the numbers of inputs differ, or tensors hold
    /// byte strings.
    pub fn new(tensors: Vec<NamedTensor>, labels: Vec<i64>) -> Result<Self, LoadError> {
        let wrong = |what: String| Err(LoadError::Inputs(what));
        if labels.is_empty() || tensors.is_empty() {
            return wrong("there are none".to_owned());
        }
        for NamedTensor { name, tensor } in &tensors {
            if tensor.shape().first() != Some(&labels.len()) {
                return wrong(format!(
                    "tensor `{name}` has the shape {:?}, but there are {} labels",
                    tensor.shape(),
                    labels.len()
                ));
            }
            if matches!(tensor.data(), TensorData::Bytes(_)) {
                return wrong(format!("tensor `{name}` holds byte strings"));
            }
        }
        Ok(Self {
            order: (0..labels.len()).collect(),
            tensors,
            labels,
        })
    }

    /// The same in an order that `seed` draws: files are often sorted, and a short run should see a bit
    /// of everything.
    #[must_use]
    pub fn shuffled(mut self, seed: u64) -> Self {
        fastrand::Rng::with_seed(seed).shuffle(&mut self.order);
        self
    }

    /// How many there are, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Labels of `count` inputs from `first` on, round and round.
    pub fn labels(&self, first: usize, count: usize) -> impl Iterator<Item = i64> + '_ {
        self.rows_of(first, count).map(|row| self.labels[row])
    }

    fn rows_of(&self, first: usize, count: usize) -> impl Iterator<Item = usize> + '_ {
        (first..first + count).map(|i| self.order[i % self.order.len()])
    }

    /// Tensors of `count` inputs from `first` on, round and round: those named in `wanted`, or all.
    pub(crate) fn tensors(
        &self,
        first: usize,
        count: usize,
        wanted: Option<&[String]>,
    ) -> Vec<NamedTensor> {
        let is_wanted = |name: &String| wanted.is_none_or(|wanted| wanted.contains(name));
        self.tensors
            .iter()
            .filter(|tensor| is_wanted(&tensor.name))
            .map(|NamedTensor { name, tensor }| {
                let mut shape = tensor.shape().to_vec();
                shape[0] = count;
                NamedTensor {
                    name: name.clone(),
                    tensor: Tensor::new(shape, self.rows(tensor, first, count))
                        .expect("invariant: `count` rows of the tensor's width"),
                }
            })
            .collect()
    }

    fn rows(&self, tensor: &Tensor, first: usize, count: usize) -> TensorData {
        let width: usize = tensor.shape()[1..].iter().product();
        let rows = self.rows_of(first, count);
        macro_rules! cut {
            ($($kind:ident)*) => {
                match tensor.data() {
                    $(TensorData::$kind(values) => TensorData::$kind(
                        rows.flat_map(|row| values[row * width..][..width].iter().copied()).collect(),
                    ),)*
                    TensorData::Bytes(_) => unreachable!("refused by `new`"),
                }
            };
        }
        cut!(Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64)
    }
}
