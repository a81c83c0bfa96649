//! The ids of the nodes being imported.

use crate::{
    NodeIdKind, NodeIds, StoreError,
    error::shown,
    node_ids::{Ids, Strings},
};
use std::path::Path;

/// Ids by position, each once, with their hash table.
#[derive(Debug)]
pub(crate) struct OwnedIds {
    values: Values,
    slots: Vec<u32>,
}

#[derive(Debug)]
enum Values {
    Positions(usize),
    Integers(Vec<i64>),
    Strings { offsets: Vec<u64>, bytes: Vec<u8> },
}

impl Values {
    fn view(&self) -> Ids<'_> {
        match self {
            Self::Positions(nodes) => Ids::Position { nodes: *nodes },
            Self::Integers(ids) => Ids::Int(ids),
            Self::Strings { offsets, bytes } => Ids::Str(Strings { offsets, bytes }),
        }
    }
}

impl OwnedIds {
    /// Every node's id is its position.
    pub(crate) fn positions(nodes: usize) -> Self {
        Self {
            values: Values::Positions(nodes),
            slots: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.view().len()
    }

    pub(crate) fn kind(&self) -> NodeIdKind {
        self.view().kind()
    }

    pub(crate) fn view(&self) -> NodeIds<'_> {
        NodeIds::new(self.values.view(), &self.slots)
    }

    pub(crate) fn ids(&self) -> Ids<'_> {
        self.values.view()
    }

    pub(crate) fn slots(&self) -> &[u32] {
        &self.slots
    }
}

/// Ids as they come: integers as long as all are, strings from the first that is none.
#[derive(Debug)]
pub(crate) struct IdCollector(Values);

impl Default for IdCollector {
    fn default() -> Self {
        Self(Values::Integers(Vec::new()))
    }
}

impl IdCollector {
    pub(crate) fn of_integers(ids: Vec<i64>) -> Self {
        Self(Values::Integers(ids))
    }

    pub(crate) fn of_strings(offsets: Vec<u64>, bytes: Vec<u8>) -> Self {
        Self(Values::Strings { offsets, bytes })
    }

    pub(crate) fn push_integer(&mut self, id: i64) {
        match &mut self.0 {
            Values::Integers(ids) => ids.push(id),
            _ => self.push_string(id.to_string().as_bytes()),
        }
    }

    /// Takes an id as text, which must be UTF-8; decimal text as Python writes it is an integer.
    pub(crate) fn push_text(&mut self, text: &str) {
        match (&self.0, integer(text)) {
            (Values::Integers(_), Some(id)) => self.push_integer(id),
            _ => self.push_string(text.as_bytes()),
        }
    }

    fn push_string(&mut self, id: &[u8]) {
        if let Values::Integers(ids) = &self.0 {
            let mut strings = Self::of_strings(vec![0], Vec::new());
            for id in ids {
                strings.push_string(id.to_string().as_bytes());
            }
            *self = strings;
        }
        if let Values::Strings { offsets, bytes } = &mut self.0 {
            bytes.extend_from_slice(id);
            offsets.push(bytes.len() as u64);
        }
    }

    /// The ids with their hash table. Integers that are the positions need none.
    ///
    /// # Errors
    /// Two nodes have the same id.
    pub(crate) fn finish(self, path: &Path) -> Result<OwnedIds, StoreError> {
        if let Values::Integers(ids) = &self.0
            && ids.iter().enumerate().all(|(node, &id)| id == node as i64)
        {
            return Ok(OwnedIds::positions(ids.len()));
        }
        let ids = self.0.view();
        let slots = ids
            .slots()
            .map_err(|(first, second)| StoreError::DuplicateId {
                path: path.to_owned(),
                id: shown(&ids.text(first)),
                first,
                second,
            })?;
        Ok(OwnedIds {
            values: self.0,
            slots,
        })
    }
}

/// An integer written as Python writes it: `007` and `+7` are strings.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = match digits.as_bytes() {
        [b'0'] => digits == text,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    canonical.then(|| text.parse().ok()).flatten()
}
