//! What a log consists of: frames, each written and brought to the disk before the next.
//!
//! A frame is `SLOG`, its kind, the length of its payload, the graph's version after it, a checksum
//! of these and of the payload, and the payload, padded with zeros to eight bytes.

use super::disk::DiskFile;
use std::io;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 4] = *b"SLOG";

/// Bytes of a frame before its payload.
const HEAD: usize = 32;

const ALIGNMENT: u64 = 8;

/// Bytes that are searched at a time.
const WINDOW: u64 = 1 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the log is of, and what it goes on from.
    Beginning = 1,
    /// Writes that became durable together.
    Group = 2,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// The graph's version after it.
    pub(super) version: u64,
    pub(super) payload: Vec<u8>,
    /// Where it ends.
    pub(super) end: u64,
}

/// The bytes of a frame.
pub(super) fn encode(kind: Kind, version: u64, payload: &[u8]) -> Vec<u8> {
    let padded = (payload.len() as u64).next_multiple_of(ALIGNMENT) as usize;
    let mut bytes = Vec::with_capacity(HEAD + padded);
    bytes.extend(MAGIC);
    bytes.extend((kind as u32).to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(version.to_le_bytes());
    bytes.extend(checksum(&bytes, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(HEAD + padded, 0);
    bytes
}

fn checksum(head: &[u8], payload: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(head);
    hash.update(payload);
    hash.digest()
}

/// The whole frame that begins at `offset` of a file of `len` bytes, if there is one.
pub(super) fn read(file: &mut dyn DiskFile, offset: u64, len: u64) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD];
    if len.saturating_sub(offset) < HEAD as u64 {
        return Ok(None);
    }
    file.read_at(offset, &mut head)?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
    let kind = match (head[..4] == MAGIC, number(0) >> 32) {
        (true, 1) => Kind::Beginning,
        (true, 2) => Kind::Group,
        _ => return Ok(None),
    };
    let (length, version, expected) = (number(8), number(16), number(24));
    let begin = offset + HEAD as u64;
    let end = length
        .checked_next_multiple_of(ALIGNMENT)
        .and_then(|padded| begin.checked_add(padded));
    let Some(end) = end.filter(|&end| end <= len) else {
        return Ok(None);
    };
    let mut payload = vec![0; length as usize];
    file.read_at(begin, &mut payload)?;
    let found = checksum(&head[..24], &payload);
    Ok((found == expected).then_some(Frame {
        kind,
        version,
        payload,
        end,
    }))
}

/// Where a whole frame of a version above `version` begins at or after `offset`, if anywhere.
pub(super) fn find(
    file: &mut dyn DiskFile,
    offset: u64,
    len: u64,
    version: u64,
) -> io::Result<Option<u64>> {
    let mut start = offset.next_multiple_of(ALIGNMENT);
    let mut window = vec![0; WINDOW.min(len.saturating_sub(start)) as usize];
    while start < len {
        let count = WINDOW.min(len - start) as usize;
        file.read_at(start, &mut window[..count])?;
        for at in (0..count).step_by(ALIGNMENT as usize) {
            if window[..count][at..].starts_with(&MAGIC) {
                let found = start + at as u64;
                if read(file, found, len)?.is_some_and(|frame| frame.version > version) {
                    return Ok(Some(found));
                }
            }
        }
        start += count.next_multiple_of(ALIGNMENT as usize) as u64;
    }
    Ok(None)
}
