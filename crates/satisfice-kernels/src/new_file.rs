use crate::LostFile;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A file that takes its name when it is whole and on the disk: whoever opens the name finds the old file or the new
/// one, and who has the old one mapped keeps it. Until then it is called `NAME.partial`, and is removed if it is
/// dropped, for whatever reason; what a killed process leaves is overwritten by the next one.
///
/// Two at once for one name must not be: see [`WriteLock`](crate::WriteLock).
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    partial: Partial,
    file: File,
}

/// A file that is removed when this is dropped; it is not there any more once it was renamed.
#[derive(Debug)]
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl NewFile {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let file = File::create(&partial)?;
        Ok(Self {
            path: path.to_owned(),
            partial: Partial(partial),
            file,
        })
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// As [`create`](Self::create), [`Write::write_all`] and [`finish`](Self::finish).
    pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = Self::create(path)?;
        file.write_all(bytes)?;
        file.finish()
    }

    /// Copies the file at `from` to `to`.
    ///
    /// # Errors
    /// The file at `from` cannot be read; as [`create`](Self::create), [`Write::write_all`] and [`finish`](Self::finish).
    pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
        let mut file = Self::create(to)?;
        io::copy(&mut File::open(from)?, &mut file)?;
        file.finish()
    }

    /// Brings the file to the disk and gives it its name.
    ///
    /// # Errors
    /// It cannot be written or renamed; or this process has lost a [mapped file](crate::MappedFile), so that what was
    /// written may be made of it.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(lost) = LostFile::first() {
            return Err(io::Error::other(lost));
        }
        fs::rename(&self.partial.0, &self.path)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_given_to_a_whole_file_and_nothing_is_left_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        let names = || {
            let entries = fs::read_dir(dir.path()).unwrap();
            entries.map(|e| e.unwrap().file_name()).collect::<Vec<_>>()
        };
        NewFile::write(&path, b"first").unwrap();
        let mut dropped = NewFile::create(&path).unwrap();
        dropped.write_all(b"second").unwrap();
        assert_eq!(names().len(), 2);
        drop(dropped);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(), ["a.toml"]);
        NewFile::write(&path, b"third").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(names(), ["a.toml"]);
    }
}
