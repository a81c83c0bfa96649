//! ONNX Runtime, from a library that the operator names.

use super::{Executable, Loaded, Rows, Runtime, cut, unreadable};
use crate::signature::{Bound, Port};
use half::{bf16, f16};
use ort::{
    environment::Environment,
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::{
        DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, TensorRef,
    },
};
use satisfice_core::{Tensor, TensorData};
use std::{
    borrow::Cow,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

/// The library is loaded once in a process; a failed try can be repeated.
static LOADED: OnceLock<(PathBuf, Environment)> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

#[derive(Debug)]
pub(crate) struct OnnxRuntime {
    version: String,
}

impl OnnxRuntime {
    /// Loads the library, or takes the one that is loaded.
    pub(crate) fn open(library: &Path) -> Result<Self, String> {
        let (loaded, _) = environment(library)?;
        if loaded != library {
            return Err(format!(
                "ONNX Runtime is loaded from {}, not from {}",
                loaded.display(),
                library.display()
            ));
        }
        Ok(Self {
            version: version(library),
        })
    }
}

fn environment(library: &Path) -> Result<&'static (PathBuf, Environment), String> {
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded);
    }
    let failed = |error: &dyn fmt::Display| {
        let library = library.display();
        format!("{library} cannot be loaded as ONNX Runtime: {error}")
    };
    let environment = ort::init_from(library).map_err(|e| failed(&e))?;
    let environment = environment.with_telemetry(false).build();
    let environment = environment.map_err(|e| failed(&e))?;
    Ok(LOADED.get_or_init(|| (library.to_owned(), environment)))
}

/// What follows `.so.` in the library's true name.
fn version(library: &Path) -> String {
    let library = library
        .canonicalize()
        .unwrap_or_else(|_| library.to_owned());
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    match name.split_once(".so.") {
        Some((_, version)) => version.to_owned(),
        None => "of unknown version".to_owned(),
    }
}

impl Runtime for OnnxRuntime {
    fn name(&self) -> String {
        format!("ONNX Runtime {}", self.version)
    }

    fn load(&self, network: Loaded<'_>) -> Result<Box<dyn Executable>, String> {
        let session = session(network.path, network.bound)?;
        Ok(Box::new(Sessions {
            path: network.path.to_owned(),
            bound: network.bound.clone(),
            outputs: network.outputs.to_vec(),
            pool: Mutex::new(Pool {
                idle: vec![session],
                made: 1,
            }),
            returned: Condvar::new(),
            made_max: thread::available_parallelism().map_or(1, usize::from),
        }))
    }
}

/// A session of one thread: threads that spin take the cores from other requests.
fn session(path: &Path, bound: &Bound) -> Result<Session, String> {
    let Some((_, environment)) = LOADED.get() else {
        return Err("ONNX Runtime is not loaded".to_owned());
    };
    let wrong =
        |error: &dyn std::fmt::Display| format!("ONNX Runtime cannot load this network: {error}");
    let mut builder = Session::builder(environment).map_err(|e| wrong(&e))?;
    builder = builder
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|e| wrong(&e))?;
    builder = builder.with_intra_threads(1).map_err(|e| wrong(&e))?;
    builder = builder.with_inter_threads(1).map_err(|e| wrong(&e))?;
    builder = builder
        .with_intra_op_spinning(false)
        .map_err(|e| wrong(&e))?;
    builder = builder
        .with_inter_op_spinning(false)
        .map_err(|e| wrong(&e))?;
    for (axis, &length) in &bound.lengths {
        builder = builder
            .with_dimension_override(axis, length as i64)
            .map_err(|e| wrong(&e))?;
    }
    builder.commit_from_file(path).map_err(|e| wrong(&e))
}

/// Sessions of one network: a session executes one batch at a time.
#[derive(Debug)]
struct Sessions {
    path: PathBuf,
    bound: Bound,
    outputs: Vec<usize>,
    pool: Mutex<Pool>,
    returned: Condvar,
    made_max: usize,
}

#[derive(Debug)]
struct Pool {
    idle: Vec<Session>,
    made: usize,
}

