mod pool;

use crate::{
    MultimodalError,
    runtime::{Executable, Loaded, Rows, Runtime},
    signature::{Bound, Port, Signature, wrong},
    slow,
};
pub(crate) use pool::Reading;
use satisfice_core::{DataType, Tensor, TensorData};
use std::path::{Path, PathBuf};

/// One ONNX file, ready to run.
#[derive(Debug)]
pub(crate) struct Network {
    file: String,
    path: PathBuf,
    bound: Bound,
    /// The outputs that are read, the one that is wanted first.
    outputs: Vec<Output>,
    /// Rows that are computed together at most.
    rows_max: usize,
    executable: Box<dyn Executable>,
}

/// An output that is read.
#[derive(Debug)]
struct Output {
    name: String,
    /// Which of its dimensions is the batch.
    axis: usize,
    reading: Reading,
    /// What a row of it is, once it is read.
    shape: Vec<usize>,
}

/// What networks are loaded with.
#[derive(Debug)]
pub(crate) struct NetworkLoader<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) batch_max: usize,
    /// What networks may read beside what they are given.
    pub(crate) constants: Vec<Port>,
}

/// A network as model.toml has it.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) file: &'a str,
    /// Exactly what it reads.
    pub(crate) inputs: &'a [Port],
    /// The output that is read; the only one when absent.
    pub(crate) output: Option<&'a str>,
    pub(crate) reading: Reading,
    /// Outputs that are given as they are.
    pub(crate) also: &'a [String],
}

impl NetworkLoader<'_> {
    /// Loads a network, and runs it once for what its file does not say.
    pub(crate) fn load(&self, wanted: Wanted<'_>) -> Result<Network, MultimodalError> {
        let path = self.dir.join(wanted.file);
        let signature = Signature::read(&path)?;
        let bound = signature.bind(wanted.inputs, &self.constants)?;
        let (mut positions, mut outputs) = (Vec::new(), Vec::new());
        let mut alone = signature.scales_by_batch || bound.one_row;
        let also = wanted
            .also
            .iter()
            .map(|name| (Some(name.as_str()), Reading::whole()));
        for (name, reading) in [(wanted.output, wanted.reading)].into_iter().chain(also) {
            let (position, output) = signature.output(name)?;
            // What is a single number has no batch.
            alone |= output.scalar;
            let named = bound.batch_axis(output);
            positions.push(position);
            outputs.push(Output {
                name: output.name.clone(),
                axis: reading.batch_axis.or(named).unwrap_or(0),
                reading,
                shape: Vec::new(),
            });
        }
        let rows_max = if alone { 1 } else { self.batch_max };
        let loaded = Loaded {
            path: &path,
            bound: &bound,
            outputs: &positions,
            rows_max,
        };
        let what = format!("loading {} in {}", wanted.file, self.runtime.name());
        let executable = slow::saying(&what, || self.runtime.load(loaded));
        let executable = executable.map_err(|message| wrong(&path, message))?;
        let mut network = Network {
            file: wanted.file.to_owned(),
            outputs,
            rows_max,
            executable,
            bound,
            path: path.clone(),
        };
        let what = format!("trying out {}", wanted.file);
        slow::saying(&what, || network.try_out()).map_err(|message| wrong(&path, message))?;
        Ok(network)
    }
}

/// Values of an output, and the shape of a row.
type Read = (Vec<usize>, Vec<f32>);

impl Network {
    /// Name of the output that is wanted.
    pub(crate) fn output(&self) -> &str {
        &self.outputs[0].name
    }

