use super::settings;
use crate::{
    cli::Serve,
    logging,
    report::causes,
    repository::{LoadOptions, Repository},
};
use anyhow::{Context, Result, anyhow, bail};
use satisfice_cluster::{ClusterConfig, ClusterEngine, ClusterNode, quiet_engine_panics};
use satisfice_kernels::LostFile;
use satisfice_server::{
    Bound, Models, Server, Service,
    config::{Config, ModelControl},
    raise_open_files,
    service::{IndexEntry, Polling},
};
use satisfice_store::Check;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// For the threads of engines that did not end in time.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Serve) -> Result<()> {
    let config = settings::load(args)?.config;
    let set_level = logging::init_server(config.log);
    LostFile::tell_each(|lost| {
        tracing::error!(
            "{lost}: models that read it do not answer until it is whole and they are loaded again"
        );
    });
    let service = match (&args.cluster, args.node) {
        (Some(cluster), Some(node)) => {
            let models = cluster_model(cluster, node, args.model_name.as_deref(), check(&config))?;
            Service::new(models, &config)
        }
        _ => repository_service(&config)?,
    };
    let service = Arc::new(service);
    let runtime = runtime()?;
    let server = runtime.block_on(async {
        if config.repository.control == ModelControl::Poll {
            poll(&service, &config).await?;
        }
        let open_files = raise_open_files();
        let bound = Bound::bind(&config)?;
        let tls = config.tls.certificate.is_some();
        let server = Server::new(config, service, set_level)?;
        announce(&bound, tls)?;
        match open_files {
            Ok(files) => tracing::info!(files, "open files that the system allows"),
            Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
        }
        let mut reload = signal(SignalKind::hangup())?;
        let reloads = async {
            while reload.recv().await.is_some() {
                reconfigure(&server, args);
            }
        };
        tokio::select! {
            served = server.run(bound, stop_signal()?) => served?,
            () = reloads => {}
        }
        anyhow::Ok(server)
    })?;
    server.flush();
    // Whoever is still at work has had its time.
    runtime.shutdown_timeout(LAST_WAIT);
    Ok(())
}

fn check(config: &Config) -> Check {
    match config.repository.skip_checksums {
        true => Check::Structure,
        false => Check::Checksums,
    }
}

fn repository_service(config: &Config) -> Result<Service> {
    let path = config.repository.path.as_deref().context(
        "no model repository: name one with `--models` or `path` in `[repository]` of the configuration",
    )?;
    let versions = |(name, settings): (&String, &satisfice_server::config::ModelSettings)| {
        (name.clone(), settings.versions.clone())
    };
    let options = LoadOptions {
        versions: config.model_defaults.versions.clone(),
        model_versions: config.models.iter().map(versions).collect(),
        warm_up: config.repository.warm_up,
        live: config.repository.live,
        ..LoadOptions::new(check(config))
    };
    let repository = Repository::new(path, options);
    let control = config.repository.control;
    let models = match control {
        ModelControl::Poll => Models::new(), // the first look loads them
        ModelControl::None | ModelControl::Explicit => repository.models()?,
    };
    check_loaded(&models, path, config)?;
    let service = Service::new(models, config);
    Ok(match control {
        ModelControl::None => service,
        ModelControl::Explicit | ModelControl::Poll => service.with_loader(Arc::new(repository)),
    })
}

/// Refuses to start where nothing could ever be served, or where a model that cannot be loaded is to be the end.
/// Otherwise the others are served.
fn check_loaded(models: &Models, path: &Path, config: &Config) -> Result<()> {
    let control = config.repository.control;
    let failed = models.failed().next();
    if config.repository.exit_on_error
        && let Some((name, reason)) = failed
    {
        return Err(broken(name, reason));
    }
    if control != ModelControl::None || !models.is_empty() {
        return Ok(());
    }
    match failed {
        None => Err(no_model(path)),
        Some((name, reason)) => bail!(
            "no model of {} can be loaded; the first is `{name}`: {reason}",
            path.display()
        ),
    }
}

/// Why the server ends with a model that cannot be loaded.
fn broken(name: &str, reason: &str) -> anyhow::Error {
    anyhow!("model `{name}` cannot be loaded, and `exit_on_error` is set: {reason}")
}

/// Loads what is there, and goes on looking.
async fn poll(service: &Arc<Service>, config: &Config) -> Result<()> {
    let mut polling = Polling::default();
    service.poll_once(&mut polling).await?;
    if config.repository.exit_on_error {
        let index = service.index().await?;
        let mut failed = index.iter().filter(|entry| !entry.reason.is_empty());
        if let Some(IndexEntry { name, reason, .. }) = failed.next() {
            return Err(broken(name, reason));
        }
    }
    let interval = Duration::from_secs(config.repository.poll_interval_s.max(1));
    let service = Arc::clone(service);
    tokio::spawn(async move { service.poll(polling, interval).await });
    Ok(())
}

/// The model of a cluster, as one of its nodes serves it.
fn cluster_model(path: &Path, node: usize, name: Option<&str>, check: Check) -> Result<Models> {
    quiet_engine_panics();
    let config = ClusterConfig::read(path)?;
    let name = name.unwrap_or(&config.group).to_owned();
    let node = Arc::new(ClusterNode::start(&config, node, check)?);
    node.check_tables()?;
    let version = node.part().model_dir().version();
    let mut models = Models::new();
    let engine = ClusterEngine::new(node)?;
    if let Some(problem) = engine.profile_problem() {
        tracing::warn!(model = name, %problem, "the model's profile is not used");
    }
    models.insert(&name, version, Arc::new(engine))?;
    Ok(models)
}

/// Prints where the server is, for people and for programs that wait for it.
fn announce(bound: &Bound, tls: bool) -> Result<()> {
    let scheme = if tls { "https" } else { "http" };
    for (name, address) in bound.addresses()? {
        match name {
            "HTTP" => println!("serving on {scheme}://{address}"),
            "gRPC" => println!("serving gRPC on {address}"),
            name => println!("serving {name} on {scheme}://{address}"),
        }
    }
    Ok(())
}

/// Reads the configuration anew; says what took effect and what did not.
fn reconfigure(server: &Server, args: &Serve) {
    let loaded = settings::load(args).and_then(|loaded| Ok(server.reload(loaded.config)?));
    match loaded {
        Ok(restart) if restart.is_empty() => tracing::warn!("configuration read anew"),
        Ok(restart) => tracing::warn!(
            needs_restart = restart.join(", "),
            "configuration read anew, but some of it needs a restart"
        ),
        Err(error) => tracing::error!(
            error = causes(&error),
            "configuration not read anew: everything is as it was"
        ),
    }
}

fn no_model(dir: &Path) -> anyhow::Error {
    anyhow!(
        "{}: no model: a model repository holds directories with a model.toml each",
        dir.display()
    )
}

/// The models of a repository that has some.
pub(crate) fn load_models(dir: &Path, check: Check) -> Result<Models> {
    let models = Repository::new(dir, LoadOptions::new(check)).models()?;
    if let Some((name, reason)) = models.failed().next() {
        bail!("model `{name}` cannot be loaded: {reason}");
    }
    match models.is_empty() {
        true => Err(no_model(dir)),
        false => Ok(models),
    }
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    // One thread is for the network alone, so that brief requests may have as many as there are cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores + 1)
        .enable_all()
        .build()?)
}

/// Completes when the process is asked to stop (SIGINT, SIGTERM).
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
