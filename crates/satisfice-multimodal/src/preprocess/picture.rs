//! Pictures as bytes, and what is done to them before they are tensors: as Pillow does it.

mod jpeg;
mod orientation;
mod png;
mod resample;

pub(super) use orientation::Orientation;
pub(super) use resample::{Scaling, Window, scale};

use crate::config::Luma;

/// Rows of pixels, each of `channels` bytes: grey (1), grey with alpha (2), RGB (3) or RGBA (4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) bytes: Vec<u8>,
}

/// A decoded file.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) picture: Picture,
    /// How the file says that it stands.
    pub(super) orientation: Orientation,
}

/// Why a file is not decoded.
#[derive(Debug)]
pub(super) enum Refused {
    /// It has so many pixels, more than the limit.
    TooLarge(u64),
    /// What is wrong with it.
    Wrong(String),
}

impl Refused {
    fn wrong(message: &(impl ToString + ?Sized)) -> Self {
        Self::Wrong(message.to_string())
    }
}

const WHOLE: &str = "a picture is a whole PNG or JPEG file";
const RAW_BYTES: &str =
    "send the file's bytes as a binary tensor, or their base64 in JSON as {\"b64\": \"...\"}";

/// Decodes a PNG or JPEG file of at most `pixels_max` pixels, which is checked before anything is
/// allocated.
pub(super) fn decode(file: &[u8], pixels_max: u64) -> Result<Decoded, Refused> {
    match file {
        [0x89, b'P', b'N', b'G', ..] => png::decode(file, pixels_max),
        [0xff, 0xd8, ..] => jpeg::decode(file, pixels_max),
        _ => Err(Refused::Wrong(format!(
            "{}, neither PNG nor JPEG",
            kind(file)
        ))),
    }
}

/// What to do about a file that is not decoded.
pub(super) fn hint(file: &[u8]) -> &'static str {
    match is_base64(file) {
        true => RAW_BYTES,
        false => WHOLE,
    }
}

/// What a file that is neither PNG nor JPEG seems to be.
fn kind(file: &[u8]) -> &'static str {
    match file {
        [] => "nothing",
        _ if is_base64(file) => "base64 text of a picture",
        [b'G', b'I', b'F', b'8', ..] => "a GIF file",
        [b'B', b'M', ..] => "a BMP file",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "a TIFF file",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "a WebP file",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an AVIF, HEIF or MPEG-4 file",
        _ => "unknown bytes",
    }
}

/// Whether the bytes are text of base64 that begins as a picture file does, or a `data:` URL.
fn is_base64(file: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 6] = [
        b"iVBORw0KGg", // PNG
        b"/9j/",       // JPEG
        b"_9j_",
        b"R0lGOD", // GIF
        b"UklGR",  // WebP
        b"data:image/",
    ];
    let text = file.trim_ascii_start();
    BEGINNINGS.iter().any(|start| text.starts_with(start))
}

fn check_pixels(width: u32, height: u32, pixels_max: u64) -> Result<(), Refused> {
    let pixels = u64::from(width) * u64::from(height);
    match pixels {
        0 => Err(Refused::wrong("a picture without pixels")),
        _ if pixels > pixels_max => Err(Refused::TooLarge(pixels)),
        _ => Ok(()),
    }
}

impl Picture {
    /// A picture of one colour, of as many channels as it has.
    pub(super) fn filled(width: usize, height: usize, colour: &[u8]) -> Self {
        Self {
            width,
            height,
            channels: colour.len(),
            bytes: colour.repeat(width * height),
        }
    }

    fn pixels(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.channels)
    }

    /// The same picture with other pixels, each made of one of its own.
    fn map<const N: usize>(&self, pixel: impl Fn(&[u8]) -> [u8; N]) -> Self {
        Self {
            channels: N,
            bytes: self.pixels().flat_map(pixel).collect(),
            ..*self
        }
    }

    /// The picture without alpha, on `background`: what Pillow's `paste` with the picture as its own
    /// mask gives. Without a background alpha is left out, as Pillow's `convert("RGB")` does.
    pub(super) fn opaque(self, background: Option<[u8; 3]>) -> Self {
        let on = |grounds: [u8; 3], colours: [u8; 3], alpha: u8| {
            let alpha = u32::from(alpha);
            let mixed = |i: usize| {
                let sum = u32::from(colours[i]) * alpha + u32::from(grounds[i]) * (255 - alpha);
                ((sum + 127) / 255) as u8
            };
            [mixed(0), mixed(1), mixed(2)]
        };
        match (self.channels, background) {
            (2, Some(ground)) => self.map(|p| on(ground, [p[0]; 3], p[1])),
            (4, Some(ground)) => self.map(|p| on(ground, [p[0], p[1], p[2]], p[3])),
            (2, None) => self.map(|p| [p[0]]),
            (4, None) => self.map(|p| [p[0], p[1], p[2]]),
            _ => self,
        }
    }

    /// An opaque picture as RGB.
    pub(super) fn coloured(self) -> Self {
        match self.channels {
            1 => self.map(|p| [p[0]; 3]),
            _ => self,
        }
    }

    /// An opaque picture as grey.
    pub(super) fn grey(self, luma: Luma) -> Self {
        match self.channels {
            3 => self.map(|p| [luma.of([p[0], p[1], p[2]])]),
            _ => self,
        }
    }

    /// The picture turned and mirrored to stand upright.
    pub(super) fn upright(self, orientation: Orientation) -> Self {
        if orientation == Orientation::UPRIGHT {
            return self;
        }
        let (width, height) = orientation.size(self.width, self.height);
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for y in 0..height {
            for x in 0..width {
                let (x, y) = orientation.source(x, y, self.width, self.height);
                let at = (y * self.width + x) * self.channels;
                bytes.extend_from_slice(&self.bytes[at..at + self.channels]);
            }
        }
        Self {
            width,
            height,
            bytes,
            ..self
        }
    }

    /// Puts `other`, of as many channels, at a place where it fits.
    pub(super) fn put(&mut self, other: &Self, x: usize, y: usize) {
        let row = other.width * other.channels;
        for (i, from) in other.bytes.chunks_exact(row).enumerate() {
            let at = ((y + i) * self.width + x) * self.channels;
            self.bytes[at..at + row].copy_from_slice(from);
        }
    }
}

impl Luma {
    /// Grey of red, green and blue, in 65,536ths, rounded.
    pub(super) fn of(self, rgb: [u8; 3]) -> u8 {
        let weights = match self {
            Self::Rec601 => [19595, 38470, 7471],
            Self::Rec709 => [13933, 46871, 4732],
        };
        let [r, g, b] = [0, 1, 2].map(|i| u32::from(rgb[i]) * weights[i]);
        ((r + g + b + 0x8000) >> 16) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_weighs_colours() {
        let of = |luma: Luma| [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3]].map(|c| luma.of(c));
        assert_eq!(of(Luma::Rec601), [76, 150, 29, 255]);
        assert_eq!(of(Luma::Rec709), [54, 182, 18, 255]);
    }

    #[test]
    fn what_is_no_picture_is_named() {
        for (file, name) in [
            (&b"iVBORw0KGgoAAAANSUhEUg"[..], "base64 text of a picture"),
            (b"  /9j/4AAQSkZJRg", "base64 text of a picture"),
            (b"data:image/png;base64,iVBO", "base64 text of a picture"),
            (b"GIF89a", "a GIF file"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP file"),
            (b"", "nothing"),
            (b"hello", "unknown bytes"),
        ] {
            assert_eq!(kind(file), name);
            assert_eq!(hint(file) == RAW_BYTES, name.starts_with("base64"));
        }
    }
}
