use super::Output;
use crate::{
    cli::{Generate, PrecisionArg, Preset},
    progress::Bars,
};
use anyhow::Result;
use satisfice_store::{FeatureDType, SyntheticSpec, generate};

pub(crate) fn run(args: &Generate, output: Output) -> Result<()> {
    let summary = generate(&spec(args), &args.out, args.overwrite, &Bars::default())?;
    output.print(&summary, || {
        format!(
            "{}: {} stored nodes, {} directed edges ({} drawn again and merged); {} nodes held out, \
             {} of them as queries with {} edges to stored nodes and {} among each other\n",
            args.out.display(),
            summary.nodes,
            summary.edges,
            summary.merged,
            summary.held_out,
            summary.queries,
            summary.query_edges,
            summary.edges_between_queries
        )
    })
}

/// The preset, with what was asked for otherwise.
fn spec(args: &Generate) -> SyntheticSpec {
    let preset = match args.preset {
        Preset::RedditLike => SyntheticSpec::reddit_like(),
        Preset::ProductsLike => SyntheticSpec::products_like(),
    };
    SyntheticSpec {
        nodes: args.nodes.unwrap_or(preset.nodes),
        edges: args.edges.unwrap_or(preset.edges),
        features: args.features.unwrap_or(preset.features),
        classes: args.classes.unwrap_or(preset.classes),
        homophily: args.homophily.unwrap_or(preset.homophily),
        signal: args.signal.unwrap_or(preset.signal),
        queries_max: args.queries.unwrap_or(preset.queries_max),
        feature_dtype: match args.store_as {
            PrecisionArg::F32 => FeatureDType::F32,
            PrecisionArg::F16 => FeatureDType::F16,
            PrecisionArg::Int8 => FeatureDType::Int8,
        },
        seed: args.seed,
        ..preset
    }
    .scaled(args.scale)
}
