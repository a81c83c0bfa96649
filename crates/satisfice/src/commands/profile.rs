//! `satisfice profile`, for every kind of model.

mod graph;
mod multimodal;

use super::Output;
use crate::{cli::Profile, model_kind::ModelKind};
use anyhow::{Context, Result};
use satisfice_kernels::WriteLock;
use std::path::Path;

/// The right to write a profile. Whoever only measures takes it too: two that measure at once disturb each other.
fn lock(profile: &Path) -> Result<WriteLock> {
    WriteLock::take(profile).with_context(|| format!("{}", profile.display()))
}

pub(crate) fn run(args: &Profile, output: Output) -> Result<()> {
    let wants = |option: &str| {
        format!(
            "{}: its profile is made with `{option}`",
            args.model.display()
        )
    };
    match ModelKind::of(&args.model)? {
        ModelKind::Graph => {
            let queries = args
                .queries
                .as_deref()
                .with_context(|| wants("--queries"))?;
            graph::run(args, queries, output)
        }
        ModelKind::Multimodal => {
            let data = args.data.as_deref().with_context(|| wants("--data"))?;
            multimodal::run(args, data, output)
        }
    }
}
