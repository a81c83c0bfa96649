//! Speaking of what takes long while it takes long.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// Patience before the first word; then each is as far from the last as that was from the start.
const FIRST: Duration = Duration::from_secs(3);

/// Does something; while that takes long, the log says that it is still being done.
pub(crate) fn saying<T>(what: &str, does: impl FnOnce() -> T) -> T {
    saying_after(
        FIRST,
        &|took| tracing::warn!("still {what}, for {} s now", took.as_secs()),
        does,
    )
}

fn saying_after<T>(
    first: Duration,
    say: &(dyn Fn(Duration) + Sync),
    does: impl FnOnce() -> T,
) -> T {
    let (ended, ends) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let watch = move || {
            let start = Instant::now();
            let mut wait = first;
            // An end that is dropped, also by a panic, ends the watch.
            while ends.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                say(start.elapsed());
                wait = start.elapsed();
            }
        };
        let watched = thread::Builder::new().spawn_scoped(scope, watch);
        if let Err(error) = watched {
            tracing::debug!("nobody watches how long it takes: {error}");
        }
        let done = does();
        drop(ended);
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn only_what_takes_long_is_spoken_of() {
        let said = Mutex::new(0);
        let count = |_: Duration| *said.lock().unwrap_or_else(|e| panic!("{e}")) += 1;
        let brief = Duration::from_millis(20);
        assert_eq!(saying_after(Duration::from_mins(1), &count, || 7), 7);
        let spoken = || *said.lock().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(spoken(), 0);
        saying_after(brief, &count, || thread::sleep(10 * brief));
        // After 20, 40, 80 and 160 of 200 ms, give or take.
        assert!((1..=4).contains(&spoken()), "{}", spoken());
    }
}
