//! What executes networks.

#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod tract;

use crate::{MultimodalError, config::RuntimeChoice, signature::Signature};
use satisfice_core::{DataType, Tensor};
use std::{
    env, fmt,
    path::{Path, PathBuf},
};

/// Names ONNX Runtime's library where nothing else does.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
const HINT: &str = "`scripts/onnxruntime` fetches the library; name it by ORT_DYLIB_PATH, or say \
                    runtime = \"tract\" in model.toml";

/// A network that can be executed, by several threads at once.
pub(crate) trait Executable: Send + Sync + fmt::Debug {
    /// Executes a batch of `rows`: `inputs` are in the order of the signature, each with the batch as first
    /// dimension. Returns the wanted output, `[rows, width]`.
    fn run(&self, inputs: &[Tensor], rows: usize) -> Result<Vec<f32>, String>;
}

/// Makes executables of ONNX files.
pub(crate) trait Runtime: Send + Sync + fmt::Debug {
    /// Name and version, as profiles note it.
    fn name(&self) -> String;

    /// The network at `path`, which computes up to `rows_max` rows together; `output` is the position
    /// of the output that is wanted.
    fn load(
        &self,
        path: &Path,
        signature: &Signature,
        output: usize,
        rows_max: usize,
    ) -> Result<Box<dyn Executable>, String>;
}

/// The runtime that a model asks for. `library` is ONNX Runtime's, where the operator names it.
pub(crate) fn choose(
    choice: RuntimeChoice,
    library: Option<&Path>,
) -> Result<Box<dyn Runtime>, MultimodalError> {
    let library = library.map(Path::to_owned);
    let library = library.or_else(|| env::var_os(LIBRARY_VARIABLE).map(PathBuf::from));
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
