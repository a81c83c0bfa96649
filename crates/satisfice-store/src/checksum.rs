//! xxh3-64 as the manifests write it: 16 hexadecimal digits.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The checksum of `bytes`.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    hex(xxh3_64(bytes))
}

/// A checksum as it is written.
pub(crate) fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// A checksum of bytes that come in pieces.
#[derive(Clone, Default)]
pub(crate) struct Checksum(Box<Xxh3>);

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Checksum")
            .field(&self.clone().take())
            .finish()
    }
}

impl Checksum {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum so far; what follows starts anew.
    pub(crate) fn take(&mut self) -> String {
        let hash = self.0.digest();
        self.0.reset();
        hex(hash)
    }
}
