//! The same graph from every source makes the same store.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use half::f16;
use satisfice_store::{
    Check, DType, Duplicates, FeatureDType, GraphStore, ImportOptions, NodeId, NodeIdKind, Source,
    Tables, verify,
};
use std::path::PathBuf;
use support::{
    EXPORT, Graph, Workshop, arrays, bytes_of, csv, edges, export_tensors, files, npy, npz,
    parquet_file::{self, Cells},
    safetensors, string_ids,
};
use zip::CompressionMethod;

fn tables(nodes: PathBuf, edges: PathBuf) -> Source {
    Source::Tables(Tables {
        edges,
        nodes,
        ..Tables::default()
    })
}

fn parquet_tables(workshop: &Workshop, graph: &Graph, ids: &dyn Fn(u32) -> Cells) -> Source {
    let column = |at: usize| graph.x.iter().map(|x| x[at]).collect::<Vec<f32>>();
    let (nodes, edges) = (
        workshop.path("nodes.parquet"),
        workshop.path("edges.parquet"),
    );
    parquet_file::write(
        &nodes,
        &[
            ("id", ids(0)),
            ("a", Cells::Float(column(0))),
            ("when", Cells::Date(vec![0; graph.nodes()])),
            (
                "b",
                Cells::Double(column(1).into_iter().map(f64::from).collect()),
            ),
            (
                "label",
                Cells::Int32(graph.y.iter().map(|&y| y as i32).collect()),
            ),
            ("c", Cells::Float(column(2))),
        ],
        graph.nodes(),
        3,
    );
    let count = graph.edges.len();
    parquet_file::write(&edges, &[("src", ids(1)), ("dst", ids(2))], count, 4);
    tables(nodes, edges)
}

fn int_cells(graph: &Graph, which: u32) -> Cells {
    match which {
        0 => Cells::Int64((0..graph.nodes() as i64).collect()),
        1 => Cells::Int32(graph.edges.iter().map(|e| e.0 as i32).collect()),
        _ => Cells::Int64(graph.edges.iter().map(|e| i64::from(e.1)).collect()),
    }
}

/// Every source of the graph whose ids are positions.
fn sources(workshop: &Workshop, graph: &Graph) -> Vec<(&'static str, Source)> {
    let plain = |id: u32| id.to_string();
    let label = |label: i64| label.to_string();
    let [nodes, edges] = csv(graph, &plain, &label);
    let bare = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    let mut all = vec![
        (
            "csv",
            tables(
                workshop.write("nodes.csv", &nodes),
                workshop.write("edges.csv", &edges),
            ),
        ),
        (
            "csv, edges without a header",
            tables(
                workshop.path("nodes.csv"),
                workshop.write("bare.csv", bare(&edges)),
            ),
        ),
        (
            "csv, edges with a byte order mark and no header",
            tables(
                workshop.path("nodes.csv"),
                workshop.write("marked.csv", format!("\u{feff}{}", bare(&edges))),
            ),
        ),
        (
            "csv, edges with a header of other names",
            tables(
                workshop.path("nodes.csv"),
                workshop.write(
                    "named.csv",
                    edges.replace("source,target", "package,dependency"),
                ),
            ),
        ),
        (
            "tsv with a byte order mark and spaces",
            tables(
                workshop.write("n.tsv", format!("\u{feff}{}", nodes.replace(',', "\t  "))),
                workshop.write("e.tsv", format!("\u{feff}{}", edges.replace(',', "\t"))),
            ),
        ),
        (
            "quoted csv with CRLF and other names",
            tables(
                workshop.write(
                    "q.csv",
                    nodes.replace('\n', "\r\n").replace("label", "\"LABEL\""),
                ),
                workshop.write("r.csv", edges.replace("source,target", "\"from\",\"to\"")),
            ),
        ),
        (
            "parquet",
            parquet_tables(workshop, graph, &|which| int_cells(graph, which)),
        ),
    ];
    npz(
        &workshop.path("stored.npz"),
        &arrays(graph),
        CompressionMethod::Stored,
    );
    npz(
        &workshop.path("deflated.npz"),
        &arrays(graph),
        CompressionMethod::Deflated,
    );
    for (name, file) in [
        ("stored npz", "stored.npz"),
        ("deflated npz", "deflated.npz"),
    ] {
        all.push((name, Source::detect(&workshop.path(file)).unwrap()));
    }
    std::fs::create_dir(workshop.path("arrays")).unwrap();
    for (name, bytes) in arrays(graph) {
        workshop.write(&format!("arrays/{name}.npy"), bytes);
    }
    all.push(("npy", Source::detect(&workshop.path("arrays")).unwrap()));
    let export = workshop.path("graph.safetensors");
    safetensors(
        &export,
        &export_tensors(graph),
        &[EXPORT, ("undirected", "false")],
    );
    all.push(("export", Source::detect(&export).unwrap()));
    all.push((
        "directory with an export",
        Source::detect(workshop.0.path()).unwrap(),
    ));
    all
}

