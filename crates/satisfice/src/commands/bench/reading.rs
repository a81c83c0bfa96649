//! How quickly this machine reads memory in order: the limit for what only reads.

use super::machine::Machine;
use anyhow::{Context, Result};
use satisfice_kernels::{Buffer, read_sum};
use std::{hint::black_box, thread, time::Instant};

/// Most of a table is not in the cache if it is this many times as large.
const CACHES: usize = 4;
const TABLE_BYTES_MIN: usize = 256 << 20;
const PASSES: usize = 7;

/// Bytes of a table well beyond the cache, at most half of the memory that is free.
pub(super) fn table_bytes(cache_bytes: usize) -> usize {
    let wanted = (CACHES * cache_bytes).max(TABLE_BYTES_MIN);
    wanted.min(Machine::available_bytes().map_or(wanted, |bytes| bytes / 2))
}

/// Bytes per second that `threads` threads read in order of such a table, in huge pages where the system has them: the
/// quickest of some passes.
pub(super) fn read_bytes_per_second(machine: &Machine, threads: usize) -> Result<f64> {
    let mut table = Buffer::zeroed(table_bytes(machine.cache_bytes))
        .context("there is not as much memory as the table takes")?;
    table.prefer_huge_pages();
    // Pages are there once they are written; small normal halves, whatever they are read as.
    table.values_mut::<u32>().fill(0x2c00_2c00);
    let values = table.values::<f32>();
    let pass = |_| {
        let start = Instant::now();
        thread::scope(|scope| {
            for part in values.chunks(values.len().div_ceil(threads.max(1)).max(1)) {
                scope.spawn(move || black_box(read_sum(black_box(part))));
            }
        });
        size_of_val(values) as f64 / start.elapsed().as_secs_f64()
    };
    Ok((0..PASSES).map(pass).fold(0.0, f64::max))
}
