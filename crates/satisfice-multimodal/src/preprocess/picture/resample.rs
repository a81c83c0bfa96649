//! Scaling in Pillow's own fixed-point arithmetic (its `Resample.c`): the same bytes.

use super::Picture;
use crate::config::Filter;
use std::{borrow::Cow, ops::Range};

/// A weight of 1.
const ONE: i32 = 1 << 22;

/// A picture in another size, of which a window is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaling {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) window: Window,
    pub(crate) filter: Filter,
}

/// A part of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// For each element of a scaled line, which elements it is made of, and their weights.
#[derive(Debug)]
struct Weights {
    spans: Vec<Span>,
    numbers: Vec<i32>,
}

#[derive(Debug)]
struct Span {
    from: usize,
    numbers: Range<usize>,
}

/// The window of a grey or RGB picture scaled to another size, in the order of Pillow 13: across and
/// then down, or first down where that leaves less. Only what the window needs is computed.
pub(crate) fn scale(picture: &Picture, to: &Scaling) -> Picture {
    let window = to.window;
    let (right, bottom) = (window.x + window.width, window.y + window.height);
    let columns = Weights::new(picture.width, to.width, window.x..right, to.filter);
    let rows = Weights::new(picture.height, to.height, window.y..bottom, to.filter);
    let channels = picture.channels;
    let bytes = if down_first(picture, to) {
        let needed = columns.sources();
        let cut = picture.columns(needed.clone());
        let down = scale_columns(&cut, needed.len() * channels, &rows, 0);
        scale_rows(&down, [needed.len(), channels], &columns, needed.start)
    } else {
        let needed = rows.sources();
        let line = picture.width * channels;
        let cut = &picture.bytes[needed.start * line..needed.end * line];
        let across = scale_rows(cut, [picture.width, channels], &columns, 0);
        scale_columns(&across, window.width * channels, &rows, needed.start)
    };
    Picture {
        width: window.width,
        height: window.height,
        channels,
        bytes,
    }
}

/// Found by comparing Pillow with its own two passes over many sizes.
fn down_first(picture: &Picture, to: &Scaling) -> bool {
    let less = |from: usize, to: usize| from as i64 - to as i64;
    let (across, down) = (
        less(picture.width, to.width),
        less(picture.height, to.height),
    );
    down > 0 && 2 * across < down
}

impl Picture {
    /// Some columns of every row.
    fn columns(&self, columns: Range<usize>) -> Cow<'_, [u8]> {
        if columns == (0..self.width) {
            return Cow::Borrowed(&self.bytes);
        }
        let part = columns.start * self.channels..columns.end * self.channels;
        let rows = self.bytes.chunks_exact(self.width * self.channels);
        rows.flat_map(|row| &row[part.clone()]).copied().collect()
    }
}

impl Weights {
    /// Of elements `wanted` of a line of `from` elements scaled to `to`.
    fn new(from: usize, to: usize, wanted: Range<usize>, filter: Filter) -> Self {
        let mut weights = Self {
            spans: Vec::with_capacity(wanted.len()),
            numbers: Vec::new(),
        };
        for at in wanted {
            match from == to {
                true => weights.add(at, &[1.0]),
                false => weights.add_filtered(from, from as f64 / to as f64, at, filter),
            }
        }
        weights
    }

    fn add_filtered(&mut self, from: usize, scale: f64, at: usize, filter: Filter) {
        let spread = scale.max(1.0);
        let shrink = 1.0 / spread;
        let support = filter.support() * spread;
        let centre = (at as f64 + 0.5) * scale;
        // As Pillow casts: towards zero.
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight = |source: usize| filter.at((source as f64 - centre + 0.5) * shrink);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let divisor = if sum == 0.0 { 1.0 } else { sum };
        let weights: Vec<f64> = weights.iter().map(|w| w / divisor).collect();
        self.add(first, &weights);
    }

    fn add(&mut self, from: usize, weights: &[f64]) {
        let start = self.numbers.len();
        // Rounded as Pillow does it: half is added, and the rest cut off.
        let fixed = |w: &f64| (w * f64::from(ONE) + 0.5_f64.copysign(*w)) as i32;
        self.numbers.extend(weights.iter().map(fixed));
        let numbers = start..self.numbers.len();
        self.spans.push(Span { from, numbers });
    }

    /// Every element that is read.
    fn sources(&self) -> Range<usize> {
        let first = self.spans.iter().map(|s| s.from).min().unwrap_or(0);
        let end = self.spans.iter().map(|s| s.from + s.numbers.len()).max();
        first..end.unwrap_or(0)
    }
}

impl Filter {
    /// How far a filter reaches, in elements of the smaller line.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    match x * std::f64::consts::PI {
        0.0 => 1.0,
        angle => libm::sin(angle) / angle,
    }
}

/// A sum of bytes times weights, rounded.
fn byte(sum: i32) -> u8 {
    ((sum + ONE / 2) / ONE).clamp(0, 255) as u8
}

/// Rows of `[pixels, channels]`, of which the first pixel is the picture's `first`.
fn scale_rows(rows: &[u8], line: [usize; 2], to: &Weights, first: usize) -> Vec<u8> {
    match line {
        [width, 1] => scale_pixels::<1>(rows, width, to, first),
        [width, _] => scale_pixels::<3>(rows, width, to, first),
    }
}

fn scale_pixels<const C: usize>(rows: &[u8], width: usize, to: &Weights, first: usize) -> Vec<u8> {
    let mut scaled = Vec::with_capacity(rows.len() / width.max(1) * to.spans.len());
    for row in rows.chunks_exact(width * C) {
        let (pixels, _) = row.as_chunks::<C>();
        for span in &to.spans {
            let mut sums = [0_i32; C];
            let numbers = &to.numbers[span.numbers.clone()];
            for (pixel, weight) in pixels[span.from - first..].iter().zip(numbers) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            scaled.extend(sums.map(byte));
        }
    }
    scaled
}

/// Rows of `width` bytes, of which the first is the picture's row `first`.
fn scale_columns(rows: &[u8], width: usize, to: &Weights, first: usize) -> Vec<u8> {
    let mut scaled = Vec::with_capacity(to.spans.len() * width);
    let mut sums = vec![0_i32; width];
    for span in &to.spans {
        sums.fill(0);
        let numbers = &to.numbers[span.numbers.clone()];
        let read = rows[(span.from - first) * width..].chunks_exact(width);
        for (row, weight) in read.zip(numbers) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        scaled.extend(sums.iter().map(|&sum| byte(sum)));
    }
    scaled
}
