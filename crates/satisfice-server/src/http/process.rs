//! Metrics of the process, under the names that Prometheus' own libraries use.

use super::metrics::{head, put};
use crate::observe::Observer;
use std::fs;

/// The size of a page of memory, as `/proc` counts; other sizes are not in use where this runs.
const PAGE_BYTES: u64 = 4096;

/// Appends the build, the time since the start, and, where `/proc` tells, memory and open files.
pub(super) fn write(text: &mut String, observer: &Observer) {
    let gauge = |text: &mut String, name, help, value: u64| {
        head(text, name, help, "gauge");
        put(text, format_args!("{name} {value}\n"));
    };
    head(
        text,
        "satisfice_build_info",
        "The version that runs",
        "gauge",
    );
    let version = env!("CARGO_PKG_VERSION");
    put(
        text,
        format_args!("satisfice_build_info{{version=\"{version}\"}} 1\n"),
    );
    let uptime = observer.uptime().as_secs();
    gauge(
        text,
        "satisfice_uptime_seconds",
        "Time since the start",
        uptime,
    );
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        gauge(text, name, "Resident memory", bytes);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        gauge(text, "process_open_fds", "Open files", files.count() as u64);
    }
    let name = "satisfice_refused_requests_total";
    head(
        text,
        name,
        "Refused requests by transport and code",
        "counter",
    );
    for ((transport, code), count) in observer.refusals() {
        put(
            text,
            format_args!("{name}{{transport=\"{transport}\",code=\"{code}\"}} {count}\n"),
        );
    }
}

fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}
