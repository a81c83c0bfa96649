//! Compressed bytes, counted as they grow.

use crate::{Limits, protocol::Pieces};
use bytes::{Buf, Bytes};
use flate2::read::{GzDecoder, ZlibDecoder};
use satisfice_core::{Error, ErrorKind};
use std::io::Read;

/// Bytes that a compressed body may hold however short it is.
const RATIO_FREE_BYTES: usize = 1 << 20;
/// The least room that is made.
const ROOM_BYTES_MIN: usize = 4 << 10;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    /// A zlib stream, which HTTP calls `deflate`.
    Deflate,
}

impl Encoding {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("gzip") {
            Some(Self::Gzip)
        } else if name.eq_ignore_ascii_case("deflate") {
            Some(Self::Deflate)
        } else {
            None
        }
    }
}

/// Where bytes are counted that are held.
pub(crate) trait Count {
    /// There is to be room for so many more.
    fn take(&mut self, bytes: usize) -> Result<(), Error>;
    /// There is room for so many fewer.
    fn give_back(&mut self, bytes: usize);
}

/// What compressed bytes hold, no more than the limits say, in one piece. All room for it is counted before it is made.
pub(crate) fn inflate(
    encoding: Encoding,
    compressed: Pieces,
    limits: Limits,
    count: &mut impl Count,
) -> Result<Bytes, Error> {
    let ratio_max = limits.decompression_ratio_max;
    let grown_max =
        RATIO_FREE_BYTES.saturating_add(ratio_max.saturating_mul(compressed.remaining()));
    let max = limits.body_bytes_max.min(grown_max);
    let compressed = compressed.join();
    let mut room = Room::new(announced(encoding, &compressed).min(max), count)?;
    let mut reader: Box<dyn Read> = match encoding {
        Encoding::Gzip => Box::new(GzDecoder::new(&*compressed)),
        Encoding::Deflate => Box::new(ZlibDecoder::new(&*compressed)),
    };
    loop {
        let mut more = [0];
        if !room.fill(&mut *reader)? || read(&mut *reader, &mut more)? == 0 {
            return Ok(room.finish());
        }
        if room.length == max {
            return Err(match max == limits.body_bytes_max {
                true => too_large(max),
                false => too_dense(ratio_max),
            });
        }
        room.grow(max)?;
        room.push(more[0]);
    }
}

/// The length that compressed bytes say that they hold, if they do: gzip does at its end. It may be wrong.
fn announced(encoding: Encoding, compressed: &[u8]) -> usize {
    let last = match encoding {
        Encoding::Gzip => compressed.last_chunk().copied(),
        Encoding::Deflate => None,
    };
    let length = last.map_or(0, |last| u32::from_le_bytes(last) as usize);
    length.max(ROOM_BYTES_MIN)
}

/// A buffer whose room is counted.
struct Room<'a, C: Count> {
    bytes: Vec<u8>,
    length: usize,
    count: &'a mut C,
}

impl<'a, C: Count> Room<'a, C> {
    fn new(room: usize, count: &'a mut C) -> Result<Self, Error> {
        count.take(room)?;
        Ok(Self {
            bytes: vec![0; room],
            length: 0,
            count,
        })
    }

    /// Reads until there is no room left, or nothing to read, which is `false`.
    fn fill(&mut self, reader: &mut dyn Read) -> Result<bool, Error> {
        while self.length < self.bytes.len() {
            match read(reader, &mut self.bytes[self.length..])? {
                0 => return Ok(false),
                length => self.length += length,
            }
        }
        Ok(true)
    }

