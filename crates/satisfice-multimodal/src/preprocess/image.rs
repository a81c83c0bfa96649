use super::{
    check_bytes,
    picture::{self, Picture, Refused, Scaling, Window},
};
use crate::{
    MultimodalError,
    config::{Colours, ImageConfig, Layout, Middle, Resize, TensorConfig},
};
use satisfice_core::{DataType, NamedTensor, Tensor, TensorData};

/// Makes the tensor of PNG and JPEG files.
#[derive(Debug)]
pub(crate) struct Pictures {
    config: ImageConfig,
    tensor: TensorConfig,
    channels: usize,
    height: usize,
    width: usize,
}

impl Pictures {
    /// `tensor` is as the sidecar's check wants it.
    pub(crate) fn new(config: &ImageConfig, tensor: &TensorConfig) -> Self {
        let ((Layout::Nchw, &[channels, height, width])
        | (Layout::Nhwc, &[height, width, channels])) = (config.layout, tensor.shape.as_slice())
        else {
            unreachable!("invariant: a picture's tensor has three dimensions")
        };
        Self {
            config: config.clone(),
            tensor: tensor.clone(),
            channels,
            height,
            width,
        }
    }

    /// The tensor `[1, ...]` of a file, which is number `index` of its request.
    pub(crate) fn decode(&self, index: usize, file: &[u8]) -> Result<NamedTensor, MultimodalError> {
        let picture = self.frame(&self.open(index, file)?);
        let shape = std::iter::once(1).chain(self.tensor.shape.iter().copied());
        Ok(NamedTensor {
            name: self.tensor.name.clone(),
            tensor: Tensor::new(shape.collect(), self.values(&picture))
                .expect("invariant: every picture fills its frame"),
        })
    }

    /// The upright, opaque picture in the colours that the networks read.
    fn open(&self, index: usize, file: &[u8]) -> Result<Picture, MultimodalError> {
        let config = &self.config;
        let input = &config.input;
        check_bytes(input, index, file, config.bytes_max)?;
        let refused = |why| match why {
            Refused::TooLarge(pixels) => MultimodalError::TooLarge {
                what: format!("pixels of `{input}` {index}"),
                found: pixels,
                limit: config.pixels_max,
            },
            Refused::Wrong(message) => MultimodalError::request_hint(
                "wrong_picture",
                format!("`{input}` {index}: {message}"),
                picture::hint(file),
            ),
        };
        let decoded = picture::decode(file, config.pixels_max).map_err(refused)?;
        let opaque = decoded
            .picture
            .opaque(config.transparent.ground(config.background));
        let coloured = match self.channels {
            1 => opaque.grey(config.luma),
            _ => opaque.coloured(),
        };
        Ok(match config.exif_orientation {
            true => coloured.upright(decoded.orientation),
            false => coloured,
        })
    }

    /// The picture in the size that the networks read.
    fn frame(&self, picture: &Picture) -> Picture {
        match self.config.resize {
            Resize::Stretch => self.stretch(picture),
            Resize::Cover => self.cover(picture),
            Resize::Contain => self.contain(picture),
        }
    }

    /// The whole picture in another size.
    fn scaled(&self, picture: &Picture, width: usize, height: usize) -> Picture {
        let window = Window {
            x: 0,
            y: 0,
            width,
            height,
        };
        self.window(picture, width, height, window)
    }

    fn window(&self, picture: &Picture, width: usize, height: usize, window: Window) -> Picture {
        let scaling = Scaling {
            width,
            height,
            window,
            filter: self.config.filter,
        };
        picture::scale(picture, &scaling)
    }

    /// Each side by itself, and the middle cut out.
    fn stretch(&self, picture: &Picture) -> Picture {
        let (width, height) = self.whole();
        self.window(picture, width, height, self.middle_of(width, height))
    }

