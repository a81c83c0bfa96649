//! Connections: accepting, whose place is given to another, timeouts, the end.
//!
//! | file | holds |
//! |---|---|
//! | `socket` | listening; how many files may be open |
//! | `places` | who has to leave when all places are taken |
//! | `activity` | what a connection is doing |
//! | `wire` | its bytes: clients that have gone or send no more, refusals that the library writes |
//! | `requests` | requests on their way through it |

mod activity;
mod noise;
mod places;
mod refusal;
mod requests;
mod socket;
mod wire;

pub use socket::raise_open_files;
pub(crate) use socket::{connections_max, listen};

use crate::{
    Limits, Service,
    edge::Transport,
    front::{Front, Listener, Peer},
    tls::Alpn,
};
use activity::{Activity, GivenUp, Rest};
use axum::{Router, extract::Request, response::Response};
use bytes::{Bytes, BytesMut};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use noise::Noise;
use places::{Place, Places};
use refusal::Refusals;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;
use wire::Wire;

/// Wait after a failed accept, such as one for lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The same where a connection has just been given up.
const ACCEPT_SOON: Duration = Duration::from_millis(5);
/// Headers of a request that hyper takes unless it is told.
const HYPER_HEADERS_MAX: usize = 100;
/// Requests that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 128;
/// Streams of HTTP/2 that a client has reset before they were looked at; a connection with more is closed.
const RESETS_PENDING_MAX: usize = 32;
/// Streams of HTTP/2 that were reset for what a client did wrong; a connection with more is closed.
const RESETS_FOR_ERRORS_MAX: usize = 256;
/// Longest silence before an HTTP/2 client is asked whether it is there.
const PING_MAX: Duration = Duration::from_secs(30);
/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
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
    let (protocol, tls) = (server.spoken.name(), front.tls().is_some());
    let limits = front.limits();
    tracing::info!(%address, protocol, ?role, tls, connections_max = limits.connections_max, "serving");
    let places = Places::new(&limits);
    let mut connections = JoinSet::new();
    let accepted = async {
        loop {
            tokio::select! {
                biased;
                Some(_) = connections.join_next() => {}
                (stream, client) = accept(&socket, &places, &server.noise) => {
                    let peer = Peer { client, listener: address };
                    match places.admit(client).await {
                        Some(place) => drop(connections.spawn(server.clone().run(stream, peer, place, front.clone()))),
                        None => server.no_place(client, front),
                    }
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown => {}
        () = accepted => {}
    }
    drop(socket);
    service.drain();
    tracing::info!(connections = connections.len(), protocol, "draining");
    places.stop();
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain_timeout, ended).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests did not end in time"
        );
    }
    Ok(()) // dropping the set ends what is left
}

/// The next connection, whatever becomes of others.
async fn accept(listener: &TcpListener, places: &Places, noise: &Noise) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                noise.warn("could not accept a connection", error);
                // Most often there are too many open files.
                let wait = match places.give_one_up() {
                    true => ACCEPT_SOON,
                    false => ACCEPT_RETRY,
                };
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Everything that a connection needs.
#[derive(Clone)]
pub(crate) struct Server<R> {
    spoken: Spoken,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    routes: R,
    noise: Arc<Noise>,
}

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.1, and HTTP/2 with clients that begin with it or have agreed to it within TLS.
    Http,
    /// HTTP/2 and nothing else, as gRPC clients speak it.
    Grpc,
}

impl Spoken {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Grpc => "gRPC",
        }
    }

    fn transport(self) -> Transport {
        match self {
            Self::Http => Transport::Http,
            Self::Grpc => Transport::Grpc,
        }
    }

    fn alpn(self) -> Alpn {
        match self {
            Self::Http => Alpn::Both,
            Self::Grpc => Alpn::Http2,
        }
    }
}

/// A connection that is served.
struct Visit {
    peer: Peer,
    activity: Arc<Activity>,
    limits: Limits,
    refusals: Refusals,
}

impl<R: Respond> Server<R> {
    pub(crate) fn new(spoken: Spoken, routes: R, limits: Limits) -> Self {
        Self {
            spoken,
            http1: http1(limits),
            http2: http2(limits),
            routes,
            noise: Arc::default(),
        }
    }

    fn no_place(&self, client: SocketAddr, front: &Front) {
        let transport = self.spoken.transport().name();
        front.observer().refused(transport, "address_full");
        let what = "a client address has all connections that it may have, and uses them";
        self.noise.warn(what, client.ip());
    }

