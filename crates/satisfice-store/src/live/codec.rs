//! Writes as bytes. Numbers are little-endian; a string or list is preceded by its length.

use super::{Applied, NodeId, Operation, SourceOffset, Write, memory::Done};

const PUT_NODE: u8 = 1;
const DELETE_NODE: u8 = 2;
const PUT_EDGE: u8 = 3;
const DELETE_EDGE: u8 = 4;

const INT: u8 = 0;
const TEXT: u8 = 1;

/// Bit of a put node with features.
const HAS_FEATURES: u8 = 1;
/// Bit of a put node with a label.
const HAS_LABEL: u8 = 2;

/// The operations of a write.
pub(super) fn encode_operations(operations: &[Operation]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((operations.len() as u32).to_le_bytes());
    for operation in operations {
        match operation {
            Operation::PutNode { id, x, label } => {
                bytes.push(PUT_NODE);
                put_id(&mut bytes, id);
                let features = if x.is_some() { HAS_FEATURES } else { 0 };
                bytes.push(features | if label.is_some() { HAS_LABEL } else { 0 });
                if let Some(x) = x {
                    bytes.extend((x.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(bytemuck::cast_slice(x));
                }
                bytes.extend(label.iter().flat_map(|label| label.to_le_bytes()));
            }
            Operation::DeleteNode { id } => {
                bytes.push(DELETE_NODE);
                put_id(&mut bytes, id);
            }
            Operation::PutEdge { source, target } => {
                bytes.push(PUT_EDGE);
                put_id(&mut bytes, source);
                put_id(&mut bytes, target);
            }
            Operation::DeleteEdge { source, target } => {
                bytes.push(DELETE_EDGE);
                put_id(&mut bytes, source);
                put_id(&mut bytes, target);
            }
        }
    }
    bytes
}

/// A write, of which `operations` are encoded already.
pub(super) fn put_write(bytes: &mut Vec<u8>, write: &Write, operations: &[u8]) {
    put_name(bytes, write.request_id.as_deref());
    put_name(
        bytes,
        write.offset.as_ref().map(|offset| offset.source.as_str()),
    );
    if let Some(SourceOffset { offset, .. }) = &write.offset {
        bytes.extend(offset.to_le_bytes());
    }
    bytes.extend((operations.len() as u64).to_le_bytes());
    bytes.extend_from_slice(operations);
}

fn put_id(bytes: &mut Vec<u8>, id: &NodeId) {
    match id {
        NodeId::Int(id) => {
            bytes.push(INT);
            bytes.extend(id.to_le_bytes());
        }
        NodeId::Text(id) => {
            bytes.push(TEXT);
            put_text(bytes, id);
        }
    }
}

/// A name, or an empty one for none: names that are given are not empty.
fn put_name(bytes: &mut Vec<u8>, name: Option<&str>) {
    put_text(bytes, name.unwrap_or_default());
}

pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// What a write did, as [`Reader::done`] reads it.
fn put_done(bytes: &mut Vec<u8>, done: &Done) {
    let applied = &done.applied;
    bytes.extend(done.operations.to_le_bytes());
    bytes.extend(applied.version.to_le_bytes());
    let counts = [
        applied.nodes_added,
        applied.nodes_deleted,
        applied.edges_added,
        applied.edges_deleted,
    ];
    bytes.extend(
        counts
            .iter()
            .flat_map(|&count| (count as u64).to_le_bytes()),
    );
}

/// A request id or source with what its write did.
pub(super) fn put_remembered(bytes: &mut Vec<u8>, name: &str, offset: u64, done: &Done) {
    put_text(bytes, name);
    bytes.extend(offset.to_le_bytes());
    put_done(bytes, done);
}

/// Bytes that are read from their beginning; `None` where they end too early or are none of these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn write(&mut self) -> Option<(Write, &'a [u8])> {
        let request_id = self.text()?;
        let source = self.text()?;
        let offset = match source.is_empty() {
            true => None,
            false => Some(SourceOffset {
                source: source.to_owned(),
                offset: self.u64()?,
            }),
        };
        let length = usize::try_from(self.u64()?).ok()?;
        let encoded = self.take(length)?;
        let write = Write {
            operations: Reader(encoded).operations()?,
            request_id: (!request_id.is_empty()).then(|| request_id.to_owned()),
            offset,
            if_version: None,
        };
        Some((write, encoded))
    }

    pub(super) fn remembered(&mut self) -> Option<(String, u64, Done)> {
        Some((self.text()?.to_owned(), self.u64()?, self.done()?))
    }

    fn done(&mut self) -> Option<Done> {
        let operations = self.u64()?;
        let applied = Applied {
            version: self.u64()?,
            repeated: false,
            nodes_added: usize::try_from(self.u64()?).ok()?,
            nodes_deleted: usize::try_from(self.u64()?).ok()?,
            edges_added: usize::try_from(self.u64()?).ok()?,
            edges_deleted: usize::try_from(self.u64()?).ok()?,
        };
        Some(Done {
            operations,
            applied,
        })
    }

    fn operations(mut self) -> Option<Vec<Operation>> {
        let count = self.u32()? as usize;
        // No operation is shorter than three bytes, so a wrong count reserves no more than the file.
        let mut operations = Vec::with_capacity(count.min(self.0.len() / 3));
        for _ in 0..count {
            operations.push(self.operation()?);
        }
        self.is_empty().then_some(operations)
    }

    fn operation(&mut self) -> Option<Operation> {
        Some(match self.u8()? {
            PUT_NODE => {
                let id = self.id()?;
                let has = self.u8()?;
                let x = match has & HAS_FEATURES {
                    0 => None,
                    _ => Some(self.features()?),
                };
                let label = match has & HAS_LABEL {
                    0 => None,
                    _ => Some(self.u32()? as i32),
                };
                Operation::PutNode { id, x, label }
            }
            DELETE_NODE => Operation::DeleteNode { id: self.id()? },
            PUT_EDGE => Operation::PutEdge {
                source: self.id()?,
                target: self.id()?,
            },
            DELETE_EDGE => Operation::DeleteEdge {
                source: self.id()?,
                target: self.id()?,
            },
            _ => return None,
        })
    }

    fn features(&mut self) -> Option<Box<[f32]>> {
        let width = self.u32()? as usize;
        let bytes = self.take(width.checked_mul(size_of::<f32>())?)?;
        Some(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|value| f32::from_le_bytes(*value))
                .collect(),
        )
    }

    fn id(&mut self) -> Option<NodeId> {
        match self.u8()? {
            INT => Some(NodeId::Int(self.u64()? as i64)),
            TEXT => Some(NodeId::Text(self.text()?.to_owned())),
            _ => None,
        }
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids() -> impl Strategy<Value = NodeId> {
        let text = ".{0,9}".prop_map(NodeId::Text);
        prop_oneof![any::<i64>().prop_map(NodeId::Int), text]
    }

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let x = prop::option::of(prop::collection::vec(-9.0_f32..9.0, 0..5));
        let put = (ids(), x, prop::option::of(any::<i32>())).prop_map(|(id, x, label)| {
            let x = x.map(Vec::into_boxed_slice);
            Operation::PutNode { id, x, label }
        });
        let edge = |(source, target)| Operation::PutEdge { source, target };
        let no_edge = |(source, target)| Operation::DeleteEdge { source, target };
        let operation = prop_oneof![
            put,
            ids().prop_map(|id| Operation::DeleteNode { id }),
            (ids(), ids()).prop_map(edge),
            (ids(), ids()).prop_map(no_edge),
        ];
        prop::collection::vec(operation, 0..6)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_less_of_it_is_not(
            operations in operations(),
            request_id in prop::option::of(".{1,9}"),
            source in prop::option::of((".{1,9}", any::<u64>())),
        ) {
            let offset = source.map(|(source, offset)| SourceOffset { source, offset });
            let write = Write { operations, request_id, offset, if_version: None };
            let mut bytes = Vec::new();
            put_write(&mut bytes, &write, &encode_operations(&write.operations));
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.write().map(|(read, _)| read), Some(write));
            prop_assert!(reader.is_empty());
            for len in 0..bytes.len() {
                prop_assert!(Reader(&bytes[..len]).write().is_none());
            }
        }

        #[test]
        fn any_bytes_are_read_or_not_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader(&bytes);
            while reader.write().is_some() && !reader.is_empty() {}
        }
    }
}
