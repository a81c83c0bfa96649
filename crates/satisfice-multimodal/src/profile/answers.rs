//! What the ways to answer give for the inputs of a file.

use super::cascades::Judged;
use crate::{
    Dataset, MultimodalEngine, MultimodalError,
    batch::Batch,
    confidence::argmax,
    layout::{Answers, Work},
    way::Way,
};
use satisfice_core::Batching;
use std::{ops::Range, panic, thread};

/// What every choice answers to every input, in the order of the engine's choices. Batches go over
/// the cores, and what several choices compute of a batch is computed once.
pub(super) fn answers(
    engine: &MultimodalEngine,
    data: &Dataset,
    progress: &dyn Fn(&str, usize, usize),
) -> Result<Vec<Judged>, MultimodalError> {
    let judged = |&choice| Judged {
        choice,
        values: Vec::new(),
        classes: Vec::new(),
    };
    let mut all: Vec<Judged> = engine.networks().choices().iter().map(judged).collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    engine.networks().prepare(engine.config().limits.batch_max);
    let batches: Vec<Range<usize>> = engine.batches(data.len()).collect();
    for (round, batches_now) in batches.chunks(cores).enumerate() {
        progress("answering the inputs", round * cores, batches.len());
        let answered = thread::scope(|scope| {
            let start = |batch: &Range<usize>| {
                let batch = batch.clone();
                scope.spawn(move || answer_batch(engine, data, batch))
            };
            let running: Vec<_> = batches_now.iter().map(start).collect();
            let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
            ended
                .map(|result| result.unwrap_or_else(|panicked| panic::resume_unwind(panicked)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        for of_batch in answered {
            for (judged, answers) in all.iter_mut().zip(of_batch) {
                let rows = answers.values().chunks_exact(engine.classes().len());
                let rows = rows.zip(&answers.broken);
                let class = |(row, &broken): (&[f32], &bool)| (!broken).then(|| argmax(row));
                judged.classes.extend(rows.map(class));
                judged.values.extend(answers.values());
            }
        }
    }
    Ok(all)
}

/// What every choice answers to some inputs.
fn answer_batch(
    engine: &MultimodalEngine,
    data: &Dataset,
    inputs: Range<usize>,
) -> Result<Vec<Answers>, MultimodalError> {
    let job = engine.job(data.request(inputs))?;
    let rows = (0..job.inputs).map(|row| (&job.request, row));
    let mut work = Work::new(Batch::new(rows), engine.config().modalities.len());
    let choices = engine.networks().choices().iter();
    choices
        .map(|&choice| engine.networks().run(choice, &mut work))
        .collect()
}

/// How right a strategy is on held-out inputs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Evaluation {
    /// The strategy.
    pub strategy: String,
    /// Inputs.
    pub inputs: usize,
    /// Share of right answers, where the inputs have labels.
    pub accuracy: Option<f64>,
}

/// Answers held-out inputs by every strategy.
///
/// # Errors
/// [`MultimodalError`] when a network fails on the inputs' tensors.
pub fn evaluate(
    engine: &MultimodalEngine,
    data: &Dataset,
    progress: &dyn Fn(&str, usize, usize),
) -> Result<Vec<Evaluation>, MultimodalError> {
    let judged = answers(engine, data, progress)?;
    let of = |way: Way| Answered::new(engine, &judged, way);
    let ways = engine.ways().iter().zip(engine.strategies());
    let evaluations = ways.map(|(&way, strategy)| {
        let answered = of(way);
        let right = |labels: &[usize]| {
            let labels = labels.iter().enumerate();
            let right = labels.filter(|&(row, &label)| answered.class(row) == Some(label));
            right.count() as f64 / data.len() as f64
        };
        Evaluation {
            strategy: strategy.name.clone(),
            inputs: data.len(),
            accuracy: data.labels().map(right),
        }
    });
    Ok(evaluations.collect())
}

/// The answers of one way: those of a choice, or of the one or the other.
struct Answered<'a> {
    engine: &'a MultimodalEngine,
    way: Way,
    first: Option<&'a Judged>,
    then: Option<&'a Judged>,
}

impl<'a> Answered<'a> {
    fn new(engine: &'a MultimodalEngine, judged: &'a [Judged], way: Way) -> Self {
        let of = |choice| judged.iter().find(|judged| judged.choice == choice);
        let (first, then) = match way {
            Way::Single(choice) => (of(choice), None),
            Way::Cascade(cascade) => (of(cascade.first), of(cascade.then)),
        };
        Self {
            engine,
            way,
            first,
            then,
        }
    }

    /// The class of an input; nothing where a network broke.
    fn class(&self, row: usize) -> Option<usize> {
        let first = self.first?;
        let class = first.classes[row]?;
        let width = self.engine.classes().len();
        let values = &first.values[row * width..(row + 1) * width];
        let probabilities = self.engine.config().gives_probabilities();
        match self.way {
            Way::Cascade(cascade) if cascade.is_unsure(values, probabilities) => {
                self.then?.classes[row]
            }
            _ => Some(class),
        }
    }
}
