//! Inputs of several requests, side by side.

use crate::MultimodalError;
use satisfice_core::{DataType, InferRequest, Tensor, TensorData};

/// Inputs in the order in which they are answered: a prepared request, and which of its inputs.
#[derive(Debug, Clone)]
pub(crate) struct Batch<'a>(Vec<(&'a InferRequest, usize)>);

impl<'a> Batch<'a> {
    pub(crate) fn new(rows: impl IntoIterator<Item = (&'a InferRequest, usize)>) -> Self {
        Self(rows.into_iter().collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Some of the inputs.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        Self(rows.iter().map(|&row| self.0[row]).collect())
    }

    /// The tensor of that name of every input, as one.
    pub(crate) fn gather(&self, name: &str, datatype: DataType) -> Result<Tensor, MultimodalError> {
        let data = match datatype {
            DataType::Fp32 => TensorData::Fp32(self.rows(name, |data| match data {
                TensorData::Fp32(v) => Some(v),
                _ => None,
            })?),
            DataType::Int64 => TensorData::Int64(self.rows(name, |data| match data {
                TensorData::Int64(v) => Some(v),
                _ => None,
            })?),
            DataType::Int32 => TensorData::Int32(self.rows(name, |data| match data {
                TensorData::Int32(v) => Some(v),
                _ => None,
            })?),
            DataType::Uint8 => TensorData::Uint8(self.rows(name, |data| match data {
                TensorData::Uint8(v) => Some(v),
                _ => None,
            })?),
            _ => TensorData::Bool(self.rows(name, |data| match data {
                TensorData::Bool(v) => Some(v),
                _ => None,
            })?),
        };
        let mut shape = match self.0.first().and_then(|(request, _)| request.input(name)) {
            Some(tensor) => tensor.shape().to_vec(),
            None => return Err(missing(name)),
        };
        shape[0] = self.len();
        Tensor::new(shape, data).map_err(|_| missing(name))
    }

    fn rows<T: Copy + 'a>(
        &self,
        name: &str,
        values: impl Fn(&'a TensorData) -> Option<&'a Vec<T>>,
    ) -> Result<Vec<T>, MultimodalError> {
        let mut all = Vec::new();
        for &(request, row) in &self.0 {
            let tensor = request.input(name).ok_or_else(|| missing(name))?;
            let values = values(tensor.data()).ok_or_else(|| missing(name))?;
            let width: usize = tensor.shape()[1..].iter().product();
            all.extend_from_slice(&values[row * width..(row + 1) * width]);
        }
        Ok(all)
    }
}

/// A job was not prepared by this engine, or not for the strategy.
fn missing(name: &str) -> MultimodalError {
    MultimodalError::Execution {
        code: "unprepared_job",
        message: format!("a job without the tensor `{name}` was given to a strategy that reads it"),
    }
}
