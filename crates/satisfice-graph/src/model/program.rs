//! A small program on rows: what each step reads is what it is given, or what a step before has made.

use super::{
    config::{RowOpConfig, StepConfig, WIDTH_MAX},
    row_op::{Operand, RowOp, take_op},
    weights::Weights,
};
use crate::GraphError;
use std::borrow::Cow;

/// Operations on rows, each of which needs no other row.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// Values a row of what it is given, and then of what each step makes.
    widths: Vec<usize>,
    given: usize,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    op: RowOp,
    /// Which rows it reads.
    of: Vec<usize>,
    /// Those of them that nothing reads after it.
    last: Vec<usize>,
}

/// A wrong program: in the sidecar (which step), or in the weights.
#[derive(Debug)]
pub(crate) enum ProgramError {
    Config { index: usize, message: String },
    Graph(GraphError),
}

/// Most steps of one program.
const STEPS_MAX: usize = 4096;

impl Program {
    /// A program that leaves rows of `width` values as they are.
    pub(crate) fn nothing(width: usize) -> Self {
        Self {
            widths: vec![width],
            given: 1,
            steps: Vec::new(),
        }
    }

    /// Operations on rows of `width` values, one after another.
    pub(crate) fn chain(width: usize, ops: Vec<RowOp>) -> Self {
        let mut program = Self::nothing(width);
        for op in ops {
            let of = vec![program.widths.len() - 1];
            let width = op.width(&[program.width()]);
            program.push(op, of, width);
        }
        program.finish()
    }

    /// Reads a program that is given rows of these names and widths; the first are those that its first step
    /// reads where it does not say.
    pub(crate) fn take(
        weights: &Weights,
        configs: &[StepConfig],
        given: &[(String, usize)],
    ) -> Result<Self, ProgramError> {
        let mut names: Vec<(String, usize)> = Vec::new();
        let mut program = Self {
            widths: given.iter().map(|given| given.1).collect(),
            given: given.len(),
            steps: Vec::new(),
        };
        names.extend(given.iter().enumerate().map(|(at, g)| (g.0.clone(), at)));
        let mut before = 0;
        for (index, step) in configs.iter().enumerate() {
            let wrong = |message: String| ProgramError::Config { index, message };
            if index == STEPS_MAX {
                return Err(wrong(format!("there are more than {STEPS_MAX} steps")));
            }
            let find = |name: &String| {
                let found = names.iter().rev().find(|(known, _)| known == name);
                let known = || {
                    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
                    names.join(", ")
                };
                found.map(|&(_, at)| at).ok_or_else(|| {
                    wrong(format!(
                        "no rows are called `{name}` here; there are {}",
                        known()
                    ))
                })
            };
            let mut of: Vec<usize> = step.of.iter().map(find).collect::<Result<_, _>>()?;
            if of.is_empty() && !joins(&step.op) {
                of.push(before);
            }
            if let RowOpConfig::Residual {} | RowOpConfig::LinearResidual { .. } = step.op {
                let below = names.iter().find(|(name, _)| name == BELOW);
                let &(_, below) = below.ok_or_else(|| {
                    wrong(format!("{} belongs in a layer's `after`", step.op.name()))
                })?;
                of.push(below);
            }
            let widths: Vec<usize> = of.iter().map(|&at| program.widths[at]).collect();
            check(&step.op, &widths).map_err(wrong)?;
            let op = take_op(weights, &step.op, &widths).map_err(ProgramError::Graph)?;
            let width = op.width(&widths);
            if width > WIDTH_MAX {
                return Err(wrong(format!(
                    "the rows have width {width}, but at most {WIDTH_MAX} are read"
                )));
            }
            before = program.push(op, of, width);
            if let Some(name) = &step.name {
                names.push((name.clone(), before));
            }
        }
        Ok(program.finish())
    }

    fn push(&mut self, op: RowOp, of: Vec<usize>, width: usize) -> usize {
        self.steps.push(Step {
            op,
            of,
            last: Vec::new(),
        });
        self.widths.push(width);
        self.widths.len() - 1
    }

    fn finish(mut self) -> Self {
        let mut read = vec![false; self.widths.len()];
        for step in self.steps.iter_mut().rev() {
            for &at in &step.of {
                if !std::mem::replace(&mut read[at], true) {
                    step.last.push(at);
                }
            }
        }
        self
    }

    /// Values per row that it leaves.
    pub(crate) fn width(&self) -> usize {
        match self.steps.is_empty() {
            true => self.widths.first().copied().unwrap_or(0),
            false => self.widths.last().copied().unwrap_or(0),
        }
    }

