//! Tables that are wrong: a typed error with the place, and nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use proptest::prelude::*;
use satisfice_store::{Check, GraphStore, ImportOptions, Source, StoreError, Tables};
use std::{fs, path::PathBuf};
use support::{
    PLAIN, Workshop, edges as edges_of, npy,
    parquet_file::{self, Cells},
    refused,
};

fn tables(nodes: PathBuf, edges: PathBuf) -> Source {
    Source::Tables(Tables {
        edges,
        nodes,
        ..Tables::default()
    })
}

#[test]
fn csv_tables_that_are_wrong() {
    let nodes = "id,label,a,b\nn0,x,1,2\nn1,y,3,4\n";
    let edges = "source,target\nn0,n1\n";
    let cases = [
        (
            nodes,
            "source,target\nn0,n1\nn1,n2\n",
            "line 3: column `target` names node `n2`",
        ),
        (
            nodes,
            "source,target\nn0,n1\nn9,n2\n",
            "line 3: column `source` names node `n9`",
        ),
        (
            nodes,
            "package,dependency\nn0,n1\n",
            "if line 1 is a header",
        ),
        (
            nodes,
            "source,target\nn0,n1\nn1\n",
            "line 3: 1 cells, but the lines before have 2",
        ),
        (nodes, "source\nn0\n", "one column only"),
        (nodes, "source,target\nn0,\n", "names node ``"),
        ("id,a\nn0,1\nn1\n", edges, "line 3: 1 cells"),
        (
            "id,a\nn0,1\nn1,\n",
            edges,
            "line 3: column `a`: the cell is empty",
        ),
        (
            "id,a\nn0,1\nn1,two\n",
            edges,
            "line 3: column `a`: `two` is no number",
        ),
        (
            "id,a\nn0,1\nn1,nan\n",
            edges,
            "line 3: column `a`: nan is not a finite f32",
        ),
        ("id,a\nn0,1\nn1,-inf\n", edges, "-inf is not a finite f32"),
        ("id,a\nn0,1\nn1,1e39\n", edges, "1e39 is not a finite f32"),
        (
            "id,a\nn0,1\n,2\n",
            edges,
            "line 3: column `id`: the node has no id",
        ),
        (
            "id,a\nn0,1\nn1,2\nn0,3\n",
            edges,
            "nodes 0 and 2 (counted from 0) both have the id `n0`",
        ),
        (
            "id,a\n5,1\n6,2\n5,3\n",
            "source,target\n",
            "both have the id `5`",
        ),
        ("id,a\n5,1\n6,2\n", "source,target\n5,7\n", "names node `7`"),
        (
            "id,a\n5,1\n6,2\n",
            "source,target\n5,six\n",
            "names node `six`",
        ),
        (
            "id,a\n0,1\n1,2\n",
            "source,target\n0,2\n",
            "line 2: column `target` names node `2`",
        ),
        (
            "id,a\n0,1\n1,2\n",
            "source,target\n0,-1\n",
            "names node `-1`",
        ),
        (
            "id,y,a\nn0,1,1\nn1,-2,2\n",
            edges,
            "line 3: column `y`: labels are",
        ),
        ("", edges, "0 nodes"),
        ("id,a\n", edges, "0 nodes"),
        ("id,title\nn0,one\nn1,two\n", edges, "no features"),
    ];
    let workshop = Workshop::new();
    for (nodes, edges, wanted) in cases {
        let source = tables(
            workshop.write("n.csv", nodes),
            workshop.write("e.csv", edges),
        );
        refused(&workshop, &source, &PLAIN, wanted);
    }
    let source = tables(
        workshop.write("n.csv", b"id,a\n\xff\xfe,1\n"),
        workshop.path("e.csv"),
    );
    refused(&workshop, &source, &PLAIN, "not UTF-8");
    let source = tables(workshop.path("gone.csv"), workshop.path("e.csv"));
    refused(&workshop, &source, &PLAIN, "cannot open it");
    let source = tables(workshop.write("n.xlsx", "PK"), workshop.path("e.csv"));
    refused(&workshop, &source, &PLAIN, ".csv, .tsv or .parquet");
}

