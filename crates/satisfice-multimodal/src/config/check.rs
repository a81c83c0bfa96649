//! What TOML's types do not check.

use super::{
    ImageConfig, Layout, ModalityConfig, ModelConfig, PreprocessConfig, Resize, Task, TensorConfig,
    TextConfig, Values,
};
use crate::subset::{MODALITIES_MAX, Subset};
use satisfice_core::DataType;
use std::{
    collections::BTreeSet,
    path::{Component, Path},
};

const FORMAT: u32 = 1;
const KIND: &str = "multimodal";
/// Elements of one tensor of one input.
const ELEMENTS_MAX: usize = 1 << 24;
/// Inputs of a batch.
const BATCH_MAX: usize = 256;
/// Names that outputs have beside the model's own.
pub(crate) const CLASS_OUTPUTS: [&str; 2] = ["class", "class_name"];

impl ModelConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.kind != KIND {
            return Err(format!("kind is `{}`, not `{KIND}`", self.kind));
        }
        if self.format != FORMAT {
            return Err(format!(
                "format {} is not one that this version reads ({FORMAT})",
                self.format
            ));
        }
        self.check_output()?;
        if !(1..=BATCH_MAX).contains(&self.limits.batch_max) || self.limits.inputs_max == 0 {
            return Err(format!(
                "[limits]: batch_max is 1 to {BATCH_MAX}, inputs_max at least 1"
            ));
        }
        self.check_modalities()?;
        self.check_layout()?;
        self.offered().map(drop)
    }

    fn check_output(&self) -> Result<(), String> {
        let output = &self.output;
        match (output.task, output.classes.len()) {
            (Task::Class, 0 | 1) => {
                return Err(
                    "[output] names fewer than 2 classes: task = \"values\" gives numbers that are none"
                        .to_owned(),
                );
            }
            (Task::Values, 1..) => {
                return Err("[output] with task = \"values\" has no classes".to_owned());
            }
            (Task::Class, _) if output.normalise => {
                return Err("[output] normalise is of task = \"values\"".to_owned());
            }
            _ => {}
        }
        let mut names = BTreeSet::new();
        for name in std::iter::once(&output.name).chain(&output.also) {
            if CLASS_OUTPUTS.contains(&name.as_str()) {
                return Err(format!("[output] cannot be named `{name}`"));
            }
            if !names.insert(name) {
                return Err(format!("[output] names `{name}` twice"));
            }
        }
        Ok(())
    }

    fn check_modalities(&self) -> Result<(), String> {
        if !(1..=MODALITIES_MAX).contains(&self.modalities.len()) {
            return Err(format!(
                "a model has 1 to {MODALITIES_MAX} [[modalities]], not {}",
                self.modalities.len()
            ));
        }
        let mut modality_names = BTreeSet::new();
        let mut inputs = BTreeSet::new();
        for modality in &self.modalities {
            if !is_word(&modality.name) {
                return Err(format!(
                    "modality `{}`: a name is letters, digits, `_` and `-`",
                    modality.name
                ));
            }
            if !modality_names.insert(&modality.name) {
                return Err(format!("modality `{}` stands twice", modality.name));
            }
            let at = |message| format!("modality `{}`: {message}", modality.name);
            modality.check().map_err(at)?;
            let raw = modality.preprocess.iter().map(PreprocessConfig::input);
            let ready = modality.tensors.iter().map(|tensor| tensor.name.as_str());
            for name in ready.chain(raw) {
                if !inputs.insert(name) {
                    return Err(format!("input `{name}` stands twice"));
                }
            }
        }
        for constant in &self.constants {
            let lengths = constant.shape.iter().flatten();
            let elements = lengths.copied().try_fold(1_usize, usize::checked_mul);
            if !elements.is_some_and(|n| (1..=ELEMENTS_MAX).contains(&n)) {
                return Err(format!(
                    "constant `{}` has 1 to {ELEMENTS_MAX} elements",
                    constant.name
                ));
            }
            if !inputs.insert(&constant.name) {
                return Err(format!("input `{}` stands twice", constant.name));
            }
        }
        Ok(())
    }

    fn check_layout(&self) -> Result<(), String> {
        let fused = self.fusion.is_some() || !self.encoders.is_empty();
        let layouts = [fused, !self.subsets.is_empty(), !self.joint.is_empty()];
        if layouts.into_iter().filter(|&there| there).count() != 1 {
            return Err(
                "exactly one of [fusion] with [[encoders]], [[subsets]] and [[joint]] says how \
                 answers are computed"
                    .to_owned(),
            );
        }
        if fused && self.fusion.is_none() {
            return Err("[[encoders]] need a [fusion] head".to_owned());
        }
        if self.combinations.is_some() && !self.subsets.is_empty() {
            return Err("combinations are those of [[subsets]]".to_owned());
        }
        for name in self.variants().iter().skip(1) {
            if !is_word(name) {
                return Err(format!(
                    "variant `{name}`: a name is letters, digits, `_` and `-`"
                ));
            }
        }
        let tokenizers = self.modalities.iter().filter_map(|m| match &m.preprocess {
            Some(PreprocessConfig::Text(text)) => Some(&text.tokenizer),
            _ => None,
        });
        let networks = self.fusion.iter().map(|f| &f.file);
        let networks = networks.chain(self.encoders.iter().map(|e| &e.file));
        let networks = networks.chain(self.subsets.iter().map(|s| &s.file));
        let networks = networks.chain(self.joint.iter().map(|j| &j.file));
        for file in networks.chain(tokenizers) {
            if !stays_inside(file) {
                return Err(format!("file `{file}` leaves the version's directory"));
            }
        }
        self.check_variants()
    }

    /// Every modality, subset or joint network is there without a variant, and each variant once.
    fn check_variants(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut add = |what: String, variant: &Option<String>| {
            let name = variant.clone().unwrap_or_default();
            match seen.insert((what.clone(), name)) {
                true => Ok(()),
                false => Err(format!("{what}: two networks of the same variant")),
            }
        };
        let mut needed = BTreeSet::new();
        for encoder in &self.encoders {
            self.modality(&encoder.modality)?;
            add(encoder_of(&encoder.modality), &encoder.variant)?;
        }
        if self.fusion.is_some() {
            needed.extend(self.modalities.iter().map(|m| encoder_of(&m.name)));
        }
        for subset in &self.subsets {
            let name = self.name(self.subset(&subset.modalities)?);
            add(format!("subset {name}"), &subset.variant)?;
            needed.insert(format!("subset {name}"));
        }
        for joint in &self.joint {
            add("[[joint]]".to_owned(), &joint.variant)?;
            needed.insert("[[joint]]".to_owned());
        }
        match needed
            .into_iter()
            .find(|what| !seen.contains(&(what.clone(), String::new())))
        {
            None => Ok(()),
            Some(what) => Err(format!("{what}: no network without `variant`")),
        }
    }

    /// The subset of these modalities.
    pub(crate) fn subset(&self, names: &[String]) -> Result<Subset, String> {
        let modalities: Result<Vec<usize>, String> =
            names.iter().map(|name| self.modality(name)).collect();
        let subset: Subset = modalities?.into_iter().collect();
        if subset.is_empty() || subset.len() != names.len() {
            return Err(format!("{names:?} is not a set of modalities"));
        }
        Ok(subset)
    }

    /// The subsets that the model offers, each once, ascending.
    pub(crate) fn offered(&self) -> Result<BTreeSet<Subset>, String> {
        if !self.subsets.is_empty() {
            let subsets = self.subsets.iter();
            return subsets.map(|s| self.subset(&s.modalities)).collect();
        }
        match &self.combinations {
            None => Ok(Subset::every(self.modalities.len()).collect()),
            Some(combinations) if combinations.is_empty() => {
                Err("combinations: the model offers nothing".to_owned())
            }
            Some(combinations) => combinations.iter().map(|c| self.subset(c)).collect(),
        }
    }

    /// `"image+text"`.
    pub(crate) fn name(&self, subset: Subset) -> String {
        let names: Vec<&str> = self.modalities.iter().map(|m| m.name.as_str()).collect();
        subset.name(&names)
    }

    /// Whether the output's numbers are probabilities already.
    pub(crate) fn gives_probabilities(&self) -> bool {
        self.output.values == Values::Probabilities
    }
}

