//! Seeded queues and traffic to measure plans by, and what a planner that knew the future would do.

mod clairvoyant;
mod online;
mod random;
#[cfg(test)]
mod tests;
mod traffic;

pub use clairvoyant::{optimum, upper_bound};
pub use online::{Outcome, serve};
pub use random::Random;
pub use traffic::{Arrivals, Traffic, contended_queue, profiles, without_choice};
