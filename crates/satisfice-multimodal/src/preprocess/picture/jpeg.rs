use super::{Decoded, Orientation, Picture, Refused, check_pixels};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

const MARKER: u8 = 0xff;

/// Decodes a JPEG file into grey or RGB. As Pillow does it, a file without its end marker is refused:
/// whether more than that is missing cannot be told.
pub(super) fn decode(file: &[u8], pixels_max: u64) -> Result<Decoded, Refused> {
    let outline = Outline::read(file);
    if !outline.ended {
        let message = "a JPEG file without its end marker: it is cut";
        return Err(Refused::wrong(message));
    }
    let side = usize::from(u16::MAX);
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(side)
        .set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(|e| Refused::wrong(&e))?;
    let (Some((width, height)), Some(stored)) = (decoder.dimensions(), decoder.input_colorspace())
    else {
        return Err(Refused::wrong("a JPEG file without a frame"));
    };
    // The decoder's own size is checked, before it makes room for it: a file may tell another one elsewhere.
    check_pixels(width as u32, height as u32, pixels_max)?;
    if stored == ColorSpace::CMYK && !outline.adobe {
        let message = "a CMYK JPEG without Adobe's marker, which says how its inks are stored: convert \
                       it to RGB";
        return Err(Refused::wrong(message));
    }
    let colours = match stored {
        ColorSpace::Luma => ColorSpace::Luma,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    let bytes = decoder.decode().map_err(|e| Refused::wrong(&e))?;
    let channels = bytes.len() / (width * height);
    if !matches!(channels, 1 | 3) || bytes.len() != width * height * channels {
        return Err(Refused::wrong("its pixels are not those of its size"));
    }
    Ok(Decoded {
        orientation: Orientation::read(Some(&outline.exif), outline.xmp),
        picture: Picture {
            width,
            height,
            channels,
            bytes,
        },
    })
}

/// What the decoder does not tell of a file's markers.
#[derive(Debug, Default)]
struct Outline<'a> {
    exif: Vec<u8>,
    xmp: Option<&'a [u8]>,
    adobe: bool,
    /// Whether there is an end marker.
    ended: bool,
}

impl<'a> Outline<'a> {
    fn read(file: &'a [u8]) -> Self {
        let mut outline = Self::default();
        let mut rest = file;
        while let Some((marker, after)) = next_marker(rest) {
            rest = after;
            match marker {
                0xd9 => {
                    outline.ended = true;
                    break;
                }
                0xd8 | 0x01 | 0xd0..=0xd7 => {}
                _ => {
                    let length = rest.first_chunk().map_or(2, |&l| u16::from_be_bytes(l));
                    let end = usize::from(length.max(2)).min(rest.len());
                    outline.add(marker, rest.get(2..end).unwrap_or_default());
                    rest = &rest[end..];
                }
            }
        }
        outline
    }

    fn add(&mut self, marker: u8, segment: &'a [u8]) {
        const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
        match marker {
            0xe1 => {
                if let Some(exif) = segment.strip_prefix(b"Exif\0\0") {
                    self.exif.extend_from_slice(exif);
                } else if let Some(xmp) = segment.strip_prefix(XMP) {
                    self.xmp = Some(xmp);
                }
            }
            0xee => self.adobe |= segment.starts_with(b"Adobe"),
            _ => {}
        }
    }
}

/// The next marker and what follows it; bytes between, such as a scan's, are passed over.
fn next_marker(mut rest: &[u8]) -> Option<(u8, &[u8])> {
    loop {
        let at = rest.iter().position(|&byte| byte == MARKER)?;
        rest = &rest[at + 1..];
        match rest.first()? {
            0 | &MARKER => {}
            &marker => return Some((marker, &rest[1..])),
        }
    }
}
