use std::{
    env,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process,
};

/// The right to write a file or directory, which one process has at a time: the system's lock on `.NAME.lock` beside
/// it. It goes with its process, however that ends, so a lock file that was left behind keeps nobody out.
#[derive(Debug)]
pub struct WriteLock {
    path: PathBuf,
    /// Nothing where the file system knows no locks.
    _held: Option<File>,
}

impl WriteLock {
    /// Takes the right to write `target`, in whose directory the lock file is made. Does not wait.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] names the process that has it; the lock file cannot be made.
    pub fn take(target: &Path) -> io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(".lock");
        Self::take_file(&target.with_file_name(name))
    }

    /// Gives the right up where the lock file's directory was moved away: what has its name now is another's.
    pub fn let_go(mut self) {
        self.path = PathBuf::new();
    }

    fn take_file(path: &Path) -> io::Result<Self> {
        loop {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(busy(&mut file)),
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                    return Ok(Self {
                        path: path.to_owned(),
                        _held: None,
                    });
                }
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // Who had it may have removed the file in between: then another one is to be locked.
            if !is_at(&file, path) {
                continue;
            }
            file.set_len(0)?;
            let command: Vec<String> = env::args().collect();
            writeln!(file, "{}\n{}", process::id(), command.join(" "))?;
            return Ok(Self {
                path: path.to_owned(),
                _held: Some(file),
            });
        }
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        // Removed while it is locked, so that nobody else's goes.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether `file` is the one that has this name now.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let number = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => number(ours) == number(there),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

fn busy(file: &mut File) -> io::Error {
    let mut text = String::new();
    // It is empty for a moment, before its holder has written into it.
    let _ = file.take(4096).read_to_string(&mut text);
    let holder = match text.split_once('\n') {
        Some((process, command)) => format!("process {process} (`{}`)", command.trim()),
        None => "another process".to_owned(),
    };
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("{holder} is writing it; wait until that has ended"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time_and_what_was_left_behind_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let (target, file) = (dir.path().join("store"), dir.path().join(".store.lock"));
        fs::write(&file, "1\nsomebody who was killed\n").unwrap();
        let held = WriteLock::take(&target).unwrap();
        let refused = WriteLock::take(&target).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        let own = format!("process {} (", process::id());
        assert!(refused.to_string().starts_with(&own), "{refused}");
        drop(WriteLock::take(&dir.path().join("another")).unwrap());
        drop(held);
        drop(WriteLock::take(&target).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