#[test]
fn every_source_makes_the_same_bytes() {
    let (workshop, graph) = (Workshop::new(), Graph::sample());
    let sources = sources(&workshop, &graph);
    let mut stores = Vec::new();
    for (name, source) in sources {
        let (out, summary) = workshop
            .import(&source, &ImportOptions::default())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            (summary.nodes, summary.edges, summary.features),
            (7, 11, 3),
            "{name}"
        );
        assert_eq!(
            (summary.duplicates, summary.duplicates_merged),
            (3, false),
            "{name}"
        );
        assert_eq!((summary.self_loops, summary.isolated), (3, 1), "{name}");
        assert_eq!(summary.edges_read, 11);
        verify(&out).unwrap();
        stores.push((name, files(&out)));
    }
    for (name, store) in &stores {
        assert_eq!(*store, stores[0].1, "{name}");
    }
}

#[test]
fn a_store_holds_what_was_imported() {
    let (workshop, graph) = (Workshop::new(), Graph::sample());
    let (_, source) = sources(&workshop, &graph).remove(0);
    let (out, summary) = workshop.import(&source, &ImportOptions::default()).unwrap();
    let store = GraphStore::open(&out, Check::Structure).unwrap();
    let mut wanted = graph.edges.clone();
    wanted.sort_unstable_by_key(|&(source, target)| (target, source));
    assert_eq!(edges(&store), wanted);
    assert_eq!(store.out_degree(), [2, 2, 2, 2, 2, 1, 0]);
    assert_eq!(store.self_loops().collect::<Vec<_>>(), [(1, 1), (3, 2)]);
    assert_eq!(store.topology().in_degree(1), 5);
    let labels: Vec<i64> = store
        .labels()
        .unwrap()
        .iter()
        .map(|&y| i64::from(y))
        .collect();
    assert_eq!(labels, graph.y);
    let mut row = vec![0.0; 3];
    for (node, wanted) in graph.x.iter().enumerate() {
        store.features().read(node, &mut row);
        assert_eq!(row, *wanted);
    }
    assert_eq!(store.ids().kind(), NodeIdKind::Position);
    assert_eq!(store.ids().position_of_int(6), Some(6));
    assert_eq!(store.ids().position_of_int(7), None);
    assert_eq!(store.ids().id_of(3), NodeId::Int(3));
    assert_eq!(store.manifest().duplicates, Duplicates::Kept);
    assert!(!store.manifest().undirected);
    let report = verify(&out).unwrap();
    assert_eq!(
        (report.files, report.tensors, report.bytes),
        (3, 7, summary.bytes)
    );
}

