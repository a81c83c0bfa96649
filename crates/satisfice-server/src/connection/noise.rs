//! Log lines about connections, which strangers can cause as often as they like.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time between two lines of one kind.
const QUIET: Duration = Duration::from_secs(10);

/// What is said at most once in a while, with how often it was so.
#[derive(Default)]
pub(super) struct Noise(Mutex<BTreeMap<&'static str, Said>>);

struct Said {
    at: Instant,
    since: u64,
}

impl Noise {
    /// How often it was so since the last line, this time included, if there is to be one now.
    fn heard(&self, what: &'static str) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(said) = all.get_mut(what) else {
            all.insert(what, Said { at: now, since: 0 });
            return Some(1);
        };
        said.since += 1;
        if now.duration_since(said.at) < QUIET {
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.since))
    }

    /// Something that clients do, if their networks are bad.
    pub(super) fn debug(&self, what: &'static str, cause: impl Display) {
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(times) = self.heard(what)
        {
            tracing::debug!(times, last = %cause, "{what}");
        }
    }

    /// Something that an operator should look at.
    pub(super) fn warn(&self, what: &'static str, cause: impl Display) {
        if let Some(times) = self.heard(what) {
            tracing::warn!(times, last = %cause, "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_many() {
        let noise = Noise::default();
        assert_eq!(noise.heard("a"), Some(1));
        assert!((0..1000).all(|_| noise.heard("a").is_none()));
        assert_eq!(noise.heard("b"), Some(1));
        let long_ago = Instant::now().checked_sub(2 * QUIET).unwrap();
        noise.0.lock().unwrap().get_mut("a").unwrap().at = long_ago;
        assert_eq!(noise.heard("a"), Some(1001));
        assert_eq!(noise.heard("a"), None);
    }
}
