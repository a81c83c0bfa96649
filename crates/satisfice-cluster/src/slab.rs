//! What goes from worker to worker: one slab of bytes a message, copied as a whole.

use crate::ClusterError;
use bytemuck::{Pod, cast_slice, cast_slice_mut, try_cast_slice};
use half::{f16, slice::HalfFloatSliceExt};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, io::Write};
use timely::{
    Accountable,
    bytes::arc::Bytes,
    communication::Push,
    dataflow::channels::{ContainerBytes, Message, pushers::exchange::Distributor},
    progress::Stamp,
};

/// Precision of partial results between workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// 32-bit floats: the answers of one machine, up to the order of additions.
    #[default]
    F32,
    /// 16-bit floats: half the bytes, rounded; what is too large for them goes as 32-bit floats.
    F16,
}

/// Precision of the tables that a cluster computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartPrecision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats: half the memory.
    F16,
}

/// Where a message belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Address {
    pub batch: u64,
    pub round: u32,
    pub from: u32,
    pub to: u32,
}

/// One message: an address, and sections of numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slab {
    pub address: Address,
    pub payload: Payload,
}

/// Sections of numbers, each aligned to 8 bytes.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Owned(Vec<u8>),
    Received(Shared),
}

/// Bytes of the engine's receive buffer.
#[derive(Clone)]
pub(crate) struct Shared(Bytes);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Owned(Vec::new())
    }
}

impl Payload {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Received(Shared(bytes)) => bytes,
        }
    }
}

/// Bytes of an address on the wire.
const ADDRESS_BYTES: usize = 24;

/// A message whose address is cut off belongs to no batch.
pub(crate) const NO_BATCH: u64 = u64::MAX;

impl Accountable for Slab {
    fn record_count(&self) -> i64 {
        1
    }
}

impl ContainerBytes for Slab {
    fn from_bytes(mut bytes: Bytes) -> Self {
        if bytes.len() < ADDRESS_BYTES {
            let address = Address {
                batch: NO_BATCH,
                ..Address::default()
            };
            return Self {
                address,
                payload: Payload::default(),
            };
        }
        let address = bytes.extract_to(ADDRESS_BYTES);
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&address[at..at + 4]);
            u32::from_le_bytes(word)
        };
        Self {
            address: Address {
                batch: u64::from(word(0)) | u64::from(word(4)) << 32,
                round: word(8),
                from: word(12),
                to: word(16),
            },
            payload: Payload::Received(Shared(bytes)),
        }
    }

    fn length_in_bytes(&self) -> usize {
        ADDRESS_BYTES + self.payload.bytes().len().next_multiple_of(8)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let bytes = self.payload.bytes();
        let mut head = [0; ADDRESS_BYTES];
        head[..8].copy_from_slice(&self.address.batch.to_le_bytes());
        head[8..12].copy_from_slice(&self.address.round.to_le_bytes());
        head[12..16].copy_from_slice(&self.address.from.to_le_bytes());
        head[16..20].copy_from_slice(&self.address.to.to_le_bytes());
        let padding = bytes.len().next_multiple_of(8) - bytes.len();
        writer
            .write_all(&head)
            .and_then(|()| writer.write_all(bytes))
            .and_then(|()| writer.write_all(&[0; 8][..padding]))
            .expect("invariant: the engine gives a buffer of the length that it was told");
    }
}

/// Sends each message to the worker in its address.
pub(crate) struct ByAddress;

impl Distributor<Slab> for ByAddress {
    fn partition<T: Clone, P: Push<Message<T, Slab>>>(
        &mut self,
        slab: &mut Slab,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let to = slab.address.to as usize;
        Message::push_at(slab, stamp.clone(), &mut pushers[to]);
    }

    fn flush<T: Clone, P: Push<Message<T, Slab>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U32 = 1,
    F32 = 2,
    F16 = 3,
    F64 = 4,
    U8 = 5,
}

/// Writes the sections of a message.
#[derive(Debug, Default)]
pub(crate) struct SlabWriter {
    bytes: Vec<u8>,
}

