use super::Output;
use crate::{cli::Snapshot, report};
use anyhow::Result;
use satisfice_store::live::copy_store;

pub(crate) fn run(args: &Snapshot, output: Output) -> Result<()> {
    let summary = copy_store(&args.store, &args.out)?;
    output.print(&summary, || {
        let log = summary.log.map_or_else(String::new, |log| {
            format!(
                ", and a log of {} writes, {}",
                log.writes,
                report::bytes(log.bytes)
            )
        });
        format!(
            "{}: version {} of the graph: files of {}{log}\n",
            args.out.display(),
            summary.version,
            report::bytes(summary.bytes)
        )
    })
}