    /// Serves a connection to its end.
    async fn run(self, stream: TcpStream, peer: Peer, place: Place, front: Front) {
        // Small answers are not to wait for more of them.
        if let Err(error) = stream.set_nodelay(true) {
            self.noise.debug("could not set TCP_NODELAY", error);
        }
        let limits = front.limits();
        let visit = Visit {
            peer,
            activity: Arc::clone(&place.activity),
            limits,
            refusals: Refusals::new(&front, self.spoken.transport()),
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_timeout));
        let stream = Box::pin(stream);
        let Some(tls) = front.tls() else {
            return self.greet(stream, visit).await;
        };
        let handshake = tls.acceptor(self.spoken.alpn()).accept(stream);
        let handshake = timeout(limits.tls_handshake_timeout, handshake);
        let shaken = tokio::select! {
            biased;
            shaken = handshake => shaken,
            () = visit.activity.until_given_up() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.greet(Box::pin(stream), visit).await,
            Ok(Err(error)) => self.noise.debug("no TLS", error),
            Err(_) => self
                .noise
                .debug("a TLS handshake took too long", peer.client),
        }
    }

    /// Finds out what the client speaks, and speaks it.
    async fn greet<S>(self, mut stream: S, visit: Visit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let greeting = tokio::select! {
            biased;
            greeting = greeting(&mut stream, &visit.limits) => greeting,
            () = visit.activity.until_given_up() => None,
        };
        let Some(ahead) = greeting else { return };
        let protocol = match ahead.starts_with(PREFACE) {
            true => Protocol::Http2,
            false => Protocol::Http1,
        };
        if (protocol, self.spoken) == (Protocol::Http1, Spoken::Grpc) {
            // Whether it is read is up to the client.
            let refusal = visit.refusals.not_http_2();
            let _ = timeout(visit.limits.header_read_timeout, stream.write_all(&refusal)).await;
            return;
        }
        // A connection that has said nothing yet needs no room for what comes now.
        Box::pin(self.speak(stream, ahead, protocol, visit)).await;
    }

    async fn speak<S>(self, stream: S, ahead: Bytes, protocol: Protocol, visit: Visit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            http1,
            http2,
            routes,
            noise,
            ..
        } = self;
        let Visit {
            peer,
            activity,
            limits,
            refusals,
        } = visit;
        let wire = Wire::new(stream, ahead, protocol, Arc::clone(&activity), refusals);
        let stream = TokioIo::new(wire);
        let begun = Arc::clone(&activity);
        let routes = service_fn(move |request: Request<Incoming>| {
            let routes = routes.clone();
            let (request, turn) = requests::begin(request, &begun, protocol);
            async move {
                let response = routes.respond(request, Some(peer)).await;
                Ok::<_, Infallible>(turn.answer(response))
            }
        });
        let ended = match protocol {
            Protocol::Http1 => {
                let connection = http1.serve_connection(stream, routes);
                attend(connection, &activity, Some(&limits)).await
            }
            Protocol::Http2 => {
                let connection = http2.serve_connection(stream, routes);
                attend(connection, &activity, None).await
            }
        };
        if let Err(error) = ended {
            noise.debug("connections ended early", describe(&error));
        }
    }
}

fn http1(limits: Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Where hyper is told a number it has no room on the stack for them.
    if limits.headers_max != HYPER_HEADERS_MAX {
        http.max_headers(limits.headers_max);
    }
    let bytes = limits.header_bytes_max.max(Limits::HEADER_BYTES_MIN);
    http.timer(TokioTimer::new())
        // Connections that rest are timed here, by one timer for all their requests.
        .header_read_timeout(None)
        // Who sends no more may still wait for an answer; who has gone is found out otherwise.
        .half_close(true)
        .max_header_size(bytes)
        .max_buf_size(bytes);
    http
}

fn http2(limits: Limits) -> http2::Builder<TokioExecutor> {
    let ping = PING_MAX.min(limits.idle_timeout);
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(ping)
        .keep_alive_timeout(ping)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_FOR_ERRORS_MAX)
        .max_header_list_size(limits.header_list_bytes());
    http
}

/// The first bytes of a connection, as many as it takes to know what is spoken; none when none come, or too slowly.
async fn greeting(stream: &mut (impl AsyncRead + Unpin), limits: &Limits) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    let mut time = limits.idle_timeout;
    let mut end = None;
    loop {
        let seen = bytes.len().min(PREFACE.len());
        if seen == PREFACE.len() || bytes[..seen] != PREFACE[..seen] {
            return Some(bytes.freeze());
        }
        if seen > 0 {
            let end = *end.get_or_insert_with(|| Instant::now() + limits.header_read_timeout);
            time = end.saturating_duration_since(Instant::now());
        }
        match timeout(time, read_some(stream, &mut bytes)).await {
            Ok(Ok(0)) if bytes.is_empty() => return None,
            Ok(Ok(0)) => return Some(bytes.freeze()),
            Ok(Ok(_)) => {}
            _ => return None,
        }
    }
}

/// Reads without room that is kept while nothing comes.
async fn read_some(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut BytesMut,
) -> io::Result<usize> {
    let mut stream = pin!(stream);
    poll_fn(|context| {
        let mut room = [0; 1024];
        let mut buffer = ReadBuf::new(&mut room);
        std::task::ready!(stream.as_mut().poll_read(context, &mut buffer))?;
        bytes.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

/// Sees a connection to its end: its own, or because it rests for too long (where `rests` says for how long), or because it was
/// given up.
async fn attend<C: GracefulConnection<Error = hyper::Error>>(
    connection: C,
    activity: &Activity,
    rests: Option<&Limits>,
) -> Result<(), hyper::Error> {
    let mut connection = pin!(connection);
    let mut timer = pin!(sleep_until(
        Instant::now() + rests.map_or(PING_MAX, |limits| limits.idle_timeout)
    ));
    let mut ending = false;
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            activity.register(context.waker());
            let given_up = activity.given_up();
            if ending {
                // An HTTP/2 client is told that there will be no more, and ends the connection; where another
                // one needs its place, there is no time for that.
                let over = match given_up {
                    Some(GivenUp::ForAnother) => activity.waits_for_client(),
                    _ => rests.is_some() && activity.is_at_rest(),
                };
                return match over {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Pending,
                };
            }
            if given_up.is_some() {
                ending = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            let Some(limits) = rests else {
                return Poll::Pending;
            };
            match activity.rest(limits) {
                Rest::Busy => return Poll::Pending,
                Rest::Until(end) => {
                    let end = Instant::from_std(end);
                    if end < timer.deadline() {
                        timer.as_mut().reset(end);
                    }
                    std::task::ready!(timer.as_mut().poll(context));
                    timer.as_mut().reset(end);
                }
                Rest::SlowHead => {
                    ending = true;
                    activity.set_late();
                }
                Rest::Idle => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    })
    .await
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        None => error.to_string(),
        Some(source) => format!("{error}: {source}"),
    }
}
