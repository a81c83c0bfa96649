use super::Output;
use crate::cli::Inspect;
use anyhow::Result;
use satisfice_multimodal::{Inspection, inspect};
use std::fmt::Write as _;

pub(crate) fn run(args: &Inspect, output: Output) -> Result<()> {
    let inspection = inspect(&args.network, &args.length.iter().cloned().collect())?;
    output.print(&inspection, || match args.toml {
        true => inspection.model_toml.clone(),
        false => text(&inspection),
    })
}

fn text(inspection: &Inspection) -> String {
    let mut text = format!(
        "opset {}, made by {}\n",
        inspection.opset,
        inspection.producer.trim()
    );
    for (what, ports) in [
        ("input", &inspection.inputs),
        ("output", &inspection.outputs),
    ] {
        for port in ports {
            let _ = writeln!(text, "{what} {port}");
        }
    }
    let operators = inspection
        .operators
        .iter()
        .map(|(name, count)| format!("{name} {count}"));
    let _ = writeln!(
        text,
        "operators: {}",
        operators.collect::<Vec<_>>().join(", ")
    );
    if !inspection.weight_files.is_empty() {
        let _ = writeln!(text, "weights in {}", inspection.weight_files.join(", "));
    }
    if let Some(runtime) = &inspection.runs_in {
        let _ = writeln!(text, "runs in {runtime} as guessed below");
    }
    if let Some(problem) = &inspection.problem {
        let _ = writeln!(text, "cannot be served as guessed below: {problem}");
    }
    let _ = write!(text, "\nmodel.toml:\n{}", inspection.model_toml);
    text
}
