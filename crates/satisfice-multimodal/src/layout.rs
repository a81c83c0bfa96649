//! How an answer is computed from a subset of the modalities.

mod load;
mod offers;

pub(crate) use load::constants;

use crate::{
    MultimodalError,
    batch::Batch,
    config::{ModalityConfig, ModelConfig, TensorConfig},
    network::{Network, NetworkLoader, filled},
    preprocess::Preprocess,
    signature::{Port, wrong},
    subset::Subset,
};
use satisfice_core::{Tensor, TensorData};

/// A subset of the modalities, and the variant of the networks that read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Choice {
    pub(crate) subset: Subset,
    /// Position in [`ModelConfig::variants`]; 0 is the base.
    pub(crate) variant: usize,
}

/// The networks of a model.
#[derive(Debug)]
pub(crate) struct Networks {
    modalities: Vec<Modality>,
    layout: Layout,
    choices: Vec<Choice>,
    outputs: Vec<Given>,
    /// Whether every vector is divided by its length.
    normalise: bool,
}

/// What networks read of a modality, and how it is made of what a request brings raw.
#[derive(Debug)]
struct Modality {
    tensors: Vec<TensorConfig>,
    preprocess: Option<Preprocess>,
}

#[derive(Debug)]
enum Layout {
    Fused {
        head: Box<Network>,
        mask: Option<String>,
        encoders: Vec<Encoder>,
    },
    PerSubset(Vec<(Choice, Network)>),
    Joint(Vec<Joint>),
}

#[derive(Debug)]
struct Encoder {
    modality: usize,
    variant: usize,
    /// The head's input that it feeds.
    embedding: String,
    network: Network,
}

#[derive(Debug)]
struct Joint {
    variant: usize,
    presence: Option<String>,
    network: Network,
}

/// What was computed of a batch, so far.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) batch: Batch<'a>,
    /// Per modality, the encoder that ran and what it gave.
    embeddings: Vec<Option<(usize, Vec<f32>)>>,
    /// Per modality, the inputs that it was run for.
    pub(crate) runs: Vec<usize>,
}

/// The answers to a batch.
#[derive(Debug)]
pub(crate) struct Answers {
    /// Of each of [`Networks::outputs`], the values of every row.
    pub(crate) given: Vec<Vec<f32>>,
    /// For each row, whether a network gave NaN or an infinite number for it.
    pub(crate) broken: Vec<bool>,
}

impl Answers {
    /// Values of the model's output, row by row.
    pub(crate) fn values(&self) -> &[f32] {
        &self.given[0]
    }

    /// Those of a row.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        let width = self.given[0].len() / self.broken.len();
        &self.given[0][row * width..(row + 1) * width]
    }

    /// Takes the answer to row `from` of `other` for row `to`.
    pub(crate) fn replace(&mut self, to: usize, other: &Self, from: usize) {
        for (values, others) in self.given.iter_mut().zip(&other.given) {
            let width = values.len() / self.broken.len();
            let of = |row: usize| row * width..(row + 1) * width;
            values[of(to)].copy_from_slice(&others[of(from)]);
        }
        self.broken[to] = other.broken[from];
    }
}

/// An output of the model, and the shape of a row of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

impl Networks {
    pub(crate) fn load(
        config: &ModelConfig,
        loader: &NetworkLoader,
    ) -> Result<Self, MultimodalError> {
        let sidecar = |message| wrong(&loader.dir.join("../model.toml"), message);
        let layout = if let Some(fusion) = &config.fusion {
            let (encoders, head) = load::fused(config, loader)?;
            Layout::Fused {
                head: Box::new(head),
                mask: fusion.mask.clone(),
                encoders,
            }
        } else if config.joint.is_empty() {
            Layout::PerSubset(load::subsets(config, loader)?)
        } else {
            Layout::Joint(load::joint(config, loader)?)
        };
        let choices = layout.choices(config).map_err(sidecar)?;
        let modality = |modality: &ModalityConfig| {
            let preprocess = Preprocess::load(modality, loader.dir)?;
            let tensors = modality.tensors.clone();
            Ok(Modality {
                tensors,
                preprocess,
            })
        };
        let modalities: Result<_, MultimodalError> =
            config.modalities.iter().map(modality).collect();
        Ok(Self {
            modalities: modalities?,
            outputs: layout.outputs(config, loader.dir)?,
            normalise: config.output.normalise,
            layout,
            choices,
        })
    }

