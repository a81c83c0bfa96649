#![expect(unsafe_code, reason = "mapping a file is unsafe: see the block")]

mod slots;
mod watch;

use memmap2::Mmap;
use std::{
    fmt,
    fs::File,
    io,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};
use watch::Watched;

/// A file mapped into memory, read-only.
///
/// The pages are the kernel's page cache: mapping costs nothing, and two processes that map the
/// same file share them.
///
/// A file that is truncated or written to in place while it is mapped, or that its disk does not give any more, ends
/// nobody: what is read of it is zeros or worse from then on, and [`check`](Self::check) says so. Whoever gives away
/// what was made of a mapping checks it first.
#[derive(Debug)]
pub struct MappedFile {
    // In this order: the signal handler forgets the mapping before it goes.
    entry: Option<Entry>,
    map: Option<Mmap>,
}

/// A mapping in the list of the signal handler.
#[derive(Debug)]
struct Entry(Arc<Watched>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.slot.end();
    }
}

impl MappedFile {
    /// Maps the whole file at `path`.
    ///
    /// # Errors
    /// Those of opening and mapping the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self {
                entry: None,
                map: None,
            });
        }
        // SAFETY: the mapping is read-only and private to this value. Files at rest are written under another name
        // and renamed into place, never changed in place by us. Where somebody else truncates one, the signal handler
        // keeps the pages readable; where somebody writes to one, its bytes change under who reads them, and nobody
        // relies on their value before the mapping was checked.
        let map = unsafe { Mmap::map(&file)? };
        let slot = slots::add(&map);
        Ok(Self {
            entry: Some(Entry(watch::watch(path.to_owned(), file, slot))),
            map: Some(map),
        })
    }

    /// Whether everything that was read so far was the file's. Costs one load as long as this process has lost no file.
    ///
    /// # Errors
    /// [`LostFile`], from the moment on that a page is gone or the file is known to have changed.
    pub fn check(&self) -> Result<(), LostFile> {
        let Some(Entry(watched)) = &self.entry else {
            return Ok(());
        };
        match Loss::of(watched.slot.state()) {
            None => Ok(()),
            Some(loss) => Err(LostFile {
                path: watched.path.clone(),
                loss,
            }),
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.map {
            Some(map) => map,
            None => &[],
        }
    }
}

/// A file that is not any more what it was when it was mapped. Whoever truncated or changed it, or its disk, is at
/// fault; it helps to put a whole file in its place by renaming, and to open that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostFile {
    /// The file.
    pub path: PathBuf,
    /// What became of it.
    pub loss: Loss,
}

impl LostFile {
    /// The first file that this process has lost, mapped still or not. Costs one load where there is none.
    pub fn first() -> Option<Self> {
        watch::first_lost()
    }

    /// Has `tell` called for every file that is lost from now on, once each, from a thread of its own.
    pub fn tell_each(tell: fn(&Self)) {
        watch::tell_of_losses(tell);
    }
}

impl fmt::Display for LostFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.loss {
            Loss::Unreadable => "it was truncated, or cannot be read any more, while it was in use",
            Loss::Changed => "it was changed in place while it was in use",
        };
        write!(f, "{}: {what}", self.path.display())
    }
}

impl std::error::Error for LostFile {}

/// What `work` makes of files that `check` looks after, unless one is lost: then nothing that was made is to be trusted,
/// be it a value, an error or a panic.
///
/// # Errors
/// Those of `work`; and those of `check`, before it or after.
pub fn while_whole<T, E>(
    check: impl Fn() -> Result<(), E>,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    check()?;
    let made = catch_unwind(AssertUnwindSafe(work));
    check()?;
    made.unwrap_or_else(|panic| resume_unwind(panic))
}

/// How a mapped file was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// A page is gone: the file is shorter than it was, or its disk failed.
    Unreadable,
    /// It was written to, or has another length.
    Changed,
}

impl Loss {
    fn of(state: u8) -> Option<Self> {
        match state {
            slots::WHOLE => None,
            slots::UNREADABLE => Some(Self::Unreadable),
            _ => Some(Self::Changed),
        }
    }
}

#[cfg(test)]
mod tests;
