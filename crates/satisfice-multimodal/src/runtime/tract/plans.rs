//! A network optimised for batches of several sizes: for one row when it is loaded, for more when
//! batches of more come.

use super::{fold, kernels, mend, onnx, parsed, said, weights};
use crate::{runtime::Loaded, signature::Bound, slow};
use satisfice_core::DataType;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, TVec,
    TractResult, TypedRunnableModel,
};

/// Batch sizes for which a network is optimised, largest first. A batch of another size is cut:
/// larger batches gain nothing on a CPU, and padding would compute rows that nobody wants.
const BATCHES: [usize; 4] = [8, 4, 2, 1];

pub(super) type Plan = Arc<TypedRunnableModel>;

/// The plans of a network.
#[derive(Debug)]
pub(super) struct Plans {
    /// The file, for messages.
    name: String,
    pub(super) bound: Bound,
    /// What plans are made of, one at a time; nothing when all are.
    model: Mutex<Option<InferenceModel>>,
    /// Largest batch first, down to 1.
    sizes: Vec<Size>,
}

#[derive(Debug)]
struct Size {
    rows: usize,
    /// Nothing where the network cannot be optimised for so many rows.
    plan: OnceLock<Option<Plan>>,
    /// Whether somebody makes it.
    wanted: AtomicBool,
}

impl Plans {
    /// Reads a network and makes its plan for one row.
    pub(super) fn load(network: Loaded<'_>) -> Result<Self, String> {
        let mut proto = onnx()
            .proto_model_for_path(network.path)
            .map_err(|e| said(&e))?;
        mend::mend(&mut proto, kernels::integers_pay())?;
        weights::locate(&mut proto, network.path)?;
        let mut model = parsed(&proto)?;
        let wanted = network.outputs.iter().map(|&output| model.outputs[output]);
        let wanted: Vec<_> = wanted.collect();
        model.select_output_outlets(&wanted).map_err(|e| said(&e))?;
        let one = plan(model.clone(), network.bound, 1).map_err(|e| said(&e))?;
        let sizes = BATCHES.into_iter().filter(|&rows| rows <= network.rows_max);
        let sizes: Vec<Size> = sizes
            .map(|rows| Size {
                rows,
                plan: match rows {
                    1 => OnceLock::from(Some(one.clone())),
                    _ => OnceLock::new(),
                },
                wanted: AtomicBool::new(rows == 1),
            })
            .collect();
        let name = network.path.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            bound: network.bound.clone(),
            model: Mutex::new((sizes.len() > 1).then_some(model)),
            sizes,
        })
    }

    /// Makes every plan that batches of up to `rows` rows are run by.
    pub(super) fn make(&self, rows: usize) {
        for size in self.sizes.iter().filter(|size| size.rows <= rows) {
            size.wanted.store(true, Ordering::Relaxed);
            self.make_size(size);
        }
    }

    /// The plan for the next of `rows` rows, and how many it takes: the largest that is there. One that
    /// is not there yet is made meanwhile.
    pub(super) fn next(self: &Arc<Self>, rows: usize) -> (usize, &Plan) {
        for (position, size) in self.sizes.iter().enumerate() {
            if size.rows > rows {
                continue;
            }
            match size.plan.get() {
                Some(Some(plan)) => return (size.rows, plan),
                Some(None) => {}
                None if size.wanted.swap(true, Ordering::Relaxed) => {}
                None => self.make_meanwhile(position),
            }
        }
        unreachable!("invariant: there is a plan for one row")
    }

    fn make_meanwhile(self: &Arc<Self>, position: usize) {
        let plans = Arc::clone(self);
        let make = move || plans.make_size(&plans.sizes[position]);
        let named = thread::Builder::new().name("tract-plan".to_owned());
        if let Err(error) = named.spawn(make) {
            tracing::warn!("{}: no thread to optimise it: {error}", self.name);
            self.sizes[position].wanted.store(false, Ordering::Relaxed);
        }
    }

    fn make_size(&self, size: &Size) {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if size.plan.get().is_some() {
            return;
        }
        let made = model.as_ref().map(|model| {
            let what = format!("optimising {} for batches of {}", self.name, size.rows);
            let make = || plan(model.clone(), &self.bound, size.rows);
            catch_unwind(AssertUnwindSafe(|| slow::saying(&what, make)))
                .map_err(|_| "tract panicked".to_owned())
                .and_then(|made| made.map_err(|e| said(&e)))
        });
        let made = match made {
            Some(Ok(plan)) => Some(plan),
            Some(Err(error)) => {
                tracing::warn!(
                    "{}: tract cannot optimise it for batches of {}, which are cut into smaller ones: {error}",
                    self.name,
                    size.rows
                );
                None
            }
            None => None,
        };
        let _ = size.plan.set(made);
        if self.sizes.iter().all(|size| size.plan.get().is_some()) {
            *model = None;
        }
    }
}

