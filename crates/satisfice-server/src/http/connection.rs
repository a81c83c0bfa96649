//! Connections: accepting, timeouts, the end.

use super::{Limits, router};
use crate::Service;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;

/// Wait after a failed accept, such as one for lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The least buffer that the HTTP library reads headers into.
const HEADER_BYTES_MIN: usize = 8 << 10;

/// Serves HTTP/1.1 on `listener` until `shutdown` completes, then lets running requests end.
///
/// After `shutdown` no connection is accepted, idle ones are closed, and the service says that it
/// is not ready. Requests that run get [`Limits::drain_timeout`] to end; then they are dropped. An
/// engine is never interrupted: a runtime that is to end before it does must be shut down with
/// [`shutdown_timeout`](tokio::runtime::Runtime::shutdown_timeout).
///
/// # Errors
/// When the listener has no local address; failures of single connections are logged.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "serving");
    let server = Server::new(Arc::clone(&service), limits);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            stream = accept(&listener), if connections.len() < limits.connections_max.max(1) => {
                let connection = server.clone().run(stream, graceful.watcher());
                connections.spawn(connection);
            }
        }
    }
    drop(listener);
    service.drain();
    tracing::info!(connections = connections.len(), "draining");
    if tokio::time::timeout(limits.drain_timeout, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "requests did not end in time"
        );
    }
    Ok(()) // dropping the set ends what is left
}

/// The next connection, whatever becomes of others.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Everything that a connection needs.
#[derive(Clone)]
struct Server {
    http: http1::Builder,
    routes: TowerToHyperService<axum::Router>,
    write_timeout: Duration,
}

impl Server {
    fn new(service: Arc<Service>, limits: Limits) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.header_read_timeout)
            .max_buf_size(limits.header_bytes_max.max(HEADER_BYTES_MIN));
        Self {
            http,
            routes: TowerToHyperService::new(router(service, limits)),
            write_timeout: limits.write_timeout,
        }
    }

    async fn run(self, stream: TcpStream, watcher: Watcher) {
        // Small answers are not to wait for more of them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.write_timeout));
        let connection = self
            .http
            .serve_connection(TokioIo::new(Box::pin(stream)), self.routes);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended early");
        }
    }
}
