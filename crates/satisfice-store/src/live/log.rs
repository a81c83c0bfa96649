//! The log of a living graph: every write since its store's files were made.

use super::{
    LiveError, Write, codec,
    codec::Reader,
    disk::{Directory, Disk, DiskFile, sync_directory},
    frame::{self, Frame, Kind},
    memory::Memory,
};
use crate::{StoreError, error::At};
use satisfice_kernels::NewFile;
use serde::Serialize;
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Directory of the log in a store.
pub(crate) const LIVE: &str = "live";

const SUFFIX: &str = ".log";

/// Name of the log of the store with this fingerprint.
pub(super) fn name(fingerprint: &str) -> String {
    format!("{fingerprint}{SUFFIX}")
}

/// What a log goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Fingerprint of the store.
    pub(super) store: String,
    /// Fingerprint of the store that was compacted into this one, or nothing.
    pub(super) predecessor: String,
    /// The graph's version that the store's files hold.
    pub(super) version: u64,
    /// Writes that are not to be done again.
    pub(super) memory: Memory,
}

impl Beginning {
    pub(super) fn of(store: String) -> Self {
        Self {
            store,
            predecessor: String::new(),
            version: 0,
            memory: Memory::default(),
        }
    }

    /// A log without writes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        codec::put_text(&mut payload, &self.store);
        codec::put_text(&mut payload, &self.predecessor);
        self.memory.encode(&mut payload);
        frame::encode(Kind::Beginning, self.version, &payload)
    }

    fn decode(frame: &Frame) -> Option<Self> {
        let mut reader = Reader(&frame.payload);
        let beginning = Self {
            store: reader.text()?.to_owned(),
            predecessor: reader.text()?.to_owned(),
            version: frame.version,
            memory: Memory::decode(&mut reader)?,
        };
        (frame.kind == Kind::Beginning && reader.is_empty()).then_some(beginning)
    }
}

/// A write that was read, and its operations as they are in the log.
pub(super) type Logged<'a> = (Write, &'a [u8]);

/// A write that is to be written, and its operations as they will be in the log.
pub(super) type Entry<'a> = (&'a Write, &'a [u8]);

/// What others see of a log while it is written.
#[derive(Debug, Default)]
pub(super) struct LogState {
    pub(super) bytes: AtomicU64,
    /// Why no more is written.
    pub(super) failure: OnceLock<LiveError>,
}

/// A log that is written.
#[derive(Debug)]
pub(super) struct Log {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Where the next frame goes.
    end: u64,
    state: Arc<LogState>,
}

