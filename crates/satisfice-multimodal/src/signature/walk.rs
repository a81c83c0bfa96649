//! Everything in a model, nested graphs included.

use tract_onnx::pb;

/// Every graph of a model: its own, and those in attributes of nodes.
fn graphs(model: &pb::ModelProto) -> Vec<&pb::GraphProto> {
    let mut found: Vec<&pb::GraphProto> = model.graph.iter().collect();
    let functions = model.functions.iter().flat_map(|f| &f.node);
    found.extend(functions.flat_map(nested));
    let mut next = 0;
    while let Some(&graph) = found.get(next) {
        found.extend(graph.node.iter().flat_map(nested));
        next += 1;
    }
    found
}

/// Every node of a model, those of functions included.
pub(crate) fn nodes(model: &pb::ModelProto) -> impl Iterator<Item = &pb::NodeProto> {
    let nodes = graphs(model).into_iter().flat_map(|graph| &graph.node);
    nodes.chain(model.functions.iter().flat_map(|f| &f.node))
}

fn nested(node: &pb::NodeProto) -> impl Iterator<Item = &pb::GraphProto> {
    node.attribute
        .iter()
        .flat_map(|a| a.g.iter().chain(&a.graphs))
}

/// Does something to every graph of a model.
pub(crate) fn graphs_mut(
    model: &mut pb::ModelProto,
    change: &mut impl FnMut(&mut pb::GraphProto) -> Result<(), String>,
) -> Result<(), String> {
    let mut left: Vec<&mut pb::GraphProto> = model.graph.iter_mut().collect();
    while let Some(graph) = left.pop() {
        change(graph)?;
        let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
        left.extend(attributes.flat_map(|a| a.g.iter_mut().chain(&mut a.graphs)));
    }
    Ok(())
}

/// Every constant tensor of a model.
pub(super) fn tensors(model: &pb::ModelProto) -> Vec<&pb::TensorProto> {
    let graphs = graphs(model);
    let initializers = graphs.iter().flat_map(|graph| &graph.initializer);
    let sparse = graphs.iter().flat_map(|graph| &graph.sparse_initializer);
    let attributes = nodes(model).flat_map(|node| &node.attribute);
    let of_attribute = |a| {
        let a: &pb::AttributeProto = a;
        a.t.iter().chain(&a.tensors)
    };
    let of_sparse = |s| {
        let s: &pb::SparseTensorProto = s;
        s.values.iter().chain(&s.indices)
    };
    let attributes = attributes.flat_map(of_attribute);
    initializers
        .chain(attributes)
        .chain(sparse.flat_map(of_sparse))
        .collect()
}
