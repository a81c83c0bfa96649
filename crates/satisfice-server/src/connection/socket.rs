//! Sockets to listen on, and how many files may be open.

use crate::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{io, net::SocketAddr};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted: as many as the system allows, which cuts this.
const BACKLOG: u32 = i32::MAX as u32;
/// Files that are open beside connections: models, libraries, logs.
const OTHER_FILES: usize = 512;

/// A socket that listens.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // The connections of a server that has just ended are no obstacle.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets the process have as many files open as the system allows it, and gives that number, if there is
/// one.
///
/// # Errors
/// When the system refuses.
pub fn raise_open_files() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(limit.current);
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(raised.current)
}

/// The connections that each of some listeners may have, as the files that may be open let them.
pub(crate) fn connections_max(limits: &Limits, listeners: usize) -> usize {
    let wanted = limits.connections_max;
    match getrlimit(Resource::Nofile).current {
        None => wanted,
        Some(files) => wanted.min(fair_share(files, listeners)),
    }
}

/// Connections of each listener, of which each needs a file; at least one.
fn fair_share(files: u64, listeners: usize) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let others = OTHER_FILES.min(files / 2);
    ((files - others) / listeners.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_others() {
        assert_eq!(fair_share(1024, 2), 256);
        assert_eq!(fair_share(20_000, 4), 4872);
        assert_eq!(fair_share(10, 1), 5);
        assert_eq!(fair_share(0, 3), 1);
        assert!(fair_share(u64::MAX, 2) > 1 << 40);
    }
}
