//! The configuration of a server from file, environment and flags.

use crate::cli::{ModelControl, Serve};
use anyhow::{Context, Result};
use satisfice_server::config::{Layers, Loaded, Source};
use std::{
    env,
    path::{Path, PathBuf},
};

/// Names the file when `--config` does not.
const FILE_VARIABLE: &str = "SATISFICE_CONFIG";

/// The file and the environment.
pub(crate) fn layers(file: Option<&Path>) -> Result<Layers> {
    let named = env::var_os(FILE_VARIABLE).map(PathBuf::from);
    let mut layers = Layers::new();
    if let Some(path) = file.or(named.as_deref()) {
        layers.file(path)?;
    }
    let variables = env::vars_os();
    let text = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    layers.environment(text)?;
    Ok(layers)
}

/// What `satisfice serve` is to do.
pub(crate) fn load(args: &Serve) -> Result<Loaded> {
    let mut layers = layers(args.config.as_deref())?;
    let addresses = [
        ("--listen", "http.listen", args.listen),
        ("--grpc-listen", "grpc.listen", args.grpc_listen),
        ("--admin-listen", "admin.listen", args.admin_listen),
        ("--metrics-listen", "metrics.listen", args.metrics_listen),
    ];
    for (flag, key, address) in addresses {
        if let Some(address) = address {
            layers.flag(flag, key, address.to_string())?;
        }
    }
    if let Some(path) = &args.models {
        let path = path.to_str().context("`--models` is not a path in UTF-8")?;
        layers.flag("--models", "repository.path", path)?;
    }
    if let Some(control) = args.model_control {
        let control = match control {
            ModelControl::None => "none",
            ModelControl::Explicit => "explicit",
            ModelControl::Poll => "poll",
        };
        layers.flag("--model-control", "repository.control", control)?;
    }
    if args.skip_checksums {
        layers.flag("--skip-checksums", "repository.skip_checksums", true)?;
    }
    if args.live {
        layers.flag("--live", "repository.live", true)?;
    }
    if args.exit_on_error {
        layers.flag("--exit-on-error", "repository.exit_on_error", true)?;
    }
    if args.strict_readiness {
        let key = "repository.strict_readiness";
        layers.flag("--strict-readiness", key, true)?;
    }
    if args.warm_up {
        layers.flag("--warm-up", "repository.warm_up", true)?;
    }
    if let Some(versions) = &args.versions {
        layers.flag(
            "--versions",
            "model_defaults.versions",
            versions.to_string(),
        )?;
    }
    if let Some(share) = args.audit_share {
        let key = "model_defaults.admission.audit_share";
        layers.flag("--audit-share", key, share)?;
    }
    let counts = [
        (
            "--poll-interval",
            "repository.poll_interval_s",
            args.poll_interval,
        ),
        (
            "--executors",
            "schedule.executors",
            args.executors.map(|n| n as u64),
        ),
        (
            "--batch-delay-us",
            "model_defaults.admission.batch_delay_us",
            args.batch_delay_us,
        ),
    ];
    for (flag, key, count) in counts {
        if let Some(count) = count {
            let count = i64::try_from(count).with_context(|| format!("`{flag}` is too large"))?;
            layers.flag(flag, key, count)?;
        }
    }
    let mut loaded = layers.finish()?;
    // Who asks for any port of HTTP does not want a certain one of gRPC.
    let grpc_is_default = loaded.source("grpc.listen") == Source::Default;
    if loaded.config.http.listen.port() == 0 && grpc_is_default {
        loaded.config.grpc.listen.set_port(0);
    }
    Ok(loaded)
}
