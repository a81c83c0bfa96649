//! Calibration and held-out inputs: one safetensors file.

mod column;

use crate::{ModelConfig, MultimodalError, config::ModalityConfig, signature::wrong};
use column::{Affine, Column};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use satisfice_core::{InferRequest, NamedTensor};
use std::{collections::BTreeMap, fs, ops::Range, path::Path};

const FORMAT: &str = "satisfice-multimodal-data-1";

/// Inputs with every modality of a model, with labels where they are known.
#[derive(Debug)]
pub struct Dataset {
    columns: Vec<Column>,
    inputs: usize,
    labels: Option<Vec<usize>>,
    groups: Vec<usize>,
}

impl Dataset {
    /// Reads the file at `path`, which must fit the model.
    ///
    /// # Errors
    /// [`MultimodalError::Io`] and [`MultimodalError::File`], which say what does not fit.
    pub fn open(path: &Path, config: &ModelConfig) -> Result<Self, MultimodalError> {
        let bytes = fs::read(path).map_err(|source| MultimodalError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&bytes, config).map_err(|message| wrong(path, message))
    }

    fn parse(bytes: &[u8], config: &ModelConfig) -> Result<Self, String> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        match metadata.get("format").map(String::as_str) {
            Some(FORMAT) => {}
            other => return Err(format!("format is {other:?}, not `{FORMAT}`")),
        }
        let affine: BTreeMap<String, Affine> = match metadata.get("affine") {
            None => BTreeMap::new(),
            Some(text) => serde_json::from_str(text).map_err(|e| format!("affine: {e}"))?,
        };
        let mut columns = Vec::new();
        for modality in &config.modalities {
            columns.extend(modality_columns(modality, &tensors, &affine)?);
        }
        let inputs = columns.first().map_or(0, Column::inputs);
        if inputs == 0 || columns.iter().any(|column| column.inputs() != inputs) {
            return Err("the tensors do not have the same number of inputs, at least 1".to_owned());
        }
        let labels = labels(&tensors, inputs, config.output.classes.len())?;
        let groups = groups(&tensors, inputs)?;
        Ok(Self {
            columns,
            inputs,
            labels,
            groups,
        })
    }

    /// How many inputs there are.
    pub fn len(&self) -> usize {
        self.inputs
    }

    /// Whether there are none; a file without inputs is refused.
    pub fn is_empty(&self) -> bool {
        self.inputs == 0
    }

    /// The class of each input, if they are known.
    pub fn labels(&self) -> Option<&[usize]> {
        self.labels.as_deref()
    }

    /// Number of each input's group, numbered from 0 by first appearance; a group of its own for
    /// each input where the file has none.
    pub fn groups(&self) -> &[usize] {
        &self.groups
    }

    /// How many groups of independent inputs there are.
    pub fn group_count(&self) -> usize {
        self.groups.iter().max().map_or(0, |last| last + 1)
    }

    /// A request of these inputs with every modality.
    ///
    /// # Panics
    /// When `inputs` is out of range.
    pub fn request(&self, inputs: Range<usize>) -> InferRequest {
        let tensor = |column: &Column| NamedTensor {
            name: column.name.clone(),
            tensor: column.rows(inputs.clone()),
        };
        InferRequest {
            inputs: self.columns.iter().map(tensor).collect(),
            ..InferRequest::default()
        }
    }
}

/// The columns of a modality: its ready tensors, or what is preprocessed.
fn modality_columns(
    modality: &ModalityConfig,
    tensors: &SafeTensors<'_>,
    affine: &BTreeMap<String, Affine>,
) -> Result<Vec<Column>, String> {
    if let Some(preprocess) = &modality.preprocess {
        let input = preprocess.input();
        let offsets = tensors.tensor(&format!("{input}_offsets"));
        let bytes = tensors.tensor(&format!("{input}_bytes"));
        if let (Ok(offsets), Ok(bytes)) = (offsets, bytes) {
            return Ok(vec![Column::strings(input, &offsets, &bytes)?]);
        }
    }
    let ready = modality.tensors.iter().map(|tensor| {
        let view = tensors.tensor(&tensor.name);
        let view = view.map_err(|_| format!("no tensor `{}`", tensor.name))?;
        Column::ready(tensor, &view, affine.get(&tensor.name).copied())
    });
    ready.collect()
}

fn labels(
    tensors: &SafeTensors<'_>,
    inputs: usize,
    classes: usize,
) -> Result<Option<Vec<usize>>, String> {
    let Ok(view) = tensors.tensor("labels") else {
        return Ok(None);
    };
    let label = |label: i64| match usize::try_from(label) {
        Ok(label) if label < classes => Ok(label),
        _ => Err(format!("label {label} is none of the {classes} classes")),
    };
    let labels = integers("labels", &view, inputs)?.into_iter().map(label);
    labels.collect::<Result<_, _>>().map(Some)
}

fn groups(tensors: &SafeTensors<'_>, inputs: usize) -> Result<Vec<usize>, String> {
    let Ok(view) = tensors.tensor("groups") else {
        return Ok((0..inputs).collect());
    };
    let mut numbers = BTreeMap::new();
    let mut number = |group| {
        let next = numbers.len();
        *numbers.entry(group).or_insert(next)
    };
    let groups = integers("groups", &view, inputs)?;
    Ok(groups.into_iter().map(&mut number).collect())
}

/// An I64 tensor `[count]`.
fn integers(name: &str, view: &TensorView<'_>, count: usize) -> Result<Vec<i64>, String> {
    if view.dtype() != Dtype::I64 || view.shape() != [count] {
        return Err(format!(
            "`{name}` is {:?} {:?}, not I64 [{count}]",
            view.dtype(),
            view.shape()
        ));
    }
    Ok(column::numbers(view.data(), i64::from_le_bytes))
}
