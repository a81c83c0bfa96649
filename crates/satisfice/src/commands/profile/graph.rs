use crate::{cli::Profile, commands::Output, progress::Bars, report};
use anyhow::{Result, bail};
use satisfice_graph::{
    Coverage, GraphEngine, ModelDir, PlanRow, Precision, ProfileOptions, ProfileReport,
    StorageOptions, StorageRow, compare_storage, profile,
};
use satisfice_store::{Check, GraphStore, Queries};
use serde::Serialize;
use std::{
    fmt::Write as _,
    mem,
    path::{Path, PathBuf},
    sync::Arc,
};

const QUICK_QUERIES: usize = 2_000;
const QUICK_BATCHES: [usize; 2] = [64, 256];
const QUICK_TIMED: usize = 8;

/// Queries in a batch, and in all, when ways to keep embeddings are compared.
const STORAGE_BATCH: usize = 256;
const STORAGE_QUERIES: usize = 8_192;

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    /// The profile, where one was written.
    written: Option<PathBuf>,
    #[serde(flatten)]
    report: ProfileReport,
    /// Ways to keep the embeddings, where they were compared.
    storage: Vec<StorageRow>,
    /// How the embeddings are kept now, where that was left to the comparison.
    stored_as: Option<Precision>,
}

pub(crate) fn run(args: &Profile, queries_path: &Path, output: Output) -> Result<()> {
    let model_dir = ModelDir::open(&args.model, args.model_version)?;
    let _lock = super::lock(&model_dir.profile_path())?;
    let store = Arc::new(GraphStore::open(&model_dir.store_path(), Check::Checksums)?);
    let queries = Queries::open(queries_path)?;
    if !store.manifest().undirected && !queries.has_directions() {
        bail!(
            "{}: the graph is directed, but the queries' edges have no direction: \
             write `edge_direction` (docs/formats.md)",
            queries_path.display()
        );
    }
    let graph = &args.graph;
    let (mut storage, mut stored_as) = (Vec::new(), None);
    if let Some(loss_max) = graph.compare_storage.or(graph.choose_storage) {
        let options = StorageOptions {
            batch: STORAGE_BATCH,
            limit: options(args).limit.min(STORAGE_QUERIES),
            loss_max,
        };
        let mut compared =
            compare_storage(&model_dir, &store, &queries, options, &Bars::default())?;
        storage = mem::take(&mut compared.rows);
        if graph.choose_storage.is_some() {
            stored_as = Some(compared.keep(&model_dir)?);
        }
    }
    let engine = GraphEngine::open(&model_dir, store, Check::Checksums)?;
    let report = profile(
        &engine,
        &model_dir,
        &queries,
        &options(args),
        &Bars::default(),
    )?;
    let path = model_dir.profile_path();
    let written = if graph.dry_run {
        None
    } else {
        report.profile.write(&path)?;
        Some(path)
    };
    let document = Document {
        written,
        report,
        storage,
        stored_as,
    };
    output.print(&document, || text(&document))
}

fn options(args: &Profile) -> ProfileOptions {
    let limit = args.graph.limit.unwrap_or(usize::MAX);
    let plans = args.graph.plans.clone();
    match args.quick {
        true => ProfileOptions {
            plans,
            batches: QUICK_BATCHES.to_vec(),
            limit: limit.min(QUICK_QUERIES),
            timed: QUICK_TIMED,
        },
        false => ProfileOptions {
            plans,
            batches: args.graph.batches.clone(),
            limit,
            timed: args.graph.timed,
        },
    }
}

fn text(document: &Document) -> String {
    let mut text = table(&document.report.rows);
    text.push('\n');
    for coverage in &document.report.coverage {
        text.push_str(&coverage_line(coverage));
    }
    let errors = document.report.time_error;
    if errors.times > 0 {
        let _ = writeln!(
            text,
            "time: {} times of 1 ms or more, each predicted from other batches, within {:.1}% (median), {:.1}% (90 %)",
            errors.times,
            100.0 * errors.p50,
            100.0 * errors.p90
        );
    }
    text.push_str(&storage_table(&document.storage));
    if let Some(precision) = document.stored_as {
        let _ = writeln!(text, "embeddings are kept as {}", precision.name());
    }
    if let Some(path) = &document.written {
        let _ = writeln!(text, "written: {}", path.display());
    }
    text
}

fn coverage_line(coverage: &Coverage) -> String {
    format!(
        "{}: promised at 95 % and met by {} of {} classes of batches ({:.1}%), and by {} of {} single batches ({:.1}%)\n",
        coverage.measure,
        coverage.classes_met,
        coverage.classes,
        percent(coverage.classes_met, coverage.classes),
        coverage.batches_met,
        coverage.batches,
        percent(coverage.batches_met, coverage.batches),
    )
}

fn storage_table(rows: &[StorageRow]) -> String {
    let mut text = String::new();
    if !rows.is_empty() {
        text.push_str("\nembeddings as       bytes  plan      fidelity  accuracy        ms\n");
    }
    for row in rows {
        let accuracy = row
            .accuracy
            .map_or("-".to_owned(), |a| format!("{:.2}%", 100.0 * a));
        let _ = writeln!(
            text,
            "{:<13} {:>11}  {:<8} {:>8.2}% {:>9} {:>9.3}{}",
            row.precision.name(),
            report::bytes(row.bytes),
            row.plan,
            100.0 * row.fidelity,
            accuracy,
            row.ms,
            if row.recommended { "  recommended" } else { "" }
        );
    }
    text
}

fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

fn table(rows: &[PlanRow]) -> String {
    let mut text = format!(
        "{:<22} {:>6} {:>10} {:>9} {:>9} {:>10} {:>9} {:>9} {:>9} {:>9}\n",
        "plan",
        "batch",
        "accuracy",
        "expected",
        "promised",
        "fidelity",
        "expected",
        "promised",
        "ms",
        "predicted"
    );
    let share = |share: Option<f64>| match share {
        Some(share) => format!("{:.2}%", 100.0 * share),
        None => "-".to_owned(),
    };
    let ms = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.3}"));
    for row in rows {
        let _ = writeln!(
            text,
            "{:<22} {:>6} {:>10} {:>9} {:>9} {:>10} {:>9} {:>9} {:>9} {:>9}",
            row.plan,
            row.batch,
            share(row.accuracy),
            share(row.expected_accuracy),
            share(row.lower_accuracy),
            share(Some(row.fidelity)),
            share(Some(row.expected_fidelity)),
            share(Some(row.lower_fidelity)),
            ms(row.ms),
            ms(row.predicted_ms),
        );
    }
    text
}
