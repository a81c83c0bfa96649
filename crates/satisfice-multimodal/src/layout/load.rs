//! From the files that a sidecar names to networks.

use super::{Choice, Encoder, Joint};
use crate::{
    MultimodalError,
    config::{
        EncoderConfig, JointConfig, ModalityConfig, ModelConfig, PreprocessConfig, SubsetConfig,
        TensorConfig,
    },
    network::{Network, NetworkLoader, Pooling, Wanted},
    signature::{Port, wrong},
};
use satisfice_core::DataType;

fn ports(tensors: &[TensorConfig]) -> impl Iterator<Item = Port> {
    tensors
        .iter()
        .map(|tensor| Port::batch(&tensor.name, tensor.datatype, &tensor.shape))
}

/// A network that gives the model's output.
fn answering<'a>(config: &'a ModelConfig, file: &'a str, inputs: &'a [Port]) -> Wanted<'a> {
    Wanted {
        file,
        inputs,
        output: Some(&config.output.name),
        pooling: Pooling::default(),
    }
}

fn pooling(of: &EncoderConfig, modality: &ModalityConfig) -> Result<Pooling, String> {
    if let Some(mask) = &of.pool_mask {
        if of.pool.is_none() {
            return Err(format!(
                "encoder of `{}`: pool_mask needs `pool`",
                of.modality
            ));
        }
        if modality.tensors.iter().all(|tensor| tensor.name != *mask) {
            return Err(format!(
                "encoder of `{}`: pool_mask `{mask}` is none of its tensors",
                of.modality
            ));
        }
    }
    let attention = match &modality.preprocess {
        Some(PreprocessConfig::Text(text)) => text.mask.clone(),
        _ => None,
    };
    Ok(Pooling {
        pool: of.pool,
        mask: of.pool_mask.clone().or(attention),
    })
}

fn variant_of(config: &ModelConfig, name: Option<&str>) -> usize {
    let name = name.unwrap_or_default();
    let variants = config.variants();
    variants.iter().position(|v| v == name).unwrap_or(0)
}

pub(super) fn fused(
    config: &ModelConfig,
    loader: &NetworkLoader,
) -> Result<(Vec<Encoder>, Network), MultimodalError> {
    let sidecar = |message| wrong(&loader.dir.join("../model.toml"), message);
    let mut encoders = Vec::new();
    for of in &config.encoders {
        let modality = config.modality(&of.modality).map_err(sidecar)?;
        let inputs: Vec<Port> = ports(&config.modalities[modality].tensors).collect();
        let pooling = pooling(of, &config.modalities[modality]).map_err(sidecar)?;
        let network = loader.load(Wanted {
            file: &of.file,
            inputs: &inputs,
            output: of.output.as_deref(),
            pooling,
        })?;
        encoders.push(Encoder {
            modality,
            variant: variant_of(config, of.variant.as_deref()),
            embedding: of
                .embedding
                .clone()
                .unwrap_or_else(|| network.output.clone()),
            network,
        });
    }
    for encoder in &encoders {
        let other = encoders.iter().find(|other| {
            (other.modality == encoder.modality) != (other.embedding == encoder.embedding)
        });
        if let Some(other) = other {
            return Err(sidecar(format!(
                "{} feeds `{}` of the fusion head and {} `{}`: each modality has one embedding of \
                 its own",
                encoder.network.name(),
                encoder.embedding,
                other.network.name(),
                other.embedding
            )));
        }
    }
    let fusion = config.fusion.as_ref();
    let fusion = fusion.ok_or_else(|| sidecar("no [fusion]".to_owned()))?;
    let mask = fusion.mask.iter();
    let mask = mask.map(|name| Port::batch(name, DataType::Fp32, &[config.modalities.len()]));
    let mut inputs: Vec<Port> = mask.collect();
    for encoder in &encoders {
        let port = Port::batch(&encoder.embedding, DataType::Fp32, &[encoder.network.width]);
        if !inputs.contains(&port) {
            inputs.push(port);
        }
    }
    let head = loader.load(answering(config, &fusion.file, &inputs))?;
    Ok((encoders, head))
}

pub(super) fn subsets(
    config: &ModelConfig,
    loader: &NetworkLoader,
) -> Result<Vec<(Choice, Network)>, MultimodalError> {
    let sidecar = |message| wrong(&loader.dir.join("../model.toml"), message);
    let load = |of: &SubsetConfig| {
        let subset = config.subset(&of.modalities).map_err(sidecar)?;
        let inputs: Vec<Port> = subset
            .iter()
            .flat_map(|m| ports(&config.modalities[m].tensors))
            .collect();
        let network = loader.load(answering(config, &of.file, &inputs))?;
        let variant = variant_of(config, of.variant.as_deref());
        Ok((Choice { subset, variant }, network))
    };
    config.subsets.iter().map(load).collect()
}

pub(super) fn joint(
    config: &ModelConfig,
    loader: &NetworkLoader,
) -> Result<Vec<Joint>, MultimodalError> {
    let load = |of: &JointConfig| {
        let presence = of.presence.iter();
        let presence =
            presence.map(|name| Port::batch(name, DataType::Fp32, &[config.modalities.len()]));
        let tensors = config.modalities.iter().flat_map(|m| ports(&m.tensors));
        let inputs: Vec<Port> = tensors.chain(presence).collect();
        Ok(Joint {
            variant: variant_of(config, of.variant.as_deref()),
            presence: of.presence.clone(),
            network: loader.load(answering(config, &of.file, &inputs))?,
        })
    };
    config.joint.iter().map(load).collect()
}
