//! Weights in files beside a network, for tract: it takes no link that leads elsewhere, so it gets the files
//! that links lead to. Which links are followed is decided before ([`crate::signature`]).

use crate::signature::graphs_mut;
use std::path::Path;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};

/// The directory that places of weights are relative to from now on.
pub(super) const ROOT: &str = "/";

/// Has every tensor that is kept in a file say where that truly is.
pub(super) fn locate(model: &mut ModelProto, network: &Path) -> Result<(), String> {
    graphs_mut(model, &mut |graph: &mut GraphProto| {
        let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
        let attributes = attributes.flat_map(|a| a.t.iter_mut().chain(&mut a.tensors));
        let sparse = graph.sparse_initializer.iter_mut();
        let sparse = sparse.flat_map(|s| s.values.iter_mut().chain(&mut s.indices));
        let mut tensors = graph.initializer.iter_mut().chain(attributes).chain(sparse);
        tensors.try_for_each(|tensor| locate_tensor(tensor, network))
    })
}

fn locate_tensor(tensor: &mut TensorProto, network: &Path) -> Result<(), String> {
    for entry in tensor
        .external_data
        .iter_mut()
        .filter(|e| e.key == "location")
    {
        let file = network.with_file_name(&entry.value);
        let there = file.canonicalize();
        let there = there.map_err(|error| format!("{}: {error}", file.display()))?;
        let name = there.to_str().and_then(|name| name.strip_prefix(ROOT));
        let name = name.ok_or_else(|| format!("{}: no name in UTF-8", there.display()))?;
        name.clone_into(&mut entry.value);
    }
    Ok(())
}
