//! From bytes of a request to what networks read.

mod image;
mod text;

use crate::{
    MultimodalError,
    config::{ModalityConfig, PreprocessConfig},
};
use satisfice_core::{ByteStrings, NamedTensor};
use std::path::Path;

/// The preprocessing of one modality, ready to run.
#[derive(Debug)]
pub(crate) enum Preprocess {
    Image(image::Pictures),
    Text(Box<text::Texts>),
}

impl Preprocess {
    /// The preprocessing of `modality`, with its files in `dir`, if it has any.
    pub(crate) fn load(
        modality: &ModalityConfig,
        dir: &Path,
    ) -> Result<Option<Self>, MultimodalError> {
        Ok(match &modality.preprocess {
            None => None,
            Some(PreprocessConfig::Image(config)) => {
                let tensor = &modality.tensors[0];
                Some(Self::Image(image::Pictures::new(config, tensor)))
            }
            Some(PreprocessConfig::Text(config)) => {
                let texts = text::Texts::load(config, &modality.tensors, dir)?;
                Some(Self::Text(Box::new(texts)))
            }
        })
    }

    /// The modality's tensors, with one row for each of `raw`.
    pub(crate) fn run(&self, raw: &ByteStrings) -> Result<Vec<NamedTensor>, MultimodalError> {
        match self {
            Self::Image(pictures) => pictures.decode(raw).map(|tensor| vec![tensor]),
            Self::Text(texts) => texts.tokenize(raw),
        }
    }
}

/// Refuses what is longer than its limit.
fn check_bytes(
    input: &str,
    index: usize,
    bytes: &[u8],
    limit: usize,
) -> Result<(), MultimodalError> {
    if bytes.len() <= limit {
        return Ok(());
    }
    Err(MultimodalError::TooLarge {
        what: format!("bytes of `{input}` {index}"),
        found: bytes.len() as u64,
        limit: limit as u64,
    })
}