impl SlabWriter {
    fn section<T: Pod>(&mut self, kind: Kind, values: &[T]) {
        let bytes: &[u8] = cast_slice(values);
        self.bytes.reserve(16 + bytes.len());
        self.bytes.extend_from_slice(&(kind as u64).to_le_bytes());
        self.bytes
            .extend_from_slice(&(values.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    pub(crate) fn u32s(&mut self, values: &[u32]) {
        self.section(Kind::U32, values);
    }

    pub(crate) fn f64s(&mut self, values: &[f64]) {
        self.section(Kind::F64, values);
    }

    pub(crate) fn u8s(&mut self, values: &[u8]) {
        self.section(Kind::U8, values);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.u8s(text.as_bytes());
    }

    /// Values in the precision of the wire.
    pub(crate) fn f32s(&mut self, values: &[f32], wire: Wire) {
        // -inf is what a part without a source sends; it fits.
        let fits = |v: &f32| v.abs() <= 65_000.0 || *v == f32::NEG_INFINITY;
        if wire == Wire::F16 && values.iter().all(fits) {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            self.section(Kind::F16, &halves);
        } else {
            self.section(Kind::F32, values);
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads the sections of a message in the order in which they were written.
#[derive(Debug)]
pub(crate) struct SlabReader<'a> {
    bytes: &'a [u8],
    from: usize,
}

impl<'a> SlabReader<'a> {
    /// Of a message from a worker.
    pub(crate) fn new(payload: &'a Payload, from: usize) -> Self {
        Self {
            bytes: payload.bytes(),
            from,
        }
    }

    fn wrong(&self) -> ClusterError {
        ClusterError::Worker {
            worker: self.from,
            message: "its message is cut off or not what this round reads".to_owned(),
        }
    }

    fn section(&mut self) -> Result<(u64, usize, &'a [u8]), ClusterError> {
        let word = |at: usize| -> Option<u64> {
            let word = self.bytes.get(at..at + 8)?;
            Some(u64::from_le_bytes(word.try_into().ok()?))
        };
        let (Some(kind), Some(len)) = (word(0), word(8)) else {
            return Err(self.wrong());
        };
        let size = match kind {
            1 | 2 => 4,
            3 => 2,
            4 => 8,
            5 => 1,
            _ => return Err(self.wrong()),
        };
        let len = usize::try_from(len).map_err(|_| self.wrong())?;
        let end = len
            .checked_mul(size)
            .and_then(|bytes| bytes.checked_add(16));
        let section = end.and_then(|end| self.bytes.get(16..end));
        let section = section.ok_or_else(|| self.wrong())?;
        let next = (16 + section.len())
            .next_multiple_of(8)
            .min(self.bytes.len());
        self.bytes = &self.bytes[next..];
        Ok((kind, len, section))
    }

    fn numbers<T: Pod>(&mut self, kind: Kind) -> Result<Cow<'a, [T]>, ClusterError> {
        let (found, _, bytes) = self.section()?;
        match found == kind as u64 {
            true => Ok(cast(bytes)),
            false => Err(self.wrong()),
        }
    }

    pub(crate) fn u32s(&mut self) -> Result<Cow<'a, [u32]>, ClusterError> {
        self.numbers(Kind::U32)
    }

    pub(crate) fn f64s(&mut self) -> Result<Cow<'a, [f64]>, ClusterError> {
        self.numbers(Kind::F64)
    }

    pub(crate) fn u8s(&mut self) -> Result<Cow<'a, [u8]>, ClusterError> {
        self.numbers(Kind::U8)
    }

    pub(crate) fn text(&mut self) -> Result<String, ClusterError> {
        let bytes = self.u8s()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `len` values in either precision.
    pub(crate) fn f32s(&mut self, len: usize) -> Result<Cow<'a, [f32]>, ClusterError> {
        let (kind, found, bytes) = self.section()?;
        let values = match kind {
            _ if found != len => return Err(self.wrong()),
            2 => cast(bytes),
            3 => {
                let halves: Cow<'_, [f16]> = cast(bytes);
                let mut values = vec![0.0; len];
                halves.convert_to_f32_slice(&mut values);
                Cow::Owned(values)
            }
            _ => return Err(self.wrong()),
        };
        Ok(values)
    }

    /// The error of a message that says something impossible.
    pub(crate) fn check(&self, holds: bool) -> Result<(), ClusterError> {
        match holds {
            true => Ok(()),
            false => Err(self.wrong()),
        }
    }
}

/// The bytes as numbers: not copied where they are aligned, which the engine sees to.
fn cast<T: Pod>(bytes: &[u8]) -> Cow<'_, [T]> {
    if let Ok(values) = try_cast_slice(bytes) {
        return Cow::Borrowed(values);
    }
    let mut values = vec![T::zeroed(); bytes.len() / size_of::<T>()];
    cast_slice_mut(&mut values).copy_from_slice(bytes);
    Cow::Owned(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Vec<u8> {
        let mut writer = SlabWriter::default();
        writer.u32s(&[1, 2, 3]);
        writer.f32s(&[0.5, f32::NEG_INFINITY], Wire::F32);
        writer.f32s(&[0.5, -3.0, f32::NEG_INFINITY], Wire::F16);
        writer.f32s(&[1e9], Wire::F16);
        writer.f64s(&[0.25]);
        writer.text("why");
        writer.finish()
    }

    #[test]
    fn sections_are_read_as_they_were_written() {
        let payload = Payload::Owned(message());
        let mut reader = SlabReader::new(&payload, 0);
        assert_eq!(&*reader.u32s().unwrap(), [1, 2, 3]);
        assert_eq!(&*reader.f32s(2).unwrap(), [0.5, f32::NEG_INFINITY]);
        assert_eq!(&*reader.f32s(3).unwrap(), [0.5, -3.0, f32::NEG_INFINITY]);
        assert_eq!(&*reader.f32s(1).unwrap(), [1e9], "too large for a half");
        assert_eq!(&*reader.f64s().unwrap(), [0.25]);
        assert_eq!(reader.text().unwrap(), "why");
        assert!(reader.u32s().is_err(), "there is no more");
    }

    #[test]
    fn whatever_is_cut_off_or_turned_is_refused_or_read_and_never_panics() {
        let whole = message();
        for cut in 0..whole.len() {
            for flip in [None, Some(cut)] {
                let mut bytes = whole[..cut].to_vec();
                if let Some(at) = flip.filter(|at| *at < whole.len()) {
                    bytes = whole.clone();
                    bytes[at] ^= 0xff;
                }
                let payload = Payload::Owned(bytes);
                let mut reader = SlabReader::new(&payload, 3);
                let read = reader
                    .u32s()
                    .and_then(|_| reader.f32s(2).map(drop))
                    .and_then(|()| reader.f32s(3).map(drop))
                    .and_then(|()| reader.f32s(1).map(drop))
                    .and_then(|()| reader.f64s().map(drop))
                    .and_then(|()| reader.text().map(drop));
                if let Err(error) = read {
                    assert!(error.to_string().contains("worker 3"), "{error}");
                }
            }
        }
    }
}
