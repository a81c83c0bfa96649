//! Bytes as text.

use base64::{
    Engine as _,
    alphabet::{Alphabet, STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use satisfice_core::ByteStrings;

/// How bytes that are no text travel in JSON; for hints.
pub(crate) const WAY_OUT: &str = "bytes travel in JSON as {\"b64\": \"<their base64>\"}, or as base64 strings of a tensor with the parameter `content_type` = `base64`; or send the tensor as binary data";

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

static OF_MAIL: GeneralPurpose = engine(&STANDARD);
static OF_URLS: GeneralPurpose = engine(&URL_SAFE);

/// The bytes that a text stands for, in either alphabet, with padding or without, in lines or in one.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let engine = match text.iter().any(|byte| matches!(byte, b'-' | b'_')) {
        true => &OF_URLS,
        false => &OF_MAIL,
    };
    if !text.iter().any(u8::is_ascii_whitespace) {
        return engine.decode(text).ok();
    }
    let solid = text.iter().copied().filter(|b| !b.is_ascii_whitespace());
    engine.decode(solid.collect::<Vec<u8>>()).ok()
}

/// A text that stands for bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    OF_MAIL.encode(bytes)
}

/// The bytes that each of some texts stands for.
///
/// The message of the error lacks only the tensor's name.
pub(crate) fn elements(texts: &ByteStrings) -> Result<ByteStrings, String> {
    let mut strings = ByteStrings::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let bytes = decode(text).ok_or_else(|| {
            format!("element {index} is not base64, as the tensor's `content_type` says it is")
        })?;
        strings.push(&bytes);
    }
    Ok(strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_form_is_read() {
        let bytes = [0xfb, 0xff, 0x00, 0x41];
        assert_eq!(encode(&bytes), "+/8AQQ==");
        for text in ["+/8AQQ==", "+/8AQQ", "-_8AQQ==", "+/8A\r\nQQ==\n"] {
            assert_eq!(
                decode(text.as_bytes()).as_deref(),
                Some(&bytes[..]),
                "{text}"
            );
        }
        assert_eq!(decode(b"").as_deref(), Some(&[][..]));
        for text in [
            "+/8AQ",
            "+_8AQQ==",
            "é",
            "data:image/png;base64,+/8AQQ==",
            "+/8AQR==",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
