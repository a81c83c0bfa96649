//! Asking a server, and the demo.

use super::Grid;
use clap::{Args, ValueEnum, builder::TypedValueParser};
use satisfice_core::{
    Parameter, Parameters,
    parameters::{
        self, CLUSTER, CONTRACT, DEADLINE_MS, EXPLAIN, MIN_ACCURACY, MIN_FIDELITY, PRIORITY,
        ParameterSpec, Place,
    },
};
use satisfice_graph::Plan;
use std::{ffi::OsStr, net::SocketAddr, ops::Range, path::PathBuf};

/// Send held-out queries to a running server and print its answers.
///
///   satisfice query --model gcn2 --queries queries.safetensors --plan exact
///   satisfice query --model gcn2 --queries queries.safetensors --min-fidelity 0.98 --deadline-ms 20 --explain
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Query {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// Name of the model.
    #[arg(long)]
    pub model: String,
    /// Queries (`.safetensors`, docs/formats.md).
    #[arg(long)]
    pub queries: PathBuf,
    /// Which queries to send, as one batch: `FROM..TO`.
    #[arg(long, default_value = "0..4", value_parser = rows)]
    pub rows: Range<usize>,
    /// Plan: `pe`, `recompute:<budget>` or `exact`; the server's choice when absent.
    #[arg(long)]
    pub plan: Option<Plan>,
    #[command(flatten)]
    pub contract: Contract,
    /// Token of `satisfice token new`, where the server asks for one.
    #[arg(long, env = "SATISFICE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// What the answer has to keep, and whatever else a request may say (docs/parameters.md).
#[derive(Debug, Args)]
#[command(next_help_heading = "Contract")]
pub(crate) struct Contract {
    #[arg(long, help = help(DEADLINE_MS), value_parser = Of(DEADLINE_MS))]
    pub deadline_ms: Option<Parameter>,
    #[arg(long, help = help(MIN_ACCURACY), value_parser = Of(MIN_ACCURACY), conflicts_with = "min_fidelity")]
    pub min_accuracy: Option<Parameter>,
    #[arg(long, help = help(MIN_FIDELITY), value_parser = Of(MIN_FIDELITY))]
    pub min_fidelity: Option<Parameter>,
    #[arg(long, help = help(PRIORITY), value_parser = Of(PRIORITY))]
    pub priority: Option<Parameter>,
    #[arg(long, help = help(EXPLAIN))]
    pub explain: bool,
    /// Any other parameter of the request, such as `exchange=rows`; may stand several times.
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = any_parameter)]
    pub others: Vec<(String, Parameter)>,
}

fn help(spec: ParameterSpec) -> String {
    format!("{}: {}", spec.values, spec.doc)
}

/// Reads values of one parameter.
#[derive(Debug, Clone, Copy)]
struct Of(ParameterSpec);

impl TypedValueParser for Of {
    type Value = Parameter;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Parameter, clap::Error> {
        let text = value.to_string_lossy().into_owned();
        self.0.read(&text.into()).map_err(|error| {
            clap::Error::raw(
                clap::error::ErrorKind::ValueValidation,
                format!("{error}\n"),
            )
            .with_cmd(command)
        })
    }
}

fn any_parameter(text: &str) -> Result<(String, Parameter), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    let known = CONTRACT.iter().chain(&CLUSTER);
    let mut one = Parameters::from([(name.to_owned(), value.into())]);
    parameters::check(&mut one, &known, Place::Request).map_err(|error| error.to_string())?;
    one.pop_first()
        .ok_or_else(|| format!("`{text}` is not NAME=VALUE"))
}

fn rows(text: &str) -> Result<Range<usize>, String> {
    let wrong = || format!("`{text}` is not a range such as 0..4");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let range = from.parse().map_err(|_| wrong())?..to.parse().map_err(|_| wrong())?;
    if range.is_empty() {
        Err(wrong())
    } else {
        Ok(range)
    }
}

/// Serve trained models on real data, ask them, and show what each way to answer costs and is worth.
///
/// Two graph models on Debian's packages and their dependencies: which section does a package belong
/// to? And a model of three modalities, pictures, speech and text, on emoji: what kind is it?
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Show one part only.
    #[arg(long, value_enum)]
    pub part: Option<DemoPart>,
    /// The graph bundle; when absent, `examples/debian` here or beside the binary's workspace.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// The multi-modal bundle; when absent, `examples/emoji` likewise.
    #[arg(long)]
    pub multimodal_bundle: Option<PathBuf>,
    /// Where stores and embeddings are made.
    #[arg(long, default_value = "satisfice-demo")]
    pub dir: PathBuf,
    /// Address to listen on; another port is taken when it is in use.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Stop after the tables instead of serving on.
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub grid: Grid,
}

/// A part of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoPart {
    /// New nodes of a large graph.
    Graph,
    /// Pictures, speech and text.
    Multimodal,
}
