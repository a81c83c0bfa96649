use serde::Deserialize;

/// How raw bytes become a modality's tensors.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PreprocessConfig {
    /// A picture becomes its pixels.
    Image(ImageConfig),
    /// A text becomes its tokens.
    Text(TextConfig),
}

impl PreprocessConfig {
    /// Name of the `BYTES` tensor that it reads.
    pub fn input(&self) -> &str {
        match self {
            Self::Image(image) => &image.input,
            Self::Text(text) => &text.input,
        }
    }
}

/// How a picture becomes `[channels, height, width]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Name of the `BYTES` tensor with PNG or JPEG files.
    pub input: String,
    /// What happens to pictures of another size.
    #[serde(default)]
    pub resize: Resize,
    /// Red, green and blue behind transparent pixels, and of padding.
    #[serde(default = "white")]
    pub background: [u8; 3],
    /// value = (byte * scale - mean) / std.
    #[serde(default = "one_255th")]
    pub scale: f32,
    /// One number a channel; 0 when absent.
    pub mean: Option<Vec<f32>>,
    /// One number a channel; 1 when absent.
    pub std: Option<Vec<f32>>,
    /// Largest file, in bytes.
    #[serde(default = "image_bytes_max")]
    pub bytes_max: usize,
    /// Largest picture, in pixels.
    #[serde(default = "pixels_max")]
    pub pixels_max: u64,
}

/// What happens to pictures of another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Each side by itself.
    #[default]
    Stretch,
    /// Fill the frame and cut out the middle.
    Cover,
    /// Fit into the frame and pad with the background.
    Contain,
}

/// How a text becomes `[tokens]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Name of the `BYTES` tensor with UTF-8 texts.
    pub input: String,
    /// File of the `tokenizers` library.
    #[serde(default = "tokenizer_file")]
    pub tokenizer: String,
    /// Tensor of the token ids; the modality's only one when absent.
    pub ids: Option<String>,
    /// Tensor of the attention mask.
    pub mask: Option<String>,
    /// Tensor of the type ids.
    pub type_ids: Option<String>,
    /// Id of tokens after the end.
    #[serde(default)]
    pub pad: u32,
    /// What happens to texts of more tokens than the tensor has.
    #[serde(default)]
    pub too_long: TooLong,
    /// Largest text, in bytes.
    #[serde(default = "text_bytes_max")]
    pub bytes_max: usize,
}

/// What happens to texts of too many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    /// The tokens that do not fit are left out.
    #[default]
    Truncate,
    /// The request is refused.
    Refuse,
}

fn white() -> [u8; 3] {
    [255; 3]
}

fn one_255th() -> f32 {
    1.0 / 255.0
}

fn image_bytes_max() -> usize {
    8 << 20
}

fn pixels_max() -> u64 {
    16 << 20
}

fn tokenizer_file() -> String {
    "tokenizer.json".to_owned()
}

fn text_bytes_max() -> usize {
    64 << 10
}
