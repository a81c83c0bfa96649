//! Inputs of several requests, side by side.

use crate::{MultimodalError, config::TensorConfig, preprocess::Preprocess};
use satisfice_core::{DataType, InferRequest, NamedTensor, Tensor, TensorData};

/// Inputs in the order in which they are answered.
#[derive(Debug, Clone)]
pub(crate) struct Batch<'a>(Vec<Row<'a>>);

/// One input of a prepared request.
#[derive(Debug, Clone)]
struct Row<'a> {
    request: &'a InferRequest,
    at: usize,
    /// Tensors of one row that were made of what the request brings raw.
    made: Vec<NamedTensor>,
}

impl Row<'_> {
    /// The tensor of that name, and which of its rows is this input's.
    fn tensor(&self, name: &str) -> Option<(&Tensor, usize)> {
        if let Some(tensor) = self.request.input(name) {
            return Some((tensor, self.at));
        }
        let made = self.made.iter().find(|made| made.name == name)?;
        Some((&made.tensor, 0))
    }
}

impl<'a> Batch<'a> {
    pub(crate) fn new(rows: impl IntoIterator<Item = (&'a InferRequest, usize)>) -> Self {
        let row = |(request, at)| Row {
            request,
            at,
            made: Vec::new(),
        };
        Self(rows.into_iter().map(row).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Some of the inputs.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        Self(rows.iter().map(|&row| self.0[row].clone()).collect())
    }

    /// Makes a modality's `tensors` of the inputs that bring it raw, unless that was done.
    pub(crate) fn make(
        &mut self,
        preprocess: &Preprocess,
        tensors: &[TensorConfig],
    ) -> Result<(), MultimodalError> {
        for row in &mut self.0 {
            let is_there = tensors.iter().any(|t| row.tensor(&t.name).is_some());
            if !is_there {
                row.made.extend(preprocess.run(row.request, row.at)?);
            }
        }
        Ok(())
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
            DataType::Int8 => TensorData::Int8(self.rows(name, |data| match data {
                TensorData::Int8(v) => Some(v),
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
        let mut shape = match self.0.first().and_then(|row| row.tensor(name)) {
            Some((tensor, _)) => tensor.shape().to_vec(),
            None => return Err(missing(name)),
        };
        shape[0] = self.len();
        Tensor::new(shape, data).map_err(|_| missing(name))
    }

    fn rows<T: Copy>(
        &self,
        name: &str,
        values: impl Fn(&TensorData) -> Option<&Vec<T>>,
    ) -> Result<Vec<T>, MultimodalError> {
        let mut all = Vec::new();
        for row in &self.0 {
            let (tensor, row) = row.tensor(name).ok_or_else(|| missing(name))?;
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