#[test]
fn columns_of_edges_are_not_lost_in_silence() {
    let workshop = Workshop::new();
    let nodes = workshop.write("n.csv", "id,a\nu,1\nv,2\n");
    let parquet = workshop.path("e.parquet");
    let text = |cells: &[&str]| Cells::Text(cells.iter().map(|&c| c.to_owned()).collect());
    let columns = [
        ("since", Cells::Date(vec![0; 2])),
        ("dst", text(&["v", "u"])),
        ("src", text(&["u", "v"])),
    ];
    parquet_file::write(&parquet, &columns, 2, 9);
    let cases = [
        (
            workshop.write("a.csv", "source,target,trust\nu,v,0.5\nv,u,2\n"),
            "trust",
        ),
        (
            workshop.write("b.csv", "kind,from,to\nlikes,u,v\nlikes,v,u\n"),
            "kind",
        ),
        (workshop.write("c.csv", "u,v,7\nv,u,7\n"), "3"),
        (parquet, "since"),
    ];
    for (edges, column) in cases {
        let source = tables(nodes.clone(), edges);
        let wanted = format!("column `{column}` would be lost");
        let message = refused(&workshop, &source, &PLAIN, &wanted);
        assert!(message.contains("a source (here `"), "{message}");
        let ignoring = |name: &str| ImportOptions {
            ignored_columns: vec![name.to_owned()],
            ..PLAIN
        };
        let (out, summary) = workshop
            .import(&source, &ignoring(&column.to_uppercase()))
            .unwrap();
        assert_eq!(summary.skipped_columns, [column]);
        let store = GraphStore::open(&out, Check::Checksums).unwrap();
        assert_eq!(edges_of(&store), [(1, 0), (0, 1)]);
    }
    let source = tables(nodes, workshop.write("d.csv", "source,target\nu,v\n"));
    let misspelt = ImportOptions {
        ignored_columns: vec!["wieght".to_owned()],
        ..PLAIN
    };
    refused(
        &workshop,
        &source,
        &misspelt,
        "nothing in the source is called `wieght`",
    );
}

#[test]
fn a_column_of_numbers_is_taken_for_ids_only_where_something_says_so() {
    let workshop = Workshop::new();
    let edges = workshop.write("e.csv", "source,target\n2,0\n");
    let source = |nodes: &str, id_column: Option<&str>| {
        Source::Tables(Tables {
            nodes: workshop.write("n.csv", nodes),
            edges: edges.clone(),
            id_column: id_column.map(str::to_owned),
            ..Tables::default()
        })
    };
    // Every value once, and each the number of a node: by chance.
    for nodes in ["age,height\n2,10\n0,11\n1,12\n", "2,10\n0,11\n1,12\n"] {
        refused(
            &workshop,
            &source(nodes, None),
            &PLAIN,
            "which may be a feature",
        );
    }
    let message = refused(
        &workshop,
        &source("acid,b\n2,1\n0,2\n", None),
        &PLAIN,
        "`acid`",
    );
    assert!(message.contains("no column is called `id`"), "{message}");
    refused(
        &workshop,
        &source("a,b\n0,1\n", Some("c")),
        &PLAIN,
        "no column is called `c`",
    );
    let taken = [
        ("paper_id,b\n2,10\n0,11\n1,12\n", None),
        ("nodeID,b\n2,10\n0,11\n1,12\n", None),
        ("b,age\n10,2\n11,0\n12,1\n", Some("AGE")),
        ("2,10\n0,11\n1,12\n", Some("1")),
    ];
    for (nodes, id_column) in taken {
        let (out, summary) = workshop.import(&source(nodes, id_column), &PLAIN).unwrap();
        assert_eq!(summary.features, 1, "{nodes}");
        let store = GraphStore::open(&out, Check::Checksums).unwrap();
        assert_eq!(edges_of(&store), [(0, 1)], "{nodes}");
        let mut row = [0.0];
        store.features().read(0, &mut row);
        assert_eq!(row.map(f32::to_bits), [10.0_f32.to_bits()]);
    }
}

