//! The file of held-out queries.

use super::{SyntheticSpec, edges::QueryEdges, features::Centroids, nodes::Nodes};
use crate::{NoProgress, StoreError, TensorSpec, TensorWriter, queries::FORMAT};
use bytemuck::cast_slice;
use safetensors::Dtype;
use std::{collections::BTreeMap, path::Path};

/// Writes the first `queries_max` held-out nodes.
pub(crate) fn write(
    spec: &SyntheticSpec,
    nodes: &Nodes,
    centroids: &Centroids<'_>,
    edges: &QueryEdges,
    path: &Path,
) -> Result<(), StoreError> {
    let stored = spec.stored();
    let queries = spec.held_out().min(spec.queries_max);
    let range = stored..stored + queries;
    let pairs =
        |name: &str, pairs: &[(u32, u32)]| TensorSpec::new(name, Dtype::I32, vec![2, pairs.len()]);
    let specs = [
        TensorSpec::new("y", Dtype::I64, vec![queries]),
        pairs("edge_index", &edges.to_stored),
        pairs("query_edge_index", &edges.between),
        TensorSpec::new(
            "x",
            spec.feature_dtype.dtype(),
            vec![queries, spec.features],
        ),
    ];
    let metadata = BTreeMap::from([("format".to_owned(), FORMAT.to_owned())]);
    let mut writer = TensorWriter::create_with_metadata(path, &specs, &metadata)?;
    let classes = &nodes.classes[range];
    let labels: Vec<i64> = classes.iter().map(|&class| i64::from(class)).collect();
    writer.append(cast_slice(&labels))?;
    for pairs in [&edges.to_stored, &edges.between] {
        let (first, second): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
        writer.append(cast_slice(&first))?;
        writer.append(cast_slice(&second))?;
    }
    centroids.write(classes, 1, &mut writer, &NoProgress)?;
    writer.finish().map(drop)
}
