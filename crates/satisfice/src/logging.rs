//! Where events go: standard error, as lines for people or JSON for programs.

use satisfice_server::config::{Level, Log, LogFormat};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Logs lines at `level` or above, or what `RUST_LOG` says.
pub(crate) fn init(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Logs as a server is configured, or what `RUST_LOG` says; gives what changes the level.
pub(crate) fn init_server(log: Log) -> impl Fn(Level) + Send + Sync + 'static {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| filter_of(log.level));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    move |level| {
        if let Err(error) = handle.reload(filter_of(level)) {
            tracing::error!(%error, "the log level could not be changed");
        }
    }
}

/// Libraries below speak only when something is wrong, and the lines of requests are switched on
/// and off elsewhere.
fn filter_of(level: Level) -> EnvFilter {
    let libraries = match level {
        Level::Error => "error",
        Level::Trace => "debug",
        Level::Warn | Level::Info | Level::Debug => "warn",
    };
    let level = level.name();
    EnvFilter::new(format!(
        "{libraries},satisfice={level},satisfice_server::access=info"
    ))
}
