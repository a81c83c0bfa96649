//! Rows, their table in Markdown, and charts.

use super::{
    SIZES,
    contender::{Contender, Policy, mean},
};
use anyhow::{Context, Result};
use satisfice_load::open::{Chart, Series, Summary};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// What `--json` prints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Document {
    pub bundle: PathBuf,
    pub deadline_ms: u64,
    pub seed: u64,
    /// Length of one run.
    pub seconds: f64,
    /// Mean rate of the bursts, in jobs a second; set by the first row.
    pub burst_rate: Option<f64>,
    pub cores: usize,
    /// Every contender once for each seed, the one that ignores modalities first.
    pub rows: Vec<Row>,
}

/// One contender's figures under the traffic of one seed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub name: String,
    pub seed: u64,
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
        seed: u64,
        best: Option<(f64, Summary)>,
        in_bursts: Summary,
    ) -> Self {
        let (rate, at_that_rate) = best.unzip();
        Self {
            name: Self::name_of(contender),
            seed,
            floor: contender.floor,
            min_accuracy: contender.min_accuracy,
            jobs_per_second: rate,
            inputs_per_second: rate.map(|rate| rate * mean(&SIZES, |inputs| inputs as f64)),
            at_that_rate,
            in_bursts,
        }
    }

    fn name_of(contender: &Contender) -> String {
        match contender.policy {
            Policy::Peer => format!("{} (peer)", contender.name),
            _ => contender.name.clone(),
        }
    }

    /// Whether it is the row of this contender, of whatever seed.
    pub(super) fn is_of(&self, contender: &Contender) -> bool {
        self.name == Self::name_of(contender) && self.floor == contender.floor
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

    /// Jobs of the bursts that were refused or failed.
    fn unanswered(&self) -> usize {
        self.in_bursts.refusals() + self.in_bursts.failed.values().sum::<usize>()
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
    /// With the rows of the document at `path` that were measured in the same way, if there is one.
    pub(super) fn resumed(mut self, path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Ok(self);
        }
        let at = || format!("{}", path.display());
        let before: Self = serde_json::from_slice(&fs::read(path).with_context(at)?)
            .with_context(|| format!("{} cannot be continued", path.display()))?;
        let way = |of: &Self| (of.bundle.clone(), of.deadline_ms, of.cores);
        if way(&before) == way(&self) && before.seconds.total_cmp(&self.seconds).is_eq() {
            self.burst_rate = before.burst_rate;
            self.rows = before.rows;
        }
        Ok(self)
    }

    /// Keeps the document at `path`.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec(self)?).with_context(|| format!("{}", path.display()))
    }

    /// The rows of one contender, in the order of the seeds; contenders by what may be lost.
    fn contenders(&self) -> Vec<Vec<&Row>> {
        let mut contenders: Vec<Vec<&Row>> = Vec::new();
        for row in &self.rows {
            let same =
                |rows: &&mut Vec<&Row>| rows[0].name == row.name && rows[0].floor == row.floor;
            match contenders.iter_mut().find(same) {
                Some(rows) => rows.push(row),
                None => contenders.push(vec![row]),
            }
        }
        let points = |rows: &[&Row]| rows[0].floor.unwrap_or(f64::NEG_INFINITY);
        contenders.sort_by(|a, b| points(a).total_cmp(&points(b)));
        contenders
    }

    /// The row that ignores modalities, which is the first of its seed.
    fn agnostic(&self, seed: u64) -> Option<&Row> {
        self.rows.iter().find(|row| row.seed == seed)
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
            self.deadline_ms,
            self.seed,
            self.seconds,
            self.cores,
            self.burst_rate.unwrap_or_default()
        );
        for rows in self.contenders() {
            let figure = |digits, of: &dyn Fn(&Row) -> Option<f64>| {
                spread(rows.iter().map(|row| of(row)).collect(), digits)
            };
            let times = |digits, of: &dyn Fn(&Row) -> Option<f64>| {
                spread(rows.iter().map(|row| self.times(row, of)).collect(), digits)
            };
            let share = |of: &dyn Fn(&Row) -> Option<f64>| {
                figure(1, &|row| of(row).map(|share| 100.0 * share))
            };
            let at =
                |row: &Row, of: fn(&Summary) -> Option<f64>| row.at_that_rate.as_ref().and_then(of);
            let cells = [
                rows[0].name.clone(),
                share(&|row| row.min_accuracy),
                figure(0, &|row| row.inputs_per_second),
                times(2, &|row| row.inputs_per_second),
                share(&|row| at(row, |at| Some(at.accuracy))),
                share(&|row| at(row, |at| at.lower)),
                figure(0, &|row| Some(row.in_bursts.p50_ms)),
                times(1, &|row| Some(1.0 / row.in_bursts.p50_ms)),
                figure(0, &|row| Some(row.in_bursts.p99_ms)),
                times(1, &|row| Some(1.0 / row.in_bursts.p99_ms)),
                figure(0, &|row| Some(row.in_bursts.late as f64)),
                figure(0, &|row| Some(row.unanswered() as f64)),
                share(&|row| Some(row.in_bursts.accuracy)),
            ];
            let _ = writeln!(text, "| {} |", cells.join(" | "));
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

    /// A row's figure in multiples of that of all modalities under the same traffic.
    fn times(&self, row: &Row, of: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        Some(of(row)? / of(self.agnostic(row.seed)?)?)
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
        let contenders = self.contenders();
        let at = |name: &str, floor: f64| {
            let rows = contenders.iter().find(|rows| {
                rows[0].name == name && rows[0].floor.is_none_or(|f| f.total_cmp(&floor).is_eq())
            });
            median(rows?.iter().map(|row| of(row)).collect())
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

/// The middle one, the lower of two; nothing where one of them is missing.
fn median(values: Vec<Option<f64>>) -> Option<f64> {
    let values: Option<Vec<f64>> = values.into_iter().collect();
    let mut values = values?;
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// The median with, in brackets, the least and the most where they differ.
fn spread(values: Vec<Option<f64>>, digits: usize) -> String {
    let known = values.iter().flatten().copied();
    let (least, most) = known.fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(least, most), value| (value.min(least), value.max(most)),
    );
    let [least, most] = [least, most].map(|value| number(Some(value), digits));
    match median(values) {
        Some(middle) if least != most => {
            format!("{} ({least} to {most})", number(Some(middle), digits))
        }
        middle => number(middle, digits),
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.digits$}"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn row(name: &str, seed: u64, rate: f64) -> Row {
        let in_bursts = Summary {
            p50_ms: 100.0 / rate,
            p99_ms: 200.0 / rate,
            ..Summary::default()
        };
        Row {
            name: name.to_owned(),
            seed,
            floor: None,
            min_accuracy: None,
            jobs_per_second: Some(rate),
            inputs_per_second: Some(rate),
            at_that_rate: None,
            in_bursts,
        }
    }

    #[test]
    fn repeats_are_compared_with_their_own_seed() {
        let document = Document {
            bundle: PathBuf::new(),
            deadline_ms: 250,
            seed: 1,
            seconds: 1.0,
            burst_rate: Some(1.0),
            cores: 2,
            rows: vec![
                row("all", 1, 10.0),
                row("some", 1, 30.0),
                row("all", 2, 20.0),
                row("some", 2, 40.0),
            ],
        };
        let table = document.markdown();
        assert!(
            table.contains("| all | - | 10 (10 to 20) | 1.00 |"),
            "{table}"
        );
        assert!(
            table.contains("| some | - | 30 (30 to 40) | 2.00 (2.00 to 3.00) |"),
            "{table}"
        );
    }

    #[test]
    fn a_run_goes_on_where_it_was_measured_in_the_same_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.json");
        let empty = |seconds| Document {
            bundle: PathBuf::new(),
            deadline_ms: 250,
            seed: 1,
            seconds,
            burst_rate: None,
            cores: 2,
            rows: Vec::new(),
        };
        assert!(empty(1.0).resumed(&path).unwrap().rows.is_empty());
        let mut document = empty(1.0);
        document.burst_rate = Some(7.0);
        document.rows.push(row("all", 1, 10.0));
        document.write(&path).unwrap();
        let resumed = empty(1.0).resumed(&path).unwrap();
        assert_eq!((resumed.rows.len(), resumed.burst_rate), (1, Some(7.0)));
        assert!(empty(2.0).resumed(&path).unwrap().rows.is_empty());
        fs::write(&path, "{").unwrap();
        assert!(empty(1.0).resumed(&path).is_err());
    }

    #[test]
    fn what_is_missing_once_has_no_median() {
        assert_eq!(spread(vec![Some(1.0), None], 0), "-");
        assert_eq!(spread(vec![None], 0), "-");
        assert_eq!(median(vec![Some(3.0), Some(1.0), Some(2.0)]), Some(2.0));
    }
}
