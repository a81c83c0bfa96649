//! ONNX's `DynamicQuantizeLinear`, in numbers that vectorise: tract's own takes a step for each element.

use tract_onnx::{
    model::{OnnxOpRegister, ParsingContext},
    pb::NodeProto,
    tract_hir::internal::{
        Datum, DatumExt, DatumType, DatumTypeExt, EvalContext, EvalOp, Expansion, InferenceOp,
        InferenceResult, IntoTValue, Op, OutletId, Solver, SpecialOps, StaticName, TValue, TVec,
        Tensor, TensorProxy, TractResult, TypedFact, TypedModel, TypedOp, as_op, check_input_arity,
        check_output_arity, expand, op_as_typed_op, op_out_of_plan, tensor0, tvec,
    },
};

/// As [`DYNAMIC`], with whole numbers as F32 in all three outputs.
pub(super) const DYNAMIC_F32: &str = "SatisficeDynamicQuantizeF32";
/// ONNX's own operator.
pub(super) const DYNAMIC: &str = "DynamicQuantizeLinear";
/// Adding and subtracting it rounds numbers of less than 2^22 to whole ones, ties to even.
const ROUNDS: f32 = 12_582_912.0;
const LARGEST: f32 = 255.0;

type Parsed = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Makes both operators known.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(DYNAMIC, |_: &ParsingContext<'_>, _: &NodeProto| -> Parsed {
        Ok((expand(DynamicQuantize { to: DatumType::U8 }), vec![]))
    });
    operators.insert(
        DYNAMIC_F32,
        |_: &ParsingContext<'_>, _: &NodeProto| -> Parsed {
            Ok((expand(DynamicQuantize { to: DatumType::F32 }), vec![]))
        },
    );
}

#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct DynamicQuantize {
    /// Type of the quantised numbers and of the zero point.
    to: DatumType,
}

impl Expansion for DynamicQuantize {
    fn name(&self) -> StaticName {
        DYNAMIC.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(3)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 3)?;
        s.equals(&inputs[0].datum_type, f32::datum_type())?;
        s.equals(&inputs[0].shape, &outputs[0].shape)?;
        s.equals(&outputs[0].datum_type, self.to)?;
        s.equals(&outputs[1].datum_type, f32::datum_type())?;
        s.equals(&outputs[1].rank, 0)?;
        s.equals(&outputs[2].datum_type, self.to)?;
        s.equals(&outputs[2].rank, 0)?;
        Ok(())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for DynamicQuantize {
    fn name(&self) -> StaticName {
        DYNAMIC.into()
    }

    op_as_typed_op!();
}

impl EvalOp for DynamicQuantize {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let values = input.try_as_plain_ram()?.as_slice::<f32>()?;
        let steps = Steps::of(values);
        let (numbers, zero) = if self.to == DatumType::U8 {
            let numbers: Vec<u8> = values.iter().map(|&v| steps.number(v) as u8).collect();
            let numbers = Tensor::from_shape(input.shape(), &numbers)?;
            (numbers, tensor0(steps.zero as u8))
        } else {
            let numbers: Vec<f32> = values.iter().map(|&v| steps.number(v)).collect();
            let numbers = Tensor::from_shape(input.shape(), &numbers)?;
            (numbers, tensor0(steps.zero))
        };
        let scale = tensor0(steps.scale);
        Ok(tvec!(
            numbers.into_tvalue(),
            scale.into_tvalue(),
            zero.into_tvalue()
        ))
    }
}

impl TypedOp for DynamicQuantize {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let numbers = self.to.fact(inputs[0].shape.clone());
        Ok(tvec!(
            numbers,
            f32::fact([0_usize; 0]),
            self.to.fact([0_usize; 0])
        ))
    }

    as_op!();
}

/// How numbers become whole ones from 0 to 255, as ONNX Runtime has it.
#[derive(Debug, Clone, Copy)]
struct Steps {
    scale: f32,
    zero: f32,
}

impl Steps {
    fn of(values: &[f32]) -> Self {
        const LANES: usize = 16;
        let (chunks, rest) = values.as_chunks::<LANES>();
        let (mut low, mut high) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for chunk in chunks {
            for lane in 0..LANES {
                low[lane] = low[lane].min(chunk[lane]);
                high[lane] = high[lane].max(chunk[lane]);
            }
        }
        let low = low.iter().chain(rest).copied().fold(0.0, f32::min);
        let high = high.iter().chain(rest).copied().fold(0.0, f32::max);
        let scale = match high > low {
            true => (high - low) / LARGEST,
            false => 1.0,
        };
        let zero = rounded((-low / scale).clamp(0.0, LARGEST));
        Self { scale, zero }
    }

    fn number(self, value: f32) -> f32 {
        (rounded(value / self.scale) + self.zero).clamp(0.0, LARGEST)
    }
}

fn rounded(value: f32) -> f32 {
    (value + ROUNDS) - ROUNDS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "tests")]

    use super::*;

    #[test]
    fn numbers_are_those_of_onnx() {
        // The example of ONNX's documentation.
        let values = [0.0, 2.0, -3.0, -2.5, 1.34, 0.5];
        let steps = Steps::of(&values);
        assert!((steps.scale - 0.019_607_844).abs() < 1e-8 && steps.zero == 153.0);
        let numbers = values.map(|v| steps.number(v));
        assert_eq!(numbers, [153.0, 255.0, 0.0, 26.0, 221.0, 179.0]);
        // Ties go to the even number, of values and of the zero point.
        let steps = Steps::of(&[-127.0, 128.0]);
        assert_eq!(
            (steps.scale, steps.zero, steps.number(0.5)),
            (1.0, 127.0, 127.0)
        );
        let steps = Steps::of(&[-253.0, 257.0]);
        assert_eq!((steps.scale, steps.zero), (2.0, 126.0));
        // Zeros have a scale too.
        let steps = Steps::of(&[0.0; 40]);
        assert_eq!(
            (steps.scale, steps.zero, steps.number(0.0)),
            (1.0, 0.0, 0.0)
        );
    }
}
