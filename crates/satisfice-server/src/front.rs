//! What stands between the listeners and the service, the same for all of them.

use crate::{
    Limits,
    access::{Access, Role},
    exchange::Codecs,
    observe::Observer,
    tls::Tls,
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::Semaphore};

/// What stands between the listeners and the service: limits, tokens, certificates, and what is
/// noted of requests. Clones share one budget of bytes.
#[derive(Debug, Clone)]
pub struct Front {
    limits: Limits,
    access: Arc<Access>,
    tls: Option<Arc<Tls>>,
    observer: Arc<Observer>,
    /// Bytes of request bodies that may still be taken in.
    bodies: Arc<Semaphore>,
    codecs: Arc<Codecs>,
}

impl From<Limits> for Front {
    fn from(limits: Limits) -> Self {
        Self::new(limits)
    }
}

impl Front {
    /// These limits, no tokens, no certificates, nothing noted.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            access: Arc::default(),
            tls: None,
            observer: Arc::default(),
            bodies: limits.bodies(),
            codecs: Arc::new(Codecs::new()),
        }
    }

    /// The same with tokens.
    #[must_use]
    pub fn with_access(self, access: Arc<Access>) -> Self {
        Self { access, ..self }
    }

    /// The same with TLS.
    #[must_use]
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        let tls = Some(tls);
        Self { tls, ..self }
    }

    /// The same with what is noted of requests.
    #[must_use]
    pub fn with_observer(self, observer: Arc<Observer>) -> Self {
        Self { observer, ..self }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    pub(crate) fn observer(&self) -> &Arc<Observer> {
        &self.observer
    }

    pub(crate) fn bodies(&self) -> &Arc<Semaphore> {
        &self.bodies
    }

    pub(crate) fn codecs(&self) -> &Arc<Codecs> {
        &self.codecs
    }
}

/// A bound socket and what it is for.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) role: Role,
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self::new(socket, Role::Main)
    }
}

impl Listener {
    /// A socket for a role.
    pub fn new(socket: TcpListener, role: Role) -> Self {
        Self { socket, role }
    }
}

/// The listener that a request came by, and from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub client: SocketAddr,
    pub listener: SocketAddr,
}
