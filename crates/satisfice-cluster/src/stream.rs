//! A connection between two nodes: TCP, and TLS within it where the cluster has certificates.

use crate::{ClusterConfig, ClusterError, config::resolve, tls::Tls};
use rustls::{ClientConnection, Connection, ServerConnection, pki_types::ServerName};
use std::{
    io::{self, BufRead, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Longest time to reach a node.
const CONNECT: Duration = Duration::from_millis(500);

/// Longest time for one step of a conversation between nodes.
pub(crate) const STEP: Duration = Duration::from_secs(2);

/// Longest wait for a node to take in what is written to it, until it is of a group.
const WRITE: Duration = Duration::from_secs(5);

/// Bytes read from the network at once.
const READ_BYTES: usize = 1 << 14;

/// How nodes reach each other.
#[derive(Debug)]
pub(crate) struct Network(pub Option<Tls>);

impl Network {
    /// As a cluster's file says.
    pub(crate) fn of(config: &ClusterConfig) -> Result<Self, ClusterError> {
        config.tls.as_ref().map(Tls::open).transpose().map(Self)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.0.is_some()
    }

    /// Connects to a node.
    pub(crate) fn connect(&self, address: &str) -> io::Result<NodeStream> {
        let place = resolve(address).map_err(io::Error::other)?;
        let tcp = TcpStream::connect_timeout(&place, CONNECT)?;
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(WRITE))?;
        let session = |tls: &Tls| {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let session = ClientConnection::new(tls.client.clone(), name);
            Ok::<_, io::Error>(session.map_err(io::Error::other)?.into())
        };
        NodeStream::new(tcp, self.0.as_ref().map(session).transpose()?)
    }

    /// Takes in who has connected.
    pub(crate) fn accept(&self, tcp: TcpStream) -> io::Result<NodeStream> {
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(WRITE))?;
        let session = |tls: &Tls| ServerConnection::new(tls.server.clone()).map(Connection::from);
        let session = self.0.as_ref().map(session).transpose();
        NodeStream::new(tcp, session.map_err(io::Error::other)?)
    }
}

/// A connection to another node. Clones are the same connection; one of them at a time may read, and one write.
#[derive(Debug)]
pub(crate) struct NodeStream {
    tcp: TcpStream,
    session: Option<Arc<Mutex<Session>>>,
    /// What was written last, encrypted.
    sealed: Vec<u8>,
}

impl NodeStream {
    fn new(mut tcp: TcpStream, session: Option<Connection>) -> io::Result<Self> {
        let session = match session {
            None => None,
            Some(connection) => Some(Session::begin(connection, &mut tcp)?),
        };
        Ok(Self {
            tcp,
            session: session.map(|session| Arc::new(Mutex::new(session))),
            sealed: Vec::new(),
        })
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            tcp: self.tcp.try_clone()?,
            session: self.session.clone(),
            sealed: Vec::new(),
        })
    }

    /// The connection below, for its settings.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(crate) fn shutdown(&self) {
        // It may be gone already.
        let _ = self.tcp.shutdown(Shutdown::Both);
    }

    /// Whether something has come to be read, or comes within `time`.
    ///
    /// # Errors
    /// The other end has hung up.
    pub(crate) fn has_come(&self, time: Duration) -> io::Result<bool> {
        if let Some(session) = &self.session
            && lock(session).has_come()?
        {
            return Ok(true);
        }
        self.tcp.set_read_timeout(Some(time))?;
        match self.tcp.peek(&mut [0]) {
            Ok(0) => Err(io::Error::other("it hung up")),
            Ok(_) => Ok(true),
            Err(e) => match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(false),
                _ => Err(e),
            },
        }
    }

    /// Whether the other end has hung up, without waiting.
    pub(crate) fn has_hung_up(&self) -> bool {
        let peeked = self
            .tcp
            .set_nonblocking(true)
            .and_then(|()| self.tcp.peek(&mut [0]));
        let back = self.tcp.set_nonblocking(false);
        back.is_err()
            || match peeked {
                Ok(0) => true,
                Ok(_) => false,
                Err(e) => e.kind() != io::ErrorKind::WouldBlock,
            }
    }
}

impl Read for NodeStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &self.session else {
            return self.tcp.read(into);
        };
        let mut bytes = [0; READ_BYTES];
        loop {
            if let Some(read) = lock(session).open(into)? {
                return Ok(read);
            }
            // Not under the lock: who writes must not wait for what is to come.
            match self.tcp.read(&mut bytes)? {
                0 => return Ok(0),
                read => lock(session).received.extend_from_slice(&bytes[..read]),
            }
        }
    }
}

impl Write for NodeStream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let Some(session) = &self.session else {
            return self.tcp.write(from);
        };
        self.sealed.clear();
        let written = lock(session).seal(from, &mut self.sealed)?;
        self.tcp.write_all(&self.sealed)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// TLS between what nodes say and what is on the network.
#[derive(Debug)]
struct Session {
    connection: Connection,
    /// Bytes from the network that have not been looked at.
    received: Vec<u8>,
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Makes both ends sure of each other, within [`STEP`].
    fn begin(mut connection: Connection, tcp: &mut TcpStream) -> io::Result<Self> {
        let deadline = Instant::now() + STEP;
        let peer = tcp.peer_addr()?;
        let named = |error: rustls::Error| {
            let message = format!("TLS with {peer}: {error}");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        loop {
            while connection.wants_write() {
                connection.write_tls(tcp)?;
            }
            if !connection.is_handshaking() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            tcp.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            if connection.read_tls(tcp)? == 0 {
                return Err(named(rustls::Error::General("it hung up".to_owned())));
            }
            if let Err(error) = connection.process_new_packets() {
                // The other end is told why, and may read that before the connection is reset.
                let _ = connection.write_tls(tcp);
                let _ = tcp.shutdown(Shutdown::Write);
                let _ = tcp.read(&mut [0; READ_BYTES]);
                return Err(named(error));
            }
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        tcp.set_read_timeout(None)?;
        Ok(Self {
            connection,
            received: Vec::new(),
        })
    }

    /// Whether there is something to read, or part of it.
    fn has_come(&mut self) -> io::Result<bool> {
        match self.connection.reader().fill_buf() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(!self.received.is_empty()),
            Err(e) => Err(e),
        }
    }

    /// Decrypts what has been received; nothing when more has to come first.
    fn open(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.connection.reader().read(into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(Some),
            }
            if self.received.is_empty() {
                return Ok(None);
            }
            let taken = self.connection.read_tls(&mut &self.received[..])?;
            self.received.drain(..taken);
            let processed = self.connection.process_new_packets();
            processed.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        }
    }

    /// Encrypts; how much of `from` it was.
    fn seal(&mut self, from: &[u8], sealed: &mut Vec<u8>) -> io::Result<usize> {
        let written = self.connection.writer().write(from)?;
        while self.connection.wants_write() {
            self.connection.write_tls(sealed)?;
        }
        Ok(written)
    }
}