fn encoder_of(modality: &str) -> String {
    format!("encoder of `{modality}`")
}

fn is_word(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether a relative path is below the directory that it starts from.
pub(crate) fn stays_inside(file: &str) -> bool {
    let mut components = Path::new(file).components().peekable();
    components.peek().is_some() && components.all(|c| matches!(c, Component::Normal(_)))
}

impl ModalityConfig {
    /// Whether a request's input of that name is of this modality, ready or raw.
    pub(crate) fn brings(&self, name: &str) -> bool {
        let raw = self.preprocess.as_ref().map(PreprocessConfig::input);
        raw == Some(name) || self.tensors.iter().any(|tensor| tensor.name == name)
    }

    fn check(&self) -> Result<(), String> {
        if self.tensors.is_empty() {
            return Err("no tensors".to_owned());
        }
        for tensor in &self.tensors {
            let mut elements = tensor.shape.iter();
            let elements = elements.try_fold(1_usize, |n, &d| n.checked_mul(d));
            if !elements.is_some_and(|n| (1..=ELEMENTS_MAX).contains(&n)) {
                return Err(format!(
                    "tensor `{}`: an input has 1 to {ELEMENTS_MAX} elements",
                    tensor.name
                ));
            }
        }
        match &self.preprocess {
            None => Ok(()),
            Some(PreprocessConfig::Image(image)) => self.check_image(image),
            Some(PreprocessConfig::Text(text)) => self.check_text(text),
        }
    }

    fn check_image(&self, image: &ImageConfig) -> Result<(), String> {
        let [tensor] = self.tensors.as_slice() else {
            return Err("a picture is one tensor".to_owned());
        };
        let channels = match (image.layout, tensor.shape.as_slice()) {
            (Layout::Nchw, &[channels @ (1 | 3), _, _])
            | (Layout::Nhwc, &[_, _, channels @ (1 | 3)]) => channels,
            (Layout::Nchw, _) => {
                let message = "a picture's shape is [3 or 1, height, width], or with layout = \"nhwc\" \
                               [height, width, 3 or 1]";
                return Err(message.to_owned());
            }
            (Layout::Nhwc, _) => {
                return Err("with layout = \"nhwc\" a shape is [height, width, 3 or 1]".to_owned());
            }
        };
        let scaled = image.scale.is_some() || image.mean.is_some() || image.std.is_some();
        match tensor.datatype {
            DataType::Fp32 => {}
            DataType::Uint8 if !scaled => {}
            DataType::Uint8 => {
                return Err("scale, mean and std are of FP32 tensors, not of UINT8".to_owned());
            }
            _ => return Err("a picture's tensor is FP32 or UINT8".to_owned()),
        }
        if let Some(crop) = image.crop {
            if image.resize == Resize::Contain {
                return Err("crop is of resize = \"cover\" and \"stretch\"".to_owned());
            }
            if !(crop > 0.0 && crop <= 1.0) {
                return Err("crop is a share of the sides, above 0 and up to 1".to_owned());
            }
        }
        image.check_numbers(channels)
    }

    fn check_text(&self, text: &TextConfig) -> Result<(), String> {
        let named = [&text.ids, &text.mask, &text.type_ids];
        let mut named: Vec<&str> = named.into_iter().flatten().map(String::as_str).collect();
        if text.ids.is_none() {
            if self.tensors.len() != 1 {
                return Err("`ids` says which tensor gets the token ids".to_owned());
            }
            named.push(&self.tensors[0].name);
        }
        let is_tokens = |t: &TensorConfig| {
            matches!(t.datatype, DataType::Int64 | DataType::Int32) && t.shape.len() == 1
        };
        if !self.tensors.iter().all(is_tokens) {
            return Err("a text's tensors are INT64 or INT32 [tokens]".to_owned());
        }
        if self
            .tensors
            .iter()
            .any(|t| t.shape != self.tensors[0].shape)
        {
            return Err("a text's tensors have the same length".to_owned());
        }
        let mut tensors: Vec<&str> = self.tensors.iter().map(|t| t.name.as_str()).collect();
        tensors.sort_unstable();
        named.sort_unstable();
        if tensors != named {
            return Err("ids, mask and type_ids name each of the tensors once".to_owned());
        }
        Ok(())
    }
}

impl ImageConfig {
    fn check_numbers(&self, channels: usize) -> Result<(), String> {
        for (name, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            if numbers.as_ref().is_some_and(|n| n.len() != channels) {
                return Err(format!("{name} is not one number for each channel"));
            }
        }
        let mut numbers = self
            .mean
            .iter()
            .chain(&self.std)
            .flatten()
            .chain(&self.scale);
        let divides = self.std.iter().flatten().all(|&v| v != 0.0);
        if !(numbers.all(|v| v.is_finite()) && divides) {
            return Err("scale, mean and std are finite, and std is not 0".to_owned());
        }
        Ok(())
    }
}
