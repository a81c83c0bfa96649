//! A server, its configuration and its tokens.

use super::share;
use clap::{Args, Subcommand, ValueEnum};
use satisfice_server::{VersionPolicy, access::Expiry};
use std::{net::SocketAddr, path::PathBuf};

/// Answer new nodes over HTTP and gRPC (Open Inference Protocol).
///
/// Without a file it serves on loopback, to everybody there:
///   satisfice serve --models models
/// A file sets everything else: TLS, tokens, limits, logs, traces (docs/satisfice.example.toml).
///   satisfice serve --config satisfice.toml
/// Environment variables are over the file (`SATISFICE_HTTP__LISTEN` is `listen` in `[http]`), flags over
/// both; `satisfice config show` tells what came from where. SIGHUP reads the configuration anew, SIGTERM
/// lets running requests end.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Serve {
    /// Configuration (TOML); the file that `SATISFICE_CONFIG` names when absent.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Model repository: a directory of model directories (`repository.path`).
    #[arg(long, conflicts_with = "cluster")]
    pub models: Option<PathBuf>,
    /// Serve as a node of a cluster: its file, the same on every node (docs/cluster.md). Every node
    /// takes any request.
    #[arg(long, requires = "node")]
    pub cluster: Option<PathBuf>,
    /// Which of the cluster's nodes this one is, from 0.
    #[arg(long, requires = "cluster")]
    pub node: Option<usize>,
    /// Name under which a cluster's model is served; the group's name when absent.
    #[arg(long, requires = "cluster")]
    pub model_name: Option<String>,
    /// Address to listen on for HTTP; 127.0.0.1:8000 when set nowhere (`http.listen`).
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Address to listen on for gRPC; 127.0.0.1:8001 when set nowhere, or a free port when HTTP is
    /// to have one (port 0) (`grpc.listen`).
    #[arg(long)]
    pub grpc_listen: Option<SocketAddr>,
    /// Address to listen on for what changes the server (`admin.listen`).
    #[arg(long)]
    pub admin_listen: Option<SocketAddr>,
    /// Address to listen on for metrics (`metrics.listen`).
    #[arg(long)]
    pub metrics_listen: Option<SocketAddr>,
    /// Start without recomputing the checksums of stores and embeddings
    /// (`repository.skip_checksums`).
    #[arg(long)]
    pub skip_checksums: bool,
    /// Take writes to the graphs of the models, which follow them (docs/live-graph.md)
    /// (`repository.live`).
    #[arg(long, conflicts_with = "cluster")]
    pub live: bool,
    /// Whether clients may load and unload models by name while the server runs
    /// (`repository.control`).
    #[arg(long, value_enum)]
    pub model_control: Option<ModelControl>,
    /// Seconds between two looks at the repository with `--model-control poll`
    /// (`repository.poll_interval_s`).
    #[arg(long)]
    pub poll_interval: Option<u64>,
    /// Versions of each model that are served: `latest`, `latest:N`, `all`, or numbers separated by
    /// commas. Requests that name no version get the highest (`model_defaults.versions`).
    #[arg(long)]
    pub versions: Option<VersionPolicy>,
    /// End at the start when a model cannot be loaded; the others are served when set nowhere
    /// (`repository.exit_on_error`).
    #[arg(long)]
    pub exit_on_error: bool,
    /// Not to be ready while a model could not be loaded; ready for the others when set nowhere
    /// (`repository.strict_readiness`).
    #[arg(long)]
    pub strict_readiness: bool,
    /// Have every model answer a small request before it is served. A model with a `warmup.json`, the body of a
    /// request, always answers that (`repository.warm_up`).
    #[arg(long)]
    pub warm_up: bool,
    /// Cores that are handed out to what is executed, over all models; those of the machine when set
    /// nowhere, and at least 2 (`schedule.executors`).
    #[arg(long)]
    pub executors: Option<usize>,
    /// Microseconds that an input waits at most for others to fill its batch, while nothing else waits
    /// (`model_defaults.admission.batch_delay_us`).
    #[arg(long)]
    pub batch_delay_us: Option<u64>,
    /// Share of the answers by a cheaper plan that are made again by the dearest in idle time, to see
    /// whether promises hold (`model_defaults.admission.audit_share`).
    #[arg(long, value_parser = share)]
    pub audit_share: Option<f64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Check(ConfigCheck),
    Show(ConfigShow),
}

/// Check a configuration and the files that it names.
///
/// Unknown keys and wrong values are named with line and column.
#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    /// Configuration (TOML).
    pub file: PathBuf,
}

/// Show what is in force and where each value came from; secrets are redacted.
#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    /// Configuration (TOML); the file that `SATISFICE_CONFIG` names when absent.
    #[arg(long)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    New(TokenNew),
}

/// Print a new token on standard error, and its entry for the file that `auth.file` names on
/// standard output:
///   satisfice token new --name search-team --models 'gcn*,sage2' >> tokens.toml
///
/// The file holds only the token's SHA-256: who reads it cannot ask in the client's name.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TokenNew {
    /// Who it is for; appears in logs.
    #[arg(long)]
    pub name: String,
    /// Models it is for, names or patterns such as `gcn*`, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub models: Vec<String>,
    /// Graphs it may write to, names or patterns, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub write: Vec<String>,
    /// It is for changing the server: load, unload, log and trace settings.
    #[arg(long)]
    pub admin: bool,
    /// It is for reading metrics.
    #[arg(long)]
    pub metrics: bool,
    /// When it ends: a time from now such as `90d`, `12h` or `30m`, or a moment in UTC such as `2027-02-28` or
    /// `2027-02-28T12:00:00Z`. Never when left out.
    #[arg(long, value_parser = Expiry::to_come)]
    pub expires: Option<Expiry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelControl {
    /// What is in the repository at the start is served, for good.
    None,
    /// What is in the repository at the start is served until a client says otherwise.
    Explicit,
    /// The repository is looked at again and again: what is new or has changed is loaded, what has
    /// gone is unloaded. A model that cannot be loaded is served as it was.
    Poll,
}
