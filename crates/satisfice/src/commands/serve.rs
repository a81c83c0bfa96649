use crate::{
    cli::{ModelControl, Serve},
    repository::{LoadOptions, Repository},
};
use anyhow::{Context, Result, anyhow};
use satisfice_server::{Admission, Limits, Models, Service, Settings, grpc, service::Polling};
use satisfice_store::Check;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

const GRPC_PORT: u16 = 8001;

pub(crate) fn run(args: &Serve) -> Result<()> {
    let repository = Repository::new(&args.models, load_options(args));
    let models = match args.model_control {
        ModelControl::Poll => Models::new(), // the first look loads them
        ModelControl::None | ModelControl::Explicit => repository.models()?,
    };
    if args.model_control == ModelControl::None && models.is_empty() {
        return Err(no_model(&args.models));
    }
    let service = Service::with_settings(models, settings(args));
    let service = Arc::new(match args.model_control {
        ModelControl::None => service,
        ModelControl::Explicit | ModelControl::Poll => service.with_loader(Arc::new(repository)),
    });
    runtime()?.block_on(async {
        if args.model_control == ModelControl::Poll {
            let mut polling = Polling::default();
            service.poll_once(&mut polling).await?;
            let interval = Duration::from_secs(args.poll_interval.max(1));
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.poll(polling, interval).await });
        }
        let http = listen(args.listen, "--listen").await?;
        let grpc = listen(grpc_address(args), "--grpc-listen").await?;
        println!("serving on http://{}", http.local_addr()?);
        println!("serving gRPC on {}", grpc.local_addr()?);
        let limits = Limits::default();
        tokio::try_join!(
            satisfice_server::serve(http, Arc::clone(&service), limits, stop_signal()?),
            grpc::serve(grpc, service, limits, stop_signal()?),
        )?;
        Ok(())
    })
}

fn load_options(args: &Serve) -> LoadOptions {
    LoadOptions {
        versions: args.versions.clone(),
        model_versions: args.model_versions.iter().cloned().collect(),
        warm_up: args.warm_up,
        ..LoadOptions::new(match args.skip_checksums {
            true => Check::Structure,
            false => Check::Checksums,
        })
    }
}

fn settings(args: &Serve) -> Settings {
    let default = Settings::default();
    let admission = Admission::default();
    Settings {
        executors: args.executors.unwrap_or(default.executors),
        admission: Admission {
            batch_delay: Duration::from_micros(args.batch_delay_us),
            audit_share: args.audit_share,
            ..admission
        },
        ..default
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
    match models.is_empty() {
        true => Err(no_model(dir)),
        false => Ok(models),
    }
}

fn grpc_address(args: &Serve) -> SocketAddr {
    let default_port = match args.listen.port() {
        0 => 0,
        _ => GRPC_PORT,
    };
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, default_port));
    args.grpc_listen.unwrap_or(default)
}

async fn listen(address: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another `{option}`"))
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
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
