//! What a lane's executions take on some cores, beside others, and how well that is known.

use super::lane::Lane;
use satisfice_planner::CoreTime;

/// The parts of a lane's time that its newest execution makes up.
const NEWEST: f64 = 0.1;

/// Of how far executions are from their predicted times, how much a plan allows for: an answer that is late has cost as
/// much as one that is kept, a refusal nothing.
const SAFETY: f64 = 1.5;

/// The most that one execution counts for in how far they are.
const ASTRAY_MAX: f64 = 0.7;

impl Lane {
    /// What a request of `bytes` bytes takes that takes `seconds` on all cores.
    pub(super) fn time(&self, bytes: usize, seconds: f64) -> CoreTime {
        match self.shares {
            true => CoreTime::on(self.cores, seconds, self.serial.usual(bytes).unwrap_or(0.0)),
            false => CoreTime::new(seconds, 0.0),
        }
    }

    /// A request of `bytes` bytes took so long on one core, and so long on cores that it could share.
    pub(super) fn took(&mut self, bytes: usize, time: CoreTime) {
        let (all, serial) = (time.seconds(self.cores), time.seconds(usize::MAX));
        if all > 0.0 {
            self.serial.observe(bytes, serial / all);
        }
        let (one, of) = &mut self.pace;
        *one += NEWEST * (serial - *one);
        *of += NEWEST * (all - *of);
    }

    /// How many executions of the lane go side by side, on how many cores each, and how much longer each takes than on all,
    /// with `more` than there are.
    pub(super) fn beside(&self, more: usize) -> (usize, usize, f64) {
        if !self.shares {
            return (self.cores, 1, 1.0);
        }
        let (serial, all) = self.pace;
        let share = if all > 0.0 { serial / all } else { 0.0 };
        let time = CoreTime::on(self.cores, 1.0, share);
        let wanted = self.executing + self.queue.len() + more;
        let wanted = wanted.clamp(1, self.admission.executing_max.max(1));
        let several = wanted.min(self.cores / time.efficient(self.cores));
        let width = (self.cores / several).min(time.useful(self.cores));
        (several, width, time.seconds(width))
    }

    /// Alternatives as long as they take beside others of the lane, and beside what does not give way to it; but for the
    /// cheapest, with what predictions may be wrong by: an answer that might be late is no better one.
    pub(super) fn paced(&self, mut alternatives: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
        if !self.shares {
            return alternatives;
        }
        let times = alternatives.iter().map(|&(seconds, _)| seconds);
        let cheapest = times.fold(f64::INFINITY, f64::min);
        let (longer, safely) = (self.longer(), self.beside_others() * self.margin());
        for (seconds, _) in &mut alternatives {
            *seconds *= if *seconds > cheapest { safely } else { longer };
        }
        alternatives
    }

    /// How many times the predicted time on an idle machine is planned with. Who need not wait may try.
    pub(super) fn longer(&self) -> f64 {
        match self.is_idle() {
            _ if !self.shares => 1.0,
            true => self.beside_others(),
            false => self.beside_others() * self.margin(),
        }
    }

    fn beside_others(&self) -> f64 {
        self.beside(1).2 * self.slower
    }

    fn margin(&self) -> f64 {
        (SAFETY * self.astray).exp()
    }

    /// An execution took so many seconds of which so many were predicted.
    pub(super) fn was_predicted(&mut self, predicted: f64, seconds: f64) {
        let astray = (seconds / predicted).ln().abs();
        if astray.is_finite() {
            self.astray += NEWEST * (astray.min(ASTRAY_MAX) - self.astray);
        }
    }
}