#[test]
fn string_ids_and_class_names_are_the_same_from_tables_and_exports() {
    let (workshop, graph) = (Workshop::new(), Graph::sample());
    let names = ["bash", "libc6", "0", "007", "naïve, \"quoted\"", "x y", "λ"];
    let classes = ["admin", "games", "libs"];
    let quoted = |id: u32| format!("\"{}\"", names[id as usize].replace('"', "\"\""));
    let label = |y: i64| usize::try_from(y).map_or(String::new(), |y| classes[y].to_owned());
    let [nodes, edges] = csv(&graph, &quoted, &label);
    let from_csv = tables(
        workshop.write("n.csv", nodes),
        workshop.write("e.csv", edges),
    );
    let mut tensors = export_tensors(&graph);
    tensors.extend(string_ids(&names));
    let export = workshop.path("g.safetensors");
    let metadata = [EXPORT, ("class_names", r#"["admin", "games", "libs"]"#)];
    safetensors(&export, &tensors, &metadata);
    let (a, _) = workshop
        .import(&from_csv, &ImportOptions::default())
        .unwrap();
    let (b, _) = workshop
        .import(&Source::Export(export), &ImportOptions::default())
        .unwrap();
    assert_eq!(files(&a), files(&b));
    let store = GraphStore::open(&a, Check::Checksums).unwrap();
    assert_eq!(store.manifest().classes.as_deref().unwrap(), classes);
    let ids = store.ids();
    assert_eq!(ids.kind(), NodeIdKind::String);
    for (node, name) in names.iter().enumerate() {
        assert_eq!(ids.position_of_str(name.as_bytes()), Some(node as u32));
        assert_eq!(ids.id_of(node as u32), NodeId::Str(name));
    }
    assert_eq!(ids.position_of_str(b"zsh"), None);
    assert_eq!(ids.position_of_str(b"\xff"), None);
    assert_eq!(ids.position_of_int(0), None);
}

#[test]
fn integer_ids_are_the_same_from_every_source_that_has_them() {
    let (workshop, graph) = (Workshop::new(), Graph::sample());
    let id = |node: u32| 1_000_000_007 * i64::from(node) - 42;
    let [nodes, edges] = csv(&graph, &|v| id(v).to_string(), &|y| y.to_string());
    let ids: Vec<i64> = (0..7).map(id).collect();
    let mut tensors = export_tensors(&graph);
    tensors.push(("ids", DType::I64, vec![7], bytes_of(&ids)));
    let export = workshop.path("g.safetensors");
    safetensors(&export, &tensors, &[EXPORT]);
    let parquet = parquet_tables(&workshop, &graph, &|which| match which {
        0 => Cells::Int64(ids.clone()),
        1 => Cells::Text(graph.edges.iter().map(|e| id(e.0).to_string()).collect()),
        _ => Cells::Int64(graph.edges.iter().map(|e| id(e.1)).collect()),
    });
    let from_csv = tables(
        workshop.write("n.csv", nodes),
        workshop.write("e.csv", edges),
    );
    let stores: Vec<PathBuf> = [from_csv, Source::Export(export), parquet]
        .iter()
        .map(|source| {
            workshop
                .import(source, &ImportOptions::default())
                .unwrap()
                .0
        })
        .collect();
    assert_eq!(files(&stores[0]), files(&stores[1]));
    assert_eq!(files(&stores[0]), files(&stores[2]));
    let store = GraphStore::open(&stores[0], Check::Checksums).unwrap();
    assert_eq!(store.ids().kind(), NodeIdKind::Int64);
    for (node, &id) in ids.iter().enumerate() {
        assert_eq!(store.ids().position_of_int(id), Some(node as u32));
    }
    assert_eq!(store.ids().position_of_int(0), None);
    assert_eq!(store.ids().position_of_str(b"-42"), None);
}

#[test]
fn features_may_be_a_list_column_or_an_array_beside_the_table() {
    let (workshop, graph) = (Workshop::new(), Graph::sample());
    let (_, plain) = sources(&workshop, &graph).remove(0);
    let (wanted, _) = workshop.import(&plain, &ImportOptions::default()).unwrap();
    let lists = workshop.path("lists.parquet");
    let ids = Cells::Int64((0..7).collect());
    let columns = [
        ("node_id", ids),
        ("rank", Cells::Double(vec![1.0; 7])),
        ("x", Cells::List(graph.x.clone())),
        ("y", Cells::Int64(graph.y.clone())),
    ];
    parquet_file::write(&lists, &columns, 7, 2);
    let source = tables(lists, workshop.path("edges.csv"));
    let (found, summary) = workshop.import(&source, &ImportOptions::default()).unwrap();
    assert_eq!(files(&found), files(&wanted));
    assert_eq!(summary.skipped_columns, ["rank"]);

    let columns: Vec<f32> = (0..3)
        .flat_map(|at| graph.x.iter().map(move |x| x[at]))
        .collect();
    let floats: Vec<f32> = graph
        .y
        .iter()
        .map(|&y| if y < 0 { f32::NAN } else { y as f32 })
        .collect();
    let bare = [
        "0,t,0", "1,t,1", "2,t,2", "3,t,3", "4,t,4", "5,t,5", "6,t,6",
    ]
    .join("\n");
    let source = Source::Tables(Tables {
        edges: workshop.path("edges.csv"),
        nodes: workshop.write("bare_nodes.csv", bare),
        features: Some(workshop.write("x.npy", npy("<f4", true, &[7, 3], &bytes_of(&columns)))),
        labels: Some(workshop.write("y.npy", npy("<f4", false, &[7], &bytes_of(&floats)))),
        id_column: None,
        weight_column: None,
    });
    let (found, _) = workshop.import(&source, &ImportOptions::default()).unwrap();
    assert_eq!(files(&found), files(&wanted));
}

#[test]
fn element_types_and_orders_of_arrays_do_not_matter() {
    let (workshop, graph) = (Workshop::new(), Graph::sample());
    let (n, e, f) = (7, graph.edges.len(), 3);
    let mut stores = Vec::new();
    let interleaved: Vec<u8> = graph
        .edges
        .iter()
        .flat_map(|e| [e.0 as u8, e.1 as u8])
        .collect();
    let shorts: Vec<i16> = graph.edge_index().iter().map(|&v| v as i16).collect();
    let doubles: Vec<f64> = graph.flat().iter().map(|&v| f64::from(v)).collect();
    let wide: Vec<i32> = graph.edge_index().iter().map(|&v| v as i32).collect();
    let edge_arrays = [
        npy("|u1", true, &[2, e], &interleaved),
        npy("<i2", false, &[2, e], &bytes_of(&shorts)),
        npy("<i4", false, &[2, e], &bytes_of(&wide)),
    ];
    for (at, edges) in edge_arrays.into_iter().enumerate() {
        let path = workshop.path(&format!("{at}.npz"));
        let x = npy("<f8", false, &[n, f], &bytes_of(&doubles));
        npz(
            &path,
            &[("edge_index", edges), ("x", x)],
            CompressionMethod::Deflated,
        );
        stores.push(
            workshop
                .import(&Source::Arrays(path), &ImportOptions::default())
                .unwrap()
                .0,
        );
    }
    assert_eq!(files(&stores[0]), files(&stores[1]));
    assert_eq!(files(&stores[0]), files(&stores[2]));
    assert!(!stores[0].join("labels.safetensors").exists());
    assert!(!stores[0].join("ids.safetensors").exists());
}

#[test]
fn features_keep_their_precision_unless_another_is_asked_for() {
    let (workshop, graph) = (Workshop::new(), Graph::sample());
    let halves: Vec<f16> = graph.flat().iter().map(|&v| f16::from_f32(v)).collect();
    let mut tensors = export_tensors(&graph);
    tensors[1] = ("x", DType::F16, vec![7, 3], bytes_of(&halves));
    let half_path = workshop.path("half.safetensors");
    safetensors(&half_path, &tensors, &[EXPORT]);
    let single_path = workshop.path("single.safetensors");
    safetensors(&single_path, &export_tensors(&graph), &[EXPORT]);
    let half = Source::Export(half_path);
    let single = Source::Export(single_path);
    let import = |source, dtype| {
        let options = ImportOptions {
            feature_dtype: dtype,
            ..ImportOptions::default()
        };
        let (out, _) = workshop.import(source, &options).unwrap();
        GraphStore::open(&out, Check::Checksums).unwrap()
    };
    assert_eq!(import(&half, None).features().row_bytes(), 6);
    assert_eq!(import(&single, None).features().row_bytes(), 12);
    assert_eq!(
        import(&half, Some(FeatureDType::F32))
            .features()
            .row_bytes(),
        12
    );
    let rounded = import(&single, Some(FeatureDType::F16));
    assert_eq!(rounded.features().row_bytes(), 6);
    assert_eq!(rounded.fingerprint(), import(&half, None).fingerprint());
    assert_ne!(rounded.fingerprint(), import(&single, None).fingerprint());
}

#[test]
fn a_store_is_replaced_only_when_that_is_asked_for() {
    let (workshop, graph) = (Workshop::new(), Graph::sample());
    let export = workshop.path("g.safetensors");
    safetensors(&export, &export_tensors(&graph), &[EXPORT]);
    let source = Source::Export(export);
    let out = workshop.path("a/b/store");
    let progress = satisfice_store::NoProgress;
    let mut options = ImportOptions::default();
    satisfice_store::import(&source, &options, &out, &progress).unwrap();
    let error = satisfice_store::import(&source, &options, &out, &progress).unwrap_err();
    assert!(error.to_string().contains("overwrite"), "{error}");
    options.overwrite = true;
    options.remove_self_loops = true;
    satisfice_store::import(&source, &options, &out, &progress).unwrap();
    assert_eq!(GraphStore::open(&out, Check::Checksums).unwrap().edges(), 8);
    assert_eq!(std::fs::read_dir(out.parent().unwrap()).unwrap().count(), 1);

    let home = workshop.path("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("thesis.tex"), "precious").unwrap();
    let error = satisfice_store::import(&source, &options, &home, &progress).unwrap_err();
    assert!(
        error.to_string().contains("something else than a store"),
        "{error}"
    );
    assert_eq!(std::fs::read(home.join("thesis.tex")).unwrap(), b"precious");
}