    /// Shape of a row of that output.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.outputs[0].shape
    }

    /// Values of a row of that output.
    pub(crate) fn width(&self) -> usize {
        self.shape().iter().product()
    }

    /// Name of each other output, and shape of its rows.
    pub(crate) fn also(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let others = self.outputs.iter().skip(1);
        others.map(|output| (output.name.as_str(), output.shape.as_slice()))
    }

    /// Executes a batch of `rows`, whose inputs `provide` makes. Returns the values of each output, row by row.
    pub(crate) fn run(
        &self,
        rows: usize,
        mut provide: impl FnMut(&Port) -> Result<Tensor, MultimodalError>,
    ) -> Result<Vec<Vec<f32>>, MultimodalError> {
        let input = |port: &Port| match port.constant {
            Some(value) => Ok(filled(port.provided(rows), port.datatype, value)),
            None => provide(port),
        };
        let inputs: Result<Vec<Tensor>, _> = self.bound.inputs.iter().map(input).collect();
        let failed = |message: String| MultimodalError::Execution {
            code: "network_failed",
            message: format!("{}: {message}", self.name()),
        };
        let read = self.execute(rows, inputs?).map_err(failed)?;
        for (output, (shape, _)) in self.outputs.iter().zip(&read) {
            if *shape != output.shape {
                return Err(failed(format!(
                    "rows of `{}` are {shape:?}, and were {:?} when it was loaded",
                    output.name, output.shape
                )));
            }
        }
        Ok(read.into_iter().map(|(_, values)| values).collect())
    }

    /// What each output gives for every row.
    fn execute(&self, rows: usize, inputs: Vec<Tensor>) -> Result<Vec<Read>, String> {
        let masks = self
            .outputs
            .iter()
            .map(|o| o.reading.mask(&self.bound.inputs, &inputs));
        let masks: Vec<_> = masks.collect();
        let types = self.bound.reads.iter();
        let inputs: Vec<Tensor> = inputs
            .into_iter()
            .zip(types)
            .map(|(t, &to)| convert(t, to))
            .collect();
        let mut given: Vec<Rows> = self.outputs.iter().map(|o| Rows::along(o.axis)).collect();
        for from in (0..rows).step_by(self.rows_max) {
            let cut = from..rows.min(from + self.rows_max);
            self.executable.run(&inputs, cut, &mut given)?;
        }
        let read = self.outputs.iter().zip(given).zip(masks);
        read.map(|((output, rows), mask)| {
            let shape = rows.shape.unwrap_or_default();
            output.reading.read(shape, rows.values, mask.as_deref())
        })
        .collect()
    }

    /// Makes ready what batches of up to `rows` rows are executed by.
    pub(crate) fn prepare(&self, rows: usize) {
        self.executable.prepare(rows.min(self.rows_max));
    }

    /// Executes a batch of zeros, to warm up or to take the time.
    pub(crate) fn run_zeros(&self, rows: usize) -> Result<(), MultimodalError> {
        self.run(rows, |port| Ok(zeros(port, rows))).map(drop)
    }

    /// Runs two made-up rows: says what a row is, and finds a network in which the rows of a batch have to
    /// do with each other, which is then run a row at a time.
    fn try_out(&mut self) -> Result<(), String> {
        let ports = self.bound.inputs.clone();
        let made = |make: fn(&Port, usize, usize) -> Tensor, from: usize, rows: usize| {
            let input = |port: &Port| match port.constant {
                Some(value) => filled(port.provided(rows), port.datatype, value),
                None => make(port, from, rows),
            };
            ports.iter().map(input).collect()
        };
        let zeros = |port: &Port, _: usize, rows: usize| zeros(port, rows);
        let (make, first) = match self.execute(1, made(sample, 0, 1)) {
            Ok(values) => (sample as fn(&Port, usize, usize) -> Tensor, values),
            // Perhaps such numbers are none for it: lengths, or positions.
            Err(message) => (
                zeros as _,
                self.execute(1, made(zeros, 0, 1)).map_err(|_| message)?,
            ),
        };
        for (output, (shape, _)) in self.outputs.iter_mut().zip(&first) {
            output.shape.clone_from(shape);
            if shape.contains(&0) {
                return Err(format!("gives an output `{}` without values", output.name));
            }
        }
        if self.rows_max == 1 {
            return Ok(());
        }
        self.prepare(2);
        let second = self.execute(1, made(make, 1, 1))?;
        let together = self.execute(2, made(make, 0, 2))?;
        let alone = first.into_iter().zip(second);
        for ((first, second), (_, together)) in alone.zip(together) {
            let alone = [first.1, second.1].concat();
            if together.len() != alone.len() {
                return Err(format!(
                    "gives {} values for one row and {} for two: the first dimension of an output has to \
                     be the batch, and the others must not depend on it",
                    alone.len() / 2,
                    together.len()
                ));
            }
            if self.rows_max > 1 && !alike(&alone, &together) {
                tracing::warn!(
                    "{}: a row's values depend on the batch that it is in, so rows are run one at a time",
                    self.name()
                );
                self.rows_max = 1;
            }
        }
        Ok(())
    }

    /// The file, as model.toml names it.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// The file, as messages name it.
    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// Whether two answers are the same but for rounding, that of 8 bits included.
