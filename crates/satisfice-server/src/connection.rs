//! Connections: accepting, timeouts, the end.

use crate::{
    Limits, Service,
    front::{Front, Listener, Peer},
    tls::Alpn,
};
use axum::{Router, body::Body, extract::Request, response::Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulConnection, GracefulShutdown, Watcher},
};
use std::{
    convert::Infallible, fmt::Display, future::Future, io, net::SocketAddr, pin::pin,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

/// Wait after a failed accept, such as one for lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Headers of a request that hyper takes unless it is told.
const HYPER_HEADERS_MAX: usize = 100;
/// Requests that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 128;
/// Longest silence before an HTTP/2 client is asked whether it is there.
const PING_MAX: Duration = Duration::from_secs(30);

/// What answers the requests of connections.
pub(crate) trait Respond: Clone + Send + Sync + 'static {
    /// The answer to one request; `peer` sent it, if it came by a connection of ours.
    fn respond(
        &self,
        request: Request,
        peer: Option<Peer>,
    ) -> impl Future<Output = Response> + Send;
}

/// What a router answers.
pub(crate) async fn routed(router: &Router, request: Request) -> Response {
    match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Accepts connections for `server` until `shutdown` completes, then lets running requests end.
pub(crate) async fn serve(
    listener: Listener,
    server: Server<impl Respond>,
    service: &Service,
    front: &Front,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let Listener { socket, role } = listener;
    let address = socket.local_addr()?;
    let (protocol, tls) = (server.name(), front.tls().is_some());
    tracing::info!(%address, protocol, ?role, tls, "serving");
    let limits = front.limits();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, client) = accept(&socket), if connections.len() < limits.connections_max.max(1) => {
                let peer = Peer { client, listener: address };
                let connection = server.clone().run(stream, peer, front.clone(), graceful.watcher());
                connections.spawn(connection);
            }
        }
    }
    drop(socket);
    service.drain();
    tracing::info!(connections = connections.len(), protocol, "draining");
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
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Everything that a connection needs.
#[derive(Clone)]
pub(crate) struct Server<R> {
    protocol: Protocol,
    routes: R,
}

#[derive(Clone)]
enum Protocol {
    /// HTTP/1.1.
    Http1(http1::Builder),
    /// HTTP/2 without negotiation, as gRPC clients speak it.
    Http2(http2::Builder<TokioExecutor>),
}

impl<R: Respond> Server<R> {
    pub(crate) fn http1(routes: R, limits: Limits) -> Self {
        let mut http = http1::Builder::new();
        // Where hyper is told a number it has no room on the stack for them.
        if limits.headers_max != HYPER_HEADERS_MAX {
            http.max_headers(limits.headers_max);
        }
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.header_read_timeout)
            .max_buf_size(limits.header_bytes_max.max(Limits::HEADER_BYTES_MIN));
        let protocol = Protocol::Http1(http);
        Self { protocol, routes }
    }

    pub(crate) fn http2(routes: R, limits: Limits) -> Self {
        let headers = limits.header_bytes_max.max(Limits::HEADER_BYTES_MIN);
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(ping(limits))
            .keep_alive_timeout(ping(limits))
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(headers).unwrap_or(u32::MAX));
        let protocol = Protocol::Http2(http);
        Self { protocol, routes }
    }

    fn name(&self) -> &'static str {
        match self.protocol {
            Protocol::Http1(_) => "HTTP",
            Protocol::Http2(_) => "gRPC",
        }
    }

    async fn run(self, stream: TcpStream, peer: Peer, front: Front, watcher: Watcher) {
        // Small answers are not to wait for more of them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
        let limits = front.limits();
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_timeout));
        let alpn = match self.protocol {
            Protocol::Http1(_) => Alpn::Http1,
            // Clients that are there answer pings; others may never even greet.
            Protocol::Http2(_) => {
                stream.set_read_timeout(Some(3 * ping(limits)));
                Alpn::Http2
            }
        };
        let stream = Box::pin(stream);
        let Some(tls) = front.tls() else {
            return self.speak(stream, peer, watcher).await;
        };
        let handshake = tls.acceptor(alpn).accept(stream);
        match tokio::time::timeout(limits.tls_handshake_timeout, handshake).await {
            Ok(Ok(stream)) => self.speak(Box::pin(stream), peer, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, client = %peer.client, "no TLS"),
            Err(_) => tracing::debug!(client = %peer.client, "the TLS handshake took too long"),
        }
    }

    async fn speak<S>(self, stream: S, peer: Peer, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        let Self { routes, protocol } = self;
        let routes = service_fn(move |request: Request<Incoming>| {
            let routes = routes.clone();
            async move {
                let request = request.map(Body::new);
                Ok::<_, Infallible>(routes.respond(request, Some(peer)).await)
            }
        });
        match protocol {
            Protocol::Http1(http) => watch(watcher, http.serve_connection(stream, routes)).await,
            Protocol::Http2(http) => watch(watcher, http.serve_connection(stream, routes)).await,
        }
    }
}

/// Silence after which an HTTP/2 client is asked whether it is there, and time for its answer.
fn ping(limits: Limits) -> Duration {
    PING_MAX.min(limits.header_read_timeout)
}

async fn watch<C: GracefulConnection<Error: Display>>(watcher: Watcher, connection: C) {
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}