/// The network for batches of exactly `rows`.
fn plan(mut model: InferenceModel, bound: &Bound, rows: usize) -> TractResult<Plan> {
    for (i, (input, reads)) in bound.inputs.iter().zip(&bound.reads).enumerate() {
        let shape = input.shape.iter().map(|length| length.unwrap_or(rows));
        let shape: TVec<usize> = shape.collect();
        let datatype = match reads {
            DataType::Int64 => DatumType::I64,
            DataType::Int32 => DatumType::I32,
            DataType::Int8 => DatumType::I8,
            DataType::Uint8 => DatumType::U8,
            DataType::Bool => DatumType::Bool,
            DataType::Fp16 => DatumType::F16,
            DataType::Fp64 => DatumType::F64,
            _ => DatumType::F32,
        };
        model.set_input_fact(i, InferenceFact::dt_shape(datatype, shape))?;
    }
    optimised(model)
}

pub(super) fn optimised(model: InferenceModel) -> TractResult<Plan> {
    let mut typed = model.into_typed()?;
    fold::fold(&mut typed)?;
    typed.into_optimized()?.into_runnable()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::signature::{Port, Signature};
    use std::{
        path::Path,
        time::{Duration, Instant},
    };

    #[test]
    fn larger_batches_are_optimised_for_when_they_come() {
        let network = "tests/fixtures/networks/constant/net.onnx";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(network);
        let port = Port::batch("x", DataType::Fp32, &[4]);
        let bound = Signature::read(&path).unwrap().bind(&[port], &[]).unwrap();
        let loaded = |rows_max| Loaded {
            path: &path,
            bound: &bound,
            outputs: &[0],
            rows_max,
        };
        let rows = |plans: &Arc<Plans>, rows| plans.next(rows).0;
        let plans = Arc::new(Plans::load(loaded(32)).unwrap());
        let made = |plans: &Plans| {
            let sizes = plans.sizes.iter().filter(|size| size.plan.get().is_some());
            sizes.map(|size| size.rows).collect::<Vec<_>>()
        };
        assert_eq!(made(&plans), [1]);
        plans.make(3);
        assert_eq!(made(&plans), [2, 1]);
        assert_eq!((rows(&plans, 3), rows(&plans, 1)), (2, 1));
        // What there is serves until what was asked for is there.
        let start = Instant::now();
        let first = rows(&plans, 9);
        assert!([2, 4, 8].contains(&first));
        while rows(&plans, 9) != 8 {
            assert!(start.elapsed() < Duration::from_mins(1));
            thread::sleep(Duration::from_millis(5));
        }
        plans.make(8);
        assert_eq!(made(&plans), [8, 4, 2, 1]);
        assert!(plans.model.lock().unwrap().is_none());
        // Rows that are run one at a time need no more than one plan.
        let one = Arc::new(Plans::load(loaded(1)).unwrap());
        assert_eq!((rows(&one, 9), one.sizes.len()), (1, 1));
        assert!(one.model.lock().unwrap().is_none());
    }
}
