//! The plans against a whole pass over the graph with the queries attached.

mod refresh;

use super::{
    Attachment, BatchShape, Direction, EdgeRules, GraphView, Kept, LayerPass, QueryBatch,
    ScratchPool, Serving, Stored, policy, scratch::NODES_MAX, select::highest,
};
use crate::{Framework, GnnModel, ModelConfig, Plan, Policy, RequestLimits, model::Reduction};
use proptest::prelude::*;
use satisfice_core::Cores;
use satisfice_kernels::Rows;
use satisfice_store::Topology;
use std::{collections::BTreeSet, fs, path::Path};

/// A directed multigraph as edge list (source, target).
#[derive(Debug, Clone)]
struct Graph {
    nodes: usize,
    edges: Vec<(u32, u32)>,
}

/// A graph in the form in which the store holds it.
struct Csr {
    indptr: Vec<u64>,
    indices: Vec<u32>,
    out_degree: Vec<u32>,
    loops: Vec<(u32, u32)>,
}

impl Csr {
    fn new(graph: &Graph) -> Self {
        let mut edges: Vec<(u32, u32)> = graph.edges.iter().map(|&(s, t)| (t, s)).collect();
        edges.sort_unstable();
        let mut indptr = vec![0; graph.nodes + 1];
        let mut out_degree = vec![0; graph.nodes];
        for &(target, source) in &edges {
            indptr[target as usize + 1] += 1;
            out_degree[source as usize] += 1;
        }
        for node in 0..graph.nodes {
            indptr[node + 1] += indptr[node];
        }
        let loops = (0..graph.nodes as u32)
            .map(|v| (v, edges.iter().filter(|&&e| e == (v, v)).count() as u32))
            .filter(|&(_, count)| count > 0)
            .collect();
        Self {
            indptr,
            indices: edges.into_iter().map(|(_, source)| source).collect(),
            out_degree,
            loops,
        }
    }

    fn view(&self) -> GraphView<'_> {
        let topology = Topology {
            indptr: &self.indptr,
            indices: &self.indices,
        };
        GraphView::new(topology, &self.out_degree, &self.loops)
    }
}

/// Values of all nodes at the levels 0 .. K.
fn whole_graph(model: &GnnModel, graph: GraphView<'_>, x: &[f32]) -> Vec<Vec<f32>> {
    let nodes: Vec<u32> = (0..graph.nodes() as u32).collect();
    let mut levels = vec![model.apply_input(x.to_vec())];
    for layer in 0..model.layers() {
        let initial = Rows::f32(&levels[0], model.level_width(0));
        let below = Rows::f32(&levels[layer], model.level_width(layer));
        let pass = LayerPass::new(&model.layers[layer], graph, initial, below);
        let messages = messages(model, layer, &pass, &nodes);
        let kept = Kept {
            messages: rows(messages.as_ref(), model.message_width(layer + 1)),
            ..Kept::default()
        };
        let values = pass.values(&nodes, kept).unwrap();
        levels.push(values);
    }
    levels
}

/// Messages of some stored nodes in a layer (from 0), where they are not the values.
fn messages(
    model: &GnnModel,
    layer: usize,
    pass: &LayerPass<'_>,
    nodes: &[u32],
) -> Option<Vec<f32>> {
    let made = model.layers[layer].makes_messages();
    made.then(|| pass.messages(nodes).unwrap())
}

fn rows(values: Option<&Vec<f32>>, width: usize) -> Option<Stored<'_>> {
    values.map(|values| Rows::f32(values, width).into())
}

fn answer(
    model: &GnnModel,
    stored: &Csr,
    x: &[f32],
    batch: &QueryBatch,
    plans: &[Plan],
) -> Vec<Vec<f32>> {
    answer_on(model, stored, (x, batch), plans, &[])
}

