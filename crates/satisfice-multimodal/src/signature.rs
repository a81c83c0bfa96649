//! What an ONNX file says of itself: inputs, outputs, files with weights.

use crate::{MultimodalError, config::stays_inside};
use satisfice_core::DataType;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
};
use tract_onnx::{
    pb::{self, tensor_proto, tensor_shape_proto::dimension, type_proto},
    prelude::Framework,
};

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) datatype: DataType,
    /// Length of each dimension; `None` for any.
    pub(crate) shape: Vec<Option<usize>>,
}

impl Port {
    /// A port whose first dimension, the batch, has any length.
    pub(crate) fn batch(name: &str, datatype: DataType, shape: &[usize]) -> Self {
        let lengths = shape.iter().map(|&length| Some(length));
        Self {
            name: name.to_owned(),
            datatype,
            shape: std::iter::once(None).chain(lengths).collect(),
        }
    }

    /// Whether the network's port takes tensors of `wanted`'s shape.
    fn takes(&self, wanted: &Self) -> bool {
        let fits = |(have, want): (&Option<usize>, &Option<usize>)| have.is_none() || have == want;
        self.datatype == wanted.datatype
            && self.shape.len() == wanted.shape.len()
            && self.shape.iter().zip(&wanted.shape).all(fits)
    }

    fn describe(&self) -> String {
        let mut text = format!("`{}` {} [", self.name, self.datatype);
        for (i, length) in self.shape.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            let _ = match length {
                Some(length) => write!(text, "{separator}{length}"),
                None => write!(text, "{separator}any"),
            };
        }
        text + "]"
    }
}

/// The signature of an ONNX file.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    path: PathBuf,
    /// What a call brings, in order.
    pub(crate) inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Files with weights, relative to the ONNX file's directory.
    pub(crate) weight_files: BTreeSet<String>,
    /// Whether it scales activations by the largest of the whole batch, so that an answer would
    /// depend on what else is in its batch.
    pub(crate) scales_by_batch: bool,
}

impl Signature {
    /// Reads the signature of the ONNX file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, MultimodalError> {
        if let Err(source) = std::fs::File::open(path) {
            let path = path.to_owned();
            return Err(MultimodalError::Io { path, source });
        }
        let wrong = |message: String| wrong(path, message);
        let model = tract_onnx::onnx().proto_model_for_path(path);
        let model = model.map_err(|error| wrong(format!("not an ONNX file: {error:#}")))?;
        let graph = model
            .graph
            .ok_or_else(|| wrong("not an ONNX file: it has no graph".to_owned()))?;
        let constants: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let inputs = graph.input.iter();
        let inputs = inputs.filter(|input| !constants.contains(input.name.as_str()));
        Ok(Self {
            inputs: inputs.map(port).collect::<Result<_, _>>().map_err(wrong)?,
            outputs: graph
                .output
                .iter()
                .map(port)
                .collect::<Result<_, _>>()
                .map_err(wrong)?,
            weight_files: weight_files(&graph).map_err(wrong)?,
            scales_by_batch: graph
                .node
                .iter()
                .any(|node| node.op_type == "DynamicQuantizeLinear"),
            path: path.to_owned(),
        })
    }

    /// Checks that the inputs are exactly `wanted`.
    pub(crate) fn check_inputs(&self, wanted: &[Port]) -> Result<(), MultimodalError> {
        for want in wanted {
            let have = self.inputs.iter().find(|have| have.name == want.name);
            match have {
                Some(have) if have.takes(want) => {}
                Some(have) => {
                    return Err(wrong(
                        &self.path,
                        format!(
                            "input {} where model.toml says {}",
                            have.describe(),
                            want.describe()
                        ),
                    ));
                }
                None => {
                    return Err(wrong(&self.path, format!("no input {}", want.describe())));
                }
            }
        }
        let extra = |have: &&Port| wanted.iter().all(|want| want.name != have.name);
        match self.inputs.iter().find(extra) {
            None => Ok(()),
            Some(extra) => Err(wrong(
                &self.path,
                format!("input {} that model.toml does not name", extra.describe()),
            )),
        }
    }

    /// The output of that name, or the only one: position, name and width of its rows.
    pub(crate) fn output(
        &self,
        name: Option<&str>,
    ) -> Result<(usize, String, usize), MultimodalError> {
        let position = match name {
            Some(name) => self.outputs.iter().position(|output| output.name == name),
            None if self.outputs.len() == 1 => Some(0),
            None => None,
        };
        let position = position.ok_or_else(|| {
            let names: Vec<&str> = self.outputs.iter().map(|o| o.name.as_str()).collect();
            let wanted = name.map_or("one output".to_owned(), |name| format!("output `{name}`"));
            wrong(
                &self.path,
                format!("outputs {names:?} where {wanted} is needed"),
            )
        })?;
        let output = &self.outputs[position];
        match (output.datatype, output.shape.as_slice()) {
            (DataType::Fp32, [None, Some(width)]) => Ok((position, output.name.clone(), *width)),
            _ => Err(wrong(
                &self.path,
                format!(
                    "output {} is not FP32 [any, a fixed width]",
                    output.describe()
                ),
            )),
        }
    }
}

pub(crate) fn wrong(path: &Path, message: String) -> MultimodalError {
    MultimodalError::File {
        path: path.to_owned(),
        message,
    }
}

fn port(info: &pb::ValueInfoProto) -> Result<Port, String> {
    let value = info.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return Err(format!("`{}` has no type", info.name));
    };
    let shape = tensor
        .shape
        .as_ref()
        .ok_or_else(|| format!("`{}` has no shape", info.name))?;
    let length = |dim: &pb::tensor_shape_proto::Dimension| match dim.value {
        Some(dimension::Value::DimValue(length)) => usize::try_from(length).ok(),
        _ => None,
    };
    Ok(Port {
        name: info.name.clone(),
        datatype: datatype(tensor.elem_type)
            .ok_or_else(|| format!("`{}` is of a type that is not served", info.name))?,
        shape: shape.dim.iter().map(length).collect(),
    })
}

fn datatype(onnx: i32) -> Option<DataType> {
    match tensor_proto::DataType::try_from(onnx).ok()? {
        tensor_proto::DataType::Float => Some(DataType::Fp32),
        tensor_proto::DataType::Int64 => Some(DataType::Int64),
        tensor_proto::DataType::Int32 => Some(DataType::Int32),
        tensor_proto::DataType::Uint8 => Some(DataType::Uint8),
        tensor_proto::DataType::Bool => Some(DataType::Bool),
        _ => None,
    }
}

/// Where weights are that are not in the file itself.
fn weight_files(graph: &pb::GraphProto) -> Result<BTreeSet<String>, String> {
    let entries = graph.initializer.iter().flat_map(|t| &t.external_data);
    let mut files = BTreeSet::new();
    for entry in entries.filter(|entry| entry.key == "location") {
        if !stays_inside(&entry.value) {
            return Err(format!(
                "weights in `{}`, outside the model's directory",
                entry.value
            ));
        }
        files.insert(entry.value.clone());
    }
    Ok(files)
}
