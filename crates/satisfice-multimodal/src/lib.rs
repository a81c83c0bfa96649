//! The multi-modal engine.
//!
//! A model with several input modalities answers from any part of them: one ONNX encoder per
//! modality and a fusion head, one network per subset, or one network with optional inputs. A
//! strategy says which modalities are run, in which precision; a profile says how right each
//! strategy is and how long it takes.

mod batch;
mod bound;
mod confidence;
mod config;
mod dataset;
mod engine;
mod error;
mod inspect;
mod layout;
mod model_dir;
mod network;
mod preprocess;
mod profile;
mod runtime;
mod signature;
mod slow;
mod subset;
mod timing;
mod way;

pub use config::{
    Colours, ConstantConfig, EncoderConfig, Filter, FusionConfig, ImageConfig, JointConfig, Layout,
    Limits, Luma, Middle, ModalityConfig, ModelConfig, OutputConfig, Pool, PreprocessConfig,
    Resize, RuntimeChoice, Side, SubsetConfig, Task, TensorConfig, TextConfig, TooLong,
    Transparent, Values,
};
pub use dataset::Dataset;
pub use engine::{MultimodalEngine, OpenOptions};
pub use error::MultimodalError;
pub use inspect::{Imported, Inspection, import_huggingface, inspect};
pub use model_dir::ModelDir;
pub use profile::{
    Evaluation, Latency, Profile, ProfileOptions, ProfiledCascade, ProfiledStrategy, Share,
    evaluate, profile,
};
pub use timing::SlowVariant;
