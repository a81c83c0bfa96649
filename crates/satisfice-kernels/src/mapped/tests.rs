use super::*;
use std::{
    fs::{self, OpenOptions},
    os::unix::process::ExitStatusExt,
    process::Command,
    time::{Duration, Instant},
};

const PAGE: usize = 4096;

fn write(path: &Path, pages: usize) {
    fs::write(path, vec![7; pages * PAGE]).unwrap();
}

fn truncate(path: &Path, len: usize) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(len as u64).unwrap();
}

fn wait_until(is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never was");
        std::thread::yield_now();
    }
}

#[test]
fn a_truncated_file_is_lost_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (cut, whole) = (dir.path().join("cut"), dir.path().join("whole"));
    for path in [&cut, &whole] {
        write(path, 64);
    }
    let mapped = [&cut, &cut, &whole].map(|path| MappedFile::open(path).unwrap());
    assert!(mapped.iter().all(|file| file.check().is_ok()));
    truncate(&cut, PAGE);
    // Threads that meet the missing pages at once all go on.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let sum: usize = mapped[0].iter().map(|&byte| byte as usize).sum();
                assert!(sum <= 7 * mapped[0].len());
                assert_eq!(mapped[0].check().unwrap_err().path, cut);
            });
        }
    });
    assert_eq!(mapped[2][63 * PAGE], 7);
    mapped[2].check().unwrap();
    // The other mapping was not read, but its file is another.
    wait_until(|| mapped[1].check().is_err());
    drop(mapped);
    assert_eq!(LostFile::first().unwrap().path, cut);
}

#[test]
fn a_file_that_is_written_to_in_place_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["rewritten", "cut within a page", "touched"].map(|name| dir.path().join(name));
    for path in &paths {
        write(path, 2);
    }
    let [rewritten, cut, touched] = paths.each_ref().map(|path| MappedFile::open(path).unwrap());
    // As long as before: only the system's word tells. Of a new time nothing follows.
    fs::write(&paths[0], vec![8; 2 * PAGE]).unwrap();
    truncate(&paths[1], 2 * PAGE - 1);
    let file = OpenOptions::new().write(true).open(&paths[2]).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let times = fs::FileTimes::new().set_accessed(long_ago);
    file.set_times(times.set_modified(long_ago)).unwrap();
    wait_until(|| rewritten.check().is_err() && cut.check().is_err());
    assert_eq!(rewritten.check().unwrap_err().loss, Loss::Changed);
    touched.check().unwrap();
}

#[test]
fn a_file_that_is_replaced_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (path, new) = (dir.path().join("served"), dir.path().join("new"));
    write(&path, 3);
    let mapped = MappedFile::open(&path).unwrap();
    fs::write(&new, b"short").unwrap();
    fs::rename(&new, &path).unwrap();
    assert_eq!(mapped[2 * PAGE], 7);
    mapped.check().unwrap();
}

/// SIGBUS that is nobody's mapping ends the process as it did, by fault and by signal.
#[test]
fn any_other_sigbus_ends_the_process() {
    const WAY: &str = "SATISFICE_TEST_SIGBUS";
    if let Ok(way) = std::env::var(WAY) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapped");
        write(&path, 2);
        let _ours = MappedFile::open(&path).unwrap();
        let foreign = File::open(&path).unwrap();
        // SAFETY: the test is about what comes of reading it.
        let foreign = unsafe { Mmap::map(&foreign).unwrap() };
        truncate(&path, 0);
        match way.as_str() {
            "fault" => println!("{}", std::hint::black_box(foreign[PAGE])),
            // SAFETY: nothing else is done.
            _ => println!("{}", unsafe { libc::raise(libc::SIGBUS) }),
        }
        return;
    }
    for way in ["fault", "signal"] {
        let name = "mapped::tests::any_other_sigbus_ends_the_process";
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(WAY, way)
            .output()
            .unwrap();
        assert_eq!(run.status.signal(), Some(libc::SIGBUS), "{way}: {run:?}");
    }
}