    /// Whether it leaves the rows that it is given first as they are.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether it reads the rows that it is given at a place.
    pub(crate) fn reads(&self, given: usize) -> bool {
        match self.steps.is_empty() {
            true => given == 0,
            false => self.steps.iter().any(|step| step.of.contains(&given)),
        }
    }

    /// What it makes of `rows`, the first that it is given, and of the others, each `[rows, width]`. Rows that
    /// it does not read may be empty.
    pub(crate) fn run<'a>(&self, rows: Cow<'a, [f32]>, others: &[&'a [f32]]) -> Vec<f32> {
        match &self.steps[..] {
            [] => return rows.into_owned(),
            [step] if step.of == [0] => return step.op.apply(rows, self.widths[0], &[]),
            _ => {}
        }
        let mut all: Vec<Cow<'a, [f32]>> = Vec::with_capacity(self.widths.len());
        all.push(rows);
        all.extend(others.iter().map(|&rows| Cow::Borrowed(rows)));
        debug_assert_eq!(
            all.len(),
            self.given,
            "invariant: as many as it was made for"
        );
        for step in &self.steps {
            let (first, others) = (step.of[0], &step.of[1..]);
            let rows = match step.last.contains(&first) && !others.contains(&first) {
                true => std::mem::take(&mut all[first]),
                false => Cow::Borrowed(&*all[first]),
            };
            let others: Vec<Operand<'_>> = others
                .iter()
                .map(|&at| (&*all[at], self.widths[at]))
                .collect();
            let made = step.op.apply(rows, self.widths[first], &others);
            for &at in &step.last {
                all[at] = Cow::default();
            }
            all.push(Cow::Owned(made));
        }
        all.pop().unwrap_or_default().into_owned()
    }
}

/// What a layer's input is called after it.
pub(crate) const BELOW: &str = "below";

/// Whether an operation reads the rows that `of` names, and no others.
fn joins(op: &RowOpConfig) -> bool {
    matches!(
        op,
        RowOpConfig::Add {}
            | RowOpConfig::Mul {}
            | RowOpConfig::Max {}
            | RowOpConfig::Cat {}
            | RowOpConfig::Lstm { .. }
    )
}

/// Refuses widths that do not fit an operation.
fn check(op: &RowOpConfig, widths: &[usize]) -> Result<(), String> {
    let name = op.name();
    match (op, widths) {
        (RowOpConfig::Residual {}, &[width, input]) if width == input => Ok(()),
        (RowOpConfig::Residual {}, &[width, input]) => Err(format!(
            "residual adds an input of width {input} to rows of width {width}"
        )),
        (RowOpConfig::LinearResidual { inputs, out, .. }, &[width, input]) => {
            match *inputs == input && *out == width {
                true => Ok(()),
                false => Err(format!(
                    "linear_residual maps width {inputs} to {out}, but the input has width {input} \
                     and the rows {width}"
                )),
            }
        }
        (_, []) => Err(format!("{name} reads the rows that `of` names: name some")),
        (RowOpConfig::Add {} | RowOpConfig::Mul {} | RowOpConfig::Max {}, widths) => {
            let widest = widths.iter().copied().max().unwrap_or(0);
            let narrow = !matches!(op, RowOpConfig::Max {});
            match widths.iter().find(|&&w| w != widest && !(narrow && w == 1)) {
                None => Ok(()),
                Some(other) => Err(format!("{name} joins rows of width {widest} and {other}")),
            }
        }
        (RowOpConfig::Lstm { .. }, widths) => match widths.iter().find(|&&w| w != widths[0]) {
            None => Ok(()),
            Some(other) => Err(format!(
                "lstm joins rows of width {} and {other}",
                widths[0]
            )),
        },
        (RowOpConfig::Cat {}, widths) => {
            let sum = widths
                .iter()
                .try_fold(0_usize, |sum, &w| sum.checked_add(w));
            match sum {
                Some(_) => Ok(()),
                None => Err("cat leaves rows that are too wide".to_owned()),
            }
        }
        (RowOpConfig::Linear { inputs, .. }, &[width]) if *inputs != width => Err(format!(
            "linear reads width {inputs}, but the rows have width {width}"
        )),
        (RowOpConfig::Slice { start, width: of }, &[width]) => {
            match *of > 0 && start.checked_add(*of).is_some_and(|end| end <= width) {
                true => Ok(()),
                false => Err(format!(
                    "slice takes {of} values from {start} on of rows of width {width}"
                )),
            }
        }
        (_, &[_]) => Ok(()),
        _ => Err(format!(
            "{name} reads one row, but `of` names {}",
            widths.len()
        )),
    }
}
