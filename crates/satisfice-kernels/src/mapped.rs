#![expect(unsafe_code, reason = "mapping a file is unsafe: see the block")]

use memmap2::Mmap;
use std::{fs::File, io, ops::Deref, path::Path};

/// A file mapped into memory, read-only.
///
/// The pages are the kernel's page cache: mapping costs nothing, and two processes that map the
/// same file share them.
#[derive(Debug)]
pub struct MappedFile(Option<Mmap>);

impl MappedFile {
    /// Maps the whole file at `path`.
    ///
    /// # Errors
    /// Those of opening and mapping the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the mapping is read-only and private to this value. Files at rest are written
        // under another name and renamed into place, never changed in place; a file that an
        // operator truncates while it is being served is outside what any mapping can survive,
        // and the documentation says so.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(Some(map)))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Some(map) => map,
            None => &[],
        }
    }
}
