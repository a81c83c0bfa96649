//! A whole server as it is configured: its listeners, and reading the configuration anew.

mod weaker;

use crate::{
    Access, Front, Listener, Observer, Role, Service, Tls, TlsError, TraceError,
    access::TokensError,
    config::{Config, Level},
    connection, grpc, http,
};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};
use weaker::weakened;

/// Time between two warnings of tokens that expire.
const WARN_AGAIN: Duration = Duration::from_hours(24);

/// A server that cannot start, or cannot take a configuration. Every variant is the operator's
/// mistake.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The tokens cannot be used.
    #[error("auth: {0}")]
    Tokens(#[from] TokensError),
    /// The certificates cannot be used.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// Traces cannot be sent.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A configuration that is read anew would open what is closed.
    #[error("it would weaken who may ask: {}", .0.join("; "))]
    Weaker(Vec<String>),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source} (hint: choose another `{key}`)")]
    Listen {
        /// The key of the address, such as `http.listen`.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// The listeners of a server, bound.
#[derive(Debug)]
pub struct Bound {
    http: TcpListener,
    grpc: TcpListener,
    admin: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Bound {
    /// Binds every listener of the configuration. Needs a runtime.
    ///
    /// # Errors
    /// [`SetupError::Listen`].
    pub fn bind(config: &Config) -> Result<Self, SetupError> {
        Ok(Self {
            http: bind("http.listen", config.http.listen)?,
            grpc: bind("grpc.listen", config.grpc.listen)?,
            admin: bind_if("admin.listen", config.admin.listen)?,
            metrics: bind_if("metrics.listen", config.metrics.listen)?,
        })
    }

    /// What each listener speaks and its address, HTTP and gRPC first.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn addresses(&self) -> io::Result<Vec<(&'static str, SocketAddr)>> {
        let named = [
            ("HTTP", Some(&self.http)),
            ("gRPC", Some(&self.grpc)),
            ("admin", self.admin.as_ref()),
            ("metrics", self.metrics.as_ref()),
        ];
        let bound = named
            .into_iter()
            .filter_map(|(name, listener)| Some((name, listener?)));
        bound
            .map(|(name, listener)| Ok((name, listener.local_addr()?)))
            .collect()
    }
}

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, SetupError> {
    connection::listen(address).map_err(|source| SetupError::Listen {
        key,
        address,
        source,
    })
}

fn bind_if(
    key: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, SetupError> {
    match address {
        None => Ok(None),
        Some(address) => bind(key, address).map(Some),
    }
}

/// A service with everything around it, as it is configured.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    access: Arc<Access>,
    tls: Option<Arc<Tls>>,
    observer: Arc<Observer>,
    config: Mutex<Config>,
}

impl Server {
    /// Reads the files that the configuration names. `set_level` is called when the log's level is
    /// changed.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(
        config: Config,
        service: Arc<Service>,
        set_level: impl Fn(Level) + Send + Sync + 'static,
    ) -> Result<Self, SetupError> {
        let observer = Observer::new(config.log, set_level).with_traces(&config.trace)?;
        Ok(Self {
            service,
            access: Arc::new(Access::open(&config)?),
            tls: Tls::open(&config.tls)?.map(Arc::new),
            observer: Arc::new(observer),
            config: Mutex::new(config),
        })
    }

    /// Serves until `shutdown` completes, then lets running requests end: readiness says no first,
    /// on every listener.
    ///
    /// # Errors
    /// When a listener has no local address.
    pub async fn run(&self, bound: Bound, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let mut limits = self.lock().limits;
        let listeners = 2 + bound.admin.iter().count() + bound.metrics.iter().count();
        let possible = connection::connections_max(&limits, listeners);
        if possible < limits.connections_max {
            tracing::warn!(
                connections_max = possible,
                configured = limits.connections_max,
                "fewer connections than configured: each needs an open file (hint: raise the limit of open files, `ulimit -n`)"
            );
            limits.connections_max = possible;
        }
        let drain_delay = limits.drain_delay;
        let mut front = Front::new(limits)
            .with_access(Arc::clone(&self.access))
            .with_observer(Arc::clone(&self.observer));
        if let Some(tls) = &self.tls {
            front = front.with_tls(Arc::clone(tls));
        }
        let stopping = watch::Sender::new(false);
        let stopped = || {
            let mut stopping = stopping.subscribe();
            // An error means that the sender is gone, which is an end too.
            async move { drop(stopping.wait_for(|stopping| *stopping).await) }
        };
        let on = |socket: Option<TcpListener>, role| {
            let (service, front, stopped) = (Arc::clone(&self.service), front.clone(), stopped());
            async move {
                match socket {
                    None => Ok(()),
                    Some(socket) => {
                        let listener = Listener::new(socket, role);
                        http::serve(listener, service, front, stopped).await
                    }
                }
            }
        };
        let stop = async {
            shutdown.await;
            self.service.drain();
            tokio::time::sleep(drain_delay).await;
            stopping.send_replace(true);
            Ok(())
        };
        let warn_of_expiry = async {
            let until = stopped();
            let warn = async {
                loop {
                    self.access.warn_of_expiry();
                    tokio::time::sleep(WARN_AGAIN).await;
                }
            };
            tokio::select! {
                () = warn => {}
                () = until => {}
            }
            Ok(())
        };
        let grpc = grpc::serve(
            bound.grpc,
            Arc::clone(&self.service),
            front.clone(),
            stopped(),
        );
        let keep_history = async {
            self.service.keep_history().await;
            Ok(())
        };
        let served = tokio::try_join!(
            on(Some(bound.http), Role::Main),
            on(bound.admin, Role::Admin),
            on(bound.metrics, Role::Metrics),
            grpc,
            warn_of_expiry,
            keep_history,
            stop,
        );
        served.map(drop)
    }

    /// Sends the traces that wait. Blocks, for some seconds if the collector does not answer.
    pub fn flush(&self) {
        self.observer.flush();
    }

    /// Takes what can be taken of a configuration while the server runs: tokens, certificates, log,
    /// trace rate, and the settings of models that are loaded from now on. Gives the keys of
    /// sections that are different but need a restart.
    ///
    /// # Errors
    /// [`SetupError`] when a file cannot be used, or access would be weakened by the way: tokens, TLS or clients'
    /// certificates that are gone, or a listener that would reach further. Everything is as it was then.
    pub fn reload(&self, new: Config) -> Result<Vec<&'static str>, SetupError> {
        let mut config = self.lock();
        // Whatever may fail comes before whatever takes effect.
        let weakened = weakened(&config, &new);
        if !weakened.is_empty() {
            return Err(SetupError::Weaker(weakened));
        }
        let tokens = Access::open(&new)?;
        let tls_now = Tls::open(&new.tls)?;
        if config.auth.file.is_some() && new.auth.file.is_none() {
            tracing::warn!("from now on everybody may ask: `auth.mode` is `open`");
        }
        let mut restart = needs_restart(&config, &new);
        match (&self.tls, tls_now) {
            (Some(tls), Some(now)) => tls.replace(now),
            (None, None) => {}
            _ => restart.push("tls"),
        }
        self.access.replace(tokens);
        self.access.warn_of_expiry();
        self.observer.set_log(new.log);
        self.observer.set_trace_rate(new.trace.rate);
        self.service.set_settings(&new);
        *config = Config {
            http: config.http,
            grpc: config.grpc,
            admin: config.admin,
            metrics: config.metrics,
            limits: config.limits,
            repository: config.repository.clone(),
            schedule: config.schedule,
            ..new
        };
        Ok(restart)
    }

    /// Nothing that is done under the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sections that are different and read only at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let traces = |config: &Config| {
        let trace = &config.trace;
        (
            trace.endpoint.clone(),
            trace.service_name.clone(),
            trace.headers.clone(),
        )
    };
    let different = [
        ("http", old.http != new.http),
        ("grpc", old.grpc != new.grpc),
        ("admin", old.admin != new.admin),
        ("metrics", old.metrics != new.metrics),
        ("limits", old.limits != new.limits),
        ("repository", old.repository != new.repository),
        ("schedule", old.schedule != new.schedule),
        ("log.format", old.log.format != new.log.format),
        ("trace", traces(old) != traces(new)),
    ];
    let different = different.into_iter().filter(|(_, different)| *different);
    different.map(|(key, _)| key).collect()
}
