use super::{Decoded, Orientation, Picture, Refused, check_pixels};
use png::{BitDepth, ColorType, Decoder, Info, Limits, Transformations};
use std::io::Cursor;

/// For texts and tables of a file, beside its pixels.
const TABLES_MAX: usize = 4 << 20;
/// Text that holds EXIF or XMP data.
const TEXT_MAX: usize = 1 << 20;

/// Decodes a PNG file into 8 bits a channel: palettes and transparent colours become RGB and alpha,
/// of 16 bits the upper 8 are kept.
pub(super) fn decode(file: &[u8], pixels_max: u64) -> Result<Decoded, Refused> {
    let mut decoder = Decoder::new(Cursor::new(file));
    let (width, height) = {
        let info = decoder.read_header_info().map_err(|e| Refused::wrong(&e))?;
        check_pixels(info.width, info.height, pixels_max)?;
        if (info.color_type, info.bit_depth) == (ColorType::Grayscale, BitDepth::Sixteen) {
            let message = "a grey PNG of 16 bits is not served, because what its values mean is not \
                           told: convert it to 8 bits";
            return Err(Refused::wrong(message));
        }
        (info.width as usize, info.height as usize)
    };
    let pixels = width * height;
    decoder.set_limits(Limits {
        bytes: 8 * pixels + TABLES_MAX,
    });
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(|e| Refused::wrong(&e))?;
    let size = reader.output_buffer_size();
    let mut bytes = vec![0; size.ok_or_else(|| Refused::wrong("too large a picture"))?];
    let frame = reader
        .next_frame(&mut bytes)
        .map_err(|e| Refused::wrong(&e))?;
    // Orientation may stand behind the pixels. They are whole, whatever is missing behind them.
    let _rest = reader.finish();
    Ok(Decoded {
        picture: Picture {
            width,
            height,
            channels: frame.color_type.samples(),
            bytes,
        },
        orientation: orientation(reader.info()),
    })
}

fn orientation(info: &Info<'_>) -> Orientation {
    let raw = raw_profile(info);
    let exif = info.exif_metadata.as_deref().or(raw.as_deref());
    let xmp = info
        .utf8_text
        .iter()
        .find(|t| t.keyword == "XML:com.adobe.xmp");
    let xmp = xmp.cloned().and_then(|mut text| {
        text.decompress_text_with_limit(TEXT_MAX).ok()?;
        text.get_text().ok()
    });
    Orientation::read(exif, xmp.as_deref().map(str::as_bytes))
}

/// EXIF data as `ImageMagick` writes them: a text of hexadecimal digits behind three lines.
fn raw_profile(info: &Info<'_>) -> Option<Vec<u8>> {
    const KEYWORD: &str = "Raw profile type exif";
    let plain = info.uncompressed_latin1_text.iter();
    let plain = plain
        .filter(|t| t.keyword == KEYWORD)
        .map(|t| t.text.clone());
    let packed = info
        .compressed_latin1_text
        .iter()
        .filter(|t| t.keyword == KEYWORD);
    let packed = packed.cloned().filter_map(|mut text| {
        text.decompress_text_with_limit(TEXT_MAX).ok()?;
        text.get_text().ok()
    });
    let text = plain.chain(packed).next()?;
    let digits: String = text.split('\n').skip(3).flat_map(str::chars).collect();
    let (pairs, _) = digits.trim().as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}