    /// Sides of the picture of which the frame is cut out.
    fn whole(&self) -> (usize, usize) {
        let crop = self.config.crop.unwrap_or(1.0);
        let whole = |side: usize| ((side as f64 / crop + CROP_ROUNDING) as usize).max(side);
        (whole(self.width), whole(self.height))
    }

    /// The frame in the middle of a larger picture.
    fn middle_of(&self, width: usize, height: usize) -> Window {
        let half = |difference: usize| match self.config.middle {
            Middle::Even => half(difference),
            Middle::Down => difference / 2,
        };
        Window {
            x: half(width - self.width),
            y: half(height - self.height),
            width: self.width,
            height: self.height,
        }
    }

    /// As torchvision's `Resize` of the short side and `CenterCrop`.
    fn cover(&self, picture: &Picture) -> Picture {
        let (across, down) = self.whole();
        let (w, h) = (picture.width, picture.height);
        // The side that is short for the frame becomes the frame's; the other one follows.
        let (width, height) = match across * h >= down * w {
            true => (across, (across * h / w).max(down)),
            false => ((down * w / h).max(across), down),
        };
        self.window(picture, width, height, self.middle_of(width, height))
    }

    /// As Pillow's `ImageOps.pad`.
    fn contain(&self, picture: &Picture) -> Picture {
        let (w, h) = (picture.width as f64, picture.height as f64);
        let side = |length: f64| (length.round_ties_even() as usize).max(1);
        let (width, height) = match self.width * picture.height <= self.height * picture.width {
            true => (self.width, side(h / w * self.width as f64).min(self.height)),
            false => (
                side(w / h * self.height as f64).min(self.width),
                self.height,
            ),
        };
        let mut frame = Picture::filled(self.width, self.height, &self.ground());
        let small = self.scaled(picture, width, height);
        frame.put(&small, half(self.width - width), half(self.height - height));
        frame
    }

    /// The background, in the networks' colours.
    fn ground(&self) -> Vec<u8> {
        match self.channels {
            1 => vec![self.config.luma.of(self.config.background)],
            _ => self.config.background.to_vec(),
        }
    }

    /// The tensor's values of a picture in the right size.
    fn values(&self, picture: &Picture) -> TensorData {
        if self.tensor.datatype == DataType::Uint8 {
            return TensorData::Uint8(self.arranged(picture, |byte, _| byte));
        }
        let of = |numbers: &Option<Vec<f32>>, default: f32| match numbers {
            Some(numbers) => numbers.clone(),
            None => vec![default; self.channels],
        };
        let (mean, std) = (of(&self.config.mean, 0.0), of(&self.config.std, 1.0));
        let scale = self.config.scale.unwrap_or(1.0 / 255.0);
        let value = |byte: u8, c: usize| (f32::from(byte) * scale - mean[c]) / std[c];
        TensorData::Fp32(self.arranged(picture, value))
    }

    /// A value of each byte and its channel of the tensor, in the tensor's order.
    fn arranged<T>(&self, picture: &Picture, value: impl Fn(u8, usize) -> T) -> Vec<T> {
        let channels = self.channels;
        let source = |channel: usize| match self.config.colours {
            Colours::Rgb => channel,
            Colours::Bgr => channels - 1 - channel,
        };
        let pixels = || picture.bytes.chunks_exact(channels);
        let mut values = Vec::with_capacity(picture.bytes.len());
        match self.config.layout {
            Layout::Nchw => {
                for channel in 0..channels {
                    let from = source(channel);
                    values.extend(pixels().map(|pixel| value(pixel[from], channel)));
                }
            }
            Layout::Nhwc => {
                for pixel in pixels() {
                    values.extend((0..channels).map(|c| value(pixel[source(c)], c)));
                }
            }
        }
        values
    }
}

/// So that `224 / 0.7777` of a `crop` that was meant as 224 / 288 is 288.
const CROP_ROUNDING: f64 = 0.02;

/// Half of a difference of sides, as Python rounds it.
fn half(difference: usize) -> usize {
    (difference as f64 / 2.0).round_ties_even() as usize
}

#[cfg(test)]
mod tests;
