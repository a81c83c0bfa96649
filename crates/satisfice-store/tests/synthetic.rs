//! Synthetic graphs: what they promise, and specifications that make no sense.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use satisfice_store::{
    Check, FeatureDType, GraphStore, NoProgress, Queries, StoreError, SyntheticSpec,
    SyntheticSummary, TensorFile, generate, verify,
};
use std::{collections::BTreeSet, fs, path::Path};
use tempfile::TempDir;

fn small() -> SyntheticSpec {
    SyntheticSpec {
        nodes: 600,
        edges: 20_000,
        features: 7,
        classes: 5,
        homophily: 0.8,
        query_share: 0.1,
        seed: 3,
        ..SyntheticSpec::reddit_like()
    }
}

fn make(spec: &SyntheticSpec, dir: &Path) -> SyntheticSummary {
    generate(spec, dir, false, &NoProgress).unwrap()
}

#[test]
fn what_is_made_is_a_checked_undirected_store_with_its_queries() {
    let dir = TempDir::new().unwrap();
    let summary = make(&small(), dir.path());
    verify(&dir.path().join("graph")).unwrap();
    let store = GraphStore::open(&dir.path().join("graph"), Check::Checksums).unwrap();
    assert_eq!((store.nodes(), store.feature_width()), (540, 7));
    assert_eq!(summary.edges, store.edges());
    let edges: BTreeSet<(u32, u32)> = (0..540)
        .flat_map(|target| {
            let sources = store.topology().in_neighbors(target).iter();
            sources.map(move |&source| (source, target))
        })
        .collect();
    assert_eq!(edges.len(), store.edges(), "no edge stands twice");
    assert!(
        edges
            .iter()
            .all(|&(a, b)| a != b && edges.contains(&(b, a)))
    );

    let queries = Queries::open(&dir.path().join("queries.safetensors")).unwrap();
    assert_eq!((queries.len(), queries.features().width()), (60, 7));
    assert_eq!(queries.edges().len(), summary.query_edges);
    assert_eq!(queries.query_edges().len(), summary.edges_between_queries);
    assert!(queries.edges().iter().all(|edge| edge.node < 540));
    // Drawn edges are merged, in the store, or at a query; what lacks went from a node to itself, or was
    // drawn again at a query.
    let at_queries = summary.query_edges + summary.edges_between_queries;
    let placed = store.edges() + summary.merged + 2 * at_queries;
    assert!((17_000..=20_000).contains(&placed), "{summary:?}");

    let split = TensorFile::open(&dir.path().join("split.safetensors")).unwrap();
    let split = split.bytes("split").unwrap();
    let expected = [vec![0; 396], vec![1; 60], vec![2; 84]].concat();
    assert_eq!(split, expected);
}

#[test]
fn edges_stay_in_their_class_as_often_as_the_homophily_says() {
    let dir = TempDir::new().unwrap();
    make(&small(), dir.path());
    let store = GraphStore::open(&dir.path().join("graph"), Check::Structure).unwrap();
    let labels = store.labels().unwrap();
    let same = |target: u32| {
        let sources = store.topology().in_neighbors(target).iter();
        sources
            .filter(|&&source| labels[source as usize] == labels[target as usize])
            .count()
    };
    let share = (0..540).map(same).sum::<usize>() as f64 / store.edges() as f64;
    // 0.8 and a fifth of the rest, less what is merged, which is more inside classes.
    assert!((0.70..0.95).contains(&share), "{share}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let files = [
        "graph/manifest.toml",
        "queries.safetensors",
        "split.safetensors",
    ];
    let bytes = |spec: &SyntheticSpec, threads: usize| {
        let dir = TempDir::new().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| make(spec, dir.path()));
        files.map(|file| fs::read(dir.path().join(file)).unwrap())
    };
    // More parts of every stream than one.
    let spec = SyntheticSpec {
        edges: 300_000,
        nodes: 20_000,
        ..small()
    };
    let one = bytes(&spec, 1);
    assert_eq!(one, bytes(&spec, 3));
    assert_ne!(one[0], bytes(&SyntheticSpec { seed: 4, ..spec }, 3)[0]);
}

#[test]
fn features_come_in_either_precision_and_queries_are_limited() {
    let dir = TempDir::new().unwrap();
    let spec = SyntheticSpec {
        feature_dtype: FeatureDType::F32,
        queries_max: 9,
        ..small()
    };
    let summary = make(&spec, dir.path());
    assert_eq!((summary.held_out, summary.queries), (60, 9));
    let queries = Queries::open(&dir.path().join("queries.safetensors")).unwrap();
    assert_eq!(queries.len(), 9);
    assert_eq!(queries.features().row_bytes(), 28);
    let between = queries.query_edges().iter();
    assert!(
        between
            .copied()
            .all(|(source, target)| source < target && target < 9)
    );
}

#[test]
fn a_specification_that_makes_no_sense_is_refused() {
    let wrong = [
        SyntheticSpec {
            nodes: 1,
            ..small()
        },
        SyntheticSpec {
            classes: 0,
            ..small()
        },
        SyntheticSpec {
            classes: 601,
            ..small()
        },
        SyntheticSpec {
            features: 0,
            ..small()
        },
        SyntheticSpec {
            edges: u64::MAX,
            ..small()
        },
        SyntheticSpec {
            homophily: f64::NAN,
            ..small()
        },
        SyntheticSpec {
            query_share: 0.0,
            ..small()
        },
        SyntheticSpec {
            query_share: 0.5,
            ..small()
        },
        SyntheticSpec {
            signal: f64::INFINITY,
            ..small()
        },
        SyntheticSpec {
            degree_exponent: 0.0,
            ..small()
        },
        SyntheticSpec {
            degree_weight_min: -1.0,
            ..small()
        },
    ];
    for spec in wrong {
        let dir = TempDir::new().unwrap();
        let error = generate(&spec, dir.path(), false, &NoProgress).unwrap_err();
        assert!(
            matches!(error, StoreError::Synthetic { .. }),
            "{spec:?}: {error}"
        );
        assert!(!dir.path().join("graph").exists());
    }
}

#[test]
fn what_is_there_is_replaced_only_on_demand() {
    let dir = TempDir::new().unwrap();
    make(&small(), dir.path());
    let again = generate(&small(), dir.path(), false, &NoProgress);
    assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
    generate(&small(), dir.path(), true, &NoProgress).unwrap();
}