impl Sessions {
    /// Nothing that is done under the lock can panic half-way.
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle session, a new one while there are fewer than cores, or the next that is returned.
    fn take(&self) -> Result<Taken<'_>, String> {
        let mut pool = self.pool();
        loop {
            if let Some(session) = pool.idle.pop() {
                return Ok(Taken {
                    sessions: self,
                    session: Some(session),
                });
            }
            if pool.made < self.made_max {
                pool.made += 1;
                drop(pool);
                // Returns its place when the session cannot be made.
                let mut taken = Taken {
                    sessions: self,
                    session: None,
                };
                taken.session = Some(session(&self.path, &self.bound)?);
                return Ok(taken);
            }
            pool = self
                .returned
                .wait(pool)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A session in use; goes back into the pool, also when a panic ends the use.
struct Taken<'a> {
    sessions: &'a Sessions,
    session: Option<Session>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut pool = self.sessions.pool();
        match self.session.take() {
            Some(session) => pool.idle.push(session),
            None => pool.made -= 1,
        }
        drop(pool);
        self.sessions.returned.notify_one();
    }
}

impl Executable for Sessions {
    fn run(
        &self,
        inputs: &[Tensor],
        rows: Range<usize>,
        outputs: &mut [Rows],
    ) -> Result<(), String> {
        let mut taken = self.take()?;
        let session = taken
            .session
            .as_mut()
            .expect("invariant: a session is taken until it is dropped");
        let inputs: Result<Vec<_>, String> = self
            .bound
            .inputs
            .iter()
            .zip(inputs)
            .map(|(port, tensor)| Ok((Cow::from(&port.name), view(port, tensor, rows.clone())?)))
            .collect();
        let answer = session.run(inputs?).map_err(|e| e.to_string())?;
        for (&output, to) in self.outputs.iter().zip(outputs) {
            add(&answer[output], rows.len(), to)?;
        }
        Ok(())
    }
}

/// Adds an output, whatever floating-point numbers it has.
fn add(output: &DynValue, rows: usize, to: &mut Rows) -> Result<(), String> {
    fn of<T: PrimitiveTensorElementType + fmt::Debug + Copy>(
        output: &DynValue,
        rows: usize,
        to: &mut Rows,
        number: impl Fn(T) -> f32,
    ) -> Result<(), String> {
        let (shape, values) = output
            .try_extract_tensor::<T>()
            .map_err(|e| e.to_string())?;
        let shape: Vec<usize> = shape.iter().map(|&length| length as usize).collect();
        to.add(rows, &shape, values, number)
    }
    match output.dtype().tensor_type() {
        Some(TensorElementType::Float16) => of(output, rows, to, f16::to_f32),
        Some(TensorElementType::Bfloat16) => of(output, rows, to, bf16::to_f32),
        Some(TensorElementType::Float64) => of(output, rows, to, |v: f64| v as f32),
        _ => of(output, rows, to, |v: f32| v),
    }
}

/// Some rows of an input, where they are if they can stay there.
fn view<'a>(
    port: &Port,
    tensor: &'a Tensor,
    rows: Range<usize>,
) -> Result<SessionInputValue<'a>, String> {
    fn of<T: PrimitiveTensorElementType + Clone + fmt::Debug + 'static>(
        (shape, values): (Vec<usize>, Cow<'_, [T]>),
    ) -> Result<SessionInputValue<'_>, String> {
        let view = match values {
            Cow::Borrowed(values) => TensorRef::from_array_view((shape, values)).map(Into::into),
            Cow::Owned(values) => OrtTensor::from_array((shape, values)).map(Into::into),
        };
        view.map_err(|error| error.to_string())
    }
    match tensor.data() {
        TensorData::Fp32(v) => of(cut(port, v, rows)),
        TensorData::Int64(v) => of(cut(port, v, rows)),
        TensorData::Int32(v) => of(cut(port, v, rows)),
        TensorData::Uint8(v) => of(cut(port, v, rows)),
        TensorData::Int8(v) => of(cut(port, v, rows)),
        TensorData::Bool(v) => of(cut(port, v, rows)),
        TensorData::Fp16(v) => of(cut(port, v, rows)),
        TensorData::Bf16(v) => of(cut(port, v, rows)),
        TensorData::Fp64(v) => of(cut(port, v, rows)),
        other => Err(unreadable(other.datatype())),
    }
}
