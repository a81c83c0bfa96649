//! Strategies, and what executing one means.

use crate::{
    MultimodalError,
    confidence::confidence,
    config::ModelConfig,
    layout::{Answers, Choice, Networks, Work},
    subset::Subset,
};

/// How inputs are answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// By one choice.
    Single(Choice),
    /// By one choice, and again by another where the first is not sure.
    Cascade(Cascade),
}

/// Inputs whose confidence in the first answer is below the threshold are answered again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cascade {
    pub(crate) first: Choice,
    pub(crate) then: Choice,
    /// Confidence, 0 to 1, from which on the first answer stands.
    pub(crate) threshold: f32,
    /// What logits are divided by before they count as confidence.
    pub(crate) temperature: f32,
    /// Share of the calibration inputs that were answered again.
    pub(crate) escalated: f64,
}

impl Cascade {
    /// Whether an input whose first answer has these values is answered again.
    pub(crate) fn is_unsure(&self, values: &[f32], probabilities: bool) -> bool {
        confidence(values, probabilities, self.temperature) < self.threshold
    }
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) answers: Answers,
    /// Per modality, the inputs that it was run for.
    pub(crate) runs: Vec<usize>,
    /// Inputs that a cascade answered again.
    pub(crate) again: usize,
}

impl Way {
    /// The modalities that an input needs.
    pub(crate) fn needs(self) -> Subset {
        match self {
            Self::Single(choice) => choice.subset,
            Self::Cascade(cascade) => cascade.first.subset.union(cascade.then.subset),
        }
    }

    /// Answers the batch of `work`.
    pub(crate) fn execute(
        self,
        networks: &Networks,
        config: &ModelConfig,
        mut work: Work<'_>,
    ) -> Result<Executed, MultimodalError> {
        let cascade = match self {
            Self::Single(choice) => {
                let answers = networks.run(choice, &mut work)?;
                let runs = work.runs;
                return Ok(Executed {
                    answers,
                    runs,
                    again: 0,
                });
            }
            Self::Cascade(cascade) => cascade,
        };
        let mut answers = networks.run(cascade.first, &mut work)?;
        let probabilities = config.gives_probabilities();
        let is_unsure = |&row: &usize| {
            !answers.broken[row] && cascade.is_unsure(answers.row(row), probabilities)
        };
        let unsure: Vec<usize> = (0..answers.broken.len()).filter(is_unsure).collect();
        let mut runs = work.runs.clone();
        if !unsure.is_empty() {
            let mut work = work.select(&unsure);
            let second = networks.run(cascade.then, &mut work)?;
            for (i, &row) in unsure.iter().enumerate() {
                answers.replace(row, &second, i);
            }
            runs.iter_mut()
                .zip(work.runs)
                .for_each(|(sum, more)| *sum += more);
        }
        Ok(Executed {
            answers,
            runs,
            again: unsure.len(),
        })
    }
}

impl ModelConfig {
    /// `"image+text@int8"`.
    pub(crate) fn choice_name(&self, choice: Choice) -> String {
        let name = self.name(choice.subset);
        match self.variants().get(choice.variant).map(String::as_str) {
            None | Some("") => name,
            Some(variant) => format!("{name}@{variant}"),
        }
    }
}
