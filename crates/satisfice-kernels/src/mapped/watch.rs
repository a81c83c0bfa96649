//! A thread that looks whether mapped files are what they were.
//!
//! A file that is written to in place, or cut within its last page, raises no signal. Where the system tells of writes
//! (Linux, local file systems) a mapping is marked as soon as it tells; lengths are looked at once a second everywhere.

use super::{Loss, LostFile, slots};
use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Time between two looks at the lengths.
const LOOK: Duration = Duration::from_secs(1);

/// A mapped file as the thread sees it.
#[derive(Debug)]
pub(super) struct Watched {
    pub path: PathBuf,
    pub slot: &'static slots::Slot,
    file: File,
    len: u64,
    /// The system's number for the file, where it tells of writes.
    number: Option<i32>,
    told: AtomicBool,
}

impl Watched {
    fn loss(&self) -> Option<LostFile> {
        let loss = Loss::of(self.slot.state())?;
        let path = self.path.clone();
        Some(LostFile { path, loss })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(lost) = self.loss() {
            list().gone.get_or_insert(lost);
        }
    }
}

/// What this process has mapped.
struct List {
    mapped: Vec<Weak<Watched>>,
    /// The first file that was lost and is not mapped any more.
    gone: Option<LostFile>,
    tell: Option<fn(&LostFile)>,
}

static LIST: Mutex<List> = Mutex::new(List {
    mapped: Vec::new(),
    gone: None,
    tell: None,
});

fn list() -> MutexGuard<'static, List> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after a file from now on.
pub(super) fn watch(path: PathBuf, file: File, slot: &'static slots::Slot) -> Arc<Watched> {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let thread = thread::Builder::new().name("mapped files".to_owned());
        // Without the thread, what is cut is still noticed where it is read.
        drop(thread.spawn(look_after));
    });
    let watched = Arc::new(Watched {
        number: writes::tell_of(&file),
        len: file.metadata().map_or(0, |metadata| metadata.len()),
        path,
        slot,
        file,
        told: AtomicBool::new(false),
    });
    let mut list = list();
    list.mapped.retain(|mapped| mapped.strong_count() > 0);
    list.mapped.push(Arc::downgrade(&watched));
    watched
}

/// The first file that this process lost, if any.
pub(super) fn first_lost() -> Option<LostFile> {
    if slots::lost() == 0 {
        return None;
    }
    let gone = list().gone.clone();
    gone.or_else(|| mapped().iter().find_map(|watched| watched.loss()))
}

/// Has `tell` called for every file that is lost from now on, once each, from a thread of its own.
pub(super) fn tell_of_losses(tell: fn(&LostFile)) {
    list().tell = Some(tell);
}

fn mapped() -> Vec<Arc<Watched>> {
    // A mapping whose last holder goes here takes the lock when it is dropped.
    list().mapped.iter().filter_map(Weak::upgrade).collect()
}

fn look_after() {
    loop {
        let written = writes::wait(LOOK);
        for watched in mapped() {
            let is_written = watched.number.is_some_and(|n| written.contains(&n));
            let len = watched.file.metadata().map(|metadata| metadata.len());
            if is_written || len.is_ok_and(|len| len != watched.len) {
                watched.slot.lose(slots::CHANGED);
            }
            let Some(lost) = watched.loss() else { continue };
            let tell = list().tell;
            if let Some(tell) = tell
                && !watched.told.swap(true, Ordering::Relaxed)
            {
                tell(&lost);
            }
        }
    }
}

/// Files that are written to, as Linux tells.
#[cfg(target_os = "linux")]
mod writes {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        fs::inotify::{self, CreateFlags, WatchFlags},
        io::Errno,
    };
    use std::{
        fs::File,
        mem::MaybeUninit,
        os::fd::{AsRawFd, OwnedFd},
        sync::OnceLock,
        thread,
        time::Duration,
    };

    fn events() -> Option<&'static OwnedFd> {
        static EVENTS: OnceLock<Option<OwnedFd>> = OnceLock::new();
        let init = || inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        EVENTS.get_or_init(init).as_ref()
    }

    /// Asks for news of a file, of which there are none where the system refuses. A file that is mapped again has the
    /// number that it had; the number goes with the file.
    pub(super) fn tell_of(file: &File) -> Option<i32> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify::add_watch(events()?, path, WatchFlags::MODIFY).ok()
    }

    /// The numbers of files that were written to, as soon as there are some, or when `time` has passed.
    pub(super) fn wait(time: Duration) -> Vec<i32> {
        let Some(events) = events() else {
            thread::sleep(time);
            return Vec::new();
        };
        let time = Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        };
        let ready = poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&time));
        let mut written = Vec::new();
        if !ready.is_ok_and(|ready| ready > 0) {
            return written;
        }
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(events, &mut space);
        loop {
            match reader.next() {
                Ok(event) => written.push(event.wd()),
                Err(Errno::INTR) => {}
                Err(_) => return written,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod writes {
    use std::{fs::File, thread, time::Duration};

    pub(super) fn tell_of(_: &File) -> Option<i32> {
        None
    }

    pub(super) fn wait(time: Duration) -> Vec<i32> {
        thread::sleep(time);
        Vec::new()
    }
}
