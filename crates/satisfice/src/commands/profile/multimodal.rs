use crate::{cli::Profile as Arguments, commands::Output, progress::Steps};
use anyhow::{Context, Result};
use satisfice_kernels::NewFile;
use satisfice_multimodal::{
    Dataset, Evaluation, ModelDir, MultimodalEngine, OpenOptions, Profile, ProfileOptions,
    evaluate, profile,
};
use serde::Serialize;
use std::{fmt::Write as _, fs, path::Path};

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    profile: Profile,
    held_out: Vec<Evaluation>,
}

pub(crate) fn run(args: &Arguments, data: &Path, output: Output) -> Result<()> {
    let model_dir = ModelDir::open(&args.model, args.model_version)?;
    let _lock = super::lock(&model_dir.profile_path())?;
    let data = Dataset::open(data, model_dir.config())?;
    let held_out = args.multimodal.held_out.as_deref();
    let held_out = held_out.map(|path| Dataset::open(path, model_dir.config()));
    let held_out = held_out.transpose()?;
    let mut engine = MultimodalEngine::open(
        &model_dir,
        &OpenOptions {
            without_profile: true,
            ..OpenOptions::default()
        },
    )?;
    let steps = Steps::default();
    let options = ProfileOptions {
        quick: args.quick,
        all_variants: args.multimodal.all_variants,
        progress: &|task, done, total| steps.at(task, done, total),
    };
    let profile = profile(&model_dir, &mut engine, &data, &options)?;
    steps.finish();
    profile.write(&model_dir)?;
    let report = args
        .multimodal
        .report
        .clone()
        .unwrap_or_else(|| model_dir.version_path());
    write_report(&report, &profile)?;
    let held_out = match held_out {
        None => Vec::new(),
        // Opened anew: the cascades of the profile are strategies now.
        Some(data) => {
            let engine = MultimodalEngine::open(&model_dir, &OpenOptions::default())?;
            let evaluations = evaluate(&engine, &data, options.progress)?;
            steps.finish();
            evaluations
        }
    };
    let document = Document { profile, held_out };
    output.print(&document, || {
        let mut text = document.profile.markdown();
        text.push_str(&compare(&document));
        let _ = writeln!(
            text,
            "\n{} is what `satisfice serve` reads; profile.md and profile.svg are in {}",
            model_dir.profile_path().display(),
            report.display()
        );
        text
    })
}

fn write_report(dir: &Path, profile: &Profile) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    for (name, text) in [
        ("profile.md", profile.markdown()),
        ("profile.svg", profile.plot()),
    ] {
        let path = dir.join(name);
        NewFile::write(&path, text.as_bytes()).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

/// What was promised against what held-out inputs show.
fn compare(document: &Document) -> String {
    let mut text = String::new();
    let (mut promises, mut kept) = (0, 0);
    let accurate = document
        .held_out
        .iter()
        .filter_map(|e| Some((e, e.accuracy?)));
    for (evaluation, accuracy) in accurate {
        let strategies = &document.profile.strategies;
        let promised = strategies.iter().find(|s| s.name == evaluation.strategy);
        if let Some(promised) = promised.and_then(|s| s.accuracy) {
            if text.is_empty() {
                let _ = writeln!(
                    text,
                    "\n| strategy | expected % | at least % | held-out % ({} inputs) |\n|---|---|---|---|",
                    evaluation.inputs
                );
            }
            let _ = writeln!(
                text,
                "| {} | {:.1} | {:.1} | {:.1} |",
                evaluation.strategy,
                100.0 * promised.expected,
                100.0 * promised.lower,
                100.0 * accuracy
            );
            promises += 1;
            kept += usize::from(accuracy >= promised.lower);
        }
    }
    if promises > 0 {
        let _ = writeln!(
            text,
            "\nHeld-out inputs keep {kept} of {promises} promises."
        );
    }
    text
}
