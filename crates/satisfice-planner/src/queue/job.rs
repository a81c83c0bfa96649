use crate::{
    Error, INPUTS_LIMIT, Mix,
    error::checked,
    pareto,
    units::{self, Nanos, Value},
};

/// Most alternatives of one job.
const ALTERNATIVES_MAX: usize = 256;

/// Longest time of an alternative, in seconds.
const SECONDS_MAX: f64 = 1e7;

/// One way to answer a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub time: Nanos,
    /// Mean over the job's inputs.
    pub value: Value,
    /// Position among those given.
    pub index: u32,
}

/// The ways to answer one job, of which none is both dearer and less accurate than another. Each
/// meets the job's own minimum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternatives {
    /// Rising in time and value.
    steps: Vec<Step>,
    /// Positions of the corners of their hull.
    hull: Vec<u32>,
}

impl Alternatives {
    /// From (seconds, mean accuracy) of each, in any order. [`Choice`](crate::Choice) names them by
    /// their positions here; dominated ones are never chosen.
    ///
    /// # Errors
    /// Where there is none or over 256, or a number is not finite, a time not above 0 (or over
    /// 10 million seconds), or an accuracy not 0 to 1.
    pub fn new(alternatives: &[(f64, f64)]) -> Result<Self, Error> {
        if alternatives.is_empty() {
            return Err(Error::Nothing {
                what: "alternative",
            });
        }
        if alternatives.len() > ALTERNATIVES_MAX {
            return Err(Error::TooMany {
                what: "alternatives of a job",
                given: alternatives.len(),
                most: ALTERNATIVES_MAX,
            });
        }
        let mut steps = Vec::with_capacity(alternatives.len());
        for (index, &(seconds, accuracy)) in alternatives.iter().enumerate() {
            let name = |what| move || format!("the {what} of alternative {index}");
            checked(
                name("time"),
                seconds,
                "above 0 and at most 1e7 seconds",
                |v| v > 0.0 && v <= SECONDS_MAX,
            )?;
            checked(name("accuracy"), accuracy, "0 to 1", |v| {
                (0.0..=1.0).contains(&v)
            })?;
            steps.push(Step {
                time: units::nanos(seconds).max(1),
                value: units::value(accuracy),
                index: index as u32,
            });
        }
        steps.sort_by(|a, b| a.time.cmp(&b.time).then(b.value.cmp(&a.value)));
        let mut best = None;
        steps.retain(|step| {
            let better = best.is_none_or(|best| step.value > best);
            if better {
                best = Some(step.value);
            }
            better
        });
        let points: Vec<(Nanos, Value)> = steps.iter().map(|s| (s.time, s.value)).collect();
        let hull = pareto::hull(&points)
            .into_iter()
            .map(|at| at as u32)
            .collect();
        Ok(Self { steps, hull })
    }

    /// Those of [`FrontTable::alternatives`](crate::FrontTable::alternatives).
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn of(mixes: &[Mix]) -> Result<Self, Error> {
        let pairs: Vec<(f64, f64)> = mixes.iter().map(|m| (m.seconds, m.accuracy)).collect();
        Self::new(&pairs)
    }

    /// Number of alternatives that may be chosen, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Time of the cheapest, in seconds: what a job needs to be worth admitting.
    pub fn cheapest_seconds(&self) -> f64 {
        units::seconds(self.steps[0].time)
    }

    /// Mean accuracy of the one that stands at `position` among those given; 0 for one that is
    /// never chosen.
    pub fn accuracy(&self, position: usize) -> f64 {
        let step = self
            .steps
            .iter()
            .find(|step| step.index as usize == position);
        step.map_or(0.0, |step| units::share(step.value, 1))
    }

    /// The cheapest alone, or the most accurate one.
    pub(crate) fn only(&self, most_accurate: bool) -> Self {
        let at = if most_accurate { self.len() - 1 } else { 0 };
        Self {
            steps: vec![self.steps[at]],
            hull: vec![0],
        }
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(super) fn hull(&self) -> &[u32] {
        &self.hull
    }
}

/// A queued job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    id: u64,
    arrival: f64,
    inputs: usize,
    priority: i32,
    deadline: Option<f64>,
    alternatives: Alternatives,
}

impl Job {
    /// A job of `inputs` inputs that arrived at `arrival`, without a deadline and of priority 0.
    ///
    /// # Errors
    /// Where `inputs` is 0 or beyond [`INPUTS_LIMIT`], or `arrival` is not finite.
    pub fn new(
        id: u64,
        arrival: f64,
        inputs: usize,
        alternatives: Alternatives,
    ) -> Result<Self, Error> {
        if inputs == 0 {
            return Err(Error::Nothing { what: "input" });
        }
        if inputs > INPUTS_LIMIT {
            return Err(Error::TooMany {
                what: "inputs of a job",
                given: inputs,
                most: INPUTS_LIMIT,
            });
        }
        let arrival = checked(|| "a job's arrival".to_owned(), arrival, "finite", |_| true)?;
        Ok(Self {
            id,
            arrival,
            inputs,
            priority: 0,
            deadline: None,
            alternatives,
        })
    }

    /// The job with a time by which it has to be done.
    ///
    /// # Errors
    /// Where it is not finite.
    pub fn with_deadline(self, deadline: f64) -> Result<Self, Error> {
        let deadline = checked(
            || "a job's deadline".to_owned(),
            deadline,
            "finite",
            |_| true,
        )?;
        Ok(Self {
            deadline: Some(deadline),
            ..self
        })
    }

    /// The job in another class; higher ones are planned first.
    #[must_use]
    pub fn with_priority(self, priority: i32) -> Self {
        Self { priority, ..self }
    }

    pub(crate) fn with_alternatives(&self, alternatives: Alternatives) -> Self {
        Self {
            alternatives,
            ..self.clone()
        }
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// When it arrived.
    pub fn arrival(&self) -> f64 {
        self.arrival
    }

    /// Inputs in it, at least 1: what its accuracy counts.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Its class.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// By when it has to be done.
    pub fn deadline(&self) -> Option<f64> {
        self.deadline
    }

    /// The ways to answer it.
    pub fn alternatives(&self) -> &Alternatives {
        &self.alternatives
    }
}
