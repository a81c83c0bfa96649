//! Where the log lies: a directory of the file system, or one that tests make fail.

use crate::{StoreError, error::At};
use satisfice_kernels::{NewFile, WriteLock};
use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A directory of logs.
pub(super) trait Disk: Debug + Send {
    /// Names of the files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file; it is there with all its bytes, or not at all, and on the disk when this returns.
    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A file of a log.
pub(super) trait DiskFile: Debug + Send {
    fn len(&mut self) -> io::Result<u64>;
    /// Fills `bytes` from `offset` on.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Brings what was written to the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// The directory `live` of a store, which one process writes.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: Option<WriteLock>,
}

impl Directory {
    /// Makes the directory if it is not there, and takes the right to write it.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        if !path.is_dir() {
            fs::create_dir(path).at(path, "make it")?;
            let store = path.parent().unwrap_or(path);
            sync_directory(store).at(store, "bring it to the disk")?;
        }
        let lock = WriteLock::take(&path.join("log")).at(path, "write the graph")?;
        Ok(Self {
            path: path.to_owned(),
            lock: Some(lock),
        })
    }

    /// Gives the right up once the store was moved away and another one may be in its place.
    pub(crate) fn let_go(self) {
        self.lock.into_iter().for_each(WriteLock::let_go);
    }

    /// To read only.
    pub(super) fn read_only(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            lock: None,
        }
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name =
            |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into());
        entries.map(name).collect()
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        NewFile::write(&self.path.join(name), bytes)?;
        sync_directory(&self.path)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path.join(name);
        let is_writer = self.lock.is_some();
        let file = OpenOptions::new().read(true).write(is_writer).open(path)?;
        Ok(Box::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))?;
        sync_directory(&self.path)
    }
}

impl DiskFile for File {
    fn len(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.read_exact(bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Brings the names in a directory to the disk.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
