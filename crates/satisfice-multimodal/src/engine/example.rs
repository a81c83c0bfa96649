//! A request that a model answers, for who has none.

use crate::config::{ModalityConfig, ModelConfig, PreprocessConfig, TensorConfig};
use crate::way::Way;
use satisfice_core::{ByteStrings, InferRequest, NamedTensor, Tensor, TensorData};

/// A grey picture of 4 by 4 pixels, as a PNG file.
const PICTURE: &[u8] =
    b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x04\x00\x00\
    \x00\x04\x08\x02\x00\x00\x00\x26\x93\x09\x29\x00\x00\x00\x0e\x49\x44\x41\x54\x78\xda\x63\
    \x68\x40\x02\x0c\xc4\x71\x00\x70\x52\x18\x01\x9e\xae\xbe\x6f\x00\x00\x00\x00\x49\x45\x4e\
    \x44\xae\x42\x60\x82";

const TEXT: &[u8] = b"a cat";

/// One input of the modalities that the least has to be sent for: raw where the model takes them raw, zeros
/// otherwise.
pub(super) fn example(config: &ModelConfig, ways: &[Way]) -> Option<InferRequest> {
    let brought = |way: &Way| {
        let modalities = config.modalities.iter().enumerate();
        let needed = modalities.filter(|(position, _)| way.needs().contains(*position));
        needed.map(|(_, modality)| modality).collect::<Vec<_>>()
    };
    let elements =
        |modalities: &Vec<&ModalityConfig>| modalities.iter().map(|m| size(m)).sum::<usize>();
    let smallest = ways.iter().map(brought).min_by_key(elements)?;
    let inputs = smallest.into_iter().map(inputs);
    Some(InferRequest {
        inputs: inputs.collect::<Option<Vec<_>>>()?.concat(),
        ..InferRequest::default()
    })
}

/// Elements to send for a modality.
fn size(modality: &ModalityConfig) -> usize {
    match modality.preprocess {
        Some(_) => 1,
        None => modality.tensors.iter().map(TensorConfig::elements).sum(),
    }
}

fn inputs(modality: &ModalityConfig) -> Option<Vec<NamedTensor>> {
    if let Some(preprocess) = &modality.preprocess {
        let raw = match preprocess {
            PreprocessConfig::Image(_) => PICTURE,
            PreprocessConfig::Text(_) => TEXT,
        };
        let data = TensorData::Bytes(ByteStrings::from_iter([raw]));
        let input = NamedTensor {
            name: preprocess.input().to_owned(),
            tensor: Tensor::new(vec![1], data).ok()?,
        };
        return Some(vec![input]);
    }
    let zeros = modality.tensors.iter().map(|config| {
        let data = TensorData::zeros(config.datatype, config.elements());
        let shape = [&[1], &config.shape[..]].concat();
        Some(NamedTensor {
            name: config.name.clone(),
            tensor: Tensor::new(shape, data).ok()?,
        })
    });
    zeros.collect()
}