#[test]
fn a_table_without_edges_is_a_graph_without_edges() {
    let workshop = Workshop::new();
    let nodes = workshop.write("n.csv", "id,a\n0,1\n1,2\n");
    for edges in ["", "source,target\n"] {
        let source = tables(nodes.clone(), workshop.write("e.csv", edges));
        let (out, summary) = workshop.import(&source, &PLAIN).unwrap();
        assert_eq!((summary.edges, summary.isolated), (0, 2));
        GraphStore::open(&out, Check::Checksums).unwrap();
    }
}

#[test]
fn parquet_tables_that_are_wrong() {
    let workshop = Workshop::new();
    let edges = workshop.path("e.parquet");
    let columns = [
        ("source", Cells::Int64(vec![0, 1])),
        ("target", Cells::Int64(vec![1, 0])),
    ];
    parquet_file::write(&edges, &columns, 2, 9);
    let ids = || ("id", Cells::Int64((0..5).collect()));
    let floats = |at: usize, value: f32| {
        let mut values = vec![0.5; 5];
        values[at] = value;
        values
    };
    let list = |at: usize, list: &[f32]| {
        let mut lists = vec![vec![1.0, 2.0]; 5];
        lists[at] = list.to_vec();
        ("x", Cells::List(lists))
    };
    let missing = Cells::OptionalInt64(vec![Some(1), Some(1), Some(1), None, Some(1)]);
    let huge = Cells::Unsigned64(vec![0, 1, 2, u64::MAX, 4]);
    let cases = [
        (
            vec![ids(), ("a", missing)],
            "row 3 (counted from 0): column `a`: the value is missing",
        ),
        (
            vec![ids(), ("a", Cells::Float(floats(4, f32::NAN)))],
            "row 4 (counted from 0): column `a`",
        ),
        (
            vec![ids(), ("a", Cells::Double(vec![1e300; 5]))],
            "row 0 (counted from 0): column `a`",
        ),
        (
            vec![ids(), list(3, &[1.0])],
            "row 3 (counted from 0): column `x`: a list of 1 numbers",
        ),
        (
            vec![ids(), list(4, &[])],
            "row 4 (counted from 0): column `x`: the list is empty",
        ),
        (
            vec![ids(), list(1, &[0.0, f32::INFINITY])],
            "row 1 (counted from 0): column `x`",
        ),
        (
            vec![ids(), ("when", Cells::Date(vec![0; 5]))],
            "no features",
        ),
        (
            vec![("id", huge), list(0, &[1.0, 2.0])],
            "row 3 (counted from 0): column `id`",
        ),
        (
            vec![("id", Cells::Float(floats(0, 1.0)))],
            "ids are integers or strings",
        ),
        (
            vec![
                ("id", Cells::Int64(vec![9, 8, 7, 8, 6])),
                list(0, &[1.0, 2.0]),
            ],
            "nodes 1 and 3 (counted from 0) both have the id `8`",
        ),
        (
            vec![
                ids(),
                ("y", Cells::Int64(vec![0, 1, -2, 0, 0])),
                list(0, &[1.0, 2.0]),
            ],
            "row 2 (counted from 0): column `y`",
        ),
    ];
    let nodes = workshop.path("n.parquet");
    for (columns, wanted) in cases {
        parquet_file::write(&nodes, &columns, 5, 2);
        refused(
            &workshop,
            &tables(nodes.clone(), edges.clone()),
            &PLAIN,
            wanted,
        );
    }
}

