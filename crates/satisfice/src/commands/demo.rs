use super::{
    Output,
    serve::{load_models, runtime, stop_signal},
};
use crate::{
    cli::{Demo, Grid},
    http_client::{HttpClient, graph_request},
    measure::{Answerer, BatchAnswer, Document, ModelRows, Row, measure},
    progress::Bars,
    report,
};
use anyhow::{Context, Result, bail};
use satisfice_graph::{GnnModel, ModelDir, Plan, PrecomputeOptions, precompute};
use satisfice_server::{
    Admission, Limits, Service,
    protocol::client::{Format, encode_request},
};
use satisfice_store::{Check, GraphStore, ImportOptions, Queries, QuerySlice, Source, import};
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};
use tokio::{net::TcpListener, sync::oneshot};

/// What the demo serves, in the bundle's `models` directory.
const MODELS: [&str; 2] = ["gcn2", "sage2"];

pub(crate) fn run(args: &Demo, output: Output) -> Result<()> {
    let bundle = find_bundle(args.bundle.as_deref())?;
    let queries = Queries::open(&bundle.join("queries.safetensors"))?;
    let models = args.dir.join("models");
    let store = prepare(&bundle, &args.dir, &models, output)?;
    let server = Server::start(&models, args.listen)?;
    output.say(&format!(
        "serving {} on http://{}\n",
        MODELS.join(" and "),
        server.address
    ))?;

    let mut results = Vec::new();
    for name in MODELS {
        let rows = measure_model(name, &server, &store, &queries, &args.grid)?;
        output.say(&format!("{name}\n{}", report::table(&rows)))?;
        results.push(ModelRows {
            name: name.to_owned(),
            rows,
        });
    }
    if output.json {
        output.print(&Document { models: results }, String::new)?;
    }
    if args.once {
        return server.stop();
    }
    let example = write_example(&args.dir, &store, &queries)?;
    output.say(&format!(
        "Try it: which section does the package `{package}` belong to, by its description and \
         dependencies?{filed}\n\n\
         curl -s http://{address}/v2/models/gcn2/infer -d @{body}\n\n\
         or: {program} query --url http://{address} --model gcn2 --queries {queries}\n\n\
         Serving on; Ctrl-C stops.",
        package = example.package,
        filed = example
            .section
            .map(|section| format!(" (Its maintainers say `{section}`.)"))
            .unwrap_or_default(),
        address = server.address,
        body = example.body.display(),
        program = env::args().next().unwrap_or_else(|| "satisfice".to_owned()),
        queries = bundle.join("queries.safetensors").display(),
    ))?;
    server.wait()
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

/// The bundle given, or `examples/debian` below this directory or one that holds the binary.
pub(super) fn find_bundle(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let here = env::current_dir()?;
    let binary = env::current_exe()?;
    let found = here
        .ancestors()
        .chain(binary.ancestors())
        .map(|dir| dir.join("examples/debian"))
        .find(|path| path.join("queries.safetensors").is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!(
            "the demo's bundle (examples/debian) is neither here nor beside the binary: \
             say where it is with `--bundle`"
        ),
    }
}

/// Imports the graph and precomputes the models' embeddings below `dir`.
pub(super) fn prepare(
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
        copy_model(&from, &to)
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

fn copy_model(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.join("1"))?;
    for file in ["model.toml", "1/weights.safetensors"] {
        fs::copy(from.join(file), to.join(file))?;
    }
    Ok(())
}

/// The real server, on a thread of its own.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Server {
    fn start(models: &Path, listen: SocketAddr) -> Result<Self> {
        let service = Arc::new(Service::new(
            load_models(models, Check::Checksums)?,
            Admission::default(),
        ));
        let runtime = runtime()?;
        let listener = runtime.block_on(async {
            match TcpListener::bind(listen).await {
                // The port is in use: any other will do for a demonstration.
                Err(_) => TcpListener::bind(SocketAddr::new(listen.ip(), 0)).await,
                bound => bound,
            }
        })?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let signal = stop_signal()?;
                let shutdown = async {
                    tokio::select! {
                        () = signal => {}
                        _ = stopped => {}
                    }
                };
                satisfice_server::serve(listener, service, Limits::default(), shutdown).await?;
                Ok(())
            })
        });
        Ok(Self {
            address,
            stop,
            thread,
        })
    }

    fn stop(self) -> Result<()> {
        // The server may have stopped by itself.
        let _ = self.stop.send(());
        join(self.thread)
    }

    fn wait(self) -> Result<()> {
        let Self { stop, thread, .. } = self;
        let result = join(thread);
        drop(stop);
        result
    }
}

fn join(thread: thread::JoinHandle<Result<()>>) -> Result<()> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("the server's thread panicked"),
    }
}

fn measure_model(
    name: &str,
    server: &Server,
    store: &GraphStore,
    queries: &Queries,
    grid: &Grid,
) -> Result<Vec<Row>> {
    let mut client = OverHttp {
        client: HttpClient::new(&format!("http://{}", server.address)),
        model: name,
        store,
    };
    measure(&mut client, queries, grid, &format!("asking {name}"))
}

/// A model behind HTTP; nodes are named as a client outside would name them.
pub(super) struct OverHttp<'a> {
    pub client: HttpClient,
    pub model: &'a str,
    pub store: &'a GraphStore,
}

impl Answerer for OverHttp<'_> {
    fn answer(&mut self, batch: &QuerySlice, plan: Plan) -> Result<BatchAnswer> {
        let answer =
            self.client
                .infer_graph(self.model, batch, Some(plan), Some(self.store), &[])?;
        Ok(BatchAnswer {
            outputs: answer.outputs,
            edges: answer.edges,
            rows: answer.rows,
        })
    }
}
