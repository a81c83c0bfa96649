//! From the files that a sidecar names to networks.

use super::{Choice, Encoder, Joint};
use crate::{
    MultimodalError,
    config::{
        ConstantConfig, JointConfig, ModalityConfig, ModelConfig, SubsetConfig, TensorConfig,
    },
    network::{Network, NetworkLoader, Reading, Wanted},
    signature::{Port, wrong},
};
use satisfice_core::DataType;

fn ports(tensors: &[TensorConfig]) -> impl Iterator<Item = Port> {
    let port = |t: &TensorConfig| Port::along(t.batch_axis, &t.name, t.datatype, &t.shape);
    tensors.iter().map(port)
}

/// What networks may read that no request brings.
pub(crate) fn constants(config: &ModelConfig) -> Vec<Port> {
    let port = |constant: &ConstantConfig| Port {
        name: constant.name.clone(),
        datatype: constant.datatype,
        shape: constant.shape.clone(),
        constant: Some(constant.value),
    };
    config.constants.iter().map(port).collect()
}

/// A network that gives the model's output from `modalities`.
fn answering<'a>(
    config: &'a ModelConfig,
    file: &'a str,
    inputs: &'a [Port],
    modalities: &[&ModalityConfig],
) -> Result<Wanted<'a>, String> {
    Ok(Wanted {
        file,
        inputs,
        output: Some(&config.output.name),
        reading: Reading::of_answer(config, modalities)?,
        also: &config.output.also,
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
        let modalities = [&config.modalities[modality]];
        let mask = of.pool_mask.as_ref();
        let reading = Reading::of(of.pool, mask, of.batch_axis, &modalities);
        let at = |message| sidecar(format!("encoder of `{}`: {message}", of.modality));
        let network = loader.load(Wanted {
            file: &of.file,
            inputs: &inputs,
            output: of.output.as_deref(),
            reading: reading.map_err(at)?,
            also: &[],
        })?;
        encoders.push(Encoder {
            modality,
            variant: variant_of(config, of.variant.as_deref()),
            embedding: of
                .embedding
                .clone()
                .unwrap_or_else(|| network.output().to_owned()),
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
        let port = Port::batch(
            &encoder.embedding,
            DataType::Fp32,
            &[encoder.network.width()],
        );
        if !inputs.contains(&port) {
            inputs.push(port);
        }
    }
    let wanted = answering(config, &fusion.file, &inputs, &[]).map_err(sidecar)?;
    let head = loader.load(wanted)?;
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
        let modalities: Vec<_> = subset.iter().map(|m| &config.modalities[m]).collect();
        let wanted = answering(config, &of.file, &inputs, &modalities).map_err(sidecar)?;
        let network = loader.load(wanted)?;
        let variant = variant_of(config, of.variant.as_deref());
        Ok((Choice { subset, variant }, network))
    };
    config.subsets.iter().map(load).collect()
}

pub(super) fn joint(
    config: &ModelConfig,
    loader: &NetworkLoader,
) -> Result<Vec<Joint>, MultimodalError> {
    let sidecar = |message| wrong(&loader.dir.join("../model.toml"), message);
    let load = |of: &JointConfig| {
        let presence = of.presence.iter();
        let presence =
            presence.map(|name| Port::batch(name, DataType::Fp32, &[config.modalities.len()]));
        let tensors = config.modalities.iter().flat_map(|m| ports(&m.tensors));
        let inputs: Vec<Port> = tensors.chain(presence).collect();
        let modalities: Vec<_> = config.modalities.iter().collect();
        let wanted = answering(config, &of.file, &inputs, &modalities);
        Ok(Joint {
            variant: variant_of(config, of.variant.as_deref()),
            presence: of.presence.clone(),
            network: loader.load(wanted.map_err(sidecar)?)?,
        })
    };
    config.joint.iter().map(load).collect()
}