#[test]
fn parquet_edges_that_are_wrong() {
    let workshop = Workshop::new();
    let (nodes, edges) = (workshop.path("n.parquet"), workshop.path("e.parquet"));
    let columns = [
        ("id", Cells::Int64((0..5).collect())),
        ("flag", Cells::Bool(vec![true; 5])),
    ];
    parquet_file::write(&nodes, &columns, 5, 2);
    let columns = [
        ("source", Cells::Int64(vec![0, 1])),
        ("target", Cells::Int64(vec![1, 5])),
    ];
    parquet_file::write(&edges, &columns, 2, 1);
    let source = tables(nodes.clone(), edges.clone());
    refused(
        &workshop,
        &source,
        &PLAIN,
        "row 1 (counted from 0): column `target` names node `5`",
    );
}

#[test]
fn damaged_parquet_files_never_panic() {
    let workshop = Workshop::new();
    let (nodes, edges) = (workshop.path("n.parquet"), workshop.path("e.parquet"));
    let columns = [
        ("id", Cells::Text((0..6).map(|v| format!("n{v}")).collect())),
        ("x", Cells::List(vec![vec![1.0, 2.0]; 6])),
        ("y", Cells::Int32(vec![0, 1, 0, 1, 0, 1])),
    ];
    parquet_file::write(&nodes, &columns, 6, 4);
    let columns = [
        (
            "source",
            Cells::Text(vec!["n0".to_owned(), "n1".to_owned()]),
        ),
        (
            "target",
            Cells::Text(vec!["n2".to_owned(), "n3".to_owned()]),
        ),
    ];
    parquet_file::write(&edges, &columns, 2, 9);
    let source = tables(nodes.clone(), edges);
    let (out, _) = workshop.import(&source, &PLAIN).unwrap();
    fs::remove_dir_all(out).unwrap();
    let bytes = fs::read(&nodes).unwrap();
    let attempt = |damaged: &[u8]| {
        fs::write(&nodes, damaged).unwrap();
        if let Ok((out, _)) = workshop.import(&source, &PLAIN) {
            fs::remove_dir_all(out).unwrap();
        }
    };
    for at in (0..bytes.len()).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        attempt(&damaged);
    }
    for length in (0..bytes.len()).step_by(17) {
        attempt(&bytes[..length]);
    }
}

#[test]
fn what_is_no_graph_is_not_detected_as_one() {
    let workshop = Workshop::new();
    for path in [
        workshop.0.path().to_owned(),
        workshop.path("g.pt"),
        workshop.write("g.csv", ""),
    ] {
        assert!(matches!(
            Source::detect(&path),
            Err(StoreError::Unsupported { .. })
        ));
    }
}

#[test]
fn arrays_beside_tables_must_fit_them() {
    let workshop = Workshop::new();
    let nodes = workshop.write("n.csv", "id,a\n0,1\n1,2\n");
    let edges = workshop.write("e.csv", "0,1\n");
    let tables = |features, labels| {
        Source::Tables(Tables {
            edges: edges.clone(),
            nodes: nodes.clone(),
            features,
            labels,
            ..Tables::default()
        })
    };
    let three = workshop.write("three.npy", npy("<f4", false, &[3, 1], &[0; 12]));
    let object = workshop.write("object.npy", npy("|O", false, &[2], b"pickle"));
    refused(
        &workshop,
        &tables(Some(three.clone()), None),
        &PLAIN,
        "the node table has 2",
    );
    refused(
        &workshop,
        &tables(None, Some(three)),
        &PLAIN,
        "one class a node, [2]",
    );
    refused(
        &workshop,
        &tables(None, Some(object)),
        &PLAIN,
        "Python objects",
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn random_tables_never_panic(nodes in "[a0-9,\"\n\r. -]{0,60}", edges in "[a0-9,\"\n\r -]{0,60}") {
        let workshop = Workshop::new();
        let source = tables(workshop.write("n.csv", nodes), workshop.write("e.csv", edges));
        if let Ok((out, _)) = workshop.import(&source, &PLAIN) {
            GraphStore::open(&out, Check::Checksums).unwrap();
        }
    }
}
