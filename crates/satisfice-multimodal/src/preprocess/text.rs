use super::check_bytes;
use crate::{
    MultimodalError,
    config::{TensorConfig, TextConfig, TooLong},
    signature::wrong,
};
use satisfice_core::{DataType, NamedTensor, Tensor, TensorData};
use std::path::Path;
use tokenizers::{Encoding, Tokenizer, TruncationParams};

/// Makes `[tokens]` of texts.
#[derive(Debug)]
pub(crate) struct Texts {
    config: TextConfig,
    tensors: Vec<(TensorConfig, Role)>,
    tokenizer: Tokenizer,
    tokens: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    TypeIds,
}

impl Texts {
    /// `tensors` are as the sidecar's check wants them: INT64 or INT32 `[tokens]`, each with a role.
    pub(crate) fn load(
        config: &TextConfig,
        tensors: &[TensorConfig],
        dir: &Path,
    ) -> Result<Self, MultimodalError> {
        let path = dir.join(&config.tokenizer);
        let mut tokenizer =
            Tokenizer::from_file(&path).map_err(|error| wrong(&path, error.to_string()))?;
        let tokens = tensors[0].shape[0];
        let truncation = (config.too_long == TooLong::Truncate).then(|| TruncationParams {
            max_length: tokens,
            ..TruncationParams::default()
        });
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(truncation)
            .map_err(|error| wrong(&path, error.to_string()))?;
        let role = |tensor: &TensorConfig| {
            let is = |named: &Option<String>| named.as_ref() == Some(&tensor.name);
            match () {
                () if is(&config.mask) => Role::Mask,
                () if is(&config.type_ids) => Role::TypeIds,
                () => Role::Ids,
            }
        };
        Ok(Self {
            config: config.clone(),
            tensors: tensors.iter().map(|t| (t.clone(), role(t))).collect(),
            tokenizer,
            tokens,
        })
    }

    /// The tensors `[1, tokens]` of a text, which is number `index` of its request.
    pub(crate) fn tokenize(
        &self,
        index: usize,
        text: &[u8],
    ) -> Result<Vec<NamedTensor>, MultimodalError> {
        let encoding = self.encode(index, text)?;
        Ok(self
            .tensors
            .iter()
            .map(|(tensor, role)| NamedTensor {
                name: tensor.name.clone(),
                tensor: self.tensor(&encoding, tensor.datatype, *role),
            })
            .collect())
    }

    fn encode(&self, index: usize, text: &[u8]) -> Result<Encoding, MultimodalError> {
        let input = &self.config.input;
        check_bytes(input, index, text, self.config.bytes_max)?;
        let text = std::str::from_utf8(text).map_err(|error| {
            MultimodalError::request(
                "wrong_text",
                format!("`{input}` {index} is not UTF-8: {error}"),
            )
        })?;
        let encoding = self.tokenizer.encode(text, true).map_err(|error| {
            MultimodalError::request("wrong_text", format!("`{input}` {index}: {error}"))
        })?;
        if encoding.len() > self.tokens {
            return Err(MultimodalError::TooLarge {
                what: format!("tokens of `{input}` {index}"),
                found: encoding.len() as u64,
                limit: self.tokens as u64,
            });
        }
        Ok(encoding)
    }

    fn tensor(&self, encoding: &Encoding, datatype: DataType, role: Role) -> Tensor {
        let (tokens, pad) = match role {
            Role::Ids => (encoding.get_ids(), self.config.pad),
            Role::Mask => (encoding.get_attention_mask(), 0),
            Role::TypeIds => (encoding.get_type_ids(), 0),
        };
        let padding = (tokens.len()..self.tokens).map(|_| pad);
        let values = tokens.iter().copied().chain(padding);
        let data = match datatype {
            DataType::Int32 => TensorData::Int32(values.map(|v| v as i32).collect()),
            _ => TensorData::Int64(values.map(i64::from).collect()),
        };
        Tensor::new(vec![1, self.tokens], data)
            .expect("invariant: every text is padded to the same tokens")
    }
}
