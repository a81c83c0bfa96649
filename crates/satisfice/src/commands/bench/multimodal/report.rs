//! Rows, their table in Markdown, and charts.

use super::contender::{Contender, Policy};
use satisfice_load::open::{Chart, Series, Summary};
use serde::Serialize;
use std::{fmt::Write as _, path::PathBuf};

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    pub bundle: PathBuf,
    pub deadline_ms: u64,
    pub seed: u64,
    /// Length of one run.
    pub seconds: f64,
    /// Mean rate of the bursts, in jobs a second.
    pub burst_rate: f64,
    pub cores: usize,
    pub rows: Vec<Row>,
}

/// One contender's figures.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub name: String,
    /// Points below what all modalities promise.
    pub floor: Option<f64>,
    pub min_accuracy: Option<f64>,
    /// Highest rate at which 99 % of jobs were in time; nothing where even the lowest was too high.
    pub jobs_per_second: Option<f64>,
    pub inputs_per_second: Option<f64>,
    /// What happened at that rate.
    pub at_that_rate: Option<Summary>,
    /// What happened in bursts, at the same rate for everybody.
    pub in_bursts: Summary,
}

impl Row {
    pub(super) fn new(
        contender: &Contender,
        best: Option<(f64, Summary)>,
        in_bursts: Summary,
        mean_inputs: f64,
    ) -> Self {
        let (rate, at_that_rate) = best.unzip();
        Self {
            name: match contender.policy {
                Policy::Peer => format!("{} (peer)", contender.name),
                _ => contender.name.clone(),
            },
            floor: contender.floor,
            min_accuracy: contender.min_accuracy,
            jobs_per_second: rate,
            inputs_per_second: rate.map(|rate| rate * mean_inputs),
            at_that_rate,
            in_bursts,
        }
    }

    /// Jobs of one number of inputs, evenly or in bursts, that had a minimum: how many such classes
    /// there are, and in how many the answers were at least as right as asked for.
    fn promises(&self) -> (usize, usize) {
        let Some(minimum) = self.min_accuracy else {
            return (0, 0);
        };
        let runs = self.at_that_rate.iter().chain([&self.in_bursts]);
        let classes = runs.flat_map(|summary| summary.by_size.values());
        let kept = classes
            .clone()
            .filter(|class| class.correct as f64 >= minimum * class.inputs as f64);
        (classes.clone().count(), kept.count())
    }

    /// For whoever waits.
    pub(super) fn line(&self) -> String {
        format!(
            "{:<28} minimum {:>5}: {:>7} inputs/s, bursts p50 {:.0} ms, p99 {:.0} ms",
            self.name,
            self.floor.map_or("-".to_owned(), |f| format!("-{f}")),
            number(self.inputs_per_second, 0),
            self.in_bursts.p50_ms,
            self.in_bursts.p99_ms,
        )
    }
}

impl Document {
    /// The row that ignores modalities, which is the first.
    fn agnostic(&self) -> Option<&Row> {
        self.rows.first()
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "Jobs of 1 to 16 inputs, deadline {} ms, seed {}, runs of {} s, {} cores for client and server. \
             Throughput: the highest rate at which 99 % of the jobs were in time and the answers as right as asked \
             for. Bursts: {:.1} jobs/s on average, four times that for a fifth of the time; times from arrival to \
             answer.\n\n\
             | who chooses | minimum % | inputs/s | x all | accuracy % | promised % | burst p50 ms | x all | burst p99 ms \
             | x all | late | refused | burst accuracy % |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
            self.deadline_ms, self.seed, self.seconds, self.cores, self.burst_rate
        );
        for row in &self.rows {
            let at = row.at_that_rate.as_ref();
            let burst = &row.in_bursts;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {:.0} | {} | {:.0} | {} | {} | {} | {} |",
                row.name,
                percent(row.min_accuracy),
                number(row.inputs_per_second, 0),
                number(self.times(row, |row| row.inputs_per_second), 2),
                percent(at.map(|at| at.accuracy)),
                percent(at.and_then(|at| at.lower)),
                burst.p50_ms,
                number(self.times(row, |row| Some(1.0 / row.in_bursts.p50_ms)), 1),
                burst.p99_ms,
                number(self.times(row, |row| Some(1.0 / row.in_bursts.p99_ms)), 1),
                burst.late,
                burst.refusals() + burst.failed.values().sum::<usize>(),
                percent(Some(burst.accuracy)),
            );
        }
        let promises = self.rows.iter().map(Row::promises);
        let (classes, kept) = promises.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        let _ = writeln!(
            text,
            "\nOf {classes} classes of jobs with a minimum (one a row, number of inputs, and pattern), {kept} were \
             answered at least as right as asked for."
        );
        text
    }

    /// A row's figure in multiples of the first row's.
    fn times(&self, row: &Row, of: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        Some(of(row)? / of(self.agnostic()?)?)
    }

    /// Charts with the names of their files.
    pub(super) fn charts(&self) -> Vec<(&'static str, Chart)> {
        let throughput = |row: &Row| row.inputs_per_second;
        let completion = |row: &Row| Some(row.in_bursts.p99_ms);
        vec![
            (
                "throughput.svg",
                self.chart(
                    "Throughput with 99 % of jobs in time",
                    "inputs/s",
                    throughput,
                ),
            ),
            (
                "completion.svg",
                self.chart("99 % of jobs answered in bursts", "ms", completion),
            ),
        ]
    }

    fn chart(&self, title: &str, y_label: &str, of: impl Fn(&Row) -> Option<f64>) -> Chart {
        let mut floors: Vec<f64> = self.rows.iter().filter_map(|row| row.floor).collect();
        floors.sort_by(f64::total_cmp);
        floors.dedup();
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.name.as_str()) {
                names.push(&row.name);
            }
        }
        // A row without a minimum is the same at every one.
        let at = |name: &str, floor: f64| {
            let mut rows = self.rows.iter();
            let row = rows.find(|row| {
                row.name == name && row.floor.is_none_or(|f| f.total_cmp(&floor).is_eq())
            });
            row.and_then(&of)
        };
        let series = names.into_iter().map(|name| Series {
            name: name.to_owned(),
            values: floors.iter().map(|&floor| at(name, floor)).collect(),
        });
        Chart {
            title: title.to_owned(),
            x_label: "points of accuracy below what all modalities promise".to_owned(),
            y_label: y_label.to_owned(),
            places: floors.iter().map(|floor| format!("-{floor}")).collect(),
            series: series.collect(),
        }
    }
}

fn percent(share: Option<f64>) -> String {
    number(share.map(|share| 100.0 * share), 1)
}

fn number(value: Option<f64>, digits: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.digits$}"),
        _ => "-".to_owned(),
    }
}
