//! What executes networks.

#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod tract;

use crate::{MultimodalError, config::RuntimeChoice, signature::Bound};
use satisfice_core::{DataType, Tensor};
use std::{
    env, fmt,
    ops::Range,
    path::{Path, PathBuf},
};

/// Names ONNX Runtime's library where nothing else does.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
const HINT: &str = "`scripts/onnxruntime` fetches the library; name it by ORT_DYLIB_PATH, or say \
                    runtime = \"tract\" in model.toml";

/// A network that can be executed, by several threads at once.
pub(crate) trait Executable: Send + Sync + fmt::Debug {
    /// Executes some rows of a batch: `inputs` are in the order of the network, of the types that it
    /// reads, each with the batch as first dimension. Adds the wanted output of every row.
    fn run(&self, inputs: &[Tensor], rows: Range<usize>, outputs: &mut Rows) -> Result<(), String>;
}

/// What a network gives for the rows of a batch.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Shape of a row.
    pub(crate) shape: Option<Vec<usize>>,
    pub(crate) values: Vec<f32>,
}

impl Rows {
    /// Adds an output of `rows` rows. A single row may come without the batch dimension.
    fn add(
        &mut self,
        rows: usize,
        shape: &[usize],
        values: impl Iterator<Item = f32>,
    ) -> Result<(), String> {
        let of_row = match shape {
            [first, of_row @ ..] if *first == rows => of_row,
            of_row if rows == 1 && of_row.len() <= 1 => of_row,
            _ => {
                return Err(format!(
                    "gives an output {shape:?} for a batch of {rows}: the first dimension of an output \
                     has to be the batch"
                ));
            }
        };
        match &self.shape {
            Some(before) if before != of_row => {
                return Err(format!("gives rows of {before:?} and rows of {of_row:?}"));
            }
            _ => self.shape = Some(of_row.to_vec()),
        }
        self.values.extend(values);
        Ok(())
    }
}

/// A network to be loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded<'a> {
    pub(crate) path: &'a Path,
    pub(crate) bound: &'a Bound,
    /// Position of the wanted output.
    pub(crate) output: usize,
    /// Rows that are computed together at most.
    pub(crate) rows_max: usize,
}

/// Makes executables of ONNX files.
pub(crate) trait Runtime: Send + Sync + fmt::Debug {
    /// Name and version, as profiles note it.
    fn name(&self) -> String;

    /// Loads a network.
    fn load(&self, network: Loaded<'_>) -> Result<Box<dyn Executable>, String>;
}

/// The runtime that a model asks for. `library` is ONNX Runtime's, where the operator names it.
pub(crate) fn choose(
    choice: RuntimeChoice,
    library: Option<&Path>,
) -> Result<Box<dyn Runtime>, MultimodalError> {
    let library = library.map(Path::to_owned);
    let named = env::var_os(LIBRARY_VARIABLE).filter(|named| !named.is_empty());
    let library = library.or_else(|| named.map(PathBuf::from));
    match (choice, library) {
        (RuntimeChoice::Tract, _) | (RuntimeChoice::Auto, None) => Ok(Box::new(tract::Tract)),
        (RuntimeChoice::OnnxRuntime, None) => Err(unavailable(
            "the model asks for ONNX Runtime, and no library is named".to_owned(),
        )),
        (RuntimeChoice::OnnxRuntime, Some(library)) => open(&library).map_err(unavailable),
        (RuntimeChoice::Auto, Some(library)) => open(&library).or_else(|message| {
            tracing::warn!("{message}; tract executes the model instead");
            Ok(Box::new(tract::Tract) as Box<dyn Runtime>)
        }),
    }
}

#[cfg(feature = "onnxruntime")]
fn open(library: &Path) -> Result<Box<dyn Runtime>, String> {
    Ok(Box::new(onnxruntime::OnnxRuntime::open(library)?))
}

#[cfg(not(feature = "onnxruntime"))]
fn open(_library: &Path) -> Result<Box<dyn Runtime>, String> {
    Err("this build has no ONNX Runtime support (feature `onnxruntime`)".to_owned())
}

fn unavailable(message: String) -> MultimodalError {
    MultimodalError::Runtime {
        message,
        hint: HINT.to_owned(),
    }
}

/// Refuses what no network reads.
fn unreadable(datatype: DataType) -> String {
    format!("networks do not read {datatype}")
}
