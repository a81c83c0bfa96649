use super::check_bytes;
use crate::{
    MultimodalError,
    config::{Side, TensorConfig, TextConfig, TooLong},
    signature::wrong,
};
use satisfice_core::{DataType, NamedTensor, Tensor, TensorData};
use std::path::Path;
use tokenizers::{
    Encoding, PaddingDirection, PostProcessor, Tokenizer, TruncationDirection, TruncationParams,
    TruncationStrategy,
};

/// Makes `[tokens]` of texts.
#[derive(Debug)]
pub(crate) struct Texts {
    config: TextConfig,
    tensors: Vec<(TensorConfig, Role)>,
    tokenizer: Tokenizer,
    padding: Padding,
    /// Tokens of a tensor.
    tokens: usize,
    /// Tokens of a text at most.
    tokens_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    TypeIds,
}

/// What stands where a text has no tokens.
#[derive(Debug)]
struct Padding {
    id: u32,
    type_id: u32,
    side: Side,
}

/// Tokens for padding, as vocabularies name them.
const PAD_TOKENS: [&str; 5] = ["[PAD]", "<pad>", "<|pad|>", "<PAD>", "<|padding|>"];

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
        let padding = padding(config, &tokenizer, tokens).map_err(|m| wrong(&path, m))?;
        let truncation = truncation(config, &tokenizer, tokens).map_err(|m| wrong(&path, m))?;
        let tokens_max = truncation.max_length;
        let truncation = (config.too_long == TooLong::Truncate).then_some(truncation);
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
            padding,
            tokens,
            tokens_max,
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
        if encoding.len() > self.tokens_max {
            return Err(MultimodalError::TooLarge {
                what: format!("tokens of `{input}` {index}"),
                found: encoding.len() as u64,
                limit: self.tokens_max as u64,
            });
        }
        Ok(encoding)
    }

    fn tensor(&self, encoding: &Encoding, datatype: DataType, role: Role) -> Tensor {
        let (tokens, pad) = match role {
            Role::Ids => (encoding.get_ids(), self.padding.id),
            Role::Mask => (encoding.get_attention_mask(), 0),
            Role::TypeIds => (encoding.get_type_ids(), self.padding.type_id),
        };
        let mut values = tokens.to_vec();
        let at = match self.padding.side {
            Side::Left => 0,
            Side::Right => values.len(),
        };
        values.splice(at..at, vec![pad; self.tokens - tokens.len()]);
        let values = values.into_iter();
        let data = match datatype {
            DataType::Int32 => TensorData::Int32(values.map(|v| v as i32).collect()),
            _ => TensorData::Int64(values.map(i64::from).collect()),
        };
        Tensor::new(vec![1, self.tokens], data)
            .expect("invariant: every text is padded to the same tokens")
    }
}

/// Padding as `tokenizer.json` says and model.toml overrides, else with the vocabulary's token for it.
fn padding(config: &TextConfig, tokenizer: &Tokenizer, tokens: usize) -> Result<Padding, String> {
    let said = tokenizer.get_padding();
    if let Some(multiple) = said.and_then(|p| p.pad_to_multiple_of)
        && multiple > 0
        && !tokens.is_multiple_of(multiple)
    {
        return Err(format!(
            "pads to multiples of {multiple} tokens, and the tensors of model.toml have {tokens}"
        ));
    }
    let of_vocabulary = || {
        PAD_TOKENS
            .iter()
            .find_map(|token| tokenizer.token_to_id(token))
    };
    let id = config
        .pad
        .or_else(|| said.map(|p| p.pad_id))
        .or_else(of_vocabulary);
    let side = said.map_or(Side::Right, |p| match p.direction {
        PaddingDirection::Left => Side::Left,
        PaddingDirection::Right => Side::Right,
    });
    Ok(Padding {
        id: id.unwrap_or(0),
        type_id: said.map_or(0, |p| p.pad_type_id),
        side: config.pad_side.unwrap_or(side),
    })
}

/// How texts are cut to the tensors' length, or a shorter one that `tokenizer.json` says.
fn truncation(
    config: &TextConfig,
    tokenizer: &Tokenizer,
    tokens: usize,
) -> Result<TruncationParams, String> {
    let said = tokenizer.get_truncation();
    if said.is_some_and(|t| matches!(t.strategy, TruncationStrategy::OnlySecond)) {
        return Err("truncates the second text of a pair, and there are no pairs here".to_owned());
    }
    let added = tokenizer
        .get_post_processor()
        .map_or(0, |p| p.added_tokens(false));
    let max_length = said.map_or(tokens, |t| t.max_length.min(tokens));
    if max_length < added {
        return Err(format!(
            "adds {added} tokens to each text, and {max_length} is the most there may be"
        ));
    }
    let direction = match config.truncate_side {
        None => said.map(|t| t.direction).unwrap_or_default(),
        Some(Side::Left) => TruncationDirection::Left,
        Some(Side::Right) => TruncationDirection::Right,
    };
    Ok(TruncationParams {
        max_length,
        direction,
        ..TruncationParams::default()
    })
}
