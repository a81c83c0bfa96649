use crate::{cli::BenchPlanner, commands::Output};
use anyhow::Result;
use satisfice_planner::{
    Decision, FrontTable, Job, Limits, Planner,
    simulate::{
        Arrivals, Traffic, contended_queue, optimum, profiles, serve, upper_bound, without_choice,
    },
};
use serde::Serialize;
use std::{fmt::Write as _, time::Instant};

pub(crate) fn run(args: &BenchPlanner, output: Output) -> Result<()> {
    let share = if args.quick { 10 } else { 1 };
    let document = Document {
        tables: tables()?,
        decisions: [(10, 2000), (100, 2000), (1_000, 1000), (10_000, 200)]
            .into_iter()
            .map(|(jobs, runs)| decisions(jobs, runs / share))
            .collect::<Result<_>>()?,
        greedy: [8, 12, 16]
            .into_iter()
            .map(|jobs| greedy(jobs, 1000 / share))
            .collect::<Result<_>>()?,
        traffic: traffic(200 / share)?,
    };
    output.print(&document, || document.text())
}

#[derive(Debug, Serialize)]
struct Document {
    tables: Vec<TableRow>,
    decisions: Vec<DecisionRow>,
    greedy: Vec<GreedyRow>,
    traffic: Vec<TrafficRow>,
}

/// Building one table of mixes.
#[derive(Debug, Serialize)]
struct TableRow {
    strategies: usize,
    batch_max: usize,
    inputs_max: usize,
    seconds: f64,
    /// Points of the fronts of all numbers of inputs.
    points: usize,
    /// Points of the largest front.
    points_max: usize,
    /// The largest gap of any front, in mean accuracy; 0 where all are exact.
    gap_max: f64,
}

/// Planning queues of one length, all deadlines of which can be met.
#[derive(Debug, Serialize)]
struct DecisionRow {
    jobs: usize,
    runs: usize,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    /// Share of plans that are known to be the best.
    exact: f64,
}

/// The greedy choice against the exact one: share of summed accuracy lost.
#[derive(Debug, Serialize)]
struct GreedyRow {
    jobs: usize,
    queues: usize,
    mean_gap: f64,
    max_gap: f64,
}

/// Summed accuracy of planning as jobs arrive, over that of what is compared with.
#[derive(Debug, Serialize)]
struct TrafficRow {
    arrivals: &'static str,
    load: f64,
    jobs: usize,
    runs: usize,
    /// `optimum`, or `bound`, which no schedule exceeds and perhaps none reaches.
    against: &'static str,
    mean_regret: f64,
    max_regret: f64,
    refused: f64,
    /// Regret of servers that know the most accurate or the cheapest alternative alone.
    most_accurate_regret: f64,
    most_accurate_refused: f64,
    cheapest_regret: f64,
    cheapest_refused: f64,
}

fn tables() -> Result<Vec<TableRow>> {
    let sizes = [(3, 16, 64), (7, 32, 256), (16, 8, 256), (16, 32, 256)];
    let row = |(strategies, batch_max, inputs_max)| -> Result<TableRow> {
        let profiles = profiles(strategies, batch_max, 1)?;
        let all: Vec<usize> = (0..strategies).collect();
        let start = Instant::now();
        let table = FrontTable::new(&profiles, &all, inputs_max)?;
        let seconds = start.elapsed().as_secs_f64();
        let fronts: Vec<_> = (1..=inputs_max).filter_map(|n| table.front(n)).collect();
        Ok(TableRow {
            strategies,
            batch_max,
            inputs_max,
            seconds,
            points: fronts.iter().map(|front| front.len()).sum(),
            points_max: fronts.iter().map(|front| front.len()).max().unwrap_or(0),
            gap_max: fronts.iter().map(|front| front.gap()).fold(0.0, f64::max),
        })
    };
    sizes.into_iter().map(row).collect()
}

fn decisions(jobs: usize, runs: usize) -> Result<DecisionRow> {
    let mut times = Vec::with_capacity(runs);
    let mut exact = 0;
    for seed in 0..runs as u64 {
        let queue = contended_queue(jobs, seed)?;
        let mut planner = Planner::default();
        let start = Instant::now();
        let decision = planner.plan(0.0, &queue, &[0.0])?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        exact += usize::from(decision.exact);
    }
    times.sort_by(f64::total_cmp);
    let percentile = |share: f64| times[((share * runs as f64).ceil() as usize).max(1) - 1];
    Ok(DecisionRow {
        jobs,
        runs,
        p50_us: percentile(0.5),
        p99_us: percentile(0.99),
        max_us: percentile(1.0),
        exact: exact as f64 / runs as f64,
    })
}

fn greedy(jobs: usize, queues: usize) -> Result<GreedyRow> {
    let planner = |exact_work_max| {
        Planner::new(Limits {
            exact_work_max,
            look_ahead: false,
            ..Limits::default()
        })
    };
    let mut gaps = Vec::with_capacity(queues);
    for seed in 0..queues as u64 {
        let queue = contended_queue(jobs, seed)?;
        let best = planner(usize::MAX)?.plan(0.0, &queue, &[0.0])?;
        let greedy = planner(0)?.plan(0.0, &queue, &[0.0])?;
        gaps.push(1.0 - value(&queue, &greedy) / value(&queue, &best));
    }
    Ok(GreedyRow {
        jobs,
        queues,
        mean_gap: mean(&gaps),
        max_gap: gaps.iter().copied().fold(0.0, f64::max),
    })
}

