//! What an ONNX file says of itself: inputs, outputs, files with weights.

mod axes;
mod walk;

pub(crate) use axes::{Axis, Bound};
pub(crate) use walk::{graphs_mut, nodes};

use crate::{MultimodalError, config::stays_inside};
use satisfice_core::DataType;
use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};
use tract_onnx::{
    pb::{self, tensor_proto, tensor_shape_proto::dimension, type_proto},
    prelude::Framework,
};

/// An input as model.toml has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) datatype: DataType,
    /// Length of each dimension; `None` for the batch.
    pub(crate) shape: Vec<Option<usize>>,
    /// What every element is, where no request brings it.
    pub(crate) constant: Option<f64>,
}

impl Port {
    /// A port whose first dimension, the batch, has any length.
    pub(crate) fn batch(name: &str, datatype: DataType, shape: &[usize]) -> Self {
        Self::along(0, name, datatype, shape)
    }

    /// A port whose dimension `axis` is the batch; `shape` are the others.
    pub(crate) fn along(axis: usize, name: &str, datatype: DataType, shape: &[usize]) -> Self {
        let mut shape: Vec<Option<usize>> = shape.iter().map(|&length| Some(length)).collect();
        shape.insert(axis, None);
        Self {
            name: name.to_owned(),
            datatype,
            shape,
            constant: None,
        }
    }

    /// Which dimension is the batch, if one is.
    pub(crate) fn batch_axis(&self) -> Option<usize> {
        self.shape.iter().position(Option::is_none)
    }

    /// Shape of what is provided for `rows` rows: the batch first, if there is one.
    pub(crate) fn provided(&self, rows: usize) -> Vec<usize> {
        let batch = self.batch_axis().map(|_| rows);
        batch
            .into_iter()
            .chain(self.shape.iter().copied().flatten())
            .collect()
    }

    fn describe(&self) -> String {
        let lengths = self.shape.iter().map(|length| match length {
            Some(length) => length.to_string(),
            None => "batch".to_owned(),
        });
        describe(&self.name, self.datatype.name(), lengths)
    }
}

/// An input or output as a file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) datatype: DataType,
    pub(crate) axes: Vec<Axis>,
    /// Whether it is said to be a single number.
    pub(crate) scalar: bool,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes = self.axes.iter().map(ToString::to_string);
        f.write_str(&describe(&self.name, self.datatype.name(), axes))
    }
}

fn describe(name: &str, datatype: &str, lengths: impl Iterator<Item = String>) -> String {
    let lengths: Vec<String> = lengths.collect();
    format!("`{name}` {datatype} [{}]", lengths.join(", "))
}

/// The signature of an ONNX file.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    path: PathBuf,
    /// What a call brings, in order.
    pub(crate) inputs: Vec<Declared>,
    outputs: Vec<Output>,
    /// Files with weights, relative to the ONNX file's directory.
    pub(crate) weight_files: BTreeSet<String>,
    /// Whether it scales activations by the largest of the whole batch, so that an answer would
    /// depend on what else is in its batch.
    pub(crate) scales_by_batch: bool,
}

/// An output; of one that nobody wants it does not matter what it is.
#[derive(Debug, Clone)]
struct Output {
    name: String,
    declared: Result<Declared, String>,
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
        let Some(graph) = &model.graph else {
            return Err(wrong("not an ONNX file: it has no graph".to_owned()));
        };
        let constants: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let inputs = graph.input.iter();
        let inputs = inputs.filter(|input| !constants.contains(input.name.as_str()));
        let inputs: Result<_, String> = inputs.map(declared).collect();
        let output = |info: &pb::ValueInfoProto| Output {
            name: info.name.clone(),
            declared: declared(info),
        };
        let weight_files = weight_files(&model).map_err(wrong)?;
        check_links(path, &weight_files).map_err(wrong)?;
        Ok(Self {
            inputs: inputs.map_err(wrong)?,
            outputs: graph.output.iter().map(output).collect(),
            weight_files,
            scales_by_batch: scales_by_batch(&model),
            path: path.to_owned(),
        })
    }

    /// Checks that the inputs are exactly `wanted` but for `constants`, and gives each free axis its length.
    pub(crate) fn bind(
        &self,
        wanted: &[Port],
        constants: &[Port],
    ) -> Result<Bound, MultimodalError> {
        let is_missing = |want: &&Port| self.inputs.iter().all(|have| have.name != want.name);
        if let Some(want) = wanted.iter().find(is_missing) {
            return Err(wrong(&self.path, format!("no input {}", want.describe())));
        }
        let mut ports = Vec::new();
        for have in &self.inputs {
            let mut all = wanted.iter().chain(constants);
            let Some(want) = all.find(|want| want.name == have.name) else {
                let message = format!(
                    "input {have} that model.toml does not name: it is a tensor of a modality, or one of \
                     [[constants]]"
                );
                return Err(wrong(&self.path, message));
            };
            ports.push(want);
        }
        Bound::of(&self.inputs, &ports).map_err(|message| wrong(&self.path, message))
    }

    /// The outputs that are tensors.
    pub(crate) fn declared_outputs(&self) -> impl Iterator<Item = &Declared> {
        self.outputs
            .iter()
            .filter_map(|output| output.declared.as_ref().ok())
    }

    /// What every output is, or why it is not read.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = String> {
        self.outputs.iter().map(|output| match &output.declared {
            Ok(declared) => declared.to_string(),
            Err(message) => message.clone(),
        })
    }

    /// The output of that name, or the only one, and its position.
    pub(crate) fn output(&self, name: Option<&str>) -> Result<(usize, &Declared), MultimodalError> {
        let position = match name {
            Some(name) => self.outputs.iter().position(|output| output.name == name),
            None if self.outputs.len() == 1 => Some(0),
            None => None,
        };
        let Some(position) = position else {
            let names: Vec<&str> = self.outputs.iter().map(|o| o.name.as_str()).collect();
            let wanted = name.map_or_else(
                || "one output is needed: name one by `output`".to_owned(),
                |name| format!("output `{name}` is needed"),
            );
            return Err(wrong(
                &self.path,
                format!("outputs {names:?} where {wanted}"),
            ));
        };
        let output = self.outputs[position].declared.as_ref();
        let output = output.map_err(|message| wrong(&self.path, message.clone()))?;
        if !output.datatype.is_float() {
            let message = format!(
                "output {output} is not FP32, FP16, BF16 or FP64: no answer is read from it"
            );
            return Err(wrong(&self.path, message));
        }
        Ok((position, output))
    }
}

