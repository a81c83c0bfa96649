mod batches;

use super::super::Output;
use crate::cli::BenchCluster;
use anyhow::{Context, Result, ensure};
use batches::{Batches, table};
use satisfice_cluster::{
    ClusterConfig, ClusterNode, Exchange, Method, PartitionOptions, part_dir, partition,
    quiet_engine_panics,
};
use satisfice_graph::{Attachment, GnnModel, GraphEngine, ModelDir, Plan, QueryBatch};
use satisfice_store::{Check, GraphStore, NoProgress, Queries};
use serde::Serialize;
use std::{
    env,
    fmt::Write as _,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

pub(crate) fn run(args: &BenchCluster, output: Output) -> Result<()> {
    quiet_engine_panics();
    let bench = Setup::new(args)?;
    if let Some(file) = &args.cluster {
        let batches = bench.of_cluster(file, &args.link_counter)?;
        return output.print(&batches, || table(&batches));
    }
    output.say("two processes on loopback, one query a batch")?;
    let asleep = bench.processes(false)?;
    output.say("the same, workers that spin while they wait")?;
    let spinning = bench.processes(true)?;
    output.say("workers of one process")?;
    let mut batches = Vec::new();
    for workers in [2, 4, 8] {
        batches.extend(bench.of_workers(workers)?);
    }
    let report = Report {
        asleep,
        spinning,
        batches,
    };
    output.print(&report, || report.text())
}

#[derive(Debug, Serialize)]
struct Report {
    asleep: Processes,
    spinning: Processes,
    batches: Vec<Batches>,
}

/// Two processes, plan `pe`, single queries, 1 ms apart.
#[derive(Debug, Serialize)]
struct Processes {
    answers: usize,
    p50_us: f64,
    p99_us: f64,
    longest_us: f64,
    /// The same queries on one machine, without the dataflow.
    single_p50_us: f64,
    single_p99_us: f64,
    /// Processor time of a waiting node, as a share of one core.
    idle_share: f64,
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        for (how, p) in [("sleep", &self.asleep), ("spin", &self.spinning)] {
            let _ = writeln!(
                text,
                "single queries, 2 processes whose workers {how}: p50 {:.0} us, p99 {:.0} us, longest {:.0} us; one \
                 machine: p50 {:.0} us, p99 {:.0} us ({} answers); a waiting node uses {:.2} % of a core",
                p.p50_us,
                p.p99_us,
                p.longest_us,
                p.single_p50_us,
                p.single_p99_us,
                p.answers,
                100.0 * p.idle_share
            );
        }
        text.push_str(&table(&self.batches));
        text
    }
}

/// The model on one machine, its queries, and a place for parts; removed when dropped.
struct Setup {
    model_dir: ModelDir,
    model: GnnModel,
    store: Arc<GraphStore>,
    engine: GraphEngine,
    queries: Queries,
    plans: Vec<Plan>,
    dir: PathBuf,
    quick: bool,
}

impl Drop for Setup {
    fn drop(&mut self) {
        // Nothing else is to be done about a directory that cannot be removed.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Setup {
    fn new(args: &BenchCluster) -> Result<Self> {
        let model_dir = ModelDir::open(&args.model, None)?;
        let store = Arc::new(GraphStore::open(&model_dir.store_path(), Check::Structure)?);
        let queries = Queries::open(&args.queries)?;
        ensure!(queries.len() >= 64, "the bench needs 64 queries at least");
        let name = format!("satisfice-bench-{}", std::process::id());
        let dir = env::temp_dir().join(name);
        fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
        Ok(Self {
            model: GnnModel::load(model_dir.config(), &model_dir.weights_path())?,
            engine: GraphEngine::open(&model_dir, Arc::clone(&store), Check::Structure)?,
            model_dir,
            store,
            queries,
            plans: args.plan.clone(),
            dir,
            quick: args.quick,
        })
    }

    fn repeat(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    fn cut(&self, parts: usize) -> Result<PathBuf> {
        let out = self.dir.join(parts.to_string());
        let options = PartitionOptions {
            parts,
            method: Method::Hash,
            seed: 0,
            embeddings: true,
        };
        let to = (options, out.as_path());
        if !out.exists() {
            partition(&self.model_dir, &self.model, &self.store, to, &NoProgress)?;
        }
        Ok(out)
    }

    fn batch(&self, from: usize, queries: usize) -> Result<QueryBatch> {
        let slice = self.queries.batch(from..from + queries);
        Ok(self.engine.attach(Attachment::from(&slice))?)
    }

    fn processes(&self, spin: bool) -> Result<Processes> {
        let file = self.cluster_file(&self.cut(2)?, spin)?;
        let child = Command::new(env::current_exe()?)
            .args(["serve", "--node", "1", "--skip-checksums", "--cluster"])
            .arg(&file)
            .args(["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .spawn()?;
        let child = Process(child);
        let node = ClusterNode::start(&ClusterConfig::read(&file)?, 0, Check::Structure)?;
        node.wait(Duration::from_mins(1))?;
        let idle_share = idle_share(
            child.0.id(),
            Duration::from_secs(if self.quick { 2 } else { 10 }),
        )?;
        let answers = self.repeat(2_000, 200);
        let (mut times, mut single) = (Vec::new(), Vec::new());
        for answer in 0..answers {
            let batch = self.batch(answer % self.queries.len(), 1)?;
            let start = Instant::now();
            node.answer(&batch, Plan::Precomputed, Exchange::Partials, None)?;
            times.push(start.elapsed());
            let start = Instant::now();
            self.engine.answer(&batch, Plan::Precomputed)?;
            single.push(start.elapsed());
            thread::sleep(Duration::from_millis(1));
        }
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        Ok(Processes {
            answers,
            p50_us: micros(percentile(&mut times, 0.5)),
            p99_us: micros(percentile(&mut times, 0.99)),
            longest_us: micros(percentile(&mut times, 1.0)),
            single_p50_us: micros(percentile(&mut single, 0.5)),
            single_p99_us: micros(percentile(&mut single, 0.99)),
            idle_share,
        })
    }

    fn cluster_file(&self, parts: &Path, spin: bool) -> Result<PathBuf> {
        let mut text = format!("group = \"bench\"\nspin = {spin}\n");
        for node in 0..2 {
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let part = part_dir(parts, node);
            write!(
                text,
                "[[node]]\naddress = \"{address}\"\nparts = [{:?}]\n",
                part.display().to_string()
            )?;
        }
        let file = self.dir.join("cluster.toml");
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// The time within which a share of the times lies.
fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let at = (share * times.len() as f64).ceil() as usize;
    times[at.clamp(1, times.len()) - 1]
}

/// Ticks of the kernel's clock a second, in which `/proc` counts processor time on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of a process over `time`, as a share of one core.
fn idle_share(process: u32, time: Duration) -> Result<f64> {
    let ticks = || -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name in brackets may hold spaces.
        let fields = stat.rsplit_once(") ").context("no process times")?.1;
        let mut fields = fields.split(' ').skip(11);
        let mut next = || fields.next().and_then(|field| field.parse::<f64>().ok());
        let user = next().context("no user time")?;
        Ok(user + next().context("no system time")?)
    };
    let before = ticks()?;
    thread::sleep(time);
    Ok((ticks()? - before) / TICKS_PER_SECOND / time.as_secs_f64())
}
