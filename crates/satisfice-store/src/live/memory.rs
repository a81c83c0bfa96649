//! Writes that must not be done twice.

use super::{Applied, LiveError, SourceOffset, Write, codec, codec::Reader};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// A write that was done: a checksum of its operations, and what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) operations: u64,
    pub(super) applied: Applied,
}

/// Request ids and sources' offsets of writes that were done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Memory {
    requests: HashMap<String, Done>,
    /// Request ids, oldest first.
    order: VecDeque<String>,
    sources: BTreeMap<String, (u64, Applied)>,
}

impl Memory {
    /// The answer of a write that was done already.
    pub(super) fn repeated(
        &self,
        write: &Write,
        operations: u64,
    ) -> Result<Option<Applied>, LiveError> {
        if let Some(request_id) = &write.request_id
            && let Some(done) = self.requests.get(request_id)
        {
            if done.operations != operations {
                return Err(LiveError::RequestIdReused {
                    request_id: request_id.clone(),
                });
            }
            return Ok(Some(repeat(done.applied)));
        }
        if let Some(SourceOffset { source, offset }) = &write.offset
            && let Some(&(last, applied)) = self.sources.get(source)
            && *offset <= last
        {
            let whole = *offset == last;
            return Ok(Some(repeat(if whole {
                applied
            } else {
                Applied {
                    version: applied.version,
                    ..Applied::default()
                }
            })));
        }
        Ok(None)
    }

    /// Number of sources whose offsets are kept.
    pub(super) fn sources(&self) -> usize {
        self.sources.len()
    }

    pub(super) fn knows_source(&self, source: &str) -> bool {
        self.sources.contains_key(source)
    }

    /// Adds what a later group did.
    pub(super) fn extend(&mut self, later: Self, requests_max: usize) {
        let Self {
            mut requests,
            order,
            sources,
        } = later;
        for request_id in order {
            if let Some(done) = requests.remove(&request_id) {
                self.remember_request(request_id, done, requests_max);
            }
        }
        self.sources.extend(sources);
    }

    /// Appends everything to `bytes`, as [`decode`](Self::decode) reads it.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend((self.order.len() as u32).to_le_bytes());
        for request_id in &self.order {
            codec::put_remembered(bytes, request_id, 0, &self.requests[request_id]);
        }
        bytes.extend((self.sources.len() as u32).to_le_bytes());
        for (source, &(offset, applied)) in &self.sources {
            let done = Done {
                operations: 0,
                applied,
            };
            codec::put_remembered(bytes, source, offset, &done);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut memory = Self::default();
        for _ in 0..reader.u32()? {
            let (request_id, _, done) = reader.remembered()?;
            memory.remember_request(request_id, done, usize::MAX);
        }
        for _ in 0..reader.u32()? {
            let (source, offset, done) = reader.remembered()?;
            memory.sources.insert(source, (offset, done.applied));
        }
        Some(memory)
    }

    pub(super) fn remember(&mut self, write: &Write, done: Done, requests_max: usize) {
        if let Some(request_id) = &write.request_id {
            self.remember_request(request_id.clone(), done, requests_max);
        }
        if let Some(SourceOffset { source, offset }) = &write.offset {
            self.sources.insert(source.clone(), (*offset, done.applied));
        }
    }

    fn remember_request(&mut self, request_id: String, done: Done, max: usize) {
        if self.requests.insert(request_id.clone(), done).is_none() {
            self.order.push_back(request_id);
        }
        while self.order.len() > max {
            if let Some(oldest) = self.order.pop_front() {
                self.requests.remove(&oldest);
            }
        }
    }
}

fn repeat(applied: Applied) -> Applied {
    Applied {
        repeated: true,
        ..applied
    }
}
