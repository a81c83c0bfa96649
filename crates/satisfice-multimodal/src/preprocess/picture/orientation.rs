//! How a picture stands: EXIF's orientation, from where Pillow's `getexif` finds it.

/// EXIF's numbers 1 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orientation(u8);

const TAG: u16 = 0x0112;

impl Orientation {
    /// As it is stored.
    pub(crate) const UPRIGHT: Self = Self(1);

    /// What EXIF data say, or else XMP data; upright where neither says anything that counts.
    pub(super) fn read(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Self {
        let said = exif.and_then(of_exif).or_else(|| xmp.and_then(of_xmp));
        match said {
            Some(number @ 1..=8) => Self(number as u8),
            _ => Self::UPRIGHT,
        }
    }

    /// Width and height of an upright picture that is stored in this size.
    pub(super) fn size(self, width: usize, height: usize) -> (usize, usize) {
        match self.0 {
            5..=8 => (height, width),
            _ => (width, height),
        }
    }

    /// Where pixel (x, y) of the upright picture is stored, in a picture of this stored size.
    pub(super) fn source(self, x: usize, y: usize, width: usize, height: usize) -> (usize, usize) {
        let (right, bottom) = (width - 1, height - 1);
        match self.0 {
            2 => (right - x, y),
            3 => (right - x, bottom - y),
            4 => (x, bottom - y),
            5 => (y, x),
            6 => (y, bottom - x),
            7 => (right - y, bottom - x),
            8 => (right - y, x),
            _ => (x, y),
        }
    }
}

/// The tag in the first directory of EXIF data, which are a TIFF file's.
fn of_exif(mut exif: &[u8]) -> Option<u32> {
    while let Some(rest) = exif.strip_prefix(b"Exif\0\0") {
        exif = rest;
    }
    let little = match exif.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(match little {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        })
    };
    let long = |at: usize| {
        let bytes = exif.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(match little {
            true => u32::from_le_bytes(bytes),
            false => u32::from_be_bytes(bytes),
        })
    };
    let directory = long(4)? as usize;
    let entries = usize::from(short(directory)?);
    let entry = |i: usize| directory + 2 + 12 * i;
    let found = (0..entries).find(|&i| short(entry(i)) == Some(TAG))?;
    let at = entry(found);
    match (short(at + 2)?, long(at + 4)?) {
        (3, 1) => short(at + 8).map(u32::from),
        (4, 1) => long(at + 8),
        _ => None,
    }
}

/// The digit behind `tiff:Orientation="` or `<tiff:Orientation>`.
fn of_xmp(xmp: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"tiff:Orientation";
    let mut rest = xmp;
    while let Some(at) = rest.windows(NAME.len()).position(|w| w == NAME) {
        rest = &rest[at + NAME.len()..];
        let value = rest
            .strip_prefix(b"=\"")
            .or_else(|| rest.strip_prefix(b">"));
        if let Some([digit @ b'0'..=b'9', ..]) = value {
            return Some(u32::from(digit - b'0'));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data with the orientation as a short of either byte order, behind another tag.
    fn exif(little: bool, orientation: u16) -> Vec<u8> {
        let short = |v: u16| match little {
            true => v.to_le_bytes(),
            false => v.to_be_bytes(),
        };
        let long = |v: u32| match little {
            true => v.to_le_bytes(),
            false => v.to_be_bytes(),
        };
        let mut file = if little { b"II" } else { b"MM" }.to_vec();
        file.extend(short(42));
        file.extend(long(8));
        file.extend(short(2));
        for (tag, value) in [(0x0100, 640), (TAG, orientation)] {
            file.extend(short(tag));
            file.extend(short(3));
            file.extend(long(1));
            file.extend(short(value));
            file.extend(short(0));
        }
        file
    }

    #[test]
    fn orientation_is_found_in_exif_and_xmp() {
        for little in [true, false] {
            let bare = exif(little, 6);
            let named = [&b"Exif\0\0"[..], &bare].concat();
            for data in [bare, named] {
                assert_eq!(Orientation::read(Some(&data), None), Orientation(6));
                // Every shorter piece says nothing, and nothing panics.
                for length in 0..data.len() - 4 {
                    let cut = Orientation::read(Some(&data[..length]), None);
                    assert!(cut == Orientation::UPRIGHT, "{length}");
                }
            }
        }
        let said = |xmp: &str| Orientation::read(None, Some(xmp.as_bytes()));
        assert_eq!(said("<x tiff:Orientation=\"8\"/>"), Orientation(8));
        let other = "tiff:Orientation: <tiff:Orientation>3</tiff:Orientation>";
        assert_eq!(said(other), Orientation(3));
        assert_eq!(said("tiff:Orientation=\"9\""), Orientation::UPRIGHT);
        // EXIF goes before XMP, also where it says that nothing is to be done.
        let both = Orientation::read(Some(&exif(true, 1)), Some(b"tiff:Orientation=\"8\""));
        assert_eq!(both, Orientation::UPRIGHT);
    }
}
