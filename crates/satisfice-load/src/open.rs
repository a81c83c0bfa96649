//! Open loops, over HTTP: jobs arrive when the traffic says so, whether or not earlier ones have been
//! answered; an answer's time counts from the moment its job should have been sent, and every job counts.
//!
//! - [`Traffic`] draws arrivals: Poisson or in bursts, by seed.
//! - [`Inputs`] are what jobs bring, with labels; [`Contract`] is what they ask for.
//! - [`run()`] sends the jobs; [`Summary`] counts what became of them.
//! - [`streams`] sends one request again and again, as raw HTTP.
//! - [`highest_rate`] searches for the load that a server just bears.
//! - [`Chart`] draws the result as SVG.

mod chart;
mod choice;
mod client;
mod http;
mod inputs;
mod run;
mod search;
mod summary;
mod traffic;

pub use chart::{Chart, Series};
pub use choice::{KnownPlan, at_arrival, cheapest};
pub use client::{Client, Reply};
pub use http::{Stream, streams};
pub use inputs::Inputs;
pub use run::{Answered, Contract, Job, Outcome, Unanswered, run};
pub use search::{Search, highest_rate};
pub use summary::{Right, Summary};
pub use traffic::{Arrival, Pattern, Traffic};
