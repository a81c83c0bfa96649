//! What it takes to work on requests, by how long they are on the wire.

/// Weight of the newest execution in the usual time.
const NEWEST: f64 = 0.2;

/// Executions before anything is believed, and those that the mean is of.
const BRIEF_AFTER: u32 = 16;
const MEAN_OF: u32 = 64;

/// What an async thread may be kept from its other connections for, in the mean: some times what it takes
/// to hand work to another thread and to be woken with the result. In seconds.
const BRIEF: f64 = 200e-6;

/// Times by the size of requests or messages, which tells powers of two apart.
#[derive(Debug)]
pub(crate) struct Times([Option<Time>; SIZES]);

/// How many sizes are told apart.
pub(super) const SIZES: usize = usize::BITS as usize + 1;

impl Default for Times {
    fn default() -> Self {
        Self([None; SIZES])
    }
}

#[derive(Debug, Clone, Copy)]
struct Time {
    executions: u32,
    /// Seconds, the newest first of all.
    usual: f64,
    /// Mean seconds of the last ones. One long execution among many is what the system does to any thread
    /// on a busy machine; work that is long by itself shows.
    mean: f64,
}

impl Times {
    /// A request of `bytes` bytes took so many seconds.
    pub(crate) fn observe(&mut self, bytes: usize, seconds: f64) {
        let time = self.0[size(bytes)].get_or_insert(Time {
            executions: 0,
            usual: seconds,
            mean: seconds,
        });
        time.executions = time.executions.saturating_add(1);
        time.usual += NEWEST * (seconds - time.usual);
        time.mean += (seconds - time.mean) / f64::from(time.executions.min(MEAN_OF));
    }

    /// Seconds that a request of `bytes` bytes takes, as others of nearly that size did.
    pub(super) fn usual(&self, bytes: usize) -> Option<f64> {
        let size = size(bytes);
        let known = self.0.iter().enumerate();
        let known = known.filter_map(|(at, time)| Some((at, time.as_ref()?.usual)));
        let nearest = known.min_by_key(|(at, _)| at.abs_diff(size));
        nearest.map(|(_, usual)| usual)
    }

    /// As [`usual`](Self::usual), where requests of that size, or of twice or half of it, are known.
    pub(super) fn near(&self, bytes: usize) -> Option<f64> {
        let size = size(bytes);
        let near = self.0.iter().enumerate();
        let mut near = near.filter(|(at, _)| at.abs_diff(size) <= 1);
        near.any(|(_, time)| time.is_some())
            .then(|| self.usual(bytes))
            .flatten()
    }

    /// Whether requests of this size, as far as is known, are over about as soon as another thread could
    /// begin with them.
    pub(crate) fn are_brief(&self, bytes: usize) -> bool {
        let brief = |time: &Time| time.executions >= BRIEF_AFTER && time.mean <= BRIEF;
        self.0[size(bytes)].as_ref().is_some_and(brief)
    }
}

/// The size of what is so many bytes long: the next power of two.
pub(super) fn size(bytes: usize) -> usize {
    (usize::BITS - bytes.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_apart() {
        let mut times = Times::default();
        assert_eq!(times.usual(100), None);
        times.observe(100, 1.0);
        times.observe(1 << 20, 50.0);
        assert_eq!(times.usual(120), Some(1.0));
        assert_eq!(times.usual(0), Some(1.0));
        assert_eq!(times.usual(usize::MAX), Some(50.0));
        assert_eq!(times.near(200), Some(1.0));
        assert_eq!(times.near(300), None);
    }

    #[test]
    fn what_is_long_in_the_mean_is_not_brief() {
        let mut times = Times::default();
        for _ in 0..BRIEF_AFTER {
            assert!(!times.are_brief(100));
            times.observe(100, BRIEF / 2.0);
        }
        assert!(times.are_brief(100) && !times.are_brief(200));
        times.observe(100, 4.0 * BRIEF);
        assert!(times.are_brief(100), "one is an accident");
        times.observe(100, 1000.0 * BRIEF);
        let until = (0..1000).position(|_| {
            times.observe(100, BRIEF / 2.0);
            times.are_brief(100)
        });
        assert!(until.is_some_and(|executions| executions > 20));
    }
}
