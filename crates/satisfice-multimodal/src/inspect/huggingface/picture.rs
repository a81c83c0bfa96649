//! How `preprocessor_config.json` has pictures made tensors.

use super::read;
use crate::{MultimodalError, signature::wrong};
use serde::Deserialize;
use serde_json::Value;
use std::{fmt::Write as _, path::Path};

pub(super) const PIXELS: &str = "pixel_values";
const FILE: &str = "preprocessor_config.json";
/// The file of newer versions, with the preprocessing of pictures inside.
const NEWER: &str = "processor_config.json";
/// From this size on, pictures with a `crop_pct` are not cut.
const CONVNEXT_WHOLE: usize = 384;

pub(super) struct Picture {
    pub(super) height: usize,
    pub(super) width: usize,
    /// As model.toml has it.
    pub(super) preprocess: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<u8>,
    crop_pct: Option<f64>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
    do_flip_channel_order: Option<bool>,
    do_pad: Option<bool>,
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Sides { height: usize, width: usize },
    Shortest { shortest_edge: usize },
    Number(usize),
}

/// How a picture gets its size.
struct Frame {
    height: usize,
    width: usize,
    resize: &'static str,
    crop: Option<f64>,
}

impl Picture {
    pub(super) fn read(dir: &Path) -> Result<Self, MultimodalError> {
        let mut path = dir.join(FILE);
        let mut config: Option<Config> = read(&path)?;
        if config.is_none() {
            path = dir.join(NEWER);
            let all: Option<Value> = read(&path)?;
            let inside = all.as_ref().and_then(|all| all.get("image_processor"));
            let inside = inside.map(Config::deserialize).transpose();
            config = inside.map_err(|error| wrong(&path, error.to_string()))?;
        }
        let Some(config) = config else {
            let message = format!("pictures are made tensors as {FILE} says, which is not there");
            return Err(wrong(dir, message));
        };
        config.picture().map_err(|message| wrong(&path, message))
    }
}

impl Config {
    fn picture(&self) -> Result<Picture, String> {
        let frame = self.frame()?;
        let filter = match self.resample.unwrap_or(2) {
            1 => "lanczos",
            2 => "bilinear",
            3 => "bicubic",
            other => {
                return Err(format!(
                    "resample {other} is none of 1 (Lanczos), 2 (bilinear), 3 (bicubic)"
                ));
            }
        };
        let mut how = format!(
            "type = \"image\", input = \"picture\", resize = \"{}\", filter = \"{filter}\", \
             transparent = \"ignore\"",
            frame.resize
        );
        if let Some(crop) = frame.crop {
            let _ = write!(how, ", crop = {crop:?}, middle = \"down\"");
        }
        if self.do_flip_channel_order == Some(true) {
            how += ", colours = \"bgr\"";
        }
        let scale = match self.do_rescale {
            Some(false) => 1.0,
            _ => self.rescale_factor.unwrap_or(1.0 / 255.0),
        };
        let _ = write!(how, ", scale = {scale:?}");
        if self.do_normalize != Some(false) {
            let (Some(mean), Some(std)) = (&self.image_mean, &self.image_std) else {
                return Err("do_normalize without image_mean and image_std".to_owned());
            };
            let _ = write!(how, ", mean = {mean:?}, std = {std:?}");
        }
        Ok(Picture {
            height: frame.height,
            width: frame.width,
            preprocess: how,
        })
    }

    fn frame(&self) -> Result<Frame, String> {
        if self.do_resize == Some(false) {
            return Err("do_resize = false: pictures of any size are no tensors of one".to_owned());
        }
        if self.do_pad == Some(true) {
            return Err("do_pad = true, which is not served".to_owned());
        }
        let size = self.size.ok_or("no size")?;
        let size = self.sides(size)?;
        if let (
            Some(share),
            Size::Shortest {
                shortest_edge: side,
            },
        ) = (self.crop_pct, size)
        {
            return Ok(match side < CONVNEXT_WHOLE {
                true => Frame {
                    height: side,
                    width: side,
                    resize: "cover",
                    crop: Some(share),
                },
                false => Frame {
                    height: side,
                    width: side,
                    resize: "stretch",
                    crop: None,
                },
            });
        }
        let crop = match self.do_center_crop {
            Some(true) => Some(self.crop_size.ok_or("do_center_crop without crop_size")?),
            _ => None,
        };
        let (height, width) = match crop {
            None => match size {
                Size::Sides { height, width } => {
                    return Ok(Frame {
                        height,
                        width,
                        resize: "stretch",
                        crop: None,
                    });
                }
                _ => {
                    return Err("shortest_edge without do_center_crop: pictures of any length are no tensors of \
                                one size"
                        .to_owned());
                }
            },
            Some(Size::Sides { height, width }) => (height, width),
            Some(
                Size::Number(side)
                | Size::Shortest {
                    shortest_edge: side,
                },
            ) => (side, side),
        };
        let (resize, share) = match size {
            Size::Sides {
                height: h,
                width: w,
            } => {
                let (down, across) = (height as f64 / h as f64, width as f64 / w as f64);
                if (down - across).abs() > 1e-9 {
                    return Err(format!(
                        "{height} of {h} and {width} of {w} are cut out: two shares"
                    ));
                }
                ("stretch", down)
            }
            Size::Shortest {
                shortest_edge: side,
            } if height == width => ("cover", height as f64 / side as f64),
            _ => return Err("shortest_edge with a crop that is no square".to_owned()),
        };
        match share {
            share if share > 1.0 => {
                Err("crop_size is larger than size, which is filled with black".to_owned())
            }
            share => Ok(Frame {
                height,
                width,
                resize,
                crop: Some(share),
            }),
        }
    }

    /// What a bare number means depends on the class.
    fn sides(&self, size: Size) -> Result<Size, String> {
        let Size::Number(side) = size else {
            return Ok(size);
        };
        let classes = self
            .image_processor_type
            .iter()
            .chain(&self.feature_extractor_type);
        let starts = |names: &[&str]| {
            classes
                .clone()
                .any(|c| names.iter().any(|n| c.starts_with(n)))
        };
        if starts(&["ViT", "DeiT", "Beit"]) {
            return Ok(Size::Sides {
                height: side,
                width: side,
            });
        }
        match starts(&["CLIP", "ConvNext"]) {
            true => Ok(Size::Shortest {
                shortest_edge: side,
            }),
            false => Err(format!(
                "size = {side}: of which side, older files do not say"
            )),
        }
    }
}
