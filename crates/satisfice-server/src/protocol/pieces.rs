//! Messages in pieces: as they arrived, or with tensors as they lie in memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// Bytes in order, in any number of pieces. None is copied while whoever reads asks for no more than is left of it.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    /// None is empty.
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Pieces {
    /// Appends a piece.
    pub fn push(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        self.length += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Takes the first piece out.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.length -= piece.len();
        Some(piece)
    }

    /// All of it in one piece.
    pub fn join(mut self) -> Bytes {
        self.copy_to_bytes(self.length)
    }
}

impl<T: Into<Bytes>> From<T> for Pieces {
    fn from(piece: T) -> Self {
        let mut pieces = Self::default();
        pieces.push(piece);
        pieces
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        while let Some(first) = self.pieces.front_mut().filter(|_| left > 0) {
            if left < first.len() {
                first.advance(left);
                self.length -= left;
                return;
            }
            left -= first.len();
            self.pop();
        }
        assert_eq!(left, 0, "no more than there is");
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self.pieces.front_mut() {
            Some(first) if first.len() == length => self.pop().unwrap_or_default(),
            Some(first) if first.len() > length => {
                self.length -= length;
                first.split_to(length)
            }
            _ => {
                let mut whole = BytesMut::with_capacity(length);
                whole.put(self.take(length));
                whole.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pieces: &[&'static [u8]]) -> Pieces {
        let mut all = Pieces::default();
        pieces.iter().for_each(|piece| all.push(*piece));
        all
    }

    #[test]
    fn what_is_read_does_not_depend_on_the_pieces() {
        let cuts: [&[&'static [u8]]; 4] = [
            &[b"abcdefgh"],
            &[b"abc", b"", b"defgh"],
            &[b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"],
            &[b"abcd", b"efgh"],
        ];
        for cut in cuts {
            let mut all = pieces(cut);
            assert_eq!(all.remaining(), 8);
            assert_eq!(all.copy_to_bytes(3), "abc");
            all.advance(2);
            assert_eq!(all.copy_to_bytes(0), "");
            assert_eq!(all.clone().join(), "fgh");
            assert_eq!(all.get_u8(), b'f');
            assert_eq!(all.copy_to_bytes(2), "gh");
            assert!(!all.has_remaining() && all.pop().is_none());
        }
    }

    #[test]
    fn a_piece_is_not_copied() {
        let whole = Bytes::from(vec![7; 100]);
        let mut all = Pieces::from(whole.clone());
        all.push(whole.clone());
        assert_eq!(all.copy_to_bytes(40).as_ptr(), whole.as_ptr());
        assert_eq!(all.copy_to_bytes(60).as_ptr(), whole[40..].as_ptr());
        assert_eq!(all.join().as_ptr(), whole.as_ptr());
    }
}
