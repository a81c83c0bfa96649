//! The plans of a model that a server serves.

use super::Output;
use crate::{cli::Plans, http_client::HttpClient};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Write as _;

pub(crate) fn run(args: &Plans, output: Output) -> Result<()> {
    let client = HttpClient::new(&args.url).with_token(args.token.as_deref());
    let body = client.get(&format!("/v2/models/{}/plans", args.model))?;
    let document: Value = serde_json::from_slice(&body).context("the server's answer")?;
    output.print(&document, || {
        let plans = document["plans"].as_array().map_or(&[][..], Vec::as_slice);
        if plans.is_empty() {
            return "nothing was measured of this model's plans: `satisfice profile` does\n"
                .to_owned();
        }
        let of = document["predicted_for"].as_str().unwrap_or_default();
        format!(
            "predicted for {of}, alone on the server's machine\n\n{}",
            table(plans)
        )
    })
}

/// A line for each plan; with verdicts, where plans have them.
pub(crate) fn table(plans: &[Value]) -> String {
    let mut text = format!(
        "{:<32} {:>12} {:>10} {:>10}\n",
        "plan", "predicted ms", "accuracy", "fidelity"
    );
    for plan in plans {
        let promised = |measure: &str| {
            let bound = plan["promises"][measure]["lower_bound"].as_f64();
            bound.map_or("-".to_owned(), |bound| format!("{bound:.4}"))
        };
        let _ = write!(
            text,
            "{:<32} {:>12.3} {:>10} {:>10}",
            plan["plan"].as_str().unwrap_or_default(),
            plan["predicted_ms"].as_f64().unwrap_or_default(),
            promised("accuracy"),
            promised("fidelity"),
        );
        let words = plan["verdict"]
            .as_str()
            .map(|verdict| format!("  {verdict}"));
        let audited = plan["audited"]["inputs"].as_u64().map(|inputs| {
            let observed = plan["audited"]["observed_agreement"]
                .as_f64()
                .unwrap_or_default();
            format!("  {inputs} audited, {:.2} % agreed", 100.0 * observed)
        });
        text.extend(words.into_iter().chain(audited));
        text.push('\n');
    }
    text
}
