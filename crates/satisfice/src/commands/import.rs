use super::Output;
use crate::{
    cli::{Import, PrecisionArg},
    progress::Bars,
    report,
};
use anyhow::{Result, bail};
use satisfice_store::{FeatureDType, ImportOptions, ImportSummary, Source, Tables, import};
use std::fmt::Write as _;

pub(crate) fn run(args: &Import, output: Output) -> Result<()> {
    let options = ImportOptions {
        undirected: args.undirected,
        merge_duplicates: args.merge_duplicates,
        remove_self_loops: args.remove_self_loops,
        feature_dtype: args.store_as.map(|precision| match precision {
            PrecisionArg::F32 => FeatureDType::F32,
            PrecisionArg::F16 => FeatureDType::F16,
            PrecisionArg::Int8 => FeatureDType::Int8,
        }),
        ignored_columns: args.ignore_column.clone(),
        overwrite: args.overwrite,
    };
    let summary = import(&source(args)?, &options, &args.out, &Bars::default())?;
    output.print(&summary, || text(args, &summary))
}

fn source(args: &Import) -> Result<Source> {
    match (&args.from, &args.edges, &args.nodes) {
        (Some(path), _, _) => Ok(Source::detect(path)?),
        (None, Some(edges), Some(nodes)) => Ok(Source::Tables(Tables {
            edges: edges.clone(),
            nodes: nodes.clone(),
            id_column: args.id_column.clone(),
            weight_column: args.weight_column.clone(),
            features: args.features.clone(),
            labels: args.labels.clone(),
        })),
        _ => bail!("say where the graph is: `--from PATH`, or `--edges FILE --nodes FILE`"),
    }
}

fn text(args: &Import, summary: &ImportSummary) -> String {
    let mut text = format!(
        "{}: {} nodes, {} directed edges, {} features, {}\n\
         {} duplicate edges {}, {} self-loops, {} nodes without edges\n",
        args.out.display(),
        summary.nodes,
        summary.edges,
        summary.features,
        report::bytes(summary.bytes),
        summary.duplicates,
        if summary.duplicates_merged {
            "merged"
        } else {
            "kept, as PyG keeps them"
        },
        summary.self_loops,
        summary.isolated,
    );
    if summary.weighted {
        text.push_str("every edge has a weight\n");
    }
    if !summary.skipped_columns.is_empty() {
        let _ = writeln!(text, "left out: {}", summary.skipped_columns.join(", "));
    }
    text
}
