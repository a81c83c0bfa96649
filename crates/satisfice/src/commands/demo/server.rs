//! The real server, on a thread of its own.

use crate::commands::serve::{load_models, runtime, stop_signal};
use anyhow::{Result, bail};
use satisfice_server::{Admission, Limits, Service};
use satisfice_store::Check;
use std::{net::SocketAddr, path::Path, sync::Arc, thread};
use tokio::{net::TcpListener, sync::oneshot};

/// A server that answers until it is stopped.
pub(super) struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Server {
    /// Serves the models in `models`; on another port when the one asked for is in use.
    pub(super) fn start(models: &Path, listen: SocketAddr) -> Result<Self> {
        let service = Arc::new(Service::new(
            load_models(models, Check::Checksums)?,
            Admission::default(),
        ));
        let runtime = runtime()?;
        let listener = runtime.block_on(async {
            match TcpListener::bind(listen).await {
                // The port is in use: any other will do for a demonstration.
                Err(_) => TcpListener::bind(SocketAddr::new(listen.ip(), 0)).await,
                bound => bound,
            }
        })?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let signal = stop_signal()?;
                let shutdown = async {
                    tokio::select! {
                        () = signal => {}
                        _ = stopped => {}
                    }
                };
                satisfice_server::serve(listener, service, Limits::default(), shutdown).await?;
                Ok(())
            })
        });
        Ok(Self {
            address,
            stop,
            thread,
        })
    }

    /// `http://HOST:PORT`.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn stop(self) -> Result<()> {
        // The server may have stopped by itself.
        let _ = self.stop.send(());
        join(self.thread)
    }

    /// Serves until the process is asked to stop.
    pub(super) fn wait(self) -> Result<()> {
        let Self { stop, thread, .. } = self;
        let result = join(thread);
        drop(stop);
        result
    }
}

fn join(thread: thread::JoinHandle<Result<()>>) -> Result<()> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("the server's thread panicked"),
    }
}
