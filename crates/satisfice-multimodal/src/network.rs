use crate::{
    MultimodalError,
    runtime::{Executable, Runtime},
    signature::{Port, Signature, wrong},
};
use satisfice_core::{DataType, Tensor, TensorData};
use std::path::{Path, PathBuf};

/// One ONNX file, ready to run.
#[derive(Debug)]
pub(crate) struct Network {
    path: PathBuf,
    inputs: Vec<Port>,
    /// Name of the output that is read.
    pub(crate) output: String,
    /// Values of a row of that output.
    pub(crate) width: usize,
    executable: Box<dyn Executable>,
}

/// What networks are loaded with.
#[derive(Debug)]
pub(crate) struct NetworkLoader<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) batch_max: usize,
}

impl NetworkLoader<'_> {
    /// Loads `file`, which must read exactly `inputs`; its output of that name is read, or its only
    /// one.
    pub(crate) fn load(
        &self,
        file: &str,
        inputs: &[Port],
        output: Option<&str>,
    ) -> Result<Network, MultimodalError> {
        let path = self.dir.join(file);
        let signature = Signature::read(&path)?;
        signature.check_inputs(inputs)?;
        let (position, output, width) = signature.output(output)?;
        let rows_max = match signature.scales_by_batch {
            true => 1,
            false => self.batch_max,
        };
        let executable = self
            .runtime
            .load(&path, &signature, position, rows_max)
            .map_err(|message| wrong(&path, message))?;
        Ok(Network {
            inputs: signature.inputs,
            output,
            width,
            executable,
            path,
        })
    }
}

impl Network {
    /// Executes a batch of `rows`, whose inputs `provide` makes. Returns `[rows, width]`.
    pub(crate) fn run(
        &self,
        rows: usize,
        provide: impl FnMut(&Port) -> Result<Tensor, MultimodalError>,
    ) -> Result<Vec<f32>, MultimodalError> {
        let inputs: Result<Vec<Tensor>, _> = self.inputs.iter().map(provide).collect();
        let failed = |message: String| MultimodalError::Execution {
            code: "network_failed",
            message: format!("{}: {message}", self.name()),
        };
        let values = self.executable.run(&inputs?, rows).map_err(failed)?;
        if values.len() != rows * self.width {
            return Err(failed(format!(
                "{} values for {rows} rows of {}",
                values.len(),
                self.width
            )));
        }
        Ok(values)
    }

    /// Executes a batch of zeros, to warm up or to take the time.
    pub(crate) fn run_zeros(&self, rows: usize) -> Result<(), MultimodalError> {
        let zeros = |port: &Port| {
            let shape = port.shape.iter().map(|length| length.unwrap_or(rows));
            Ok(filled(shape.collect(), port.datatype, 0.0))
        };
        self.run(rows, zeros).map(drop)
    }

    /// The file, as messages name it.
    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// A tensor of one value.
pub(crate) fn filled(shape: Vec<usize>, datatype: DataType, value: f64) -> Tensor {
    let count = shape.iter().product();
    let data = match datatype {
        DataType::Int64 => TensorData::Int64(vec![value as i64; count]),
        DataType::Int32 => TensorData::Int32(vec![value as i32; count]),
        DataType::Uint8 => TensorData::Uint8(vec![value as u8; count]),
        DataType::Bool => TensorData::Bool(vec![value != 0.0; count]),
        _ => TensorData::Fp32(vec![value as f32; count]),
    };
    Tensor::new(shape, data).expect("invariant: the elements are counted by the shape")
}
