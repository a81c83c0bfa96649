//! One model in several forms: with and without cascades, with and without 8-bit variants.

use crate::commands::bundle::copy_model;
use anyhow::{Context, Result};
use satisfice_multimodal::{
    Dataset, ModelDir, MultimodalEngine, OpenOptions, Profile, ProfileOptions, profile,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a form of the model may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Ask more modalities only where fewer are not sure.
    pub cascades: bool,
    /// Compute in less precision.
    pub variants: bool,
}

impl Form {
    pub(super) const ALL: [Self; 4] = [
        Self::new(true, true),
        Self::new(false, true),
        Self::new(true, false),
        Self::new(false, false),
    ];

    const fn new(cascades: bool, variants: bool) -> Self {
        Self { cascades, variants }
    }

    /// Name of the form's model in the repository.
    pub(super) fn model(self) -> &'static str {
        match (self.cascades, self.variants) {
            (true, true) => "everything",
            (false, true) => "no-cascades",
            (true, false) => "no-int8",
            (false, false) => "subsets",
        }
    }

    /// Whether the form has a strategy of that name.
    pub(super) fn has(self, strategy: &str) -> bool {
        (self.cascades || !strategy.contains('>')) && (self.variants || !strategy.contains('@'))
    }
}

/// A repository with every form of a model.
pub(super) struct Repository {
    pub dir: PathBuf,
    /// Of the form that has everything.
    pub model: ModelDir,
    pub profile: Profile,
}

impl Repository {
    /// Copies the model in `from` into `dir`, measures it there with the calibration inputs unless that
    /// has been done, and derives the other forms.
    pub(super) fn make(
        from: &Path,
        calibration: &Path,
        dir: &Path,
        options: &ProfileOptions<'_>,
    ) -> Result<Self> {
        let full = dir.join(Form::ALL[0].model());
        copy_model(from, &full)?;
        let model = ModelDir::open(&full, None)?;
        let profile = match Profile::read(&model) {
            Ok(Some(profile)) => profile,
            // Of another model, or there is none.
            _ => measure(&model, calibration, options)?,
        };
        for form in &Form::ALL[1..] {
            derive(&model, &full, *form, &dir.join(form.model()))
                .with_context(|| format!("the form `{}`", form.model()))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            model,
            profile,
        })
    }
}

fn measure(model: &ModelDir, calibration: &Path, options: &ProfileOptions<'_>) -> Result<Profile> {
    let data = Dataset::open(calibration, model.config())?;
    let unmeasured = OpenOptions {
        without_profile: true,
        ..OpenOptions::default()
    };
    let mut engine = MultimodalEngine::open(model, &unmeasured)?;
    let profile = profile(model, &mut engine, &data, options)?;
    profile.write(model)?;
    Ok(profile)
}

/// A form with fewer strategies: the same networks, and of the profile what is left.
fn derive(full: &ModelDir, from: &Path, form: Form, to: &Path) -> Result<()> {
    copy_model(from, to)?;
    if !form.variants {
        let path = to.join("model.toml");
        fs::write(&path, without_variants(&fs::read_to_string(&path)?)?)?;
    }
    let model = ModelDir::open(to, None)?;
    let mut profile: Value = serde_json::from_slice(&fs::read(full.profile_path())?)?;
    profile["fingerprint"] = model.fingerprint()?.into();
    if let Some(strategies) = profile["strategies"].as_array_mut() {
        strategies.retain(|strategy| strategy["name"].as_str().is_some_and(|name| form.has(name)));
    }
    Ok(fs::write(
        model.profile_path(),
        serde_json::to_vec(&profile)?,
    )?)
}

/// The sidecar without networks of a precision of their own.
fn without_variants(sidecar: &str) -> Result<String> {
    let mut sidecar: toml::Table = toml::from_str(sidecar)?;
    for networks in ["encoders", "subsets", "joint"] {
        if let Some(networks) = sidecar
            .get_mut(networks)
            .and_then(toml::Value::as_array_mut)
        {
            networks.retain(|network| network.get("variant").is_none());
        }
    }
    Ok(toml::to_string(&sidecar)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn forms_have_their_strategies() {
        let names = ["text", "text@int8", "image>text:25%", "image>text@int8:25%"];
        let of = |form: Form| names.into_iter().filter(|name| form.has(name)).count();
        assert_eq!(Form::ALL.map(of), [4, 2, 2, 1]);
    }

    #[test]
    fn variants_are_left_out_of_the_sidecar() {
        let sidecar = "format = 1\n[[encoders]]\nmodality = \"a\"\n\
                       [[encoders]]\nmodality = \"a\"\nvariant = \"int8\"\n";
        let left = without_variants(sidecar).unwrap();
        assert_eq!(left.matches("[[encoders]]").count(), 1, "{left}");
        assert!(!left.contains("int8") && left.contains("format = 1"));
    }
}
