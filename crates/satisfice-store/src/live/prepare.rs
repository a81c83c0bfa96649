//! Checks of a write that need no graph, only what its store says of itself.

use super::{
    Limits, LiveError, NodeId, Operation, Problem, Write,
    limits::{ID_BYTES_MAX, NAME_BYTES_MAX},
};
use crate::{GraphStore, NodeIdKind};
use half::f16;
use safetensors::Dtype;
use satisfice_kernels::{Rows, quantize_row};

/// What every node of a graph is like.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    pub(super) width: usize,
    pub(super) dtype: Dtype,
    pub(super) ids: NodeIdKind,
    /// Whether there are labels.
    pub(super) labels: bool,
    pub(super) classes: Option<usize>,
}

impl Schema {
    pub(super) fn new(store: &GraphStore) -> Self {
        let manifest = store.manifest();
        Self {
            width: manifest.features,
            dtype: store.feature_dtype(),
            ids: manifest.ids,
            labels: store.labels().is_some(),
            classes: manifest.classes.as_ref().map(Vec::len),
        }
    }

    /// As [`new`](Self::new), for writes whose features were rounded before.
    pub(super) fn of_rounded(store: &GraphStore) -> Self {
        Self {
            dtype: Dtype::F32,
            ..Self::new(store)
        }
    }

    /// Checks a write and rounds its features to the store's precision.
    pub(super) fn prepare(&self, mut write: Write, limits: &Limits) -> Result<Write, LiveError> {
        if write.operations.len() > limits.operations_max {
            return Err(LiveError::TooLarge {
                what: "operations",
                found: write.operations.len(),
                max: limits.operations_max,
            });
        }
        let source = write.offset.as_ref().map(|offset| offset.source.as_str());
        name("the request id", write.request_id.as_deref())?;
        name("the source's name", source)?;
        for (index, operation) in write.operations.iter_mut().enumerate() {
            if let Err(problem) = self.check(operation) {
                return Err(LiveError::Operation {
                    index,
                    operation: operation.to_string(),
                    problem,
                });
            }
        }
        Ok(write)
    }

    fn check(&self, operation: &mut Operation) -> Result<(), Problem> {
        match operation {
            Operation::PutNode { id, x, label } => {
                self.check_id(id)?;
                if let Some(x) = x {
                    self.round(x)?;
                }
                label.map_or(Ok(()), |label| self.check_label(label))
            }
            Operation::DeleteNode { id } => self.check_id(id),
            Operation::PutEdge { source, target } | Operation::DeleteEdge { source, target } => {
                self.check_id(source)?;
                self.check_id(target)
            }
        }
    }

    fn check_id(&self, id: &NodeId) -> Result<(), Problem> {
        match (id, self.ids) {
            (NodeId::Text(text), NodeIdKind::String) => match text.len() {
                1..=ID_BYTES_MAX => Ok(()),
                length => Err(Problem::IdLength(length)),
            },
            (NodeId::Int(_), NodeIdKind::Position | NodeIdKind::Int64) => Ok(()),
            (id, kind) => Err(Problem::IdKind {
                id: id.to_string(),
                found: match id {
                    NodeId::Int(_) => "an integer",
                    NodeId::Text(_) => "a string",
                },
                expected: match kind {
                    NodeIdKind::Position => "node positions",
                    NodeIdKind::Int64 => "integers",
                    NodeIdKind::String => "strings",
                },
            }),
        }
    }

    fn check_label(&self, label: i32) -> Result<(), Problem> {
        if !self.labels {
            return Err(Problem::NoLabels);
        }
        let classes = self.classes.unwrap_or(i32::MAX as usize);
        if label < -1 || (label >= 0 && label as usize >= classes) {
            let expected = match self.classes {
                Some(classes) => format!("-1 (unknown) or 0 to {}", classes as i64 - 1),
                None => "-1 (unknown) or larger".to_owned(),
            };
            return Err(Problem::Label { label, expected });
        }
        Ok(())
    }

    /// What the store would hold of these features.
    fn round(&self, x: &mut [f32]) -> Result<(), Problem> {
        if x.len() != self.width {
            return Err(Problem::Width {
                found: x.len(),
                expected: self.width,
            });
        }
        let kept = |value: f32| match self.dtype {
            Dtype::F16 => f16::from_f32(value).to_f32(),
            _ => value,
        };
        let not_finite = |column: usize, value: f32| Problem::NotFinite {
            column,
            value: value.to_string(),
            dtype: self.dtype.to_string(),
        };
        if let Some(column) = x.iter().position(|&value| !kept(value).is_finite()) {
            return Err(not_finite(column, x[column]));
        }
        if self.dtype == Dtype::I8 {
            return round_to_bytes(x).map_err(|(column, value)| not_finite(column, value));
        }
        x.iter_mut().for_each(|value| *value = kept(*value));
        Ok(())
    }
}

/// Rounds a row to 8-bit integers and back.
///
/// # Errors
/// Column and value of one that is too large to come back.
fn round_to_bytes(x: &mut [f32]) -> Result<(), (usize, f32)> {
    let mut bytes = Vec::with_capacity(x.len() + size_of::<f32>());
    quantize_row(x, &mut bytes);
    let mut rounded = vec![0.0; x.len()];
    Rows::i8(&bytes, x.len()).read(0, &mut rounded);
    if let Some(column) = rounded.iter().position(|value| !value.is_finite()) {
        return Err((column, x[column]));
    }
    x.copy_from_slice(&rounded);
    Ok(())
}

fn name(what: &'static str, name: Option<&str>) -> Result<(), LiveError> {
    match name.map(str::len) {
        None | Some(1..=NAME_BYTES_MAX) => Ok(()),
        Some(bytes) => Err(LiveError::Name { what, bytes }),
    }
}