/// As [`answer`], and the same to the bit whatever cores are granted, by some scripts.
fn answer_on(
    model: &GnnModel,
    stored: &Csr,
    (x, batch): (&[f32], &QueryBatch),
    plans: &[Plan],
    scripts: &[fn(u64) -> usize],
) -> Vec<Vec<f32>> {
    let view = stored.view();
    let values = whole_graph(model, view, x);
    let levels: Vec<Stored<'_>> = (0..model.layers())
        .map(|level| Rows::f32(&values[level], model.level_width(level)).into())
        .collect();
    let nodes: Vec<u32> = (0..view.nodes() as u32).collect();
    let kept: Vec<_> = (0..model.layers())
        .map(|layer| {
            let pass = LayerPass::new(&model.layers[layer], view, levels[0], levels[layer]);
            let messages = messages(model, layer, &pass, &nodes);
            let kept = Kept {
                messages: rows(messages.as_ref(), model.message_width(layer + 1)),
                ..Kept::default()
            };
            let reduced = Some(pass.reduced(&nodes, kept).unwrap());
            (messages, reduced, layer + 1)
        })
        .collect();
    let messages: Vec<_> = kept
        .iter()
        .map(|(m, _, layer)| rows(m.as_ref(), model.message_width(*layer)))
        .collect();
    let reduced: Vec<_> = kept
        .iter()
        .map(|(_, r, layer)| rows(r.as_ref(), model.reduction_width(*layer)))
        .collect();
    let own = model.kept_own().and_then(|linear| {
        let pass = LayerPass::new(&model.layers[0], view, levels[0], levels[0]);
        let own = pass.own(&nodes).unwrap()?;
        Some((own, linear.outputs()))
    });
    let own = own
        .as_ref()
        .map(|(own, width)| Rows::f32(own, *width).into());
    let pool = ScratchPool::new(view, model.scales());
    plans
        .iter()
        .map(|&plan| {
            let run = |reduced: &[Option<Stored<'_>>], own, cores: &Cores| {
                let serving = Serving {
                    model,
                    graph: view,
                    levels: &levels,
                    messages: &messages,
                    reduced,
                    own,
                    scales: pool.scales(),
                };
                let answered = pool.with(view, batch, cores, |scratch| {
                    let answer = serving.answer(batch, plan, cores, scratch)?;
                    let is_known = batch.stored().is_empty() && rows_are_known(model, plan);
                    if !reduced.is_empty() && is_known {
                        let wanted = serving.forecast(batch, &[plan], cores, scratch)?[0]
                            .work
                            .rows;
                        let loops = (0..batch.queries()).map(|q| batch.query_self_loops(q));
                        let spared = answer.recomputed.len() + loops.sum::<usize>();
                        let most = answer.rows + (spared * model.layers()) as u64;
                        assert!(
                            (answer.rows as f64..=most as f64).contains(&wanted),
                            "{plan}: {wanted} forecast, {} read",
                            answer.rows
                        );
                    }
                    Ok(answer)
                });
                answered.unwrap()
            };
            let all = Cores::default();
            let gathered = run(&[], None, &all);
            let (first, again) = (run(&reduced, own, &all), run(&reduced, own, &all));
            for (at, &script) in scripts.iter().enumerate() {
                let found = run(&reduced, own, &Cores::rehearsed(script));
                assert!(found.outputs == first.outputs, "{plan}, script {at}");
                assert_eq!(found.recomputed, first.recomputed, "{plan}, script {at}");
                assert_eq!(
                    (found.edges, found.rows),
                    (first.edges, first.rows),
                    "{plan}"
                );
            }
            assert!(first.rows <= gathered.rows && first.edges == gathered.edges);
            for (first, gathered) in first.outputs.iter().zip(&gathered.outputs) {
                assert!(
                    close(*first, *gathered),
                    "{plan}: {first} by changes, {gathered} by gathering"
                );
            }
            assert_eq!(
                first.outputs, again.outputs,
                "the scratch is left as it was found"
            );
            first.outputs
        })
        .collect()
}

/// Whether what is read follows from degrees, up to a kept row of every node computed anew and the queries' edges to
/// themselves: where no stored source changes before it is read.
fn rows_are_known(model: &GnnModel, plan: Plan) -> bool {
    let sums =
        |layer: &crate::model::Layer| matches!(layer.conv.reduction(), Reduction::Sum { .. });
    let unchanged = model.scales().is_empty() && model.layers() <= 2;
    model.layers.iter().all(sums)
        && match plan {
            Plan::Precomputed | Plan::Refresh => true,
            Plan::Recompute { policy, .. } => unchanged && policy != Policy::Oracle,
            Plan::Exact => false,
        }
}

/// Equal up to rounding: within 1e-4 on the unit scale, and in proportion above it, since sums of
/// many random rows grow large.
fn close(found: f32, wanted: f32) -> bool {
    (found - wanted).abs() <= 1e-4 * wanted.abs().max(1.0)
}

/// The model's answer for the queries from a whole pass over the graph with them attached.
fn reference(model: &GnnModel, case: &Case) -> Vec<f32> {
    let all = reference_of_all(model, case);
    all[case.graph.nodes * model.outputs()..].to_vec()
}

