//! Requests that are nothing but the bytes of a model's only input.

use super::{AnswerFormat, DecodedRequest, TensorLimits, binary, message::invalid, tensor};
use crate::clip::clip;
use bytes::Buf;
use satisfice_core::{
    ByteStrings, DataType, Error, InferRequest, NamedTensor, Tensor, TensorData, TensorSpec,
};

/// Reads the bytes of the only one of `inputs`; the answer is to be binary. Of dimensions of any length the last
/// follows from the number of bytes, and those before it are 1. `BYTES` is one element, without a prefix.
pub(crate) fn decode_raw(
    mut body: impl Buf,
    inputs: &[TensorSpec],
    limits: TensorLimits,
) -> Result<DecodedRequest, Error> {
    let [spec] = inputs else {
        let count = inputs.len();
        let message = format!("the model has {count} inputs, and raw bytes are of one");
        return Err(invalid("raw_request", message)
            .with_hint("put a JSON document that describes the inputs before the bytes"));
    };
    let context = |text: String| format!("input `{}`: {text}", clip(&spec.name));
    let bytes = body.remaining();
    let elements = match spec.datatype.size_bytes() {
        None => 1,
        Some(size) => bytes / size,
    };
    let shape = shape(&spec.shape, elements);
    let (shape, elements) = tensor::shape(&shape, shape.len(), &context, limits)?;
    let data = match spec.datatype {
        DataType::Bytes => {
            let string = body.copy_to_bytes(bytes);
            TensorData::Bytes(ByteStrings::from_iter([string]))
        }
        datatype => binary::decode(body, datatype, elements)
            .map_err(|message| invalid("wrong_binary_data", context(message)))?,
    };
    let tensor = Tensor::new(shape, data)
        .map_err(|mismatch| invalid("wrong_binary_data", context(mismatch.to_string())))?;
    Ok(DecodedRequest {
        id: None,
        request: InferRequest {
            inputs: vec![NamedTensor {
                name: spec.name.clone(),
                tensor,
            }],
            ..InferRequest::default()
        },
        format: AnswerFormat {
            binary: true,
            ..AnswerFormat::default()
        },
    })
}

/// The signature's shape for so many elements, as far as they fit it.
fn shape(signature: &[i64], elements: usize) -> Vec<i64> {
    let known = signature.iter().filter(|&&length| length > 0);
    let known = known.fold(1_i64, |product, &length| product.saturating_mul(length));
    let last = signature.iter().rposition(|&length| length < 0);
    let length = |(at, &length): (usize, &i64)| match length {
        0.. => length,
        _ if Some(at) == last => elements as i64 / known,
        _ => 1,
    };
    signature.iter().enumerate().map(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(
        body: &[u8],
        datatype: DataType,
        shape: &[i64],
    ) -> Result<(Vec<usize>, TensorData), &'static str> {
        let spec = TensorSpec {
            name: "x".to_owned(),
            datatype,
            shape: shape.to_vec(),
            labels: None,
        };
        let decoded = decode_raw(body, &[spec], TensorLimits::default());
        let mut decoded = decoded.map_err(|error| error.code())?;
        assert!(decoded.format.binary);
        let tensor = decoded.request.inputs.remove(0).tensor;
        Ok((tensor.shape().to_vec(), tensor.into_data()))
    }

    #[test]
    fn the_shape_follows_from_the_bytes() {
        let six = [1, 2, 3, 4, 5, 6];
        let data = TensorData::Uint8(six.to_vec());
        for (signature, shape) in [
            (&[6][..], &[6][..]),
            (&[-1], &[6]),
            (&[-1, 3], &[2, 3]),
            (&[-1, -1], &[1, 6]),
            (&[-1, 2, -1], &[1, 2, 3]),
        ] {
            let decoded = decode(&six, DataType::Uint8, signature);
            assert_eq!(decoded, Ok((shape.to_vec(), data.clone())));
        }
        for signature in [&[5][..], &[-1, 4], &[], &[0, -1], &[-1, 1 << 40, 1 << 40]] {
            assert!(decode(&six, DataType::Uint8, signature).is_err());
        }
        assert_eq!(
            decode(&six, DataType::Fp32, &[-1]),
            Err("wrong_binary_data")
        );
    }

    #[test]
    fn bytes_are_one_element() {
        let one = TensorData::Bytes(ByteStrings::from_iter([b"abc"]));
        let decoded = decode(b"abc", DataType::Bytes, &[-1, 1]);
        assert_eq!(decoded, Ok((vec![1, 1], one)));
        assert!(decode(b"abc", DataType::Bytes, &[2]).is_err());
    }
}