fn alike(a: &[f32], b: &[f32]) -> bool {
    const SHARE: f32 = 0.05;
    let largest = a.iter().map(|v| v.abs()).fold(0.0, f32::max);
    let close = |(a, b): (&f32, &f32)| !a.is_finite() || (a - b).abs() <= SHARE * largest + 1e-4;
    a.iter().zip(b).all(close)
}

/// The tensor in the floating-point type that a network reads.
fn convert(tensor: Tensor, to: DataType) -> Tensor {
    let data = match (tensor.data(), to) {
        (TensorData::Fp32(v), DataType::Fp16) => {
            TensorData::Fp16(v.iter().map(|&v| half::f16::from_f32(v)).collect())
        }
        (TensorData::Fp32(v), DataType::Bf16) => {
            TensorData::Bf16(v.iter().map(|&v| half::bf16::from_f32(v)).collect())
        }
        (TensorData::Fp32(v), DataType::Fp64) => {
            TensorData::Fp64(v.iter().map(|&v| f64::from(v)).collect())
        }
        _ => return tensor,
    };
    Tensor::new(tensor.shape().to_vec(), data).expect("invariant: one element for each")
}

fn zeros(port: &Port, rows: usize) -> Tensor {
    filled(port.provided(rows), port.datatype, 0.0)
}

/// Made-up rows, each of other numbers: floats from 0 to 1, integers 0 and 1.
fn sample(port: &Port, from: usize, rows: usize) -> Tensor {
    let shape = port.provided(rows);
    let width: usize = shape.iter().skip(1).product();
    let elements = from * width..(from + rows) * width;
    // The golden ratio's multiples lie everywhere between 0 and 1.
    let float = |i: usize| (i as f64 * 0.618_033_988_749_895).fract();
    let values = elements.map(|i| match port.datatype {
        DataType::Fp32 => float(i + 1),
        _ => float(i + 1).round(),
    });
    let data = numbers(port.datatype, values);
    Tensor::new(shape, data).expect("invariant: the elements are counted by the shape")
}

/// A tensor of one value.
pub(crate) fn filled(shape: Vec<usize>, datatype: DataType, value: f64) -> Tensor {
    let count = shape.iter().product();
    let data = numbers(datatype, std::iter::repeat_n(value, count));
    Tensor::new(shape, data).expect("invariant: the elements are counted by the shape")
}

/// Numbers of a type that model.toml may name.
fn numbers(datatype: DataType, values: impl Iterator<Item = f64>) -> TensorData {
    match datatype {
        DataType::Int64 => TensorData::Int64(values.map(|v| v as i64).collect()),
        DataType::Int32 => TensorData::Int32(values.map(|v| v as i32).collect()),
        DataType::Int8 => TensorData::Int8(values.map(|v| v as i8).collect()),
        DataType::Uint8 => TensorData::Uint8(values.map(|v| v as u8).collect()),
        DataType::Bool => TensorData::Bool(values.map(|v| v != 0.0).collect()),
        _ => TensorData::Fp32(values.map(|v| v as f32).collect()),
    }
}
