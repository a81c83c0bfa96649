/// Who is told how far a long task has come. Tasks follow one another; none is inside another.
pub trait Progress: Sync {
    /// A task begins; `total` is the number of steps where it is known.
    fn start(&self, task: &str, total: Option<u64>);

    /// `by` more steps are done.
    fn advance(&self, by: u64);

    /// The task is done.
    fn finish(&self);
}

/// Nobody is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&self, _task: &str, _total: Option<u64>) {}

    fn advance(&self, _by: u64) {}

    fn finish(&self) {}
}
