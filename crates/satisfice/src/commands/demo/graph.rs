//! The first part: new nodes of a large graph.

use crate::{
    cli::Grid,
    commands::Output,
    http_client::{HttpClient, graph_request},
    measure::{Answerer, BatchAnswer, ModelRows, Row, measure},
    progress::Bars,
    report,
};
use anyhow::{Context, Result};
use satisfice_graph::{GnnModel, ModelDir, Plan, PrecomputeOptions, precompute};
use satisfice_kernels::NewFile;
use satisfice_server::protocol::client::{Format, encode_request};
use satisfice_store::{Check, GraphStore, ImportOptions, Queries, QuerySlice, Source, import};
use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the demo serves, in the bundle's `models` directory.
const MODELS: [&str; 2] = ["gcn2", "sage2"];

/// The graph, imported and precomputed, with the packages that were held out of it.
pub(super) struct Part {
    bundle: PathBuf,
    queries: Queries,
    store: Arc<GraphStore>,
}

impl Part {
    /// Imports the graph of `bundle` and precomputes the models' embeddings below `dir`.
    pub(super) fn prepare(bundle: PathBuf, dir: &Path, output: Output) -> Result<Self> {
        let queries = Queries::open(&bundle.join("queries.safetensors"))?;
        let store = prepare(&bundle, dir, &dir.join("models"), output)?;
        Ok(Self {
            bundle,
            queries,
            store,
        })
    }

    /// Sends every held-out package to the server at `url`, by every plan.
    pub(super) fn measure(&self, url: &str, grid: &Grid, output: Output) -> Result<Vec<ModelRows>> {
        let mut results = Vec::new();
        for name in MODELS {
            let rows = measure_model(name, url, &self.store, &self.queries, grid)?;
            output.say(&format!("{name}\n{}", report::table(&rows)))?;
            results.push(ModelRows {
                name: name.to_owned(),
                rows,
            });
        }
        Ok(results)
    }

    /// A line to try, for the server at `url`.
    pub(super) fn invitation(&self, url: &str, dir: &Path) -> Result<String> {
        let example = write_example(dir, &self.store, &self.queries)?;
        Ok(format!(
            "Try it: which section does the package `{package}` belong to, by its description and \
             dependencies?{filed}\n\n\
             curl -s {url}/v2/models/gcn2/infer -d @{body}\n\n\
             or: {program} query --url {url} --model gcn2 --queries {queries}\n",
            package = example.package,
            filed = example
                .section
                .map(|section| format!(" (Its maintainers say `{section}`.)"))
                .unwrap_or_default(),
            body = example.body.display(),
            program = env::args().next().unwrap_or_else(|| "satisfice".to_owned()),
            queries = self.bundle.join("queries.safetensors").display(),
        ))
    }
}

/// A request for one held-out package, in a file that `curl` can send.
struct Example {
    body: PathBuf,
    package: String,
    /// The package's true section.
    section: Option<String>,
}

fn write_example(dir: &Path, store: &GraphStore, queries: &Queries) -> Result<Example> {
    let with_edges = |&query: &usize| queries.batch(query..query + 1).edge_query.len() >= 3;
    let query = (0..queries.len()).find(with_edges).unwrap_or(0);
    let batch = queries.batch(query..query + 1);
    let outputs = ["class_name", "class", "logits"];
    let request = graph_request(&batch, Some(Plan::Exact), Some(store), &outputs)?;
    let body = dir.join("query.json");
    fs::write(&body, encode_request(&request, None, Format::Json)?.body)?;
    let label = batch
        .labels
        .and_then(|labels| usize::try_from(labels[0]).ok());
    let sections = store.manifest().classes.as_ref();
    Ok(Example {
        body,
        package: queries.name(query).unwrap_or("?").to_owned(),
        section: label.and_then(|label| sections?.get(label).cloned()),
    })
}

/// Imports the graph and precomputes the models' embeddings below `dir`.
pub(crate) fn prepare(
    bundle: &Path,
    dir: &Path,
    models: &Path,
    output: Output,
) -> Result<Arc<GraphStore>> {
    fs::create_dir_all(models).with_context(|| format!("{}", models.display()))?;
    let graph = models.join("graph");
    let options = ImportOptions {
        overwrite: true,
        ..ImportOptions::default()
    };
    let source = Source::detect(&bundle.join("graph.safetensors"))?;
    let summary = import(&source, &options, &graph, &Bars::default())?;
    output.say(&format!(
        "imported Debian's package graph into {}: {} packages, {} edges",
        graph.display(),
        summary.nodes,
        summary.edges
    ))?;
    let store = Arc::new(GraphStore::open(&graph, Check::Structure)?);
    for name in MODELS {
        let from = bundle.join("models").join(name);
        let to = models.join(name);
        copy_sidecar_and_weights(&from, &to)
            .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        let model_dir = ModelDir::open(&to, None)?;
        let model = GnnModel::load(model_dir.config(), &model_dir.weights_path())?;
        let options = PrecomputeOptions::default();
        precompute(&model_dir, &model, &store, options, &Bars::default())?;
        output.say(&format!("precomputed the embeddings of {name}"))?;
    }
    output.say(&format!("everything is in {}", dir.display()))?;
    Ok(store)
}

fn copy_sidecar_and_weights(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.join("1"))?;
    for file in ["model.toml", "1/weights.safetensors"] {
        NewFile::copy(&from.join(file), &to.join(file))?;
    }
    Ok(())
}

fn measure_model(
    name: &str,
    url: &str,
    store: &GraphStore,
    queries: &Queries,
    grid: &Grid,
) -> Result<Vec<Row>> {
    let mut client = OverHttp {
        client: HttpClient::new(url),
        model: name,
        store,
    };
    measure(&mut client, queries, grid, &format!("asking {name}"))
}

/// A model behind HTTP; nodes are named as a client outside would name them.
pub(crate) struct OverHttp<'a> {
    pub client: HttpClient,
    pub model: &'a str,
    pub store: &'a GraphStore,
}

impl Answerer for OverHttp<'_> {
    fn answer(&mut self, batch: &QuerySlice, plan: Plan) -> Result<BatchAnswer> {
        let request = graph_request(batch, Some(plan), Some(self.store), &[])?;
        let answer = self.client.infer_graph(self.model, &request)?;
        Ok(BatchAnswer {
            outputs: answer.outputs,
            edges: answer.edges,
            rows: answer.rows,
        })
    }
}
