//! One group of writes after the other: checked, logged, shown.

use super::{
    Applied, Limits, LiveError, Snapshot, SourceOffset, Write,
    draft::Draft,
    follow::Followers,
    memory::{Done, Memory},
    queue::{Answer, Pending},
    resolve::resolve,
};
use std::sync::{Arc, PoisonError};

/// What only one thread at a time has.
#[derive(Debug)]
pub(super) struct Committer {
    limits: Limits,
    memory: Memory,
}

/// A group in the making.
struct Group {
    draft: Draft,
    /// What is to be remembered of its writes.
    memory: Memory,
    accepted: Vec<(Answer, Applied)>,
}

impl Committer {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            memory: Memory::default(),
        }
    }

    /// Does the writes of a group; each gets its answer.
    pub(super) fn commit(&mut self, pending: Vec<Pending>, followers: &Followers) {
        let mut group = Group {
            draft: Draft::new(followers.committed()),
            memory: Memory::default(),
            accepted: Vec::with_capacity(pending.len()),
        };
        for pending in pending {
            let answer = pending.answer();
            match self.accept(&pending, &mut group) {
                Ok(applied) => group.accepted.push((answer, applied)),
                Err(refused) => answer.give(Err(refused)),
            }
        }
        show(group.draft, followers);
        self.memory
            .extend(group.memory, self.limits.request_ids_max);
        for (answer, applied) in group.accepted {
            answer.give(Ok(applied));
        }
    }

    fn accept(&self, pending: &Pending, group: &mut Group) -> Result<Applied, LiveError> {
        let write = &pending.write;
        for memory in [&group.memory, &self.memory] {
            if let Some(applied) = memory.repeated(write, pending.checksum)? {
                return Ok(applied);
            }
        }
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

fn show(draft: Draft, followers: &Followers) {
    let finished = draft.finish();
    let snapshot: Snapshot = finished.snapshot;
    let mut ids = snapshot
        .base
        .new_ids
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    for (id, node) in finished.inserted {
        ids.insert(id, node);
    }
    drop(ids);
    followers.publish(Arc::new(snapshot), &finished.changes);
}
