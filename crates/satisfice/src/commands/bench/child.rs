//! Servers in processes of their own.

use crate::{
    cli::{ServeIdentity, ServeModels},
    commands::serve::{runtime, stop_signal},
    repository::{LoadOptions, Repository},
};
use anyhow::{Context, Result, anyhow};
use satisfice_load::{Identity, echo_server, grpc_echo_server};
use satisfice_server::{Limits, Models, Service, Settings, grpc, serve};
use satisfice_store::Check;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tokio::net::TcpListener;

/// The name that the model which does nothing is served under.
pub(super) const IDENTITY: &str = "identity";

/// Serves the model that does nothing until the process is asked to stop.
pub(super) fn serve_identity(args: &ServeIdentity) -> Result<()> {
    let mut models = Models::new();
    models.insert(IDENTITY, 1, Arc::new(Identity::new()))?;
    let mut settings = Settings::default();
    settings.executors = args.executors.unwrap_or(settings.executors);
    settings.admission.executing_max = settings.executors;
    serve_all(Service::new(models, settings))
}

/// Serves a repository until the process is asked to stop.
pub(super) fn serve_models(args: &ServeModels) -> Result<()> {
    let models = Repository::new(&args.models, LoadOptions::new(Check::Structure)).models()?;
    let mut settings = Settings::default();
    if let Some(most) = args.executing_max {
        settings.admission.executing_max = most;
    }
    serve_all(Service::new(models, settings))
}

fn serve_all(service: Service) -> Result<()> {
    let service = Arc::new(service);
    runtime()?.block_on(async {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (http, grpc) = (bind().await?, bind().await?);
        println!("{}", http.local_addr()?);
        println!("{}", grpc.local_addr()?);
        let limits = Limits::default();
        tokio::try_join!(
            serve(http, Arc::clone(&service), limits, stop_signal()?),
            grpc::serve(grpc, service, limits, stop_signal()?),
        )?;
        Ok(())
    })
}

/// Serves what does nothing at all until the process is killed.
pub(super) fn serve_echo() -> Result<()> {
    runtime()?.block_on(async {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (http, grpc) = (bind().await?, bind().await?);
        println!("{}", http.local_addr()?);
        println!("{}", grpc.local_addr()?);
        let http = async { anyhow::Ok(echo_server(http).await?) };
        let grpc = async { anyhow::Ok(grpc_echo_server(grpc).await?) };
        tokio::try_join!(http, grpc)?;
        Ok(())
    })
}

/// A server in another process, which ends with this value.
pub(super) struct Server {
    child: Child,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Where it answers gRPC.
    pub grpc: SocketAddr,
}

impl Server {
    /// This program, called with `arguments`.
    pub(super) fn of_this_program(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments);
        Self::start(command)
    }

    /// A program that prints where it answers HTTP, and on the next line where it answers gRPC, once
    /// it does.
    pub(super) fn of_program(program: &Path) -> Result<Self> {
        Self::start(Command::new(program))
    }

    fn start(mut command: Command) -> Result<Self> {
        let program = command.get_program().to_owned();
        // What is measured is not to write a line about every refusal.
        command.env("RUST_LOG", "error");
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.with_context(|| format!("{}", program.display()))?;
        let stdout = child.stdout.take().expect("invariant: it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let mut address = || -> Result<SocketAddr> {
            let line = lines
                .next()
                .ok_or_else(|| anyhow!("{} ended", program.display()))??;
            line.parse()
                .with_context(|| format!("{}: `{line}` is no address", program.display()))
        };
        match address().and_then(|http| Ok((http, address()?))) {
            Ok((http, grpc)) => Ok(Self { child, http, grpc }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Resident memory now and at its highest, in bytes; 0 where the system does not say.
    pub(super) fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or(0_u64) << 10
        };
        (kib("VmRSS:"), kib("VmHWM:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself. Its standard input closes too, for programs with children.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
