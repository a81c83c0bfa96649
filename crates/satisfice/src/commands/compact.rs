use super::Output;
use crate::{cli::Compact, progress::Bars};
use anyhow::Result;
use satisfice_store::live::{CompactSummary, compact};

pub(crate) fn run(args: &Compact, output: Output) -> Result<()> {
    let summary = compact(&args.store, &Bars::default())?;
    output.print(&summary, || {
        format!("{}: {}", args.store.display(), text(&summary))
    })
}

fn text(summary: &CompactSummary) -> String {
    if summary.writes == 0 {
        return format!("nothing was written since version {}\n", summary.version);
    }
    let ids = match summary.ids_made {
        true => "; ids, which were positions, are integers of their own now",
        false => "",
    };
    format!(
        "{} writes folded in, version {}: {} nodes, {} directed edges; {} positions of deleted nodes given up{ids}\n\
         embeddings and profiles of the graph are to be made anew: satisfice precompute MODEL\n",
        summary.writes, summary.version, summary.nodes, summary.edges, summary.reclaimed
    )
}
