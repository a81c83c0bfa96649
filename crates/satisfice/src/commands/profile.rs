//! `satisfice profile`, for every kind of model.

mod graph;

use super::Output;
use crate::cli::Profile;
use anyhow::Result;

pub(crate) fn run(args: &Profile, output: Output) -> Result<()> {
    graph::run(args, output)
}
