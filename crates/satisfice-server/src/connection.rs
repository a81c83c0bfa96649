//! Connections: accepting, timeouts, the end.

use crate::{Limits, Service};
use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulConnection, GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use std::{fmt::Display, future::Future, io, pin::Pin, pin::pin, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;

/// Wait after a failed accept, such as one for lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The least buffer that the HTTP library reads headers into.
const HEADER_BYTES_MIN: usize = 8 << 10;
/// Requests that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 128;
/// Silence after which an HTTP/2 client is asked whether it is there, and time for its answer.
const PING: Duration = Duration::from_secs(30);

/// Accepts connections for `server` until `shutdown` completes, then lets running requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    server: Server,
    service: &Service,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    tracing::info!(address = %listener.local_addr()?, protocol = server.name(), "serving");
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            stream = accept(&listener), if connections.len() < limits.connections_max.max(1) => {
                let connection = server.clone().run(stream, limits, graceful.watcher());
                connections.spawn(connection);
            }
        }
    }
    drop(listener);
    service.drain();
    tracing::info!(
        connections = connections.len(),
        protocol = server.name(),
        "draining"
    );
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
pub(crate) enum Server {
    /// HTTP/1.1.
    Http1(http1::Builder, TowerToHyperService<Router>),
    /// HTTP/2 without negotiation, as gRPC clients speak it.
    Http2(http2::Builder<TokioExecutor>, TowerToHyperService<Router>),
}

type Stream = TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>;

impl Server {
    pub(crate) fn http1(routes: Router, limits: Limits) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.header_read_timeout)
            .max_buf_size(limits.header_bytes_max.max(HEADER_BYTES_MIN));
        Self::Http1(http, TowerToHyperService::new(routes))
    }

    pub(crate) fn http2(routes: Router, limits: Limits) -> Self {
        let headers = limits.header_bytes_max.max(HEADER_BYTES_MIN);
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(headers).unwrap_or(u32::MAX));
        Self::Http2(http, TowerToHyperService::new(routes))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Http1(..) => "HTTP",
            Self::Http2(..) => "gRPC",
        }
    }

    async fn run(self, stream: TcpStream, limits: Limits, watcher: Watcher) {
        // Small answers are not to wait for more of them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_timeout));
        let stream: Stream = TokioIo::new(Box::pin(stream));
        match self {
            Self::Http1(http, routes) => {
                watch(watcher, http.serve_connection(stream, routes)).await;
            }
            Self::Http2(http, routes) => {
                watch(watcher, http.serve_connection(stream, routes)).await;
            }
        }
    }
}

async fn watch<C: GracefulConnection<Error: Display>>(watcher: Watcher, connection: C) {
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}
