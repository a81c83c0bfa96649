//! From bytes of a request to what networks read.

mod image;
mod picture;
mod text;

use crate::{
    MultimodalError,
    config::{ModalityConfig, PreprocessConfig},
};
use satisfice_core::{InferRequest, NamedTensor, TensorData};
use std::path::Path;

/// The preprocessing of one modality, ready to run.
#[derive(Debug)]
pub(crate) struct Preprocess {
    /// Name of the BYTES tensor that it reads.
    input: String,
    how: How,
}

#[derive(Debug)]
enum How {
    Image(Box<image::Pictures>),
    Text(Box<text::Texts>),
}

impl Preprocess {
    /// The preprocessing of `modality`, with its files in `dir`, if it has any.
    pub(crate) fn load(
        modality: &ModalityConfig,
        dir: &Path,
    ) -> Result<Option<Self>, MultimodalError> {
        let Some(config) = &modality.preprocess else {
            return Ok(None);
        };
        let how = match config {
            PreprocessConfig::Image(config) => {
                let pictures = image::Pictures::new(config, &modality.tensors[0]);
                How::Image(Box::new(pictures))
            }
            PreprocessConfig::Text(config) => {
                let texts = text::Texts::load(config, &modality.tensors, dir)?;
                How::Text(Box::new(texts))
            }
        };
        Ok(Some(Self {
            input: config.input().to_owned(),
            how,
        }))
    }

    /// The modality's tensors, of one row, for input `row` of `request`; nothing where the request
    /// does not bring it raw.
    pub(crate) fn run(
        &self,
        request: &InferRequest,
        row: usize,
    ) -> Result<Vec<NamedTensor>, MultimodalError> {
        let raw = match request.input(&self.input).map(satisfice_core::Tensor::data) {
            Some(TensorData::Bytes(strings)) => strings.get(row),
            _ => None,
        };
        match (&self.how, raw) {
            (_, None) => Ok(Vec::new()),
            (How::Image(pictures), Some(file)) => {
                pictures.decode(row, file).map(|tensor| vec![tensor])
            }
            (How::Text(texts), Some(text)) => texts.tokenize(row, text),
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
