//! Frames made shorter, for links that are slower than the cores.

use serde::{Deserialize, Serialize};
use std::{fmt, io};
use zstd::bulk;

/// What becomes of bytes on their way to another node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// They go as they are.
    #[default]
    None,
    /// Zstandard, frame by frame, where that makes them fewer.
    Zstd,
}

/// Shorter frames are not worth the try.
const BYTES_MIN: usize = 256;

/// The quickest level.
const LEVEL: i32 = 1;

/// Compresses frames, each by itself.
pub(crate) struct Compressor(bulk::Compressor<'static>);

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// One for what is configured, if anything is.
    pub(crate) fn of(compression: Compression) -> io::Result<Option<Self>> {
        match compression {
            Compression::None => Ok(None),
            Compression::Zstd => Ok(Some(Self(bulk::Compressor::new(LEVEL)?))),
        }
    }

    /// Appends `frame` to `out` in fewer bytes than it has; whether that could be done. Otherwise `out` is
    /// as it was.
    pub(crate) fn append(&mut self, frame: &[u8], out: &mut Vec<u8>) -> bool {
        let before = out.len();
        if frame.len() < BYTES_MIN {
            return false;
        }
        // What has no room is not shorter.
        out.resize(before + frame.len() - 1, 0);
        let compressed = self.0.compress_to_buffer(frame, &mut out[before..]);
        out.truncate(before + compressed.as_ref().map_or(0, |len| *len));
        compressed.is_ok()
    }
}

/// Decompresses into `frame`, which has at most `bytes_max` bytes then, and at least one.
pub(crate) fn decompress(
    compressed: &[u8],
    bytes_max: usize,
    frame: &mut Vec<u8>,
) -> io::Result<()> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it says a wrong length");
    let len = bulk::Decompressor::upper_bound(compressed);
    let len = len.filter(|len| (1..=bytes_max).contains(len));
    frame.resize(len.ok_or_else(wrong)?, 0);
    match bulk::decompress_to_buffer(compressed, &mut frame[..])? {
        found if found == frame.len() => Ok(()),
        _ => Err(wrong()),
    }
}
