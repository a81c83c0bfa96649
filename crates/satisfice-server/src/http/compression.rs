//! Compressed bodies.

use super::{
    body::{self, HeldBody},
    error::HttpError,
};
use crate::{
    Limits,
    clip::clip,
    inflate::{Count, Encoding, inflate},
    protocol::Pieces,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::Buf;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use satisfice_core::{Error, ErrorKind};
use std::{io, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Answers below this length are not worth it.
const ANSWER_BYTES_MIN: usize = 1 << 10;

/// The value of `Content-Encoding`.
pub(super) fn name(encoding: Encoding) -> HeaderValue {
    HeaderValue::from_static(match encoding {
        Encoding::Gzip => "gzip",
        Encoding::Deflate => "deflate",
    })
}

/// How the body of a request is compressed, if it is.
pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Encoding>, HttpError> {
    let mut encoding = None;
    for name in items(headers, header::CONTENT_ENCODING) {
        if name.eq_ignore_ascii_case("identity") {
            continue;
        }
        match (encoding, Encoding::from_name(name)) {
            (None, Some(known)) => encoding = Some(known),
            _ => return Err(unsupported(name)),
        }
    }
    Ok(encoding)
}

/// The encoding that the client would have the answer in, if any: the one it likes best, the first
/// of equals.
pub(super) fn of_answer(headers: &HeaderMap) -> Option<Encoding> {
    let mut best = None;
    let mut best_weight = 0.0;
    for item in items(headers, header::ACCEPT_ENCODING) {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let weight = parameters.trim().strip_prefix("q=");
        let weight: f32 = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        if let Some(encoding) = Encoding::from_name(name.trim())
            && weight > best_weight
        {
            (best, best_weight) = (Some(encoding), weight);
        }
    }
    best
}

/// The items of a list in a header; what is not text is empty.
fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values.flat_map(|value| value.to_str().unwrap_or_default().split(',').map(str::trim))
}

fn unsupported(name: &str) -> HttpError {
    HttpError::with_status(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Error::new(
            ErrorKind::Unsupported,
            "unsupported_encoding",
            format!("the body's encoding `{}` is not supported", clip(name)),
        )
        .with_hint("send the body in gzip or deflate (zlib), or without Content-Encoding"),
    )
}

/// The bytes of a compressed body, counted in `bodies` as they come and no more than the
/// limits say.
pub(super) fn decompress(
    encoding: Encoding,
    compressed: HeldBody,
    limits: Limits,
    bodies: &Arc<Semaphore>,
) -> Result<HeldBody, Error> {
    // What came counts until what it holds is there.
    let HeldBody { bytes, held: _held } = compressed;
    let held = body::hold(bodies, 0)?;
    let mut count = Held { bodies, held };
    let bytes = inflate(encoding, bytes, limits, &mut count)?.into();
    let held = count.held;
    Ok(HeldBody { bytes, held })
}

/// Counts what one body holds.
struct Held<'a> {
    bodies: &'a Arc<Semaphore>,
    held: OwnedSemaphorePermit,
}

impl Count for Held<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.held.merge(body::hold(self.bodies, bytes)?);
        Ok(())
    }

    fn give_back(&mut self, bytes: usize) {
        drop(self.held.split(bytes));
    }
}

/// The bytes of an answer as the client wants them, and how they are compressed.
pub(super) fn compress(
    encoding: Option<Encoding>,
    bytes: Pieces,
) -> Result<(Pieces, Option<Encoding>), Error> {
    let Some(encoding) = encoding.filter(|_| bytes.remaining() >= ANSWER_BYTES_MIN) else {
        return Ok((bytes, None));
    };
    let compressed = write(encoding, bytes).map_err(|error| {
        Error::new(ErrorKind::Internal, "compression_failed", error.to_string())
    })?;
    Ok((compressed.into(), Some(encoding)))
}

fn write(encoding: Encoding, bytes: Pieces) -> io::Result<Vec<u8>> {
    let level = Compression::fast();
    let mut bytes = bytes.reader();
    match encoding {
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            io::copy(&mut bytes, &mut encoder)?;
            encoder.finish()
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            io::copy(&mut bytes, &mut encoder)?;
            encoder.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_best_encoding_is_chosen() {
        for (value, wanted) in [
            ("gzip", Some(Encoding::Gzip)),
            ("deflate, gzip", Some(Encoding::Deflate)),
            ("deflate;q=0.5, GZIP", Some(Encoding::Gzip)),
            ("gzip;q=0, br", None),
            ("gzip;q=x", None),
            ("identity", None),
            ("", None),
        ] {
            assert_eq!(of_answer(&headers(header::ACCEPT_ENCODING, value)), wanted);
        }
    }

    #[test]
    fn one_encoding_is_read() {
        let of = |value| of_request(&headers(header::CONTENT_ENCODING, value));
        assert_eq!(of("gzip").unwrap(), Some(Encoding::Gzip));
        assert_eq!(of("identity").unwrap(), None);
        for value in ["br", "gzip, gzip", "gzip, br", ""] {
            assert!(of(value).is_err(), "{value}");
        }
    }
}
