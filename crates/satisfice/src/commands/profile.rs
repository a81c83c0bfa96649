mod multimodal;

use super::Output;
use crate::{cli::Profile, model_kind::ModelKind};
use anyhow::{Result, bail};

pub(crate) fn run(args: &Profile, output: Output) -> Result<()> {
    match ModelKind::of(&args.model)? {
        ModelKind::Graph => bail!(
            "{}: the plans of a graph model are measured by `satisfice evaluate`",
            args.model.display()
        ),
        ModelKind::Multimodal => multimodal::run(args, output),
    }
}
