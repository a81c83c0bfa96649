//! Batches out of the inputs that wait in a lane.

use super::{
    fronts::Fronts,
    job::{Key, Pending},
    lane::{Clock, Head, Lane, Planned, Ready, Started, What, alternatives},
    task::{BatchTask, Member, Task, TaskWork},
};
use satisfice_planner::{self as planner, CoreTime, Next};
use std::sync::Arc;

/// A batch that could be executed, and whose parts are in it.
pub(super) struct Formed {
    batch: planner::Batch,
    keys: Vec<Key>,
}

impl Lane {
    /// The batch that is to be executed next.
    pub(super) fn next_batch(&mut self, fronts: &Fronts, clock: Clock<'_>) -> Head {
        let order = self.order(clock);
        let mut parts = Vec::new();
        let mut keys = Vec::new();
        for Planned { key, choice, .. } in order {
            let Some(job) = self.queue.get(&key) else {
                continue;
            };
            let Pending::Inputs(inputs) = &job.task else {
                continue;
            };
            let Some(mix) = inputs.mixes().get(choice) else {
                continue;
            };
            let mut strategies: Vec<usize> = mix.runs.iter().map(|run| run.strategy).collect();
            strategies.dedup();
            for strategy in strategies {
                keys.push(key);
                parts.push(planner::Part {
                    strategy,
                    inputs: mix.inputs_by(strategy),
                    deadline: job.planned.deadline(),
                    ready: job.planned.arrival(),
                });
            }
        }
        match fronts.batcher.next(clock.seconds, &parts) {
            Ok(Next::Run(batch)) => {
                let due = batch.members.iter().filter_map(|m| parts[m.part].deadline);
                Head::Ready(Ready {
                    shares: false,
                    time: Some(CoreTime::new(batch.seconds, 0.0)),
                    deadline: due.min_by(f64::total_cmp),
                    what: What::Batch(Formed { batch, keys }),
                })
            }
            Ok(Next::WaitUntil(until)) => Head::Later(until),
            Ok(Next::Idle) => Head::Nothing,
            Err(error) => {
                tracing::error!(model = &*self.model.name, %error, "no batch");
                Head::Nothing
            }
        }
    }

    pub(super) fn start_batch(&mut self, fronts: &Fronts, formed: Formed) -> Task {
        let Formed { batch, keys } = formed;
        let mut members = Vec::new();
        for member in &batch.members {
            self.start(
                keys[member.part],
                batch.strategy,
                member.inputs,
                fronts,
                &mut members,
            );
        }
        self.task(
            Some(batch.seconds),
            TaskWork::Batch(BatchTask {
                strategy: batch.strategy,
                plan: fronts.strategies()[batch.strategy].name.clone(),
                members,
            }),
        )
    }

    /// Starts `count` inputs of a job.
    fn start(
        &mut self,
        key: Key,
        strategy: usize,
        count: usize,
        fronts: &Fronts,
        members: &mut Vec<Member>,
    ) {
        let Some(mut job) = self.leave(key) else {
            return;
        };
        let Pending::Inputs(inputs) = &mut job.task else {
            return;
        };
        for range in inputs.start(strategy, count) {
            members.push(Member {
                key,
                job: Arc::clone(inputs.job()),
                inputs: range,
                queued: job.queued,
                record: Arc::clone(&job.reply.record),
            });
        }
        if inputs.waiting() > 0 {
            inputs.replan(fronts);
            let (waiting, alternatives) = (inputs.waiting(), alternatives(inputs));
            job.replan(waiting, &alternatives);
            self.enqueue(job);
        } else if let Pending::Inputs(inputs) = job.task {
            let reply = job.reply;
            self.started.insert(key, Started { inputs, reply });
        }
    }
}
