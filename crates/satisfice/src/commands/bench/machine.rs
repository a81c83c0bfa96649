//! What a result was measured on.

use serde::Serialize;
use std::{fs, thread, time::SystemTime};

/// The machine, and what else it was doing.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// Model of the processor, where the system says it.
    pub processor: String,
    pub cores: usize,
    /// Bytes of the largest cache; 0 where the system does not say.
    pub cache_bytes: usize,
    /// Programs that wanted a core in the last minute, on average, when the measurement began.
    pub load: f64,
    /// Seconds since 1970.
    pub unix_time: u64,
    pub version: &'static str,
}

impl Machine {
    pub(super) fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned());
        let load = read("/proc/loadavg");
        Self {
            processor,
            cores: thread::available_parallelism().map_or(1, usize::from),
            cache_bytes: cache_bytes(),
            load: load
                .split(' ')
                .next()
                .and_then(|v| v.parse().ok())
                .unwrap_or(0.0),
            unix_time: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_secs()),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Bytes that a program may take without pushing others out; none where the system does not say.
    pub(super) fn available_bytes() -> Option<usize> {
        let info = fs::read_to_string("/proc/meminfo").ok()?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kibibytes: usize = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes << 10)
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        format!(
            "{} x {}, load {:.1} when it began, satisfice {}",
            self.cores, self.processor, self.load, self.version
        )
    }
}

/// Bytes of the largest cache that the first processor has or shares.
fn cache_bytes() -> usize {
    let size = |index: usize| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let size = fs::read_to_string(path).ok()?;
        size.trim().strip_suffix('K')?.parse::<usize>().ok()
    };
    (0..8).filter_map(size).max().unwrap_or(0) << 10
}
