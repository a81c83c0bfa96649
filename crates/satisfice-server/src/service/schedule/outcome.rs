//! What comes of a lane's tasks.

use super::{
    audit::{Finding, InputsSample, Sample},
    fronts::Fronts,
    inputs::Inputs,
    job::{Job, Key, Pending, Reply},
    lane::{Lane, Started, alternatives},
    record::{Length, Records, agreement},
    task::{Ended, Model, Outcome, Ran},
};
use satisfice_core::{Error, Measure, PartOutputs, Strategy};
use satisfice_planner::{FrontTable, Timing};
use std::{ops::Range, sync::Arc, time::Instant};

/// Seconds of execution after which fronts are looked at whether they are stale.
const FRONTS_AGE_MAX: f64 = 0.5;

/// Share of the execution that building fronts may take.
const FRONTS_SHARE_MAX: f64 = 0.02;

/// What is to be done about an outcome, off the lock.
#[derive(Default)]
pub(super) struct After {
    /// Answers to put together and send.
    pub ready: Vec<Ready>,
    /// Something to learn from.
    pub sample: Option<Sample>,
    /// More is known of the strategies.
    pub refront: Option<Refront>,
}

/// A job of which every input was answered.
pub(super) struct Ready {
    inputs: Box<Inputs>,
    reply: Reply,
    model: Model,
    fronts: Arc<Fronts>,
    sampled: bool,
}

/// New fronts to be built, with the tables that queued jobs need.
pub(super) struct Refront {
    records: Records,
    tables: Vec<TableKey>,
}

/// What a table is of: a measure, strategies and the most inputs.
type TableKey = (Option<Measure>, Vec<usize>, usize);

/// New fronts.
pub(super) struct Refronted {
    pub fronts: Arc<Fronts>,
    /// Seconds that it took to build them.
    seconds: f64,
    tables: Vec<(Option<Measure>, Vec<usize>, Arc<FrontTable>)>,
}

impl Lane {
    /// Takes in what came of a task that took `seconds`, and was predicted to take `predicted`.
    pub(super) fn take_in(
        &mut self,
        outcome: Outcome,
        seconds: f64,
        predicted: Option<f64>,
    ) -> After {
        match outcome {
            Outcome::Whole {
                plan,
                bytes,
                ended,
                sample,
            } => {
                if let (Ended::Answered, Some(predicted)) = (ended, predicted) {
                    self.was_predicted(predicted, seconds);
                }
                let says_something = match ended {
                    Ended::Answered => true,
                    Ended::Stopped => predicted.is_some_and(|predicted| predicted < seconds),
                    Ended::Failed => false,
                };
                if says_something {
                    self.timed(plan, bytes, seconds);
                }
                After {
                    sample,
                    ..After::default()
                }
            }
            Outcome::Batch {
                strategy,
                plan,
                parts,
                ran,
            } => {
                let inputs = parts.iter().map(|(_, range, _)| range.len()).sum();
                let ready = self.take_in_parts(strategy, parts);
                let after = self.take_in_time(&plan, self.timing(strategy, inputs, ran, seconds));
                After { ready, ..after }
            }
            Outcome::Audit(None) => After::default(),
            Outcome::Audit(Some(finding)) => self.take_in_finding(finding),
        }
    }

    fn timed(&mut self, plan: Option<(String, f64)>, bytes: usize, seconds: f64) {
        match plan {
            None => self.times.observe(bytes, seconds),
            Some((plan, profiled)) => {
                let timing = Timing {
                    planned: profiled,
                    work: profiled,
                    observed: seconds,
                };
                if self.records.timed(&plan, timing, Length::of(profiled)) {
                    self.renew_options();
                }
            }
        }
    }

    fn take_in_finding(&mut self, finding: Finding) -> After {
        let mut broken = false;
        for (plan, promised, agreed) in finding {
            let record = self.records.of(&plan);
            if record.is_some_and(|record| record.audited(promised, &agreed)) {
                tracing::warn!(
                    model = &*self.model.name,
                    plan,
                    "audits find less than was promised, less is promised from now on"
                );
                broken = true;
            }
        }
        match broken {
            true => self.renew(),
            false => After::default(),
        }
    }