    /// Moves to twice the room, or as much as there may be.
    fn grow(&mut self, max: usize) -> Result<(), Error> {
        let (room, larger) = (self.bytes.len(), (2 * self.bytes.len()).min(max));
        self.count.take(larger)?;
        let mut bytes = vec![0; larger];
        bytes[..self.length].copy_from_slice(&self.bytes[..self.length]);
        self.bytes = bytes;
        self.count.give_back(room);
        Ok(())
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// What has been read. Much more room than that is given back: more was announced.
    fn finish(mut self) -> Bytes {
        let room = self.bytes.len();
        self.bytes.truncate(self.length);
        if self.length < room / 2 {
            self.bytes.shrink_to_fit();
            self.count.give_back(room - self.length);
        }
        self.bytes.into()
    }
}

fn read(reader: &mut dyn Read, bytes: &mut [u8]) -> Result<usize, Error> {
    reader.read(bytes).map_err(|error| {
        let message = format!("the bytes are not compressed as the request says: {error}");
        Error::new(ErrorKind::InvalidInput, "wrong_compression", message)
            .with_hint("name the encoding that they have, gzip or deflate (zlib), or none")
    })
}

fn too_dense(ratio_max: usize) -> Error {
    let message = format!("the body holds more than {ratio_max} times its own length");
    Error::new(ErrorKind::TooLarge, "compressed_too_much", message)
        .with_hint("send it uncompressed")
}

pub(crate) fn too_large(max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "body_too_large",
        format!("the body has more than the {max} bytes that are allowed"),
    )
    .with_hint("send less in one request")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };
    use std::io::Write;

    fn zeros(encoding: Encoding, length: usize) -> Vec<u8> {
        let (bytes, level) = (vec![0; length], Compression::best());
        match encoding {
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(&bytes).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(&bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    /// Counts up to a number.
    struct UpTo {
        max: usize,
        held: usize,
        most: usize,
    }

    impl UpTo {
        fn new(max: usize) -> Self {
            let (held, most) = (0, 0);
            Self { max, held, most }
        }
    }

    impl Count for UpTo {
        fn take(&mut self, bytes: usize) -> Result<(), Error> {
            if self.held + bytes > self.max {
                return Err(Error::new(ErrorKind::Unavailable, "full", ""));
            }
            self.held += bytes;
            self.most = self.most.max(self.held);
            Ok(())
        }

        fn give_back(&mut self, bytes: usize) {
            self.held -= bytes;
        }
    }

    fn run(encoding: Encoding, bytes: Vec<u8>, count: &mut UpTo) -> Result<usize, &'static str> {
        let limits = Limits {
            body_bytes_max: 8 << 20,
            ..Limits::default()
        };
        let whole = inflate(encoding, bytes.into(), limits, count);
        whole.map(|whole| whole.len()).map_err(|error| error.code())
    }

    #[test]
    fn room_is_counted_before_it_is_made() {
        // Gzip says how much it holds, and gets that.
        let mut count = UpTo::new(3 << 20);
        let whole = run(Encoding::Gzip, zeros(Encoding::Gzip, 3 << 20), &mut count);
        assert_eq!(
            (whole, count.held, count.most),
            (Ok(3 << 20), 3 << 20, 3 << 20)
        );
        // The other grows, and has the old room and the new for a moment.
        let mut count = UpTo::new(6 << 20);
        let whole = run(
            Encoding::Deflate,
            zeros(Encoding::Deflate, 3 << 20),
            &mut count,
        );
        assert_eq!(
            (whole, count.held, count.most),
            (Ok(3 << 20), 4 << 20, 6 << 20)
        );
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            let mut count = UpTo::new(1 << 20);
            let refused = run(encoding, zeros(encoding, 3 << 20), &mut count);
            assert_eq!(refused, Err("full"));
            assert!(count.most <= 1 << 20);
        }
    }

    #[test]
    fn what_gzip_says_of_itself_may_be_wrong() {
        let lying = |length: u32, says: u32| {
            let mut bytes = zeros(Encoding::Gzip, length as usize);
            let end = bytes.len() - 4;
            bytes[end..].copy_from_slice(&says.to_le_bytes());
            bytes
        };
        // The decoder finds out, after room was made as for any other.
        for says in [0, 1, 1 << 19, u32::MAX] {
            let mut count = UpTo::new(12 << 20);
            let refused = run(Encoding::Gzip, lying(1 << 20, says), &mut count);
            assert_eq!(refused, Err("wrong_compression"), "{says}");
        }
        // What stands behind the end is not looked at, and is no length.
        let mut bytes = zeros(Encoding::Gzip, 100);
        bytes.extend(u32::MAX.to_le_bytes());
        let mut count = UpTo::new(8 << 20);
        assert_eq!(run(Encoding::Gzip, bytes, &mut count), Ok(100));
        assert_eq!(count.held, 100);
    }

    #[test]
    fn lengths_around_the_limits() {
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            for length in [
                0,
                1,
                ROOM_BYTES_MIN - 1,
                ROOM_BYTES_MIN,
                ROOM_BYTES_MIN + 1,
                8 << 20,
            ] {
                let whole = run(encoding, zeros(encoding, length), &mut UpTo::new(1 << 30));
                assert_eq!(whole, Ok(length));
            }
            let refused = run(
                encoding,
                zeros(encoding, (8 << 20) + 1),
                &mut UpTo::new(1 << 30),
            );
            assert_eq!(refused, Err("body_too_large"));
            let dense = Limits {
                decompression_ratio_max: 1,
                ..Limits::default()
            };
            let bytes = zeros(encoding, 2 << 20).into();
            let refused = inflate(encoding, bytes, dense, &mut UpTo::new(1 << 30));
            assert_eq!(refused.unwrap_err().code(), "compressed_too_much");
        }
    }
}