/// That for the stored nodes and then the queries.
fn reference_of_all(model: &GnnModel, case: &Case) -> Vec<f32> {
    let mut attached = case.graph.clone();
    attached.nodes += case.queries;
    let query = |q: u32| q + case.graph.nodes as u32;
    for &(q, node, direction) in &case.edges {
        if direction != Direction::Out {
            attached.edges.push((node, query(q)));
        }
        if direction != Direction::In {
            attached.edges.push((query(q), node));
        }
    }
    for &(source, target) in &case.query_edges {
        attached.edges.push((query(source), query(target)));
    }
    let csr = Csr::new(&attached);
    let values = whole_graph(model, csr.view(), &case.x(model.features()));
    model.finish(match model.joins_levels() {
        true => values,
        false => vec![values[model.layers()].clone()],
    })
}

#[derive(Debug, Clone)]
struct Case {
    graph: Graph,
    queries: usize,
    edges: Vec<(u32, u32, Direction)>,
    query_edges: Vec<(u32, u32)>,
}

impl Case {
    /// Features of the stored nodes, then of the queries.
    fn x(&self, width: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 2_654_435_761) % 1_000) as f32 / 500.0 - 1.0;
        (0..(self.graph.nodes + self.queries) * width)
            .map(value)
            .collect()
    }
}

fn cases() -> impl Strategy<Value = Case> {
    (1..30_usize, 1..6_usize).prop_flat_map(|(nodes, queries)| {
        let node = 0..nodes as u32;
        let query = 0..queries as u32;
        let direction = prop_oneof![
            Just(Direction::Both),
            Just(Direction::In),
            Just(Direction::Out)
        ];
        (
            prop::collection::vec((node.clone(), node.clone()), 0..90),
            prop::collection::vec((query.clone(), node, direction), 0..20),
            prop::collection::vec((query.clone(), query), 0..5),
        )
            .prop_map(move |(edges, query_edges_to_stored, query_edges)| Case {
                graph: Graph { nodes, edges },
                queries,
                edges: query_edges_to_stored,
                query_edges,
            })
    })
}

fn models() -> Vec<(String, GnnModel)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut models: Vec<(String, GnnModel)> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("model.toml").exists())
        .map(|path| {
            let config = ModelConfig::read(&path).unwrap();
            let model = GnnModel::load(&config, &path.join("1/weights.safetensors")).unwrap();
            (path.file_name().unwrap().display().to_string(), model)
        })
        .collect();
    models.sort_by(|a, b| a.0.cmp(&b.0));
    models
}

fn batch(case: &Case, graph: GraphView<'_>, width: usize) -> QueryBatch {
    let attachment = Attachment {
        x: case.x(width)[case.graph.nodes * width..].to_vec(),
        queries: case.queries,
        edges: case.edges.clone(),
        query_edges: case.query_edges.clone(),
    };
    let rules = EdgeRules {
        undirected: false,
        merge_duplicates: false,
        query_self_loops: false,
    };
    checked(attachment, graph, width, rules)
}

