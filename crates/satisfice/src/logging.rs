//! Where events go: standard error, as lines for people or JSON for programs.

mod lines;

use lines::Lines;
use satisfice_server::config::{Level, Log, LogFormat};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Logs lines at `level` or above, or what `RUST_LOG` says.
pub(crate) fn init(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines(io::stderr()))
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Logs as a server is configured, or what `RUST_LOG` says; gives what changes the level.
pub(crate) fn init_server(log: Log) -> impl Fn(Level) + Send + Sync + 'static {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| filter_of(log.level));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Lines(io::stderr()))
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
/// and off elsewhere. That of HTTP/2 warns of every connection that is hostile, of which there may be any number.
fn filter_of(level: Level) -> EnvFilter {
    let (libraries, http2) = match level {
        Level::Error => ("error", "error"),
        Level::Trace => ("debug", "debug"),
        Level::Warn | Level::Info | Level::Debug => ("warn", "error"),
    };
    let level = level.name();
    EnvFilter::new(format!(
        "{libraries},h2={http2},satisfice={level},satisfice_server::access=info"
    ))
}
