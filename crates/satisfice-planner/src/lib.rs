//! Which way each queued job is answered, so that deadlines hold at the highest accuracy.
//!
//! Pure functions and small state machines: no I/O, no threads, no clock. Time is a number of
//! seconds since an epoch of the caller's choice, and comes in as an argument.
//!
//! 1. Offline, a [`FrontTable`] holds for every number of inputs the cheapest mixes of strategies:
//!    the whole front of (time, accuracy).
//! 2. Online, a [`Planner`] chooses for each queued [`Job`] one of its [`Alternatives`], and refuses
//!    at once what cannot be on time.
//! 3. When an executor is free, a [`Batcher`] forms its next batch.
//! 4. [`LatencyDrift`] and [`AccuracyAudit`] say when what was measured no longer holds.
//!
//! `docs/planning.md` has the mathematics.
//!
//! ```
//! use satisfice_planner::{Alternatives, FrontTable, Job, Planner, StrategyProfile};
//!
//! let text = StrategyProfile::new(0.80, 0.82, vec![0.001, 0.0015])?;
//! let both = StrategyProfile::new(0.92, 0.93, vec![0.010, 0.0180])?;
//! let table = FrontTable::new(&[text, both], &[0, 1], 16)?;
//!
//! // Ten inputs, 85 % of them right: at least five by both.
//! let mix = table.cheapest(10, 0.85)?.expect("0.85 can be reached");
//! assert_eq!(mix.inputs_by(1), 5);
//!
//! let mixes = table.alternatives(10, 0.85, 8)?;
//! let job = Job::new(7, 0.0, 10, Alternatives::of(&mixes)?)?.with_deadline(0.080)?;
//! let decision = Planner::default().plan(0.0, &[job], &[0.0])?;
//! let choice = decision.choices[0];
//! assert!(choice.end <= 0.080 && mixes[choice.alternative].accuracy > 0.85);
//! # Ok::<(), satisfice_planner::Error>(())
//! ```

mod audit;
mod batch;
mod cores;
mod drift;
mod error;
mod front;
mod guarantee;
mod pareto;
mod profile;
mod queue;
pub mod simulate;

mod split;
mod units;

pub use audit::AccuracyAudit;
pub use batch::{Batch, Batcher, Member, Next, Part};
pub use cores::{Claim, CoreTime, Turn, cores_for_short, share_out};
pub use drift::{LatencyDrift, Pace, Timing};
pub use error::Error;
pub(crate) use front::scrambled;
pub use front::{Front, FrontCache, FrontTable, INPUTS_LIMIT, Mix, Point, Run, STRATEGIES_MAX};
pub use guarantee::{AccuracyBalance, shortfall};
pub use profile::{BATCH_MAX, StrategyProfile};
pub use queue::{Alternatives, Choice, Decision, Job, Limits, Planner};
