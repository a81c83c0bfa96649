//! What is kept at each load, by the server's own choice of plans and by settings that leave it none.

use super::{Bench, LIGHT_RATE, models::HEAVY, stream};
use crate::http_client::HttpClient;
use anyhow::Result;
use satisfice_core::Parameter;
use satisfice_graph::Plan;
use satisfice_load::{
    closed::Measured,
    open::{Chart, Series, streams},
};
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write};

/// In times of what the cores can do by `exact`, up and down again.
const LOADS: [f64; 7] = [0.2, 0.5, 1.0, 2.0, 5.0, 1.0, 0.2];

/// Queries in a heavy request.
const QUERIES: usize = 16;

/// Who chooses plans.
#[derive(Serialize)]
pub(super) struct Choice {
    /// The plan that every heavy request names; none where the server chooses.
    pub plan: Option<String>,
    pub levels: Vec<Level>,
}

/// Heavy requests with a deadline, and light ones without, both as they come.
#[derive(Serialize)]
pub(super) struct Level {
    pub load: f64,
    pub sent_per_second: f64,
    /// Share of the heavy requests that were answered in time.
    pub kept: f64,
    /// Mean fidelity that their plans are expected to have.
    pub fidelity: Option<f64>,
    pub answers_by_plan: BTreeMap<String, u64>,
    pub heavy: Measured,
    pub light: Measured,
}

impl Choice {
    fn name(&self) -> &str {
        self.plan.as_deref().unwrap_or("as the server chooses")
    }
}

/// The server's own choices, then the most expensive plan and the cheapest for all.
pub(super) fn choices(bench: &Bench<'_>, heavy_ms: f64, deadline_ms: f64) -> Result<Vec<Choice>> {
    let client = HttpClient::new(&format!("http://{}", bench.server.http));
    let mut fidelities = BTreeMap::new();
    let mut choices = Vec::new();
    for plan in [None, Some(Plan::Exact), Some(Plan::Precomputed)] {
        let heavy = bench.subjects.heavy(QUERIES, plan, Some(deadline_ms))?;
        let mut levels = Vec::new();
        for load in LOADS {
            let sent_per_second = load * 1e3 / heavy_ms;
            let length = 2.0 * bench.seconds;
            let traffic = [
                stream(heavy.clone(), sent_per_second, length),
                stream(bench.subjects.light(8)?, LIGHT_RATE, length),
            ];
            let before = answers_by_plan(&client)?;
            let measured = streams(bench.server.http, &traffic);
            let mut measured = bench.runtime.block_on(measured)?;
            let mut answers_by_plan = answers_by_plan(&client)?;
            for (plan, answers) in &mut answers_by_plan {
                *answers -= before.get(plan).copied().unwrap_or(0);
            }
            answers_by_plan.retain(|_, answers| *answers > 0);
            let light = measured.swap_remove(1);
            let heavy = measured.swap_remove(0);
            levels.push(Level {
                load,
                sent_per_second,
                kept: kept(&heavy),
                fidelity: mean_fidelity(bench, &client, &answers_by_plan, &mut fidelities)?,
                answers_by_plan,
                heavy,
                light,
            });
        }
        let plan = plan.map(|plan| plan.to_string());
        choices.push(Choice { plan, levels });
    }
    Ok(choices)
}

fn kept(measured: &Measured) -> f64 {
    let refused: u64 = measured.refused.values().sum();
    let sent = measured.answered + refused + measured.broken;
    measured.answered as f64 / sent.max(1) as f64
}

/// Answers of the heavy model so far.
fn answers_by_plan(client: &HttpClient) -> Result<BTreeMap<String, u64>> {
    let metrics = client.get("/metrics")?;
    let metrics = String::from_utf8_lossy(&metrics);
    let of_model = format!("model=\"{HEAVY}\"");
    let counted = metrics.lines().filter_map(|line| {
        let labels = line.strip_prefix("satisfice_plan_requests_total{")?;
        let (labels, count) = labels.split_once("} ")?;
        let plan = labels.split_once("plan=\"")?.1.trim_end_matches('"');
        labels
            .contains(&of_model)
            .then_some((plan.to_owned(), count.parse().ok()?))
    });
    Ok(counted.collect())
}

/// Mean over answers of what the model's profile expects of their plans.
fn mean_fidelity(
    bench: &Bench<'_>,
    client: &HttpClient,
    answers: &BTreeMap<String, u64>,
    known: &mut BTreeMap<String, f64>,
) -> Result<Option<f64>> {
    let (mut sum, mut count) = (0.0, 0);
    for (plan, &answers) in answers {
        if !known.contains_key(plan) {
            known.insert(plan.clone(), expected_fidelity(bench, client, plan)?);
        }
        sum += known[plan] * answers as f64;
        count += answers;
    }
    Ok((count > 0).then(|| sum / count as f64))
}

fn expected_fidelity(bench: &Bench<'_>, client: &HttpClient, plan: &str) -> Result<f64> {
    let mut request = bench.subjects.heavy_request(QUERIES, None)?;
    let parameters = &mut request.parameters;
    parameters.insert("plan".to_owned(), plan.into());
    parameters.insert("min_fidelity".to_owned(), 0.0.into());
    let answer = client.infer(HEAVY, &request)?;
    match answer.parameters.get("expected_fidelity") {
        Some(&Parameter::Float(fidelity)) => Ok(fidelity),
        _ => Ok(1.0),
    }
}

/// Kept answers by load, a line a choice.
pub(super) fn chart(choices: &[Choice], title: String) -> Chart {
    Chart {
        title,
        x_label: "load, in times of what the cores can do by exact".to_owned(),
        y_label: "answers in time, % of the requests".to_owned(),
        places: LOADS.iter().map(|load| format!("{load:.1}")).collect(),
        series: choices
            .iter()
            .map(|choice| Series {
                name: choice.name().to_owned(),
                values: choice
                    .levels
                    .iter()
                    .map(|level| Some(100.0 * level.kept))
                    .collect(),
            })
            .collect(),
    }
}

/// A line a load, with what each choice keeps.
pub(super) fn table(choices: &[Choice]) -> String {
    let mut text = String::new();
    for (at, load) in LOADS.iter().enumerate() {
        let of_choice = |choice: &Choice| {
            let level = &choice.levels[at];
            let fidelity = level
                .fidelity
                .map_or(String::new(), |share| format!(" at {share:.4}"));
            format!(
                "{} {:.1}%{fidelity} (light p99 {:.1} ms)",
                choice.name(),
                100.0 * level.kept,
                level.light.p99_us as f64 / 1e3
            )
        };
        let of_choices: Vec<String> = choices.iter().map(of_choice).collect();
        let _ = writeln!(text, "load {load:.1}: {}", of_choices.join("; "));
    }
    text
}
