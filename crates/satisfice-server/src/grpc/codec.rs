//! Messages from bytes, once it is known how many fields they hold: in memory a field may take a
//! hundred times what it takes on the wire.

use super::{error::status, proto::ModelInferRequest};
use bytes::{Buf, Bytes};
use prost::{
    Message,
    encoding::{WireType, decode_key, decode_varint},
};
use satisfice_core::{Error, ErrorKind};
use std::{any::TypeId, fmt::Display, marker::PhantomData};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

/// Fields of a message itself: its tensors, outputs and parameters.
const FIELDS_MAX: usize = 16 << 10;
/// Fields of the tensors of a request, all together; elements of `BYTES` tensors for the most part.
const INNER_FIELDS_MAX: usize = 4 << 20;
/// Messages in a request that hold more than a few fields: `inputs` and `outputs`, then `contents`.
const INNER: &[&[u32]] = &[&[5, 6], &[5]];

/// Protobuf with a bound on the fields of a message.
pub(super) struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// The reading half of [`BoundedCodec`].
pub(super) struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default + 'static> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        decode(buffer.copy_to_bytes(buffer.remaining())).map(Some)
    }
}

/// A message within the bounds.
pub(super) fn decode<U: Message + Default + 'static>(bytes: Bytes) -> Result<U, Status> {
    check_fields(&bytes, &[], FIELDS_MAX)?;
    if TypeId::of::<U>() == TypeId::of::<ModelInferRequest>() {
        check_fields(&bytes, INNER, FIELDS_MAX + INNER_FIELDS_MAX)?;
    }
    U::decode(bytes).map_err(malformed)
}

/// Refuses more than `max` fields in a message and in those within it whose tags `inner` lists, one
/// list a level.
fn check_fields(bytes: &[u8], inner: &[&[u32]], max: usize) -> Result<(), Status> {
    count_fields(bytes, inner, max).map(drop)
}

/// What is left of `left` after the fields of a message.
fn count_fields(mut bytes: &[u8], inner: &[&[u32]], mut left: usize) -> Result<usize, Status> {
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes).map_err(malformed)?;
        left = left.checked_sub(1).ok_or_else(|| {
            let message = "the message has too many fields";
            status(
                Error::new(ErrorKind::TooLarge, "too_many_fields", message)
                    .with_hint("send elements in `raw_input_contents`"),
            )
        })?;
        let length = match wire_type {
            WireType::Varint => decode_varint(&mut bytes).map(|_| 0).map_err(malformed)?,
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut bytes).map_err(malformed)?,
            WireType::StartGroup | WireType::EndGroup => {
                return Err(malformed("it has a group"));
            }
        };
        let field = usize::try_from(length).ok();
        let field = field.and_then(|length| bytes.split_at_checked(length));
        let (field, rest) = field.ok_or_else(|| malformed("it ends within a field"))?;
        if let Some((tags, deeper)) = inner.split_first()
            && wire_type == WireType::LengthDelimited
            && tags.contains(&tag)
        {
            left = count_fields(field, deeper, left)?;
        }
        bytes = rest;
    }
    Ok(left)
}

fn malformed(what: impl Display) -> Status {
    let message = format!("the message is not what it should be: {what}");
    status(Error::new(
        ErrorKind::InvalidInput,
        "invalid_message",
        message,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::{InferTensorContents, model_infer_request::InferInputTensor};
    use tonic::Code;

    fn strings(count: usize) -> Vec<u8> {
        let contents = InferTensorContents {
            bytes_contents: vec![bytes::Bytes::new(); count],
            ..InferTensorContents::default()
        };
        let input = InferInputTensor {
            contents: Some(contents),
            ..InferInputTensor::default()
        };
        let inputs = vec![input];
        let message = ModelInferRequest {
            inputs,
            ..ModelInferRequest::default()
        };
        message.encode_to_vec()
    }

    #[test]
    fn fields_are_counted_at_every_level() {
        let message = strings(10);
        assert!(check_fields(&message, &[], 1).is_ok());
        assert!(check_fields(&message, INNER, 12).is_ok());
        let error = check_fields(&message, INNER, 11).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        let inputs = [0x2a, 0].repeat(FIELDS_MAX + 1);
        assert!(check_fields(&inputs, &[], FIELDS_MAX).is_err());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &b"\x2a\x05\x00"[..],
            b"\xff",
            b"\x0d\x00",
            b"\x0b",
            b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            let error = check_fields(bytes, INNER, 100).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{bytes:?}");
        }
    }
}
