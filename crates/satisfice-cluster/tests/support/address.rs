//! Addresses that are still free when the server that they are written down for binds them.

#![allow(unreachable_pub, reason = "test crates use it from different depths")]

use std::sync::atomic::{AtomicU16, Ordering};

/// An address on loopback that nobody else is given. Each process has a host address of its own, so that
/// neither another test nor the near end of a connection, which is at 127.0.0.1, can have its ports.
pub fn free_address() -> String {
    static PORT: AtomicU16 = AtomicU16::new(7000);
    // Linux numbers processes up to 2^22.
    let [_, a, b, c] = (std::process::id() | 1 << 23).to_be_bytes();
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    format!("127.{a}.{b}.{c}:{port}")
}
