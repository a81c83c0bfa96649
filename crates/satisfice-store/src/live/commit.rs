//! One group of writes after the other: checked, logged, shown.

use super::{
    Applied, Limits, LiveError, SourceOffset, Write,
    draft::Draft,
    follow::Followers,
    log::Log,
    memory::{Done, Memory},
    queue::{Answer, Pending},
    resolve::resolve,
};
use std::sync::Arc;

/// What only one thread at a time has.
#[derive(Debug)]
pub(super) struct Committer {
    limits: Limits,
    log: Log,
    memory: Memory,
}

/// A group in the making.
struct Group {
    draft: Draft,
    /// What is to be remembered of its writes.
    memory: Memory,
    /// Its writes, which the log is to have.
    writes: Vec<Pending>,
    /// What is answered once the log has them.
    answers: Vec<(Answer, Applied)>,
}

impl Committer {
    pub(super) fn new(limits: Limits, log: Log, memory: Memory) -> Self {
        Self {
            limits,
            log,
            memory,
        }
    }

    /// Does the writes of a group; each gets its answer.
    pub(super) fn commit(&mut self, pending: Vec<Pending>, followers: &Followers) {
        let committed = followers.committed();
        let full = self.full(committed.patch_bytes());
        let mut group = Group {
            draft: Draft::new(committed),
            memory: Memory::default(),
            writes: Vec::with_capacity(pending.len()),
            answers: Vec::with_capacity(pending.len()),
        };
        for pending in pending {
            self.take(pending, full.as_ref(), &mut group);
        }
        let logged = self.log(&group);
        if logged.is_ok() && !group.writes.is_empty() {
            show(group.draft, followers);
            self.memory
                .extend(group.memory, self.limits.request_ids_max);
        }
        for (answer, applied) in group.answers {
            answer.give(logged.clone().map(|()| applied));
        }
    }

    fn log(&mut self, group: &Group) -> Result<(), LiveError> {
        if group.writes.is_empty() {
            return Ok(());
        }
        let entries = group
            .writes
            .iter()
            .map(|pending| (&pending.write, &*pending.encoded));
        self.log.append(group.draft.version(), entries)
    }

    /// Does a write in the group's draft, or answers it.
    fn take(&self, pending: Pending, full: Option<&LiveError>, group: &mut Group) {
        let answer = pending.answer();
        match self.memory.repeated(&pending.write, pending.checksum) {
            Ok(None) => {}
            Ok(Some(applied)) => return answer.give(Ok(applied)),
            Err(refused) => return answer.give(Err(refused)),
        }
        match group.memory.repeated(&pending.write, pending.checksum) {
            Ok(None) => {}
            Ok(Some(applied)) => return group.answers.push((answer, applied)),
            Err(refused) => return answer.give(Err(refused)),
        }
        let applied = match full {
            Some(full) => Err(full.clone()),
            None => self.apply(&pending, group),
        };
        match applied {
            Ok(applied) => {
                group.answers.push((answer, applied));
                group.writes.push(pending);
            }
            Err(refused) => answer.give(Err(refused)),
        }
    }

    fn apply(&self, pending: &Pending, group: &mut Group) -> Result<Applied, LiveError> {
        let write = &pending.write;
        if let Some(expected) = write.if_version
            && expected != group.draft.version()
        {
            return Err(LiveError::VersionMoved {
                expected,
                found: group.draft.version(),
            });
        }
        self.check_source(write, group)?;
        let effects = resolve(&write.operations, &group.draft, &self.limits)?;
        let done = Done {
            operations: pending.checksum,
            applied: group.draft.apply(effects),
        };
        group.memory.remember(write, done, usize::MAX);
        Ok(done.applied)
    }

    /// Why no write is taken before the graph is compacted.
    fn full(&self, patch_bytes: u64) -> Option<LiveError> {
        let filled = [
            ("log", self.log.bytes(), self.limits.log_bytes_max),
            (
                "changes in memory",
                patch_bytes,
                self.limits.patch_bytes_max,
            ),
        ];
        let (what, bytes, max) = filled.into_iter().find(|&(_, bytes, max)| bytes >= max)?;
        Some(LiveError::Full { what, bytes, max })
    }

    /// Refuses a new source where no more fit.
    fn check_source(&self, write: &Write, group: &Group) -> Result<(), LiveError> {
        let Some(SourceOffset { source, .. }) = &write.offset else {
            return Ok(());
        };
        let memories = [&self.memory, &group.memory];
        let kept = memories
            .iter()
            .map(|memory| memory.sources())
            .sum::<usize>();
        if kept < self.limits.sources_max
            || memories.iter().any(|memory| memory.knows_source(source))
        {
            return Ok(());
        }
        Err(LiveError::Sources {
            source_name: source.clone(),
            max: self.limits.sources_max,
        })
    }
}

/// Shows what a draft has come to.
fn show(draft: Draft, followers: &Followers) {
    let finished = draft.finish();
    finished.make_known();
    followers.publish(Arc::new(finished.snapshot), &finished.changes);
}
