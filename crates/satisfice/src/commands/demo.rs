//! Real models on real data, served and asked.

pub(crate) mod graph;
mod multimodal;
mod server;

use super::{Output, bundle::find_bundle};
use crate::{
    cli::{Demo, DemoPart},
    measure::ModelRows,
};
use anyhow::Result;
use serde::Serialize;
use server::Server;

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    models: Vec<ModelRows>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multimodal: Option<multimodal::Measured>,
}

pub(crate) fn run(args: &Demo, output: Output) -> Result<()> {
    let shows = |part| args.part.is_none_or(|only| only == part);
    let graph = shows(DemoPart::Graph).then(|| {
        let bundle = find_bundle(
            args.bundle.as_deref(),
            "examples/debian",
            "queries.safetensors",
        )?;
        graph::Part::prepare(bundle, &args.dir, output)
    });
    let graph = graph.transpose()?;
    let multimodal = shows(DemoPart::Multimodal).then(|| {
        let given = args.multimodal_bundle.as_deref();
        let bundle = find_bundle(given, "examples/emoji", "calibration.safetensors")?;
        multimodal::Part::prepare(&bundle, &args.dir, output)
    });
    let multimodal = multimodal.transpose()?;
    output.say(&format!("everything is in {}", args.dir.display()))?;

    let server = Server::start(&args.dir.join("models"), args.listen)?;
    let url = server.url();
    output.say(&format!("serving on {url}\n"))?;
    let document = Document {
        models: match &graph {
            Some(graph) => graph.measure(&url, &args.grid, output)?,
            None => Vec::new(),
        },
        multimodal: match &multimodal {
            Some(multimodal) => Some(multimodal.measure(&url, output)?),
            None => None,
        },
    };
    if output.json {
        output.print(&document, String::new)?;
    }
    if args.once {
        return server.stop();
    }
    if let Some(graph) = &graph {
        output.say(&graph.invitation(&url, &args.dir)?)?;
    }
    if multimodal.is_some() {
        output.say(&multimodal::invitation(&url))?;
    }
    output.say("Serving on; Ctrl-C stops.")?;
    server.wait()
}
