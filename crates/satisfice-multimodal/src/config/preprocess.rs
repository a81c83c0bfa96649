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

/// How a picture becomes `[channels, height, width]` or `[height, width, channels]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Name of the `BYTES` tensor with PNG or JPEG files.
    pub input: String,
    /// What happens to pictures of another size.
    #[serde(default)]
    pub resize: Resize,
    /// Share of the sides of a covering or stretched picture that is cut out of its middle; all when absent.
    pub crop: Option<f64>,
    /// Where the middle is, when it lies between two pixels.
    #[serde(default)]
    pub middle: Middle,
    /// How pixels of another size are made.
    #[serde(default)]
    pub filter: Filter,
    /// Whether a picture is turned as its EXIF orientation says.
    #[serde(default = "yes")]
    pub exif_orientation: bool,
    /// What stands where a picture is transparent.
    #[serde(default)]
    pub transparent: Transparent,
    /// Red, green and blue behind transparent pixels, and of padding.
    #[serde(default = "white")]
    pub background: [u8; 3],
    /// What a colour counts in grey.
    #[serde(default)]
    pub luma: Luma,
    /// Order of the channels.
    #[serde(default)]
    pub colours: Colours,
    /// Order of the dimensions.
    #[serde(default)]
    pub layout: Layout,
    /// value = (byte * scale - mean) / std; 1/255 when absent.
    pub scale: Option<f32>,
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

/// Where the middle of a side is that has an odd number of pixels too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Middle {
    /// Half of the pixels too many, rounded to the even number, as torchvision does it.
    #[default]
    Even,
    /// Rounded down, as Transformers does it.
    Down,
}

/// How pixels of another size are made; all of them over as many pixels as shrink into one, as
/// Pillow does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// A triangle.
    #[default]
    Bilinear,
    /// Cubic, with -0.5.
    Bicubic,
    /// Three lobes.
    Lanczos,
}

/// What stands where a picture is transparent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transparent {
    /// The background.
    #[default]
    Background,
    /// The colours that the file has there: alpha is left out.
    Ignore,
}

impl Transparent {
    pub(crate) fn ground(self, background: [u8; 3]) -> Option<[u8; 3]> {
        (self == Self::Background).then_some(background)
    }
}

/// What a colour counts in grey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Luma {
    /// ITU-R 601: 299, 587 and 114 thousandths, as Pillow has it.
    #[default]
    #[serde(rename = "601")]
    Rec601,
    /// ITU-R 709: 2126, 7152 and 722 ten-thousandths.
    #[serde(rename = "709")]
    Rec709,
}

/// Order of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colours {
    /// Red first.
    #[default]
    Rgb,
    /// Blue first.
    Bgr,
}

/// Order of the dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `[channels, height, width]`.
    #[default]
    Nchw,
    /// `[height, width, channels]`.
    Nhwc,
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
    /// Id of the tokens that fill up; the tokenizer's when absent.
    pub pad: Option<u32>,
    /// Where they stand; where the tokenizer says when absent, else on the right.
    pub pad_side: Option<Side>,
    /// Where tokens that do not fit are left out; where the tokenizer says when absent, else on the
    /// right.
    pub truncate_side: Option<Side>,
    /// What happens to texts of more tokens than the tensor has.
    #[serde(default)]
    pub too_long: TooLong,
    /// Largest text, in bytes.
    #[serde(default = "text_bytes_max")]
    pub bytes_max: usize,
}

/// An end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Before the first token.
    Left,
    /// After the last token.
    Right,
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

fn yes() -> bool {
    true
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
