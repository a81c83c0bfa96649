//! Many models on a machine whose time is counted, not lived: the state machine itself, with executions that take what
//! they are said to take on the cores that they are granted.

mod many;
mod turns;

use super::{
    super::{Admission, Stats, contract::Contract, room::Room},
    job::{Answer, Reply, Work},
    state::{Next, State},
    task::{Done, Ended, LaneId, Model, Outcome, Task, TaskWork},
    whole::Whole,
};
use satisfice_core::{
    Engine, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata, Parameter, Usage,
};
use satisfice_planner::{CoreTime, simulate::Random};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// An engine that is never asked: its executions are counted.
struct Counted {
    metadata: ModelMetadata,
    shares: bool,
}

impl Engine for Counted {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn infer(&self, _: &InferRequest) -> Result<InferResponse, Error> {
        Err(Error::new(ErrorKind::Internal, "counted", ""))
    }

    fn shares_cores(&self) -> bool {
        self.shares
    }
}

/// What a request asks for, times in seconds.
#[derive(Debug, Clone, Copy)]
struct Ask {
    /// What it takes; requests of other lengths are not taken for alike.
    serial: f64,
    parallel: f64,
    bytes: usize,
    /// From its arrival.
    deadline: Option<f64>,
}

impl Ask {
    fn time(self) -> CoreTime {
        CoreTime::new(self.serial, self.parallel)
    }

    fn due(self, deadline: f64) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }
}

/// What became of a request: when it was sent, begun and ended, in seconds, and its error, if it has one.
#[derive(Debug, Clone)]
struct Fate {
    ask: Ask,
    sent: f64,
    begun: Option<f64>,
    ended: Option<f64>,
    error: Option<&'static str>,
}

impl Fate {
    fn took(&self) -> f64 {
        self.ended.map_or(f64::INFINITY, |ended| ended - self.sent)
    }

    /// Answered, and by its deadline.
    fn is_kept(&self) -> bool {
        self.error.is_none()
            && self
                .ask
                .deadline
                .is_none_or(|due| self.took() <= due + 1e-9)
    }
}

/// An execution.
struct Run {
    task: Box<Task>,
    request: usize,
    time: CoreTime,
    serial: f64,
    parallel: f64,
    begun: f64,
    /// Seconds on one core that are left.
    left: f64,
    awake: f64,
}

struct Machine {
    state: State,
    epoch: Instant,
    now: f64,
    lanes: Vec<(LaneId, Room)>,
    fates: Vec<Fate>,
    waiting: Vec<(usize, oneshot::Receiver<Answer>)>,
    runs: Vec<Run>,
    /// When the state wants to be asked again.
    until: Option<f64>,
    /// Most core seconds ever granted at once beyond the cores.
    over: usize,
    cores: usize,
    /// How much executions vary: the standard deviation of the logarithm of their times.
    varies: f64,
    random: Random,
}

impl Machine {
    /// Of some cores, for models of which it is said whether they share cores.
    fn new(cores: usize, models: &[bool]) -> Self {
        let epoch = Instant::now();
        let mut state = State::new(cores, epoch);
        let admission = Admission {
            executing_max: cores.max(2),
            audit_share: 0.0,
            ..Admission::default()
        };
        let lanes = models.iter().map(|&shares| {
            let model = Model {
                name: "counted".into(),
                engine: Arc::new(Counted {
                    metadata: ModelMetadata {
                        platform: String::new(),
                        inputs: Vec::new(),
                        outputs: Vec::new(),
                    },
                    shares,
                }),
                stats: Arc::new(Stats::default()),
            };
            (state.open(model, admission), Room::new(admission))
        });
        let lanes = lanes.collect();
        Self {
            state,
            epoch,
            now: 0.0,
            lanes,
            fates: Vec::new(),
            waiting: Vec::new(),
            runs: Vec::new(),
            until: None,
            over: 0,
            cores,
            varies: 0.0,
            random: Random::new(1),
        }
    }

    fn instant(&self) -> Instant {
        self.epoch + Duration::from_secs_f64(self.now)
    }

    /// Sends a request to a model; its number.
    fn send(&mut self, model: usize, ask: Ask) -> usize {
        let number = self.fates.len();
        let now = self.instant();
        let (lane, room) = &self.lanes[model];
        let lane = *lane;
        let deadline = ask.deadline.map(|left| now + Duration::from_secs_f64(left));
        let mut fate = Fate {
            ask,

            sent: self.now,
            begun: None,
            ended: None,
            error: None,
        };
        let (sender, answer) = oneshot::channel();
        let request = InferRequest {
            parameters: [("number".to_owned(), Parameter::Int(number as i64))].into(),
            cores: satisfice_core::Cores::lent(None),
            ..InferRequest::default()
        };
        let admitted = room.enter(ask.bytes).and_then(|ticket| {
            let reply = Reply {
                sender,
                ticket,
                deadline,
                record: Arc::default(),
            };
            let contract = Contract {
                deadline,
                ..Contract::default()
            };
            let work = Work::Whole(Whole::plain(request));
            self.state.admit(lane, work, contract, reply, now)
        });
        match admitted {
            Ok(_) => self.waiting.push((number, answer)),
            Err(error) => {
                fate.error = Some(error.code());
                fate.ended = Some(self.now);
            }
        }
        self.fates.push(fate);
        self.pump();
        number
    }

    /// Begins what may begin.
    fn pump(&mut self) {
        loop {
            match self.state.next(self.instant()) {
                Next::Run(task) => self.begin(task),
                Next::Sleep(until) => {
                    self.until = until.map(|until| until.duration_since(self.epoch).as_secs_f64());
                    break;
                }
                Next::Stop => break,
            }
        }
        let running = self.state.running.iter().map(|run| run.granted);
        self.over = self
            .over
            .max(running.sum::<usize>().saturating_sub(self.cores));
        self.hear();
    }

