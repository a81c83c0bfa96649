//! What executes networks.

#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod tract;

use crate::{
    MultimodalError,
    config::RuntimeChoice,
    signature::{Bound, Port},
};
use satisfice_core::{DataType, Tensor};
use std::{
    borrow::Cow,
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
    /// reads, each with the batch as first dimension if it has one. Adds the wanted outputs of every row.
    fn run(
        &self,
        inputs: &[Tensor],
        rows: Range<usize>,
        outputs: &mut [Rows],
    ) -> Result<(), String>;

    /// Makes ready whatever batches of up to `rows` rows are executed by, where that is made when it is
    /// needed.
    fn prepare(&self, _rows: usize) {}
}

/// What a network gives for the rows of a batch.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Which dimension of the output is the batch.
    axis: usize,
    /// Shape of a row.
    pub(crate) shape: Option<Vec<usize>>,
    pub(crate) values: Vec<f32>,
}

impl Rows {
    /// Those of an output whose dimension `axis` is the batch.
    pub(crate) fn along(axis: usize) -> Self {
        Self {
            axis,
            ..Self::default()
        }
    }

    /// Adds an output of `rows` rows. A single row may come without the batch dimension.
    fn add<T: Copy>(
        &mut self,
        rows: usize,
        shape: &[usize],
        values: &[T],
        number: impl Fn(T) -> f32,
    ) -> Result<(), String> {
        let mut of_row = shape.to_vec();
        if shape.get(self.axis) == Some(&rows) {
            of_row.remove(self.axis);
        } else if !(rows == 1 && of_row.len() <= 1) {
            let which = match self.axis {
                0 => "the first dimension of an output has to be the batch, or `batch_axis` says which is"
                    .to_owned(),
                axis => format!("dimension {axis} of the output is not the batch"),
            };
            return Err(format!(
                "gives an output {shape:?} for a batch of {rows}: {which}"
            ));
        }
        match &self.shape {
            Some(before) if *before != of_row => {
                return Err(format!("gives rows of {before:?} and rows of {of_row:?}"));
            }
            _ => self.shape = Some(of_row),
        }
        if self.axis == 0 || rows == 1 {
            self.values.extend(values.iter().map(|&v| number(v)));
            return Ok(());
        }
        let behind: usize = shape[self.axis + 1..].iter().product();
        let before: usize = shape[..self.axis].iter().product();
        for row in 0..rows {
            for i in 0..before {
                let from = (i * rows + row) * behind;
                self.values
                    .extend(values[from..from + behind].iter().map(|&v| number(v)));
            }
        }
        Ok(())
    }
}

/// Some rows of an input as a network takes them: its shape, and its elements where they are or moved.
fn cut<'a, T: Copy>(
    port: &Port,
    values: &'a [T],
    rows: Range<usize>,
) -> (Vec<usize>, Cow<'a, [T]>) {
    let count = rows.len();
    let shape: Vec<usize> = port
        .shape
        .iter()
        .map(|length| length.unwrap_or(count))
        .collect();
    let Some(axis) = port.batch_axis() else {
        return (shape, Cow::from(values));
    };
    let width: usize = port.shape.iter().flatten().product();
    let values = &values[rows.start * width..rows.end * width];
    if axis == 0 || count == 1 {
        return (shape, Cow::from(values));
    }
    let behind: usize = shape[axis + 1..].iter().product();
    let before = width / behind.max(1);
    let mut moved = Vec::with_capacity(values.len());
    for i in 0..before {
        for row in 0..count {
            let from = row * width + i * behind;
            moved.extend_from_slice(&values[from..from + behind]);
        }
    }
    (shape, Cow::from(moved))
}

/// A network to be loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded<'a> {
    pub(crate) path: &'a Path,
    pub(crate) bound: &'a Bound,
    /// Positions of the wanted outputs.
    pub(crate) outputs: &'a [usize],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_along_any_dimension() {
        // Three rows of [2, 2], of which two are cut out, into [2, batch, 2] and back.
        let values: Vec<u8> = (0..12).collect();
        let port = |axis| Port::along(axis, "x", DataType::Uint8, &[2, 2]);
        let (shape, moved) = cut(&port(1), &values, 1..3);
        assert_eq!(shape, [2, 2, 2]);
        assert_eq!(*moved, [4, 5, 8, 9, 6, 7, 10, 11]);
        let mut rows = Rows::along(1);
        let added = rows.add(2, &shape, &moved, f32::from);
        assert_eq!((added, rows.shape), (Ok(()), Some(vec![2, 2])));
        assert_eq!(rows.values, [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        let (shape, last) = cut(&port(2), &values, 0..2);
        assert_eq!(
            (shape, &*last),
            (vec![2, 2, 2], &[0, 4, 1, 5, 2, 6, 3, 7][..])
        );
        assert!(matches!(
            cut(&port(0), &values, 1..2).1,
            Cow::Borrowed([4, 5, 6, 7])
        ));
        let constant = Port {
            shape: vec![Some(12)],
            ..port(0)
        };
        assert_eq!(cut(&constant, &values, 1..2).1.len(), 12);
        let refusal = Rows::along(1).add(2, &[3, 3], &[0_u8; 9], f32::from);
        assert!(
            refusal.is_err_and(|why| why.contains("dimension 1 of the output is not the batch"))
        );
    }
}