fn value(jobs: &[Job], decision: &Decision) -> f64 {
    let values = decision.choices.iter().map(|choice| {
        let job = &jobs[choice.job];
        job.inputs() as f64 * job.alternatives().accuracy(choice.alternative)
    });
    values.sum()
}

fn traffic(runs: usize) -> Result<Vec<TrafficRow>> {
    let mut rows = Vec::new();
    for (jobs, runs) in [(10, runs), (1000, (runs / 10).max(2))] {
        for arrivals in [Arrivals::Poisson, Arrivals::Bursty] {
            for load in [0.5, 1.0, 2.0, 4.0] {
                rows.push(traffic_row(jobs, arrivals, load, runs)?);
            }
        }
    }
    Ok(rows)
}

fn traffic_row(jobs: usize, arrivals: Arrivals, load: f64, runs: usize) -> Result<TrafficRow> {
    let small = jobs <= 10;
    // Regret and share refused of each way to serve.
    let mut found = [const { (Vec::new(), Vec::new()) }; 3];
    for seed in 0..runs as u64 {
        let traffic = Traffic {
            jobs,
            arrivals,
            load,
            seed,
        };
        let jobs = traffic.jobs()?;
        let best = match small {
            true => optimum(&jobs)?,
            false => upper_bound(&jobs, 1),
        };
        let ways = [
            jobs.clone(),
            without_choice(&jobs, true),
            without_choice(&jobs, false),
        ];
        for (way, (regrets, refusals)) in ways.iter().zip(&mut found) {
            let outcome = serve(&mut Planner::default(), way, 1)?;
            regrets.push(1.0 - outcome.value / best);
            refusals.push(outcome.refused as f64 / way.len() as f64);
        }
    }
    let [planned, dearest, cheapest] = &found;
    Ok(TrafficRow {
        arrivals: match arrivals {
            Arrivals::Poisson => "poisson",
            Arrivals::Bursty => "bursty",
        },
        load,
        jobs,
        runs,
        against: if small { "optimum" } else { "bound" },
        mean_regret: mean(&planned.0),
        max_regret: planned.0.iter().copied().fold(0.0, f64::max),
        refused: mean(&planned.1),
        most_accurate_regret: mean(&dearest.0),
        most_accurate_refused: mean(&dearest.1),
        cheapest_regret: mean(&cheapest.0),
        cheapest_refused: mean(&cheapest.1),
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Document {
    fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "tables of mixes\n{:>10} {:>9} {:>6} {:>9} {:>9} {:>13} {:>7}",
            "strategies", "batch max", "inputs", "seconds", "points", "largest front", "gap"
        );
        for row in &self.tables {
            let _ = writeln!(
                text,
                "{:>10} {:>9} {:>6} {:>9.4} {:>9} {:>13} {:>7.5}",
                row.strategies,
                row.batch_max,
                row.inputs_max,
                row.seconds,
                row.points,
                row.points_max,
                row.gap_max
            );
        }
        let _ = writeln!(
            text,
            "\ndecisions\n{:>6} {:>6} {:>9} {:>9} {:>9} {:>7}",
            "jobs", "runs", "p50 us", "p99 us", "max us", "exact"
        );
        for row in &self.decisions {
            let _ = writeln!(
                text,
                "{:>6} {:>6} {:>9.1} {:>9.1} {:>9.1} {:>6.1}%",
                row.jobs,
                row.runs,
                row.p50_us,
                row.p99_us,
                row.max_us,
                100.0 * row.exact
            );
        }
        let _ = writeln!(
            text,
            "\ngreedy against exact\n{:>6} {:>6} {:>9} {:>9}",
            "jobs", "queues", "mean gap", "max gap"
        );
        for row in &self.greedy {
            let _ = writeln!(
                text,
                "{:>6} {:>6} {:>8.3}% {:>8.2}%",
                row.jobs,
                row.queues,
                100.0 * row.mean_gap,
                100.0 * row.max_gap
            );
        }
        self.traffic_text(&mut text);
        text
    }

    fn traffic_text(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nregret (and share refused) on a virtual clock\n{:<8} {:>4} {:>5} {:>5} {:>8} {:>17} {:>8} {:>18} {:>18}",
            "arrivals",
            "load",
            "jobs",
            "runs",
            "against",
            "planned",
            "max",
            "most accurate only",
            "cheapest only"
        );
        for row in &self.traffic {
            let pair = |regret: f64, refused: f64| {
                format!("{:.2}% ({:.1}%)", 100.0 * regret, 100.0 * refused)
            };
            let _ = writeln!(
                text,
                "{:<8} {:>4} {:>5} {:>5} {:>8} {:>17} {:>7.2}% {:>18} {:>18}",
                row.arrivals,
                row.load,
                row.jobs,
                row.runs,
                row.against,
                pair(row.mean_regret, row.refused),
                100.0 * row.max_regret,
                pair(row.most_accurate_regret, row.most_accurate_refused),
                pair(row.cheapest_regret, row.cheapest_refused)
            );
        }
    }
}
