//! A profile for people: a table and a picture.

use super::{Profile, ProfiledStrategy, Share};
use std::fmt::Write as _;

/// Batch size of the picture.
const PLOTTED_BATCH: usize = 1;

impl Profile {
    /// What is compared: accuracy where it is known, else fidelity.
    fn measure(&self) -> &'static str {
        match self.strategies.iter().all(|s| s.accuracy.is_some()) {
            true => "accuracy",
            false => "fidelity",
        }
    }

    fn share(&self, strategy: &ProfiledStrategy) -> Share {
        match self.measure() {
            "accuracy" => strategy.accuracy.unwrap_or(strategy.fidelity),
            _ => strategy.fidelity,
        }
    }

    /// Seconds and share of a strategy, as the picture shows it.
    fn point(&self, strategy: &ProfiledStrategy) -> (f64, f64) {
        let planned = strategy
            .planned()
            .find(|(batch, _)| *batch == PLOTTED_BATCH);
        let seconds = planned.map_or(0.0, |(_, seconds)| seconds);
        (seconds, self.share(strategy).expected)
    }

    /// Whether no other strategy is as good in less time, or better in as much.
    fn on_front(&self, strategy: &ProfiledStrategy) -> bool {
        let (seconds, share) = self.point(strategy);
        !self.strategies.iter().any(|other| {
            let (other_seconds, other_share) = self.point(other);
            other_seconds <= seconds
                && other_share >= share
                && (other_seconds < seconds || other_share > share)
        })
    }

    /// A Markdown table of every strategy, the fastest first.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# Profile\n\n{} on {}. {} calibration inputs in {} groups; lower bounds are exact \
             (Clopper-Pearson), one-sided, and hold with {:.0} % for all {} candidates at once. \
             Times are medians / 90th percentiles in milliseconds; a cascade's depend on its inputs. \
             Strategies marked * are on the front of {} against time for one input.\n\n",
            self.runtime,
            self.machine,
            self.inputs,
            self.groups,
            100.0 * self.confidence,
            self.candidates,
            self.measure(),
        );
        let batches = self.strategies.first().map(|s| s.latency.as_slice());
        let batches: Vec<usize> = batches
            .unwrap_or_default()
            .iter()
            .map(|l| l.batch)
            .collect();
        text.push_str(
            "| strategy | accuracy % (at least) | fidelity % (at least) | answered again % |",
        );
        for batch in &batches {
            let _ = write!(text, " batch {batch} |");
        }
        text.push_str("\n|---|---|---|---|");
        text.push_str(&"---|".repeat(batches.len()));
        text.push('\n');
        let mut strategies: Vec<&ProfiledStrategy> = self.strategies.iter().collect();
        strategies.sort_by(|a, b| self.point(a).0.total_cmp(&self.point(b).0));
        for strategy in strategies {
            let again = strategy.cascade.as_ref();
            let _ = write!(
                text,
                "| {}{} | {} | {} | {} |",
                strategy.name,
                if self.on_front(strategy) { " *" } else { "" },
                strategy.accuracy.map_or("-".to_owned(), percent),
                percent(strategy.fidelity),
                again.map_or("-".to_owned(), |c| format!("{:.0}", 100.0 * c.escalated)),
            );
            for latency in &strategy.latency {
                let (p50, p90) = (1e3 * latency.p50_seconds, 1e3 * latency.p90_seconds);
                let _ = write!(text, " {p50:.2} / {p90:.2} |");
            }
            text.push('\n');
        }
        if !self.not_offered.is_empty() {
            text.push('\n');
        }
        for slow in &self.not_offered {
            let _ = writeln!(text, "{slow}.");
        }
        text
    }

    /// An SVG picture: quality against time of one input, with lower bounds and the front.
    pub fn plot(&self) -> String {
        let frame = Frame::around(self);
        let mut svg = frame.open(self.measure());
        let mut front: Vec<(f64, f64)> = self
            .strategies
            .iter()
            .filter(|strategy| self.on_front(strategy))
            .map(|strategy| self.point(strategy))
            .collect();
        front.sort_by(|a, b| a.0.total_cmp(&b.0));
        let corners: Vec<String> = front
            .iter()
            .map(|&point| frame.place(point))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            r##"<polyline points="{}" fill="none" stroke="#2563eb"/>"##,
            corners.join(" ")
        );
        for strategy in &self.strategies {
            let point = self.point(strategy);
            let (x, y) = frame.place(point);
            let (_, lower) = frame.place((point.0, self.share(strategy).lower));
            let colour = match self.on_front(strategy) {
                true => "#2563eb",
                false => "#9ca3af",
            };
            let _ = writeln!(
                svg,
                r#"<line x1="{x:.1}" y1="{y:.1}" x2="{x:.1}" y2="{lower:.1}" stroke="{colour}" stroke-width="0.7"/>
<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}"/>
<text x="{:.1}" y="{:.1}" font-size="10">{}</text>"#,
                x + 6.0,
                y - 5.0,
                strategy.name.replace('>', "&gt;"),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// `"88.5 (84.1)"`.
fn percent(share: Share) -> String {
    format!("{:.1} ({:.1})", 100.0 * share.expected, 100.0 * share.lower)
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const MARGIN: f64 = 60.0;
/// Room on the right for the names of the slowest.
const NAMES: f64 = 150.0;
const TICKS: usize = 5;

/// From seconds (logarithmic) and shares to places.
struct Frame {
    seconds: (f64, f64),
    shares: (f64, f64),
}

impl Frame {
    fn around(profile: &Profile) -> Self {
        let mut frame = Self {
            seconds: (f64::INFINITY, 0.0),
            shares: (1.0, 0.0),
        };
        for strategy in &profile.strategies {
            let (seconds, share) = profile.point(strategy);
            let lower = profile.share(strategy).lower;
            frame.seconds = (frame.seconds.0.min(seconds), frame.seconds.1.max(seconds));
            frame.shares = (frame.shares.0.min(lower), frame.shares.1.max(share));
        }
        frame.seconds = (frame.seconds.0 / 1.2, frame.seconds.1 * 1.2);
        frame.shares = (frame.shares.0 - 0.02, frame.shares.1 + 0.02);
        frame
    }

    fn place(&self, (seconds, share): (f64, f64)) -> (f64, f64) {
        let along = (seconds / self.seconds.0).ln() / (self.seconds.1 / self.seconds.0).ln();
        let up = (share - self.shares.0) / (self.shares.1 - self.shares.0);
        (
            MARGIN + along * (WIDTH - MARGIN - NAMES),
            HEIGHT - MARGIN - up * (HEIGHT - 2.0 * MARGIN),
        )
    }

    /// The head of the picture, with axes.
    fn open(&self, measure: &str) -> String {
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">
<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>
<text x="{MARGIN}" y="30" font-size="14">{measure} (and its lower bound) against time for one input</text>
<text x="{:.0}" y="{:.0}">milliseconds</text>
"#,
            WIDTH / 2.0,
            HEIGHT - 12.0
        );
        let (bottom, right) = (HEIGHT - MARGIN, WIDTH - NAMES);
        let _ = writeln!(
            svg,
            r#"<path d="M{MARGIN} {MARGIN}V{bottom}H{right}" fill="none" stroke="black"/>"#
        );
        for tick in 0..=TICKS {
            let along = tick as f64 / TICKS as f64;
            let seconds = self.seconds.0 * (self.seconds.1 / self.seconds.0).powf(along);
            let share = self.shares.0 + along * (self.shares.1 - self.shares.0);
            let (x, y) = self.place((seconds, share));
            let _ = writeln!(
                svg,
                r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{:.2}</text>
<text x="{:.1}" y="{:.1}" text-anchor="end">{:.1} %</text>"#,
                bottom + 18.0,
                1e3 * seconds,
                MARGIN - 6.0,
                y + 4.0,
                100.0 * share,
            );
        }
        svg
    }
}