impl Log {
    /// Opens the log of the store in the directory `store`; `replay` takes every group in turn, with the
    /// graph's version after it. What a crash has left of an unfinished group is cut off.
    pub(super) fn open(
        disk: &dyn Disk,
        store: &Path,
        fingerprint: &str,
        replay: impl FnMut(&[Logged<'_>], u64) -> Result<(), String>,
    ) -> Result<(Self, Beginning), StoreError> {
        let (own, path) = (name(fingerprint), store.join(LIVE).join(name(fingerprint)));
        let leftovers = leftovers(disk, store, fingerprint)?;
        if !disk.list().at(&path, "look for it")?.contains(&own) {
            let bytes = Beginning::of(fingerprint.to_owned()).encode();
            disk.create(&own, &bytes).at(&path, "create it")?;
        }
        for name in leftovers {
            disk.remove(&name).at(
                &store.join(LIVE).join(&name),
                "remove what a compaction left",
            )?;
        }
        let mut file = disk.open(&own).at(&path, "open it")?;
        let (beginning, end) = scan(&mut *file, &path, fingerprint, replay)?;
        if file.len().at(&path, "read it")? > end {
            file.truncate(end).at(&path, "cut off what a crash left")?;
        }
        // What is read must be on the disk before anybody is told of it.
        file.sync().at(&path, "bring it to the disk")?;
        let state = Arc::new(LogState::default());
        state.bytes.store(end, Ordering::Relaxed);
        Ok((
            Self {
                file,
                path,
                end,
                state,
            },
            beginning,
        ))
    }

    pub(super) fn state(&self) -> Arc<LogState> {
        self.state.clone()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Writes a group of writes and brings it to the disk.
    pub(super) fn append<'a>(
        &mut self,
        version: u64,
        writes: impl ExactSizeIterator<Item = Entry<'a>>,
    ) -> Result<(), LiveError> {
        if let Some(failure) = self.state.failure.get() {
            return Err(failure.clone());
        }
        let mut payload = (writes.len() as u32).to_le_bytes().to_vec();
        for (write, operations) in writes {
            codec::put_write(&mut payload, write, operations);
        }
        let bytes = frame::encode(Kind::Group, version, &payload);
        if let Err(error) = self.file.write_at(self.end, &bytes) {
            return Err(self.refused(&error));
        }
        // A sync that failed may have dropped what it was to write: a second one would lie.
        if let Err(error) = self.file.sync() {
            return Err(self.fail(&error));
        }
        self.end += bytes.len() as u64;
        self.state.bytes.store(self.end, Ordering::Relaxed);
        Ok(())
    }

    /// A write that did not go through: of a full disk, what was written of it is taken back.
    fn refused(&mut self, error: &io::Error) -> LiveError {
        let is_full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        match is_full.then(|| self.file.truncate(self.end)) {
            Some(Ok(())) => LiveError::DiskFull {
                path: self.path.clone(),
                message: error.to_string(),
            },
            Some(Err(error)) => self.fail(&error),
            None => self.fail(error),
        }
    }

    fn fail(&self, error: &io::Error) -> LiveError {
        let failure = LiveError::LogFailed {
            path: self.path.clone(),
            message: error.to_string(),
        };
        self.state.failure.get_or_init(|| failure).clone()
    }
}

/// Reads a log; returns its beginning, and where its last whole frame ends.
fn scan(
    file: &mut dyn DiskFile,
    path: &Path,
    fingerprint: &str,
    mut replay: impl FnMut(&[Logged<'_>], u64) -> Result<(), String>,
) -> Result<(Beginning, u64), StoreError> {
    let corrupt = |offset: u64, message: &str| StoreError::Log {
        path: path.to_owned(),
        offset,
        message: message.to_owned(),
    };
    let len = file.len().at(path, "read it")?;
    let (beginning, mut offset) = read_beginning(file, path, len)?;
    if beginning.store != fingerprint {
        return Err(corrupt(0, "it is the log of another store"));
    }
    let mut version = beginning.version;
    while let Some(frame) = frame::read(file, offset, len).at(path, "read it")? {
        let writes = match frame.kind {
            Kind::Group => decode_group(&frame.payload),
            Kind::Beginning => None,
        };
        let writes = writes.ok_or_else(|| corrupt(offset, "a group that cannot be read"))?;
        if version.checked_add(writes.len() as u64) != Some(frame.version) {
            return Err(corrupt(offset, "a group is missing before it"));
        }
        replay(&writes, frame.version).map_err(|message| corrupt(offset, &message))?;
        (version, offset) = (frame.version, frame.end);
    }
    // A crash leaves at most one group that is not whole, and nothing after it.
    let later = frame::find(file, offset, len, version).at(path, "read it")?;
    match later {
        Some(_) => Err(corrupt(offset, "a damaged group before whole ones")),
        None => Ok((beginning, offset)),
    }
}

fn read_beginning(
    file: &mut dyn DiskFile,
    path: &Path,
    len: u64,
) -> Result<(Beginning, u64), StoreError> {
    let frame = frame::read(file, 0, len).at(path, "read it")?;
    frame
        .and_then(|frame| Some((Beginning::decode(&frame)?, frame.end)))
        .ok_or_else(|| StoreError::Log {
            path: path.to_owned(),
            offset: 0,
            message: "its beginning is damaged".to_owned(),
        })
}

fn decode_group(payload: &[u8]) -> Option<Vec<Logged<'_>>> {
    let mut reader = Reader(payload);
    let count = reader.u32()?;
    let writes = (0..count).map(|_| reader.write()).collect::<Option<_>>()?;
    reader.is_empty().then_some(writes)
}

/// Names of logs that a compaction has replaced, or of one that never came to its end.
///
/// # Errors
/// There is a log of another store, whose writes would be lost.
fn leftovers(disk: &dyn Disk, store: &Path, fingerprint: &str) -> Result<Vec<String>, StoreError> {
    let names = disk.list().at(&store.join(LIVE), "look into it")?;
    let own = name(fingerprint);
    let path = |name: &str| store.join(LIVE).join(name);
    let beginning = |name: &str| {
        let mut file = disk.open(name).at(&path(name), "open it")?;
        let len = file.len().at(&path(name), "read it")?;
        read_beginning(&mut *file, &path(name), len).map(|(beginning, _)| beginning)
    };
    let predecessor = match names.contains(&own) {
        true => Some(beginning(&own)?.predecessor),
        false => None,
    };
    let mut found = Vec::new();
    for other in names
        .iter()
        .filter(|name| name.ends_with(SUFFIX) && **name != own)
    {
        let is_old = predecessor.as_ref().is_some_and(|old| name(old) == *other);
        if !is_old && (predecessor.is_none() || beginning(other)?.predecessor != fingerprint) {
            return Err(StoreError::Log {
                path: path(other),
                offset: 0,
                message: "it belongs to other files than the store's".to_owned(),
            });
        }
        found.push(other.clone());
    }
    Ok(found)
}

/// Refuses a store whose log holds writes that its files lack.
pub(crate) fn refuse_written(store: &Path, fingerprint: &str) -> Result<(), StoreError> {
    let Some(mut file) = open_read_only(store, fingerprint)? else {
        return Ok(());
    };
    let path = store.join(LIVE).join(name(fingerprint));
    let len = file.len().at(&path, "read it")?;
    let (beginning, end) = read_beginning(&mut *file, &path, len)?;
    let written = frame::find(&mut *file, end, len, beginning.version).at(&path, "read it")?;
    match written {
        Some(_) => Err(StoreError::Written {
            path: store.to_owned(),
        }),
        None => Ok(()),
    }
}

/// What a log holds, of which every byte was read; `None` where there is no log.
///
/// # Errors
/// It is damaged, or of another store.
pub(crate) fn verify_log(store: &Path, fingerprint: &str) -> Result<Option<LogReport>, StoreError> {
    match open_read_only(store, fingerprint)? {
        Some(mut file) => {
            let path = store.join(LIVE).join(name(fingerprint));
            report(&mut *file, &path, fingerprint).map(Some)
        }
        None => Ok(None),
    }
}

/// Copies all that is whole of the log of the store in the directory `from` into the store `to`, if there is a log.
pub(super) fn copy_log(
    from: &Path,
    to: &Path,
    fingerprint: &str,
) -> Result<Option<LogReport>, StoreError> {
    let Some(mut file) = open_read_only(from, fingerprint)? else {
        return Ok(None);
    };
    let name = name(fingerprint);
    let path = from.join(LIVE).join(&name);
    let report = report(&mut *file, &path, fingerprint)?;
    let directory = to.join(LIVE);
    fs::create_dir(&directory).at(&directory, "make it")?;
    let copy = directory.join(&name);
    let mut out = NewFile::create(&copy).at(&copy, "create it")?;
    let (mut offset, mut block) = (0, vec![0; COPY_BLOCK]);
    while offset < report.bytes {
        let count = (report.bytes - offset).min(COPY_BLOCK as u64) as usize;
        file.read_at(offset, &mut block[..count])
            .at(&path, "read it")?;
        out.write_all(&block[..count]).at(&copy, "write it")?;
        offset += count as u64;
    }
    out.finish().at(&copy, "write it")?;
    sync_directory(&directory).at(&directory, "bring it to the disk")?;
    Ok(Some(report))
}

/// Bytes that are copied at a time.
const COPY_BLOCK: usize = 1 << 20;

fn report(
    file: &mut dyn DiskFile,
    path: &Path,
    fingerprint: &str,
) -> Result<LogReport, StoreError> {
    let mut report = LogReport::default();
    let count = |writes: &[Logged<'_>], version| {
        report.writes += writes.len() as u64;
        report.version = version;
        Ok(())
    };
    let (beginning, end) = scan(file, path, fingerprint, count)?;
    report.version = report.version.max(beginning.version);
    report.bytes = end;
    Ok(report)
}

/// The log of the store in the directory `store`, if there is one.
fn open_read_only(
    store: &Path,
    fingerprint: &str,
) -> Result<Option<Box<dyn DiskFile>>, StoreError> {
    let directory = store.join(LIVE);
    if !directory.is_dir() {
        return Ok(None);
    }
    let disk = Directory::read_only(&directory);
    leftovers(&disk, store, fingerprint)?;
    match disk.open(&name(fingerprint)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file
            .map(Some)
            .at(&directory.join(name(fingerprint)), "open it"),
    }
}

/// What a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LogReport {
    /// Writes that the store's files lack.
    pub writes: u64,
    /// The graph's version with them.
    pub version: u64,
    /// Bytes of the log, without what a crash may have left at its end.
    pub bytes: u64,
}
