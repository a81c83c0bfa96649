mod pool;

use crate::{
    MultimodalError,
    runtime::{Executable, Loaded, Rows, Runtime},
    signature::{Bound, Port, Signature, wrong},
};
pub(crate) use pool::Pooling;
use satisfice_core::{DataType, Tensor, TensorData};
use std::path::{Path, PathBuf};

/// One ONNX file, ready to run.
#[derive(Debug)]
pub(crate) struct Network {
    path: PathBuf,
    bound: Bound,
    /// Name of the output that is read.
    pub(crate) output: String,
    /// Values of a row of that output, pooled.
    pub(crate) width: usize,
    pooling: Pooling,
    /// Rows that are computed together at most.
    rows_max: usize,
    executable: Box<dyn Executable>,
}

/// What networks are loaded with.
#[derive(Debug)]
pub(crate) struct NetworkLoader<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) batch_max: usize,
}

/// A network as model.toml has it.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) file: &'a str,
    /// Exactly what it reads.
    pub(crate) inputs: &'a [Port],
    /// The output that is read; the only one when absent.
    pub(crate) output: Option<&'a str>,
    pub(crate) pooling: Pooling,
}

impl NetworkLoader<'_> {
    /// Loads a network, and runs it once for what its file does not say.
    pub(crate) fn load(&self, wanted: Wanted<'_>) -> Result<Network, MultimodalError> {
        let path = self.dir.join(wanted.file);
        let signature = Signature::read(&path)?;
        let bound = signature.bind(wanted.inputs)?;
        let (position, output) = signature.output(wanted.output)?;
        let rows_max = match signature.scales_by_batch || bound.one_row {
            true => 1,
            false => self.batch_max,
        };
        let loaded = Loaded {
            path: &path,
            bound: &bound,
            output: position,
            rows_max,
        };
        let executable = self
            .runtime
            .load(loaded)
            .map_err(|message| wrong(&path, message))?;
        let mut network = Network {
            output: output.name.clone(),
            width: 0,
            pooling: wanted.pooling,
            rows_max,
            executable,
            bound,
            path: path.clone(),
        };
        network.try_out().map_err(|message| wrong(&path, message))?;
        Ok(network)
    }
}

impl Network {
    /// Executes a batch of `rows`, whose inputs `provide` makes. Returns `[rows, width]`.
    pub(crate) fn run(
        &self,
        rows: usize,
        provide: impl FnMut(&Port) -> Result<Tensor, MultimodalError>,
    ) -> Result<Vec<f32>, MultimodalError> {
        let inputs: Result<Vec<Tensor>, _> = self.bound.inputs.iter().map(provide).collect();
        let failed = |message: String| MultimodalError::Execution {
            code: "network_failed",
            message: format!("{}: {message}", self.name()),
        };
        let values = self.execute(rows, inputs?).map_err(failed)?;
        if values.len() != rows * self.width {
            return Err(failed(format!(
                "{} values for {rows} rows of {}",
                values.len(),
                self.width
            )));
        }
        Ok(values)
    }

    /// Pooled values of every row.
    fn execute(&self, rows: usize, inputs: Vec<Tensor>) -> Result<Vec<f32>, String> {
        let mask = self.pooling.mask(&self.bound.inputs, &inputs);
        let types = self.bound.reads.iter();
        let inputs: Vec<Tensor> = inputs
            .into_iter()
            .zip(types)
            .map(|(t, &to)| convert(t, to))
            .collect();
        let mut outputs = Rows::default();
        for from in (0..rows).step_by(self.rows_max) {
            let cut = from..rows.min(from + self.rows_max);
            self.executable.run(&inputs, cut, &mut outputs)?;
        }
        let shape = outputs.shape.unwrap_or_default();
        self.pooling.pool(&shape, outputs.values, mask.as_deref())
    }

    /// Executes a batch of zeros, to warm up or to take the time.
    pub(crate) fn run_zeros(&self, rows: usize) -> Result<(), MultimodalError> {
        self.run(rows, |port| Ok(zeros(port, rows))).map(drop)
    }

    /// Runs two made-up rows: says how wide a row is, and finds a network in which the rows of a batch
    /// have to do with each other, which is then run a row at a time.
    fn try_out(&mut self) -> Result<(), String> {
        let ports = self.bound.inputs.clone();
        let made = |make: fn(&Port, usize, usize) -> Tensor, from: usize, rows: usize| {
            ports.iter().map(|port| make(port, from, rows)).collect()
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
        self.width = first.len();
        if self.width == 0 {
            return Err("gives an output without values".to_owned());
        }
        if self.rows_max == 1 {
            return Ok(());
        }
        let second = self.execute(1, made(make, 1, 1))?;
        let alone = [first, second].concat();
        let together = self.execute(2, made(make, 0, 2))?;
        if together.len() != alone.len() {
            return Err(format!(
                "gives {} values for one row and {} for two: the first dimension of an output has to be \
                 the batch, and the others must not depend on it",
                self.width,
                together.len()
            ));
        }
        if !alike(&alone, &together) {
            tracing::warn!(
                "{}: a row's values depend on the batch that it is in, so rows are run one at a time",
                self.name()
            );
            self.rows_max = 1;
        }
        Ok(())
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

fn shape(port: &Port, rows: usize) -> Vec<usize> {
    port.shape
        .iter()
        .map(|length| length.unwrap_or(rows))
        .collect()
}

fn zeros(port: &Port, rows: usize) -> Tensor {
    filled(shape(port, rows), port.datatype, 0.0)
}

/// Made-up rows, each of other numbers: floats from 0 to 1, integers 0 and 1.
fn sample(port: &Port, from: usize, rows: usize) -> Tensor {
    let shape = shape(port, rows);
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