    /// What answers consist of, the model's output first.
    pub(crate) fn outputs(&self) -> &[Given] {
        &self.outputs
    }

    /// Makes ready what batches of up to `rows` inputs are executed by.
    pub(crate) fn prepare(&self, rows: usize) {
        for network in self.choices.iter().flat_map(|&choice| self.used(choice)) {
            network.prepare(rows);
        }
    }

    /// Every choice, each once.
    pub(crate) fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Whether a choice that follows another runs only the encoders that the other did not.
    pub(crate) fn keeps_embeddings(&self) -> bool {
        matches!(self.layout, Layout::Fused { .. })
    }

    /// Whether `then` reads more than `first` and computes what both read in the same way: what a
    /// cascade is made of.
    pub(crate) fn continues(&self, first: Choice, then: Choice) -> bool {
        let larger = then.subset != first.subset && then.subset.includes(first.subset);
        larger
            && match &self.layout {
                Layout::Fused { encoders, .. } => first.subset.iter().all(|modality| {
                    encoder(encoders, modality, first.variant)
                        == encoder(encoders, modality, then.variant)
                }),
                _ => first.variant == then.variant,
            }
    }

    /// The networks that `choice` runs, the one that answers last.
    pub(crate) fn used(&self, choice: Choice) -> Vec<&Network> {
        match &self.layout {
            Layout::Fused { head, encoders, .. } => choice
                .subset
                .iter()
                .map(|modality| &encoders[encoder(encoders, modality, choice.variant)].network)
                .chain([&**head])
                .collect(),
            Layout::PerSubset(networks) => {
                let found = networks.iter().find(|(c, _)| *c == choice);
                found.map(|(_, network)| network).into_iter().collect()
            }
            Layout::Joint(networks) => {
                let found = networks.iter().find(|j| j.variant == choice.variant);
                found.map(|joint| &joint.network).into_iter().collect()
            }
        }
    }

    /// Answers the batch of `work` by `choice`; what an encoder gave before is used again.
    pub(crate) fn run(
        &self,
        choice: Choice,
        work: &mut Work<'_>,
    ) -> Result<Answers, MultimodalError> {
        let rows = work.batch.len();
        let mut broken = vec![false; rows];
        let network = self.used(choice);
        let network = network.last().ok_or_else(|| no_network(choice))?;
        // What is no picture or text is found before anything is computed.
        for modality in choice.subset.iter() {
            if work.embeddings[modality].is_none() {
                self.make(modality, work)?;
            }
        }
        if let Layout::Fused { encoders, .. } = &self.layout {
            for modality in choice.subset.iter() {
                let values = embed(encoders, modality, choice.variant, work)?;
                mark_broken(&mut broken, values);
            }
        } else {
            for modality in choice.subset.iter() {
                work.runs[modality] += rows;
            }
        }
        let mut given = network.run(rows, |port| self.input(port, choice, work))?;
        mark_broken(&mut broken, &given[0]);
        if self.normalise {
            let width = network.width();
            given[0].chunks_exact_mut(width).for_each(normalise);
        }
        Ok(Answers { given, broken })
    }

    /// Makes the tensors of a modality that the inputs of `work` bring raw.
    pub(crate) fn make(&self, modality: usize, work: &mut Work<'_>) -> Result<(), MultimodalError> {
        let of = &self.modalities[modality];
        match &of.preprocess {
            Some(preprocess) => work.batch.make(preprocess, &of.tensors),
            None => Ok(()),
        }
    }

