//! A request to a model as a line for a shell.

use crate::{protocol::data_as_json, service::ServedModel};
use satisfice_core::{DataType, Error, NamedTensor, TensorData};
use serde_json::json;

/// Zeros of one tensor that are written out; more are made by the shell.
const ZEROS_MAX: usize = 2048;

/// Where to ask, and as whom.
pub(super) struct Asking<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    pub host: &'a str,
    /// Whether a token has to be shown.
    pub with_token: bool,
}

enum Piece {
    Json(String),
    Zeros(usize),
}

/// A line with the smallest request that the model answers; none where it has no form in JSON.
pub(super) fn line(model: &ServedModel, asking: &Asking<'_>) -> Result<Option<String>, Error> {
    let request = model.example()?;
    let mut pieces = vec![Piece::Json("{\"inputs\": [".to_owned())];
    for (position, input) in request.inputs.iter().enumerate() {
        if position > 0 {
            push(&mut pieces, ", ");
        }
        if !describe(&mut pieces, input) {
            return Ok(None);
        }
    }
    push(&mut pieces, "]}");
    let url = format!(
        "{}://{}/v2/models/{}/infer",
        asking.scheme,
        asking.host,
        model.name()
    );
    let token = match asking.with_token {
        true => " -H \"Authorization: Bearer $SATISFICE_TOKEN\"",
        false => "",
    };
    let url = quoted(&url);
    if let [Piece::Json(body)] = &pieces[..] {
        return Ok(Some(format!("curl{token} {url} -d {}", quoted(body))));
    }
    let commands: Vec<String> = pieces.iter().map(command).collect();
    let commands = commands.join("; ");
    Ok(Some(format!("({commands}) | curl{token} {url} -d @-")))
}

fn push(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Json(json)) => json.push_str(text),
        _ => pieces.push(Piece::Json(text.to_owned())),
    }
}

/// Whether the tensor has a form in JSON.
fn describe(pieces: &mut Vec<Piece>, input: &NamedTensor) -> bool {
    let tensor = &input.tensor;
    let (name, datatype) = (json!(input.name), tensor.datatype());
    let shape = tensor.shape();
    push(
        pieces,
        &format!(
            "{{\"name\": {name}, \"datatype\": \"{datatype}\", \"shape\": {shape:?}, \"data\": ["
        ),
    );
    let elements = tensor.data().len();
    let is_number = !matches!(datatype, DataType::Fp16 | DataType::Bf16 | DataType::Bytes);
    if is_number && elements > ZEROS_MAX && *tensor.data() == TensorData::zeros(datatype, elements)
    {
        pieces.push(Piece::Zeros(elements));
    } else {
        let Some(data) = data_as_json(tensor.data()) else {
            return false;
        };
        push(pieces, data.trim_start_matches('[').trim_end_matches(']'));
    }
    push(pieces, "]}");
    true
}

/// What writes a piece of the body.
fn command(piece: &Piece) -> String {
    match piece {
        Piece::Json(json) => format!("printf %s {}", quoted(json)),
        Piece::Zeros(count) => format!("yes 0 | head -n {count} | paste -sd, -"),
    }
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

    use super::*;
    use satisfice_core::Tensor;

    #[test]
    fn many_zeros_are_made_by_the_shell_where_zero_is_an_element() {
        for (datatype, made) in [
            (DataType::Fp32, true),
            (DataType::Uint8, true),
            (DataType::Fp16, false),
            (DataType::Bytes, false),
        ] {
            let data = TensorData::zeros(datatype, ZEROS_MAX + 1);
            let tensor = Tensor::new(vec![1, ZEROS_MAX + 1], data).unwrap();
            let name = "x".to_owned();
            let mut pieces = Vec::new();
            let has_json = describe(&mut pieces, &NamedTensor { name, tensor });
            assert_eq!(has_json, datatype != DataType::Fp16, "{datatype}");
            let zeros = pieces.iter().any(|piece| matches!(piece, Piece::Zeros(_)));
            assert_eq!(zeros, made, "{datatype}");
        }
    }
}