pub(crate) fn wrong(path: &Path, message: String) -> MultimodalError {
    MultimodalError::File {
        path: path.to_owned(),
        message,
    }
}

fn declared(info: &pb::ValueInfoProto) -> Result<Declared, String> {
    let value = info.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return Err(format!("`{}` has no type", info.name));
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    let axis = |dim: &pb::tensor_shape_proto::Dimension| match &dim.value {
        Some(dimension::Value::DimValue(length)) => {
            usize::try_from(*length).map_or(Axis::Free, Axis::Fixed)
        }
        // Some exporters write a question mark for every length that they do not know.
        Some(dimension::Value::DimParam(name)) if !matches!(name.as_str(), "" | "?") => {
            Axis::Named(name.clone())
        }
        _ => Axis::Free,
    };
    Ok(Declared {
        name: info.name.clone(),
        datatype: datatype(tensor.elem_type)
            .map_err(|name| format!("`{}` is of type {name}, which is not served", info.name))?,
        axes: dims.map(axis).collect(),
        scalar: tensor
            .shape
            .as_ref()
            .is_some_and(|shape| shape.dim.is_empty()),
    })
}

fn datatype(onnx: i32) -> Result<DataType, String> {
    use tensor_proto::DataType as Onnx;
    match Onnx::try_from(onnx) {
        Ok(Onnx::Float) => Ok(DataType::Fp32),
        Ok(Onnx::Float16) => Ok(DataType::Fp16),
        Ok(Onnx::Bfloat16) => Ok(DataType::Bf16),
        Ok(Onnx::Double) => Ok(DataType::Fp64),
        Ok(Onnx::Int64) => Ok(DataType::Int64),
        Ok(Onnx::Int32) => Ok(DataType::Int32),
        Ok(Onnx::Int16) => Ok(DataType::Int16),
        Ok(Onnx::Int8) => Ok(DataType::Int8),
        Ok(Onnx::Uint64) => Ok(DataType::Uint64),
        Ok(Onnx::Uint32) => Ok(DataType::Uint32),
        Ok(Onnx::Uint16) => Ok(DataType::Uint16),
        Ok(Onnx::Uint8) => Ok(DataType::Uint8),
        Ok(Onnx::Bool) => Ok(DataType::Bool),
        Ok(Onnx::String) => Ok(DataType::Bytes),
        Ok(other) => Err(other.as_str_name().to_owned()),
        Err(_) => Err(onnx.to_string()),
    }
}

fn scales_by_batch(model: &pb::ModelProto) -> bool {
    nodes(model).any(|node| node.op_type == "DynamicQuantizeLinear")
}

/// Refuses weights behind links that lead elsewhere than beside the network, or beside the file that the
/// network itself is a link to, as caches lay them out.
fn check_links(path: &Path, files: &BTreeSet<String>) -> Result<(), String> {
    let real = |path: &Path| path.canonicalize().ok();
    let beside = [
        path.parent().and_then(real),
        real(path).and_then(|p| p.parent().map(Path::to_owned)),
    ];
    for file in files {
        let named = path.with_file_name(file);
        let Some(there) = real(&named) else {
            return Err(match named.is_symlink() {
                true => format!("weights in `{file}`, a link to nothing"),
                false => format!("weights in `{file}`, which is not there"),
            });
        };
        if !beside.iter().flatten().any(|dir| there.starts_with(dir)) {
            return Err(format!(
                "weights in `{file}`, a link to {}: copy them beside the network (`cp -L`), or link the \
                 network to the same directory",
                there.display()
            ));
        }
    }
    Ok(())
}

/// Where weights are that are not in the file itself.
fn weight_files(model: &pb::ModelProto) -> Result<BTreeSet<String>, String> {
    let mut files = BTreeSet::new();
    for tensor in walk::tensors(model) {
        for entry in tensor.external_data.iter().filter(|e| e.key == "location") {
            if !stays_inside(&entry.value) {
                return Err(format!(
                    "weights in `{}`, outside the model's directory",
                    entry.value
                ));
            }
            files.insert(entry.value.clone());
        }
    }
    Ok(files)
}
