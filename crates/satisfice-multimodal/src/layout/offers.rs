//! What the networks of a model offer: choices, outputs, other precisions.

use super::{Choice, Encoder, Given, Layout, Networks};
use crate::{
    MultimodalError, config::ModelConfig, network::Network, signature::wrong, subset::Subset,
};
use std::path::Path;

impl Networks {
    /// The networks of other precisions, each with the one that it stands for.
    pub(crate) fn variants(&self) -> Vec<(&Network, &Network)> {
        match &self.layout {
            Layout::Fused { encoders, .. } => {
                let of = |e: &Encoder| (e.variant, e.modality);
                pairs(encoders.iter().map(|e| (of(e), &e.network)))
            }
            Layout::PerSubset(networks) => {
                let of = |choice: &Choice| (choice.variant, choice.subset);
                pairs(
                    networks
                        .iter()
                        .map(|(choice, network)| (of(choice), network)),
                )
            }
            Layout::Joint(networks) => {
                pairs(networks.iter().map(|j| ((j.variant, ()), &j.network)))
            }
        }
    }

    /// Leaves out networks of other precisions, and the choices that run them: `now` is `before` without.
    pub(crate) fn leave_out(
        &mut self,
        files: &[&str],
        before: &ModelConfig,
        now: &ModelConfig,
    ) -> Result<(), MultimodalError> {
        let (names, left) = (before.variants(), now.variants());
        let stays = |variant: &mut usize, network: &Network| {
            if *variant > 0 && files.contains(&network.file()) {
                return false;
            }
            let position = left.iter().position(|name| *name == names[*variant]);
            *variant = position.unwrap_or(0);
            true
        };
        match &mut self.layout {
            Layout::Fused { encoders, .. } => {
                encoders.retain_mut(|e| stays(&mut e.variant, &e.network));
            }
            Layout::PerSubset(networks) => {
                networks.retain_mut(|(choice, network)| stays(&mut choice.variant, network));
            }
            Layout::Joint(networks) => {
                networks.retain_mut(|j| stays(&mut j.variant, &j.network));
            }
        }
        let choices = self.layout.choices(now);
        self.choices = choices.map_err(|message| MultimodalError::Execution {
            code: "no_network",
            message,
        })?;
        Ok(())
    }
}

impl Layout {
    /// What its answering networks give: all of them the same.
    pub(super) fn outputs(
        &self,
        config: &ModelConfig,
        dir: &Path,
    ) -> Result<Vec<Given>, MultimodalError> {
        let answering: Vec<&Network> = match self {
            Self::Fused { head, .. } => vec![&**head],
            Self::PerSubset(networks) => networks.iter().map(|(_, network)| network).collect(),
            Self::Joint(networks) => networks.iter().map(|joint| &joint.network).collect(),
        };
        let classes = config.output.classes.len();
        let mut all: Option<Vec<Given>> = None;
        for network in answering {
            let wrong = |message| wrong(&dir.join(network.name()), message);
            let width = network.width();
            if classes > 0 && width != classes {
                return Err(wrong(format!(
                    "{width} values a row where model.toml names {classes} classes"
                )));
            }
            let main = std::iter::once((network.output(), network.shape()));
            let given = main.chain(network.also()).map(|(name, shape)| Given {
                name: name.to_owned(),
                shape: shape.to_vec(),
            });
            let given: Vec<Given> = given.collect();
            match &all {
                Some(before) if *before != given => {
                    return Err(wrong(format!(
                        "gives rows of {:?} where other networks give {:?}",
                        given.iter().map(|g| &g.shape).collect::<Vec<_>>(),
                        before.iter().map(|g| &g.shape).collect::<Vec<_>>()
                    )));
                }
                _ => all = Some(given),
            }
        }
        Ok(all.unwrap_or_default())
    }

    /// The choices that its networks offer.
    pub(super) fn choices(&self, config: &ModelConfig) -> Result<Vec<Choice>, String> {
        let offered = config.offered()?;
        let mut choices = Vec::new();
        match self {
            Self::Fused { encoders, .. } => {
                for variant in 0..config.variants().len() {
                    let runs = |subset: &&Subset| {
                        let of = |e: &Encoder| e.variant == variant && subset.contains(e.modality);
                        variant == 0 || encoders.iter().any(of)
                    };
                    let subsets = offered.iter().filter(runs);
                    choices.extend(subsets.map(|&subset| Choice { subset, variant }));
                }
            }
            Self::PerSubset(networks) => {
                choices.extend(networks.iter().map(|(choice, _)| *choice));
            }
            Self::Joint(networks) => {
                for variant in networks.iter().map(|joint| joint.variant) {
                    choices.extend(offered.iter().map(|&subset| Choice { subset, variant }));
                }
            }
        }
        Ok(choices)
    }
}

/// Networks of other variants than the first, each with that of the first for the same.
fn pairs<'a, T: PartialEq + Copy>(
    networks: impl Iterator<Item = ((usize, T), &'a Network)>,
) -> Vec<(&'a Network, &'a Network)> {
    let all: Vec<((usize, T), &Network)> = networks.collect();
    let others = all.iter().filter(|((variant, _), _)| *variant > 0);
    let pair = |((_, of), network): &((usize, T), &'a Network)| {
        let base = all.iter().find(|(key, _)| *key == (0, *of))?;
        Some((*network, base.1))
    };
    others.filter_map(pair).collect()
}
