use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether anybody still waits for an answer: clones share one state. By default somebody always does.
#[derive(Debug, Clone, Default)]
pub struct Cancellation(Option<Arc<AtomicBool>>);

impl Cancellation {
    /// One that can be canceled.
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// Nobody waits any more.
    pub fn cancel(&self) {
        if let Some(canceled) = &self.0 {
            canceled.store(true, Ordering::Relaxed);
        }
    }

    /// Whether nobody waits any more.
    pub fn is_canceled(&self) -> bool {
        let canceled = self.0.as_ref();
        canceled.is_some_and(|canceled| canceled.load(Ordering::Relaxed))
    }
}

/// All are equal: who waits for an answer is no part of what is asked.
impl PartialEq for Cancellation {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_canceled_together() {
        let one = Cancellation::new();
        let other = one.clone();
        assert!(!other.is_canceled());
        one.cancel();
        assert!(other.is_canceled());
        let never = Cancellation::default();
        never.cancel();
        assert!(!never.is_canceled());
    }
}
