//! How a tokenizer's directory has texts made tensors.

use super::{Config, LENGTH, quoted, read};
use crate::{MultimodalError, signature::wrong};
use serde::Deserialize;
use serde_json::Value;
use std::{fmt::Write as _, path::Path};

pub(super) const IDS: &str = "input_ids";
pub(super) const TOKENIZER: &str = "tokenizer.json";
const MASK: &str = "attention_mask";
const TYPES: &str = "token_type_ids";

/// `tokenizer_config.json`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    /// Very large where there is no limit.
    model_max_length: Option<Value>,
    padding_side: Option<String>,
    truncation_side: Option<String>,
}

pub(super) struct Text {
    pub(super) tokens: usize,
    pub(super) notes: Vec<String>,
    pad: Option<u32>,
    config: TokenizerConfig,
}

impl Text {
    pub(super) fn read(
        dir: &Path,
        config: &Config,
        tokens: Option<usize>,
    ) -> Result<Self, MultimodalError> {
        let path = dir.join(TOKENIZER);
        if !path.is_file() {
            let message = "a text's tokens need it: `AutoTokenizer.from_pretrained(NAME).save_pretrained(DIR)` \
                           writes it";
            return Err(wrong(&path, message.to_owned()));
        }
        let said: TokenizerConfig = read(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let longest = said.model_max_length.as_ref().and_then(Value::as_u64);
        let longest = [
            longest.and_then(|l| usize::try_from(l).ok()),
            config.max_position_embeddings,
        ];
        let longest = longest.into_iter().flatten().min();
        let mut notes = Vec::new();
        let tokens = match (tokens, longest) {
            (Some(tokens), Some(longest)) if tokens > longest => {
                let message = format!("its texts have at most {longest} tokens, not {tokens}");
                return Err(wrong(dir, message));
            }
            (Some(tokens), _) => tokens,
            (None, longest) => {
                let tokens = LENGTH.min(longest.unwrap_or(LENGTH));
                let longest = longest.map_or("any number".to_owned(), |l| l.to_string());
                notes.push(format!(
                    "texts are cut and filled to {tokens} tokens, of {longest} that the model takes: --tokens \
                     says otherwise"
                ));
                tokens
            }
        };
        Ok(Self {
            tokens,
            notes,
            pad: config.pad_token_id,
            config: said,
        })
    }

    /// As model.toml has it, for a modality of those tensors.
    pub(super) fn preprocess(&self, tensors: &[String]) -> Result<String, String> {
        let mut how = format!("type = \"text\", input = \"text\", ids = \"{IDS}\"");
        for tensor in tensors.iter().filter(|tensor| *tensor != IDS) {
            let key = match tensor.as_str() {
                MASK => "mask",
                TYPES => "type_ids",
                other => {
                    return Err(format!(
                        "input `{other}` beside `{IDS}`: of a text, {IDS}, {MASK} and {TYPES} are made"
                    ));
                }
            };
            let _ = write!(how, ", {key} = {}", quoted(tensor));
        }
        if let Some(pad) = self.pad {
            let _ = write!(how, ", pad = {pad}");
        }
        let sides = [
            ("pad_side", &self.config.padding_side),
            ("truncate_side", &self.config.truncation_side),
        ];
        for (key, side) in sides {
            if let Some(side) = side
                .as_deref()
                .filter(|side| matches!(*side, "left" | "right"))
            {
                let _ = write!(how, ", {key} = \"{side}\"");
            }
        }
        Ok(how)
    }
}
