//! What requests take, by how long they are on the wire.

/// Weight of the newest execution in the usual time.
const NEWEST: f64 = 0.2;

/// What is left of the longest time with every execution after it.
const KEPT: f64 = 0.98;

/// Executions before it is believed that none takes long.
const BRIEF_AFTER: u32 = 16;

/// What an async thread may be kept from its other connections for: some times what it takes to hand work
/// to another thread and to be woken with the result. In seconds.
const BRIEF: f64 = 200e-6;

/// Times by the size of requests, which tells powers of two apart.
#[derive(Debug)]
pub(super) struct Times([Option<Time>; SIZES]);

const SIZES: usize = usize::BITS as usize + 1;

impl Default for Times {
    fn default() -> Self {
        Self([None; SIZES])
    }
}

#[derive(Debug, Clone, Copy)]
struct Time {
    executions: u32,
    /// Seconds.
    usual: f64,
    /// Seconds, of those that were executed lately.
    longest: f64,
}

impl Times {
    /// A request of `bytes` bytes took so many seconds.
    pub(super) fn observe(&mut self, bytes: usize, seconds: f64) {
        let time = self.0[size(bytes)].get_or_insert(Time {
            executions: 0,
            usual: seconds,
            longest: seconds,
        });
        time.executions = time.executions.saturating_add(1);
        time.usual += NEWEST * (seconds - time.usual);
        time.longest = seconds.max(KEPT * time.longest);
    }

    /// Seconds that a request of `bytes` bytes takes, as others of nearly that size did.
    pub(super) fn usual(&self, bytes: usize) -> Option<f64> {
        let size = size(bytes);
        let known = self.0.iter().enumerate();
        let known = known.filter_map(|(at, time)| Some((at, time.as_ref()?.usual)));
        let nearest = known.min_by_key(|(at, _)| at.abs_diff(size));
        nearest.map(|(_, usual)| usual)
    }

    /// Whether requests of this size, as far as is known, are over before another thread could begin with
    /// them.
    pub(super) fn are_brief(&self, bytes: usize) -> bool {
        let brief = |time: &Time| time.executions >= BRIEF_AFTER && time.longest <= BRIEF;
        self.0[size(bytes)].as_ref().is_some_and(brief)
    }
}

fn size(bytes: usize) -> usize {
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
    }

    #[test]
    fn one_that_was_long_is_remembered_for_a_while() {
        let mut times = Times::default();
        for _ in 0..BRIEF_AFTER {
            assert!(!times.are_brief(100));
            times.observe(100, BRIEF / 2.0);
        }
        assert!(times.are_brief(100) && !times.are_brief(200));
        times.observe(100, 2.0 * BRIEF);
        assert!(!times.are_brief(100));
        let until = (0..1000).position(|_| {
            times.observe(100, BRIEF / 2.0);
            times.are_brief(100)
        });
        assert!(until.is_some_and(|executions| executions > 20));
    }
}