    /// Has queued jobs planned by what is now known.
    fn renew(&mut self) -> After {
        if self.fronts.is_none() {
            self.renew_options();
            return After::default();
        }
        self.fronts_due = FRONTS_AGE_MAX;
        let mut tables: Vec<TableKey> = Vec::new();
        for job in self.queue.values() {
            if let Pending::Inputs(inputs) = &job.task {
                // No smaller than now: a job that comes meanwhile may be as large as one before.
                let ((measure, available), count) = (inputs.table_key(), inputs.table_inputs());
                let mut known = tables.iter_mut();
                match known.find(|known| known.0 == measure && known.1 == available) {
                    Some(known) => known.2 = known.2.max(count),
                    None => tables.push((measure, available.to_vec(), count)),
                }
            }
        }
        After {
            refront: Some(Refront {
                records: self.records.clone(),
                tables,
            }),
            ..After::default()
        }
    }

    fn renew_options(&mut self) {
        for key in self.queue.keys().copied().collect::<Vec<Key>>() {
            let Some(mut job) = self.leave(key) else {
                continue;
            };
            match self.renewed(&mut job) {
                Ok(()) => self.enqueue(job),
                Err(error) => job.reply.send(Err(error)),
            }
        }
    }

    fn renewed(&self, job: &mut Job) -> Result<(), Error> {
        let Pending::Whole { whole, options } = &mut job.task else {
            return Ok(());
        };
        if whole.offers.is_empty() {
            return Ok(());
        }
        *options = whole.options(&job.contract, self.admission.spare_time, &self.records)?;
        let usual = self.usual(job.reply.ticket.bytes());
        let alternatives = self.paced(options.alternatives(&job.contract, usual));
        job.replan(1, &alternatives);
        Ok(())
    }

    /// Plans by new fronts from now on.
    pub(super) fn refronted(&mut self, new: Refronted) {
        let Refronted {
            fronts,
            seconds,
            tables,
        } = new;
        self.fronts_due = self.fronts_due.max(seconds / FRONTS_SHARE_MAX);
        for key in self.queue.keys().copied().collect::<Vec<Key>>() {
            let Some(mut job) = self.leave(key) else {
                continue;
            };
            if let Pending::Inputs(inputs) = &mut job.task {
                let key = inputs.table_key();
                if let Some((_, _, table)) = tables.iter().find(|(m, a, _)| (*m, &**a) == key) {
                    let table = Arc::clone(table);
                    inputs.use_table(table);
                }
                inputs.replan(&fronts);
                let (waiting, alternatives) = (inputs.waiting(), alternatives(inputs));
                job.replan(waiting, &alternatives);
            }
            self.enqueue(job);
        }
        self.fronts = Some(fronts);
    }

    fn take_in_parts(
        &mut self,
        strategy: usize,
        parts: Vec<(Key, Range<usize>, PartOutputs)>,
    ) -> Vec<Ready> {
        let parts = parts.into_iter();
        parts
            .filter_map(|(key, range, outputs)| self.take_in_part(key, strategy, range, outputs))
            .collect()
    }

    /// What is known of the time of a batch; nothing where it says nothing of the profile's.
    fn timing(&self, strategy: usize, inputs: usize, ran: Ran, observed: f64) -> Option<Timing> {
        let strategy = self.model.engine.batching()?.strategies().get(strategy)?;
        let planned = *strategy.seconds.get(inputs.checked_sub(1)?)?;
        match ran {
            Ran::Apart => None,
            Ran::Once(work) => Some(Timing {
                planned,
                work: work.unwrap_or(planned),
                observed,
            }),
        }
    }

