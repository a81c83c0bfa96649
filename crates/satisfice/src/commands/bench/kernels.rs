//! Gathers against a read of the same memory and against a touch of the same rows, dense updates against the matrix product in cache.
//!
//! Rates are per second of a thread's own processor time: what other programs take is not counted against
//! a kernel, though what they do to caches and memory is.

use super::{super::Output, machine::Machine, reading::table_bytes};
use crate::cli::BenchKernels;
use anyhow::{Context, Result};
use half::f16;
use rustix::time::{ClockId, clock_gettime};
use satisfice_kernels::{Buffer, Rows, gather_sum, matmul_transposed, read_sum, touch_rows};
use serde::Serialize;
use std::{fmt::Write as _, hint::black_box, thread, time::Duration};

/// Values per row: of hidden layers, and the features of ogbn-products and Reddit.
const WIDTHS: [usize; 5] = [64, 100, 128, 256, 602];
/// Rows that one target adds up.
const DEGREE: usize = 128;
/// Targets between two looks at the clock; their number is a byte of a seed, twice.
const TARGETS: usize = 64;
/// Rows that a dense update computes at a time, as layers do.
const BLOCK: usize = 256;
/// Inputs and outputs of dense updates: first, hidden and last layers.
const UPDATES: [(usize, usize); 4] = [(602, 128), (128, 128), (256, 256), (128, 41)];
/// Bytes of the scale of a row of 8-bit integers.
const SCALE_BYTES: usize = size_of::<f32>();
const CACHE_LINE: usize = 64;
/// Where rows begin in their line repeats after as many rows at most as a line has bytes.
const LINE_PERIOD: usize = CACHE_LINE;

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    table_bytes: usize,
    huge_pages: bool,
    gathers: Vec<Gather>,
    updates: Vec<Update>,
}

#[derive(Debug, Serialize)]
struct Gather {
    width: usize,
    precision: &'static str,
    threads: usize,
    /// `4k` or `huge`.
    pages: &'static str,
    /// Bytes of rows per second, best of the repetitions, in 10^9.
    rows_gb_per_s: f64,
    /// Bytes of the cache lines that those rows lie in per second.
    lines_gb_per_s: f64,
    /// Bytes per second of reading the same memory in order, best of the repetitions between.
    read_gb_per_s: f64,
    /// Bytes of cache lines per second of touching every line of random rows, and nothing else.
    touch_gb_per_s: f64,
    /// Lines over the read: how near the gather is to the limit of the memory.
    share_of_read: f64,
    /// Lines over the touch: how near the gather is to the limit of the memory for random rows.
    share_of_touch: f64,
}

#[derive(Debug, Serialize)]
struct Update {
    rows: usize,
    inputs: usize,
    outputs: usize,
    threads: usize,
    /// Best of the repetitions, in 10^9 per second.
    gflop_per_s: f64,
    /// Product of square matrices that stay in cache, best of the repetitions between.
    peak_gflop_per_s: f64,
    share_of_peak: f64,
}

/// How long and how often each case is measured.
struct Effort {
    table_bytes: usize,
    duration: Duration,
    repetitions: usize,
}

pub(super) fn run(args: &BenchKernels, output: Output) -> Result<()> {
    let machine = Machine::now();
    let table_bytes = table_bytes(machine.cache_bytes);
    let effort = match args.quick {
        true => Effort {
            table_bytes,
            duration: Duration::from_millis(20),
            repetitions: 2,
        },
        false => Effort {
            table_bytes,
            duration: Duration::from_millis(120),
            repetitions: 5,
        },
    };
    let mut threads = vec![1];
    if machine.cores > 1 {
        threads.push(2);
    }
    let mut gathers = Vec::new();
    let mut huge_pages = true;
    for pages in ["4k", "huge"] {
        let mut table = Buffer::zeroed(effort.table_bytes)
            .context("there is not as much memory as the table takes")?;
        if pages == "huge" {
            huge_pages = table.prefer_huge_pages();
        }
        // Pages are there once they are written; small normal halves, whatever they are read as.
        table.values_mut::<u32>().fill(0x2c00_2c00);
        for &threads in &threads {
            for width in WIDTHS {
                for precision in ["f32", "f16", "int8"] {
                    let case = (width, precision, threads, pages);
                    gathers.push(gather(&table, case, &effort));
                }
            }
        }
    }
    let updates = threads
        .iter()
        .flat_map(|&threads| UPDATES.map(|shape| update(shape, threads, &effort)))
        .collect();
    let report = Report {
        machine,
        table_bytes: effort.table_bytes,
        huge_pages,
        gathers,
        updates,
    };
    output.print(&report, || text(&report))
}