    fn begin(&mut self, task: Box<Task>) {
        let TaskWork::Whole(whole) = &task.work else {
            panic!("nothing else is sent");
        };
        let number = match whole.request.parameters.get("number") {
            Some(&Parameter::Int(number)) => number as usize,
            _ => panic!("every request has a number"),
        };
        self.fates[number].begun = Some(self.now);
        let Ask {
            serial, parallel, ..
        } = self.fates[number].ask;
        let normal: f64 = (0..12).map(|_| self.random.unit()).sum::<f64>() - 6.0;
        let longer = (self.varies * normal).exp();
        let (serial, parallel) = (longer * serial, longer * parallel);
        let time = CoreTime::new(serial, parallel);
        self.runs.push(Run {
            task,
            request: number,
            time,
            serial,
            parallel,
            begun: self.now,
            left: time.seconds(1),
            awake: 0.0,
        });
    }

    /// Takes in what was answered without having been executed.
    fn hear(&mut self) {
        let now = self.now;
        let fates = &mut self.fates;
        self.waiting
            .retain_mut(|(number, answer)| match answer.try_recv() {
                Ok(Err(error)) => {
                    fates[*number].error = Some(error.code());
                    fates[*number].ended = Some(now);
                    false
                }
                Ok(Ok(_)) => false,
                Err(_) => true,
            });
    }

    fn granted(&self, run: &Run) -> usize {
        let mut running = self.state.running.iter();
        let running = running.find(|running| running.run == run.task.run);
        running.map_or(0, |running| running.granted)
    }

    /// Goes on until then.
    fn advance(&mut self, to: f64) {
        loop {
            let ends = |run: &Run| {
                let speed = run.time.speed(self.granted(run));
                if speed > 0.0 {
                    self.now + run.left / speed
                } else {
                    f64::INFINITY
                }
            };
            let first = self
                .runs
                .iter()
                .enumerate()
                .map(|(at, run)| (ends(run), at));
            let first = first.min_by(|a, b| a.0.total_cmp(&b.0));
            let end = first.map_or(f64::INFINITY, |(end, _)| end);
            let turn = self.until.unwrap_or(f64::INFINITY).max(self.now);
            let next = end.min(turn).min(to);
            let passed = next - self.now;
            let granted: Vec<usize> = self.runs.iter().map(|run| self.granted(run)).collect();
            for (run, granted) in self.runs.iter_mut().zip(granted) {
                if granted > 0 {
                    run.awake += passed;
                    run.left -= passed * run.time.speed(granted);
                }
            }
            self.now = next;
            let stopped = self.runs.iter().position(|run| run.task.cores.is_stopped());
            match (stopped, first) {
                (Some(at), _) => self.end(at, false),
                (None, Some((end, at))) if end <= next => self.end(at, true),
                _ if next >= to => return,
                _ => {}
            }
            self.pump();
        }
    }

    fn end(&mut self, at: usize, answered: bool) {
        let run = self.runs.swap_remove(at);
        let Fate { ask, .. } = self.fates[run.request];
        let seconds = self.now - run.begun;
        let share = 1.0 - (run.left / run.time.seconds(1)).clamp(0.0, 1.0);
        let own = (run.awake - share * run.serial).max(0.0);
        let time = Duration::from_secs_f64;
        let done = Done {
            lane: run.task.lane,
            run: run.task.run,
            seconds,
            usage: Usage {
                own: time(own),
                helped: time((share * run.parallel - own).max(0.0)),
                asleep: time((seconds - run.awake).max(0.0)),
            },
            outcome: Outcome::Whole {
                plan: None,
                bytes: ask.bytes,
                ended: match answered {
                    true => Ended::Answered,
                    false => Ended::Stopped,
                },
                sample: None,
            },
        };
        let fate = &mut self.fates[run.request];
        fate.ended = Some(self.now);
        fate.error = (!answered).then_some("deadline_exceeded");
        let now = self.instant();
        if let (true, TaskWork::Whole(whole)) = (answered, run.task.work) {
            whole.reply.send(Ok(InferResponse::default()));
        }
        self.state.finish(done, now);
    }

    /// Has it known what a request takes: runs one to its end.
    fn learn(&mut self, model: usize, ask: Ask) {
        for _ in 0..3 {
            let number = self.send(
                model,
                Ask {
                    deadline: None,
                    ..ask
                },
            );
            self.advance(self.now + 1000.0);
            assert!(self.fates[number].ended.is_some());
        }
    }

    /// Clients that send again as soon as they are answered, and a little later when they are refused, for some
    /// seconds: how many answers are in time.
    fn closed(&mut self, clients: usize, (model, ask): (usize, Ask), seconds: f64) -> usize {
        const AGAIN: f64 = 0.005;
        let (from, until) = (self.fates.len(), self.now + seconds);
        let mut clients: Vec<(f64, Option<usize>)> = vec![(self.now, None); clients];
        while self.now < until {
            for (at, asked) in &mut clients {
                if let Some(fate) = asked
                    .map(|asked| &self.fates[asked])
                    .filter(|f| f.ended.is_some())
                {
                    *at = self.now + if fate.error.is_some() { AGAIN } else { 0.0 };
                    *asked = None;
                }
            }
            for (at, asked) in &mut clients {
                if asked.is_none() && *at <= self.now {
                    *asked = Some(self.send(model, ask));
                }
            }
            self.advance(self.now + 0.001);
        }
        let kept = self.fates[from..].iter();
        kept.filter(|fate| fate.ended.is_some_and(|end| end <= until) && fate.is_kept())
            .count()
    }
}