    /// Plans by new times at once where they have become quite other ones, and now and then where
    /// they have changed: fronts show all times as they were at one moment, which a strategy that then
    /// happened to look dear would not outlive.
    fn take_in_time(&mut self, plan: &str, timing: Option<Timing>) -> After {
        let Some(timing) = timing else {
            return After::default();
        };
        let noticed = self.records.timed(plan, timing, Length::ANY);
        self.fronts_due -= timing.observed;
        let fronts = self.fronts.as_ref();
        let may_be_stale = self.fronts_due < 0.0;
        if noticed || may_be_stale && fronts.is_some_and(|f| f.are_stale(&self.records)) {
            self.renew()
        } else {
            After::default()
        }
    }

    /// Takes in what a batch did for one job. The job is gone if nobody waits for it any more, or
    /// another part of it failed.
    fn take_in_part(
        &mut self,
        key: Key,
        strategy: usize,
        range: Range<usize>,
        outputs: PartOutputs,
    ) -> Option<Ready> {
        let inputs = match self.started.get_mut(&key) {
            Some(started) => &mut started.inputs,
            None => match &mut self.queue.get_mut(&key)?.task {
                Pending::Inputs(inputs) => inputs,
                Pending::Whole { .. } => return None,
            },
        };
        let taken = outputs.and_then(|outputs| inputs.finish(strategy, range, outputs));
        let finished = inputs.is_finished();
        if let Err(error) = taken {
            let queued = self.leave(key).map(|job| job.reply);
            let started = self.started.remove(&key).map(|started| started.reply);
            if let Some(reply) = queued.or(started) {
                reply.send(Err(error));
            }
            return None;
        }
        if !finished {
            return None;
        }
        let Started { inputs, reply } = self.started.remove(&key)?;
        Some(Ready {
            inputs,
            reply,
            model: self.model.clone(),
            fronts: Arc::clone(self.fronts.as_ref()?),
            sampled: self.is_sampled(key.1),
        })
    }
}

impl Ready {
    /// Puts the answer together and sends it.
    pub(super) fn send(mut self) -> Option<Sample> {
        let answer = self.inputs.answer(&self.fronts);
        let mut sample = None;
        if let Ok(response) = &answer {
            self.model.stats.answered_by(response);
            if self.sampled {
                let bytes = self.reply.ticket.bytes();
                sample = self
                    .sample()
                    .map(|sample| Sample::inputs(sample, response, bytes));
            }
        }
        self.reply.send(answer);
        sample
    }

    fn sample(&self) -> Option<InputsSample> {
        let job = self.inputs.job();
        let strategies = self.model.engine.batching()?.strategies();
        let single = |at: usize| strategies[at].seconds.first().copied().unwrap_or(0.0);
        let by_time = |a: &&usize, b: &&usize| single(**a).total_cmp(&single(**b));
        let dearest = *job.strategies.iter().max_by(by_time)?;
        let promised =
            |strategy: &Strategy| agreement(&strategy.quality, &strategies[dearest].quality);
        let answered: Vec<(String, f64, Range<usize>)> = self
            .inputs
            .answered()
            .filter(|(strategy, _)| *strategy != dearest)
            .filter_map(|(strategy, range)| {
                let strategy = &strategies[strategy];
                Some((strategy.name.clone(), promised(strategy)?, range))
            })
            .collect();
        (!answered.is_empty()).then(|| InputsSample {
            job: Arc::clone(job),
            dearest,
            batch_max: strategies[dearest].seconds.len(),
            answered,
        })
    }
}

impl Refront {
    /// Builds the fronts; takes its time.
    pub(super) fn build(
        self,
        model: &Model,
        delay: std::time::Duration,
        executors: usize,
    ) -> Option<Refronted> {
        let start = Instant::now();
        let strategies = model.engine.batching()?.strategies();
        let fronts = Fronts::new(strategies, &self.records, delay, executors)
            .inspect_err(|error| tracing::warn!(model = &*model.name, %error, "no new fronts"))
            .ok()?;
        let table = |(measure, available, inputs): TableKey| {
            let table = fronts.table(measure, &available, inputs).ok()?;
            Some((measure, available, table))
        };
        let tables = self.tables.into_iter().filter_map(table).collect();
        Some(Refronted {
            fronts: Arc::new(fronts),
            seconds: start.elapsed().as_secs_f64(),
            tables,
        })
    }
}
