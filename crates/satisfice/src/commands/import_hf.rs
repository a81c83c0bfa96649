//! `satisfice import-hf`.

use super::Output;
use crate::cli::ImportHf;
use anyhow::{Context, Result, bail};
use satisfice_multimodal::{ModelDir, MultimodalEngine, OpenOptions, import_huggingface};
use serde::Serialize;
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    model: PathBuf,
    runs_in: String,
    notes: Vec<String>,
    model_toml: String,
}

pub(crate) fn run(args: &ImportHf, output: Output) -> Result<()> {
    let out = &args.out;
    if out.exists() {
        bail!("{} is there already", out.display());
    }
    let imported = import_huggingface(&args.dir, args.tokens)?;
    let written = write(out, &imported.model_toml, &imported.files);
    // What cannot be loaded is not left behind.
    let loaded = written.and_then(|()| {
        let model = ModelDir::open(out, None)?;
        Ok(MultimodalEngine::open(&model, &OpenOptions::default())?)
    });
    let engine = match loaded {
        Ok(engine) => engine,
        Err(error) => {
            let _ = fs::remove_dir_all(out);
            return Err(error);
        }
    };
    let document = Document {
        model: out.clone(),
        runs_in: engine.runtime().to_owned(),
        notes: imported.notes,
        model_toml: imported.model_toml,
    };
    output.print(&document, || {
        let mut text = format!(
            "{} runs in {}\n",
            document.model.display(),
            document.runs_in
        );
        for note in &document.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    })
}

/// Copies what links lead to: the model directory depends on nothing else.
fn write(out: &Path, model_toml: &str, files: &[(PathBuf, String)]) -> Result<()> {
    let version = out.join("1");
    for (from, name) in files {
        let to = version.join(name);
        let dir = to.parent().unwrap_or(&version);
        fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        fs::copy(from, &to).with_context(|| format!("{}", from.display()))?;
    }
    let path = out.join("model.toml");
    fs::write(&path, model_toml).with_context(|| format!("{}", path.display()))
}