    /// What the answering network reads at `port`.
    fn input(
        &self,
        port: &Port,
        choice: Choice,
        work: &Work<'_>,
    ) -> Result<Tensor, MultimodalError> {
        let rows = work.batch.len();
        let (presence, encoders) = match &self.layout {
            Layout::Fused { mask, encoders, .. } => (mask.as_ref(), encoders.as_slice()),
            Layout::PerSubset(_) => (None, &[][..]),
            Layout::Joint(networks) => {
                let joint = networks.iter().find(|j| j.variant == choice.variant);
                (joint.and_then(|j| j.presence.as_ref()), &[][..])
            }
        };
        if presence == Some(&port.name) {
            return Ok(self.presence(choice.subset, rows));
        }
        let shape = || port.provided(rows);
        if let Some(encoder) = encoders.iter().find(|e| e.embedding == port.name) {
            return Ok(match &work.embeddings[encoder.modality] {
                Some((_, values)) if choice.subset.contains(encoder.modality) => {
                    Tensor::new(shape(), TensorData::Fp32(values.clone()))
                        .expect("invariant: an embedding is as wide as its input")
                }
                _ => filled(shape(), port.datatype, 0.0),
            });
        }
        let absent = self.modalities.iter().enumerate().find_map(|(m, of)| {
            let tensor = of.tensors.iter().find(|tensor| tensor.name == port.name)?;
            (!choice.subset.contains(m)).then_some(tensor)
        });
        match absent {
            Some(tensor) => Ok(filled(shape(), port.datatype, tensor.fill)),
            None => work.batch.gather(&port.name, port.datatype),
        }
    }

    /// `[rows, modalities]`: 1 where the modality takes part.
    fn presence(&self, subset: Subset, rows: usize) -> Tensor {
        let modalities = self.modalities.len();
        let row = (0..modalities).map(|m| f32::from(u8::from(subset.contains(m))));
        let row: Vec<f32> = row.collect();
        Tensor::new(vec![rows, modalities], TensorData::Fp32(row.repeat(rows)))
            .expect("invariant: the elements are counted by the shape")
    }
}

impl<'a> Work<'a> {
    pub(crate) fn new(batch: Batch<'a>, modalities: usize) -> Self {
        Self {
            batch,
            embeddings: vec![None; modalities],
            runs: vec![0; modalities],
        }
    }

    /// The same work for some of the inputs only, with no runs counted yet.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let total = self.batch.len();
        let of_rows = |(encoder, values): &(usize, Vec<f32>)| {
            let width = values.len() / total.max(1);
            let row = |&row: &usize| &values[row * width..(row + 1) * width];
            let values = rows.iter().flat_map(row).copied().collect();
            (*encoder, values)
        };
        Self {
            batch: self.batch.select(rows),
            embeddings: self
                .embeddings
                .iter()
                .map(|there| there.as_ref().map(of_rows))
                .collect(),
            runs: vec![0; self.runs.len()],
        }
    }
}

/// Runs the encoder of a modality unless it has been run.
fn embed<'w>(
    encoders: &[Encoder],
    modality: usize,
    variant: usize,
    work: &'w mut Work<'_>,
) -> Result<&'w [f32], MultimodalError> {
    let rows = work.batch.len();
    let wanted = encoder(encoders, modality, variant);
    let there = work.embeddings[modality].as_ref();
    if there.is_none_or(|(encoder, _)| *encoder != wanted) {
        let gather = |port: &Port| work.batch.gather(&port.name, port.datatype);
        let mut given = encoders[wanted].network.run(rows, gather)?;
        work.embeddings[modality] = Some((wanted, given.swap_remove(0)));
        work.runs[modality] += rows;
    }
    Ok(work.embeddings[modality]
        .as_ref()
        .map_or(&[], |(_, values)| values))
}

/// Position of a modality's encoder of that variant, or of its base.
fn encoder(encoders: &[Encoder], modality: usize, variant: usize) -> usize {
    let of = |variant| {
        let is = |e: &Encoder| e.modality == modality && e.variant == variant;
        encoders.iter().position(is)
    };
    of(variant)
        .or_else(|| of(0))
        .expect("invariant: the sidecar names an encoder of every modality")
}

/// Divides a vector by its length; one of zeros stays.
fn normalise(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let length = square.sqrt();
    if length > 0.0 {
        vector
            .iter_mut()
            .for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}

fn mark_broken(broken: &mut [bool], values: &[f32]) {
    let width = values.len() / broken.len().max(1);
    for (broken, row) in broken.iter_mut().zip(values.chunks_exact(width.max(1))) {
        *broken |= !row.iter().all(|v| v.is_finite());
    }
}

fn no_network(choice: Choice) -> MultimodalError {
    MultimodalError::Execution {
        code: "no_network",
        message: format!("no network answers {choice:?}"),
    }
}