fn checked(
    attachment: Attachment,
    graph: GraphView<'_>,
    features: usize,
    rules: EdgeRules,
) -> QueryBatch {
    let shape = BatchShape {
        nodes: graph.nodes(),
        features,
        rules,
        limits: RequestLimits::default(),
    };
    QueryBatch::new(attachment, shape, &Cores::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exact_equals_a_whole_pass_with_the_queries_attached(case in cases()) {
        let stored = Csr::new(&case.graph);
        for (name, model) in models() {
            let width = model.features();
            let batch = batch(&case, stored.view(), width);
            let x = case.x(width);
            let found = answer(&model, &stored, &x[..case.graph.nodes * width], &batch, &[Plan::Exact]);
            let wanted = reference(&model, &case);
            for (found, wanted) in found[0].iter().zip(&wanted) {
                prop_assert!(close(*found, *wanted), "{name}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn stored_nodes_are_answered_as_by_a_whole_pass(case in cases(), step in 1..4_usize) {
        for (name, model) in models() {
            let (width, outputs) = (model.features(), model.outputs());
            let stored = Csr::new(&case.graph);
            let asked: Vec<u32> = (0..case.graph.nodes as u32).step_by(step).collect();
            let x = case.x(width);
            let x = &x[..case.graph.nodes * width];
            let check = |batch: QueryBatch, plan, wanted: &[f32]| {
                let queries = batch.queries();
                let batch = batch.with_stored(&asked);
                let found = &answer(&model, &stored, x, &batch, &[plan])[0][queries * outputs..];
                for (row, &node) in found.chunks_exact(outputs).zip(&asked) {
                    let wanted = &wanted[node as usize * outputs..][..outputs];
                    for (found, wanted) in row.iter().zip(wanted) {
                        assert!(close(*found, *wanted), "{name}, {plan}, node {node}: {found}, not {wanted}");
                    }
                }
                assert_eq!(found.len(), asked.len() * outputs);
            };
            check(batch(&case, stored.view(), width), Plan::Exact, &reference_of_all(&model, &case));
            // Without new nodes no plan leaves anything stale.
            let alone = Case { queries: 0, edges: Vec::new(), query_edges: Vec::new(), ..case.clone() };
            let wanted = reference_of_all(&model, &alone);
            for plan in [Plan::Precomputed, Plan::Refresh, Plan::recompute(0.5), Plan::Exact] {
                check(QueryBatch::empty(), plan, &wanted);
            }
        }
    }

    #[test]
    fn queries_that_touch_nothing_in_common_are_answered_alike_together_and_alone(case in cases()) {
        // Without edges from queries, no query changes what another reads.
        let mut together = case;
        together.edges.iter_mut().for_each(|edge| edge.2 = Direction::In);
        together.query_edges.clear();
        let stored = Csr::new(&together.graph);
        for (name, model) in models() {
            // DGL's GraphConv divides by out-degrees, which such edges do change.
            if name.starts_with("dgl") && !model.scales().is_empty() {
                continue;
            }
            let width = model.features();
            let x = together.x(width);
            let (x, query_x) = x.split_at(together.graph.nodes * width);
            let all = batch(&together, stored.view(), width);
            let plans = [Plan::Precomputed, Plan::Refresh, Plan::recompute(0.5), Plan::Exact];
            let found = answer(&model, &stored, x, &all, &plans);
            for query in 0..together.queries {
                let edges = together.edges.iter().filter(|e| e.0 as usize == query);
                let alone = Attachment {
                    x: query_x[query * width..][..width].to_vec(),
                    queries: 1,
                    edges: edges.map(|e| (0, e.1, e.2)).collect(),
                    query_edges: Vec::new(),
                };
                let rules = EdgeRules { undirected: false, merge_duplicates: false, query_self_loops: false };
                let alone = checked(alone, stored.view(), width, rules);
                for (found, alone) in found.iter().zip(answer(&model, &stored, x, &alone, &plans)) {
                    let outputs = model.outputs();
                    for (found, alone) in found[query * outputs..][..outputs].iter().zip(&alone) {
                        prop_assert!(close(*found, *alone), "{name}: {found} {alone}");
                    }
                }
            }
        }
    }
}

/// Forecasts of a batch are of what each plan computes and leaves.
fn check_forecasts(case: &Case, budget: f64) {
    let all = models();
    let named = |wanted: &str| all.iter().find(|(name, _)| name == wanted).map(|(_, m)| m);
    let model = named("pyg_sage_mean_3_layers_directed").unwrap();
    let stored = Csr::new(&case.graph);
    let view = stored.view();
    let batch = batch(case, view, model.features());
    let x = case.x(model.features());
    let values = whole_graph(model, view, &x[..case.graph.nodes * model.features()]);
    let levels: Vec<Stored<'_>> = (0..model.layers())
        .map(|level| Rows::f32(&values[level], model.level_width(level)).into())
        .collect();
    let serving = Serving {
        model,
        graph: view,
        levels: &levels,
        messages: &vec![None; model.layers()],
        reduced: &[],
        own: None,
        scales: &[],
    };
    let pool = ScratchPool::new(view, model.scales());
    let plans = [
        Plan::recompute(budget),
        Plan::Exact,
        Plan::Precomputed,
        Plan::Refresh,
        Plan::Recompute {
            budget,
            policy: Policy::Degree,
        },
    ];
    let forecast = |cores: &Cores| {
        let made = pool.with(view, &batch, cores, |s| {
            serving.forecast(&batch, &plans, cores, s)
        });
        made.unwrap()
    };
    let forecasts = forecast(&Cores::default());
    for script in SCRIPTS {
        assert_eq!(forecast(&Cores::rehearsed(script)), forecasts);
    }
    for (plan, forecast) in plans.iter().zip(&forecasts) {
        let chosen = match *plan {
            Plan::Precomputed => Vec::new(),
            Plan::Refresh | Plan::Exact => batch.reader_nodes().collect(),
            Plan::Recompute { budget, policy } => {
                let share = |place| policy::share_of_new_edges(view, &batch, place);
                let from = (view, &batch, &Cores::default());
                let reach = || Ok(Vec::new());
                let scores = policy::scores(policy, from, share, reach, Vec::new);
                highest(&batch, &scores.unwrap(), budget)
            }
        };
        for query in 0..batch.queries() {
            let stale = batch
                .stored_into_query(query)
                .iter()
                .filter(|u| !chosen.contains(u));
            let share = |node: u32| {
                let new = batch.query_into_stored(node).len() as f64;
                let degrees = view.degrees(node);
                let old = f64::from(degrees.incoming - degrees.loops);
                if new > 0.0 { new / (new + old) } else { 0.0 }
            };
            let shares = stale.map(|&u| share(u));
            let wanted = shares.sum::<f64>() / batch.query_in_degree(query).max(1) as f64;
            assert!(
                (f64::from(forecast.stale[query]) - wanted).abs() < 1e-6,
                "{plan}"
            );
        }
        let layers = model.layers();
        let targets = layers * batch.queries() + (layers - 1) * chosen.len();
        assert_eq!(forecast.work.targets as usize, targets);
    }
}

proptest! {
    #[test]
    fn what_is_forecast_is_what_the_plan_leaves(case in cases(), budget in 0.0..1.0_f64) {
        check_forecasts(&case, budget);
    }
}

#[test]
fn large_batches_are_forecast_as_small_ones_on_any_cores() {
    let (nodes, queries) = (20_000_u32, 64_u32);
    let direction = |at: u32| match at % 5 {
        0 => Direction::In,
        1 => Direction::Out,
        _ => Direction::Both,
    };
    let case = Case {
        graph: Graph {
            nodes: nodes as usize,
            edges: (0..60_000)
                .map(|at| (pseudo_random(at, nodes), pseudo_random(at + 70_000, nodes)))
                .collect(),
        },
        queries: queries as usize,
        edges: (0..30_000)
            .map(|at| {
                (
                    at % queries,
                    pseudo_random(at + 200_000, nodes),
                    direction(at),
                )
            })
            .collect(),
        query_edges: vec![(0, 1), (1, 0), (5, 63)],
    };
    let reads = |edge: &&(u32, u32, Direction)| edge.2 != Direction::Out;
    let readers: BTreeSet<u32> = case.edges.iter().filter(reads).map(|e| e.1).collect();
    assert!(readers.len() > NODES_MAX, "{}", readers.len());
    check_forecasts(&case, 0.25);
}

fn pseudo_random(at: u32, below: u32) -> u32 {
    (u64::from(at) * 2_654_435_761 % 4_294_967_291) as u32 % below
}

/// Cores by the number of boundaries: one, several, taken back at every boundary, and at any.
const SCRIPTS: [fn(u64) -> usize; 5] = [
    |_| 1,
    |_| 2,
    |_| 7,
    |at| (at % 2) as usize * 7,
    |at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61) as usize,
];

#[test]
fn the_cores_granted_change_no_bit() {
    let (nodes, queries) = (900, 70);
    let direction = |at: u32| [Direction::Both, Direction::In, Direction::Out][at as usize % 3];
    let case = Case {
        graph: Graph {
            nodes: nodes as usize,
            edges: (0..4000)
                .map(|at| (pseudo_random(at, nodes), pseudo_random(at + 5000, nodes)))
                .collect(),
        },
        queries: queries as usize,
        edges: (0..1000)
            .map(|at| (at % queries, pseudo_random(at + 9000, nodes), direction(at)))
            .collect(),
        query_edges: vec![(0, 1), (1, 0), (5, 63)],
    };
    let stored = Csr::new(&case.graph);
    let plans = [
        Plan::Precomputed,
        Plan::Refresh,
        Plan::recompute(0.5),
        Plan::Recompute {
            budget: 0.25,
            policy: Policy::Reach,
        },
        Plan::Exact,
    ];
    for (_, model) in models() {
        let x = case.x(model.features());
        let x = &x[..nodes as usize * model.features()];
        let batch = batch(&case, stored.view(), model.features());
        answer_on(&model, &stored, (x, &batch), &plans, &SCRIPTS);
    }
}

#[test]
fn both_frameworks_have_fixtures() {
    for (prefix, framework) in [("pyg", Framework::Pyg), ("dgl", Framework::Dgl)] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let of_framework = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with(prefix)
            })
            .inspect(|path| assert_eq!(ModelConfig::read(path).unwrap().framework, framework))
            .count();
        assert!(of_framework > 10, "{prefix}: {of_framework}");
    }
}
