use super::check_bytes;
use crate::{
    MultimodalError,
    config::{ImageConfig, Resize, TensorConfig},
};
use image::{
    DynamicImage, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
    imageops::{self, FilterType},
};
use satisfice_core::{NamedTensor, Tensor, TensorData};
use std::io::Cursor;

/// The widest pixel that a decoder makes: four channels of 16 bits.
const PIXEL_BYTES_MAX: u64 = 8;

/// Makes `[channels, height, width]` of PNG and JPEG files.
#[derive(Debug)]
pub(crate) struct Pictures {
    config: ImageConfig,
    tensor: String,
    channels: usize,
    height: u32,
    width: u32,
}

impl Pictures {
    /// `tensor` is as the sidecar's check wants it: FP32 `[channels, height, width]`.
    pub(crate) fn new(config: &ImageConfig, tensor: &TensorConfig) -> Self {
        Self {
            config: config.clone(),
            tensor: tensor.name.clone(),
            channels: tensor.shape[0],
            height: tensor.shape[1] as u32,
            width: tensor.shape[2] as u32,
        }
    }

    /// `[1, channels, height, width]` of a file, which is number `index` of its request.
    pub(crate) fn decode(&self, index: usize, file: &[u8]) -> Result<NamedTensor, MultimodalError> {
        let values = self.values(&self.frame(&self.open(index, file)?));
        let shape = vec![1, self.channels, self.height as usize, self.width as usize];
        Ok(NamedTensor {
            name: self.tensor.clone(),
            tensor: Tensor::new(shape, TensorData::Fp32(values))
                .expect("invariant: every picture fills its frame"),
        })
    }

    /// Decodes a file, after a look at its header: a small file may claim a huge picture.
    fn open(&self, index: usize, file: &[u8]) -> Result<RgbImage, MultimodalError> {
        let input = &self.config.input;
        check_bytes(input, index, file, self.config.bytes_max)?;
        let wrong = |error: &dyn std::fmt::Display| {
            MultimodalError::request_hint(
                "wrong_picture",
                format!("`{input}` {index}: {error}"),
                "a picture is a whole PNG or JPEG file",
            )
        };
        let reader = || {
            let reader = ImageReader::new(Cursor::new(file)).with_guessed_format();
            let reader = reader.map_err(|e| wrong(&e))?;
            match reader.format() {
                Some(ImageFormat::Png | ImageFormat::Jpeg) => Ok(reader),
                _ => Err(wrong(&"neither PNG nor JPEG")),
            }
        };
        let (width, height) = reader()?.into_dimensions().map_err(|e| wrong(&e))?;
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.config.pixels_max {
            return Err(MultimodalError::TooLarge {
                what: format!("pixels of `{input}` {index}"),
                found: pixels,
                limit: self.config.pixels_max,
            });
        }
        let mut reader = reader()?;
        let mut limits = Limits::no_limits();
        // The picture, and as much again for the decoder.
        limits.max_alloc = Some(2 * PIXEL_BYTES_MAX * pixels + (1 << 20));
        reader.limits(limits);
        Ok(self.opaque(&reader.decode().map_err(|e| wrong(&e))?))
    }

    /// The picture on the background.
    fn opaque(&self, picture: &DynamicImage) -> RgbImage {
        if !picture.color().has_alpha() {
            return picture.to_rgb8();
        }
        let rgba = picture.to_rgba8();
        let mut rgb = RgbImage::new(rgba.width(), rgba.height());
        for (from, to) in rgba.pixels().zip(rgb.pixels_mut()) {
            let alpha = u32::from(from.0[3]);
            for (channel, &background) in self.config.background.iter().enumerate() {
                let mixed =
                    u32::from(from.0[channel]) * alpha + u32::from(background) * (255 - alpha);
                to.0[channel] = ((mixed + 127) / 255) as u8;
            }
        }
        rgb
    }

    /// The picture in the size that the networks read.
    fn frame(&self, picture: &RgbImage) -> RgbImage {
        let (width, height) = (self.width, self.height);
        if picture.dimensions() == (width, height) {
            return picture.clone();
        }
        let fit = |scale: f64| {
            let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
            let (w, h) = (side(picture.width()), side(picture.height()));
            imageops::resize(picture, w, h, FilterType::Triangle)
        };
        let across = f64::from(width) / f64::from(picture.width());
        let down = f64::from(height) / f64::from(picture.height());
        match self.config.resize {
            Resize::Stretch => imageops::resize(picture, width, height, FilterType::Triangle),
            Resize::Cover => {
                // Only the middle of a long picture is wanted: cut before scaling.
                let scale = across.max(down);
                let side = |length: u32, of: u32| {
                    ((f64::from(length) / scale).round() as u32).clamp(1, of)
                };
                let (w, h) = (side(width, picture.width()), side(height, picture.height()));
                let (x, y) = ((picture.width() - w) / 2, (picture.height() - h) / 2);
                let middle = imageops::crop_imm(picture, x, y, w, h).to_image();
                imageops::resize(&middle, width, height, FilterType::Triangle)
            }
            Resize::Contain => {
                let small = fit(across.min(down));
                let mut frame = RgbImage::from_pixel(width, height, Rgb(self.config.background));
                let x = i64::from(width.saturating_sub(small.width()) / 2);
                let y = i64::from(height.saturating_sub(small.height()) / 2);
                imageops::replace(&mut frame, &small, x, y);
                frame
            }
        }
    }

    fn values(&self, picture: &RgbImage) -> Vec<f32> {
        let pixels = self.height as usize * self.width as usize;
        let mut values = Vec::with_capacity(self.channels * pixels);
        let of = |numbers: &Option<Vec<f32>>, channel: usize, default| {
            numbers.as_ref().map_or(default, |n| n[channel])
        };
        let luma = (self.channels == 1).then(|| {
            DynamicImage::ImageRgb8(picture.clone())
                .to_luma8()
                .into_raw()
        });
        for channel in 0..self.channels {
            let mean = of(&self.config.mean, channel, 0.0);
            let std = of(&self.config.std, channel, 1.0);
            let value = |byte: u8| (f32::from(byte) * self.config.scale - mean) / std;
            match &luma {
                Some(luma) => values.extend(luma.iter().copied().map(value)),
                None => values.extend(picture.pixels().map(|pixel| value(pixel.0[channel]))),
            }
        }
        values
    }
}
