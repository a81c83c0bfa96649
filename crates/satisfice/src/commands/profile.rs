//! `satisfice profile`, for every kind of model.

mod graph;
mod multimodal;

use super::Output;
use crate::{cli::Profile, model_kind::ModelKind};
use anyhow::{Context, Result};

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
