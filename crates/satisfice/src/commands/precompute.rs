use super::Output;
use crate::{
    cli::{PrecisionArg, Precompute},
    progress::Bars,
    report,
};
use anyhow::Result;
use satisfice_graph::{GnnModel, ModelDir, Precision, PrecomputeOptions, precompute};
use satisfice_store::{Check, GraphStore};

pub(crate) fn run(args: &Precompute, output: Output) -> Result<()> {
    let model_dir = ModelDir::open(&args.model, args.model_version)?;
    let store = GraphStore::open(&model_dir.store_path(), Check::Checksums)?;
    let model = GnnModel::load(model_dir.config(), &model_dir.weights_path())?;
    let options = PrecomputeOptions {
        precision: match args.store_as {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::F16 => Precision::F16,
            PrecisionArg::Int8 => Precision::Int8,
        },
        sums: !args.no_sums,
    };
    let summary = precompute(&model_dir, &model, &store, options, &Bars::default())?;
    output.print(&summary, || {
        format!(
            "{}: computed {:?}, kept from an earlier run {:?}, {}\n",
            model_dir.embeddings_path().display(),
            summary.computed,
            summary.kept,
            report::bytes(summary.bytes)
        )
    })
}