fn gather(
    table: &Buffer,
    (width, precision, threads, pages): (usize, &'static str, usize, &'static str),
    effort: &Effort,
) -> Gather {
    let values = table.values::<f32>();
    let rows = || match precision {
        "f16" => whole_rows(table.values::<f16>(), width, Rows::f16),
        "int8" => whole_rows(table.values::<i8>(), width + SCALE_BYTES, |bytes, _| {
            Rows::i8(bytes, width)
        }),
        _ => whole_rows(values, width, Rows::f32),
    };
    let row_bytes = rows().row_bytes();
    let ids_of = |(repetition, thread, turn): (usize, usize, usize), target: usize| {
        let seed = ((repetition << 48) | (thread << 40) | (turn << 8) | target) as u64;
        random_ids(seed, rows().len())
    };
    let (mut gathered, mut touched, mut read) = (0.0_f64, 0.0_f64, 0.0_f64);
    for repetition in 0..effort.repetitions {
        read = read.max(rate(threads, effort.duration, |thread, _| {
            let share = values.len() / threads;
            let part = &values[thread * share..][..share];
            black_box(read_sum(black_box(part)));
            size_of_val(part)
        }));
        gathered = gathered.max(rate(threads, effort.duration, |thread, turn| {
            let rows = rows();
            let mut sum = vec![0.0; width];
            let mut bytes = 0;
            for target in 0..TARGETS {
                let ids = ids_of((repetition, thread, turn), target);
                gather_sum(rows, &ids, None, &mut sum);
                bytes += ids.len() * row_bytes;
            }
            black_box(&sum);
            bytes
        }));
        touched = touched.max(rate(threads, effort.duration, |thread, turn| {
            for target in 0..TARGETS {
                let ids = ids_of((repetition, thread, turn), TARGETS + target);
                black_box(touch_rows(values, row_bytes / size_of::<f32>(), &ids));
            }
            TARGETS * DEGREE * row_bytes
        }));
    }
    let whole_lines = mean_line_bytes(row_bytes) / row_bytes as f64;
    let (lines, touched) = (gathered * whole_lines, touched * whole_lines);
    Gather {
        width,
        precision,
        threads,
        pages,
        rows_gb_per_s: gathered / 1e9,
        lines_gb_per_s: lines / 1e9,
        read_gb_per_s: read / 1e9,
        touch_gb_per_s: touched / 1e9,
        share_of_read: lines / read,
        share_of_touch: lines / touched,
    }
}

fn whole_rows<'a, T>(
    values: &'a [T],
    width: usize,
    rows: impl Fn(&'a [T], usize) -> Rows<'a>,
) -> Rows<'a> {
    rows(&values[..values.len() / width * width], width)
}

/// Bytes of the cache lines that a row lies in, on average over the rows of a table.
fn mean_line_bytes(row_bytes: usize) -> f64 {
    let lines = |row: usize| {
        let start = row * row_bytes;
        (start + row_bytes).div_ceil(CACHE_LINE) - start / CACHE_LINE
    };
    let total: usize = (0..LINE_PERIOD).map(lines).sum();
    (total * CACHE_LINE) as f64 / LINE_PERIOD as f64
}

/// Random rows, by `SplitMix64`, whose cost is nothing beside that of reading them.
fn random_ids(seed: u64, rows: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95);
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((((z ^ (z >> 31)) >> 32) * rows as u64) >> 32) as u32
    };
    std::iter::repeat_with(next).take(DEGREE).collect()
}

fn update((inputs, outputs): (usize, usize), threads: usize, effort: &Effort) -> Update {
    let product = |rows: usize, inputs: usize, outputs: usize| {
        let x = vec![0.5; rows * inputs];
        let w = vec![0.25; outputs * inputs];
        rate(threads, effort.duration, |_, _| {
            let mut out = vec![0.0; rows * outputs];
            let mut operations = 0;
            for _ in 0..8 {
                matmul_transposed(black_box(&x), black_box(&w), inputs, &mut out);
                operations += 2 * rows * inputs * outputs;
            }
            black_box(&out);
            operations
        })
    };
    let (mut found, mut peak) = (0.0_f64, 0.0_f64);
    for _ in 0..effort.repetitions {
        peak = peak.max(product(512, 512, 512));
        found = found.max(product(BLOCK, inputs, outputs));
    }
    Update {
        rows: BLOCK,
        inputs,
        outputs,
        threads,
        gflop_per_s: found / 1e9,
        peak_gflop_per_s: peak / 1e9,
        share_of_peak: found / peak,
    }
}

/// Units of work per second of all threads together; `work` takes thread and turn and says how much
/// it did.
fn rate(threads: usize, duration: Duration, work: impl Fn(usize, usize) -> usize + Sync) -> f64 {
    let worker = |thread: usize| {
        let start = processor_time();
        let (mut done, mut turn) = (0, 0);
        loop {
            done += work(thread, turn);
            turn += 1;
            let spent = processor_time().saturating_sub(start);
            if spent >= duration {
                return done as f64 / spent.as_secs_f64();
            }
        }
    };
    thread::scope(|scope| {
        let worker = &worker;
        let running: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || worker(thread)))
            .collect();
        running
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .sum()
    })
}

/// Processor time that this thread has had.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{}\nrows at random out of {} MiB, {DEGREE} a target; the cache has {} MiB\n\n\
         {:>5} {:>9} {:>7} {:>5} {:>10} {:>11} {:>10} {:>8} {:>11} {:>9}\n",
        report.machine.line(),
        report.table_bytes >> 20,
        report.machine.cache_bytes >> 20,
        "width",
        "precision",
        "threads",
        "pages",
        "rows GB/s",
        "lines GB/s",
        "read GB/s",
        "of read",
        "touch GB/s",
        "of touch"
    );
    for row in &report.gathers {
        let _ = writeln!(
            text,
            "{:>5} {:>9} {:>7} {:>5} {:>10.1} {:>11.1} {:>10.1} {:>7.0}% {:>11.1} {:>8.0}%",
            row.width,
            row.precision,
            row.threads,
            row.pages,
            row.rows_gb_per_s,
            row.lines_gb_per_s,
            row.read_gb_per_s,
            100.0 * row.share_of_read,
            row.touch_gb_per_s,
            100.0 * row.share_of_touch
        );
    }
    let _ = writeln!(
        text,
        "\n{:>16} {:>7} {:>8} {:>8} {:>8}",
        "dense update", "threads", "GFLOP/s", "peak", "of peak"
    );
    for row in &report.updates {
        let _ = writeln!(
            text,
            "{:>16} {:>7} {:>8.0} {:>8.0} {:>7.0}%",
            format!("{}x{}x{}", row.rows, row.inputs, row.outputs),
            row.threads,
            row.gflop_per_s,
            row.peak_gflop_per_s,
            100.0 * row.share_of_peak
        );
    }
    text
}
