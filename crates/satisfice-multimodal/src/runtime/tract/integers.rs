//! Products of 8-bit integers as products of F32, for machines on which tract has no quick kernel for them.
//!
//! The integers stay what they are, so answers are those of the quantised network but for the rounding
//! of sums: F32 counts exactly up to 2^24, and beyond that to one part in 2^24.

use super::quantise::{DYNAMIC, DYNAMIC_F32};
use std::collections::{BTreeMap, BTreeSet};
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto::DataType,
};

/// Rewrites what a graph has of such products and can be said in F32; the rest stays as it is.
pub(super) fn in_f32(graph: &mut GraphProto) {
    let mut rewriting = Rewriting::of(graph);
    let nodes = std::mem::take(&mut graph.node);
    for node in nodes {
        match rewriting.rewritten(&node) {
            Some(instead) => graph.node.extend(instead),
            None => graph.node.push(node),
        }
    }
    graph.initializer.append(&mut rewriting.added);
}

/// What rewriting has to know of a graph.
struct Rewriting {
    /// The types that casts make of a name, where nothing but casts reads it.
    only_cast: BTreeMap<String, BTreeSet<i64>>,
    constants: BTreeMap<String, Constant>,
    /// Numbers that are F32 already: of [`DYNAMIC_F32`].
    float: BTreeSet<String>,
    /// Zero points of [`DYNAMIC`]: one number each.
    computed: BTreeSet<String>,
    added: Vec<TensorProto>,
}

struct Constant {
    dims: Vec<i64>,
    /// Whether it is a zero point that changes nothing.
    is_zero: bool,
    /// The tensor itself, if it has one dimension: a number for each output.
    line: Option<TensorProto>,
}

impl Constant {
    fn of(tensor: &TensorProto) -> Self {
        Self {
            dims: tensor.dims.clone(),
            is_zero: is_zero(tensor),
            line: (tensor.dims.len() == 1).then(|| tensor.clone()),
        }
    }
}

/// A quantised operand of a product: its numbers and its zero point.
struct Operand<'a> {
    numbers: &'a str,
    zero: Option<&'a str>,
    /// Dimensions behind that of the zero points, where there may be one for each output.
    behind: Option<usize>,
}

/// Outputs of a node that a new node is named after.
struct Names<'a>(&'a str);

impl Names<'_> {
    fn of(&self, part: &str) -> String {
        format!("{} in F32: {part}", self.0)
    }
}

impl Rewriting {
    fn of(graph: &GraphProto) -> Self {
        let constants = graph.initializer.iter();
        let constants = constants.map(|tensor| (tensor.name.clone(), Constant::of(tensor)));
        let dynamic = graph.node.iter().filter(|node| node.op_type == DYNAMIC);
        let computed = dynamic.filter_map(|node| node.output.get(2).cloned());
        let mut rewriting = Self {
            only_cast: only_cast(graph),
            constants: constants.collect(),
            float: BTreeSet::new(),
            computed: computed.collect(),
            added: Vec::new(),
        };
        let integer_products: Vec<&NodeProto> = graph
            .node
            .iter()
            .filter(|node| rewriting.is_integer_product(node))
            .collect();
        // Readers of a name by the inputs at which they read it; a graph's output is read by who asks.
        let mut readers: BTreeMap<&str, usize> = BTreeMap::new();
        for name in graph.node.iter().flat_map(all_inputs) {
            *readers.entry(name).or_default() += 1;
        }
        for output in &graph.output {
            *readers.entry(&output.name).or_default() += 1;
        }
        let mut float = BTreeSet::new();
        for node in graph.node.iter().filter(|node| node.op_type == DYNAMIC) {
            let is_read_at = |output: usize, input: usize| {
                let Some(name) = node.output.get(output).filter(|name| !name.is_empty()) else {
                    return true;
                };
                let products = integer_products.iter();
                let there = products.filter(|p| p.input.get(input) == Some(name));
                there.count() == readers.get(name.as_str()).copied().unwrap_or(0)
            };
            if is_read_at(0, 0) && is_read_at(2, 2) {
                float.extend(node.output.first().cloned());
                float.extend(node.output.get(2).cloned());
            }
        }
        rewriting.float = float;
        rewriting
    }

    /// Whether a node is a product that [`Self::product`] rewrites.
    fn is_integer_product(&self, node: &NodeProto) -> bool {
        matches!(node.op_type.as_str(), "MatMulInteger" | "ConvInteger")
            && self.can_centre(&left(node, 0, 2))
            && self.can_centre(&self.right(node, 1, 3))
    }

    fn rewritten(&mut self, node: &NodeProto) -> Option<Vec<NodeProto>> {
        node.output.first()?;
        match node.op_type.as_str() {
            DYNAMIC if self.float.contains(node.output.first()?) => {
                let op_type = DYNAMIC_F32.to_owned();
                Some(vec![NodeProto {
                    op_type,
                    ..node.clone()
                }])
            }
            "MatMulInteger" | "ConvInteger" if self.is_integer_product(node) => {
                Some(self.product(node))
            }
            "QLinearMatMul" | "QLinearConv" => self.quantised_product(node),
            _ => None,
        }
    }

    /// Of `MatMulInteger` and `ConvInteger`.
    fn product(&mut self, node: &NodeProto) -> Vec<NodeProto> {
        let output = &node.output[0];
        let names = Names(output);
        let mut nodes = Vec::new();
        let left = left(node, 0, 2);
        let left = self.centred(&left, &names.of("left"), &mut nodes);
        let right = self.right(node, 1, 3);
        let right = self.centred(&right, &names.of("right"), &mut nodes);
        let op = if node.op_type == "ConvInteger" {
            "Conv"
        } else {
            "MatMul"
        };
        let floats = DataType::Float as i64;
        let casts = self.only_cast.get(output);
        if casts.is_some_and(|types| types.iter().all(|&to| to == floats)) {
            nodes.push(made(op, &[&left, &right], output, node.attribute.clone()));
        } else {
            let product = names.of("product");
            nodes.push(made(op, &[&left, &right], &product, node.attribute.clone()));
            nodes.push(cast(&product, output, DataType::Int32));
        }
        nodes
    }

    /// Of `QLinearMatMul` and `QLinearConv`: x, its scale and zero point, w, its, y's, and a bias.
    fn quantised_product(&mut self, node: &NodeProto) -> Option<Vec<NodeProto>> {
        let input = |i: usize| node.input.get(i).map(String::as_str);
        let [x_scale, w_scale, y_scale, y_zero] = [input(1)?, input(4)?, input(6)?, input(7)?];
        let left = left(node, 0, 2);
        let right = self.right(node, 3, 5);
        let conv = node.op_type == "QLinearConv";
        let scalar = |name: &str| self.elements(name) == Some(1);
        let by_output = self.elements(w_scale)? != 1;
        let known = self.can_centre(&left)
            && self.can_centre(&right)
            && [x_scale, y_scale, y_zero].into_iter().all(scalar)
            && (!by_output || self.dims(w_scale)?.len() == 1);
        if !known {
            return None;
        }
        let output = &node.output[0];
        let names = Names(output);
        let mut nodes = Vec::new();
        // An output of a convolution is a plane: its scale is that of all behind it.
        let planes = match (conv, self.dims(right.numbers)) {
            (true, dims) => dims?.len().checked_sub(2)?,
            (false, _) => 0,
        };
        let left = self.centred(&left, &names.of("left"), &mut nodes);
        let right = self.centred(&right, &names.of("right"), &mut nodes);
        let mut inputs = vec![left, right];
        if let Some(bias) = input(8).filter(|bias| !bias.is_empty()) {
            inputs.push(names.of("bias"));
            nodes.push(cast(bias, &inputs[2], DataType::Float));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let product = names.of("product");
        let op = if conv { "Conv" } else { "MatMul" };
        nodes.push(made(op, &inputs, &product, node.attribute.clone()));
        let w_scale = match by_output {
            true => self.with_dimensions_behind(w_scale, planes),
            false => w_scale.to_owned(),
        };
        let (scale, scaled) = (names.of("scale"), names.of("scaled"));
        nodes.push(made("Mul", &[x_scale, &w_scale], &scale, vec![]));
        nodes.push(made("Mul", &[&product, &scale], &scaled, vec![]));
        let quantised = [&scaled, y_scale, y_zero];
        nodes.push(made("QuantizeLinear", &quantised, output, vec![]));
        Some(nodes)
    }

    /// Filters of a convolution have their outputs first, matrices have them last.
    fn right<'a>(&self, node: &'a NodeProto, numbers: usize, zero: usize) -> Operand<'a> {
        let numbers = node.input.get(numbers).map_or("", String::as_str);
        let dims = self.dims(numbers).map(<[i64]>::len);
        Operand {
            numbers,
            zero: named(node, zero),
            behind: match node.op_type.contains("Conv") {
                true => dims.and_then(|dims| dims.checked_sub(1)),
                false => dims.map(|_| 0),
            },
        }
    }

    /// Whether it is known how the zero points of an operand lie along it.
    fn can_centre(&self, operand: &Operand<'_>) -> bool {
        let Some(zero) = operand.zero else {
            return true;
        };
        match self.dims(zero) {
            None => self.computed.contains(zero),
            Some(dims) => {
                let one = dims.iter().product::<i64>() == 1;
                one || (dims.len() == 1 && operand.behind.is_some())
            }
        }
    }

    /// Name of an operand in F32, less its zero point.
    fn centred(&mut self, of: &Operand<'_>, name: &str, nodes: &mut Vec<NodeProto>) -> String {
        let mut numbers = of.numbers.to_owned();
        if !self.float.contains(of.numbers) {
            numbers = format!("{name} as numbers");
            nodes.push(cast(of.numbers, &numbers, DataType::Float));
        }
        let Some(zero) = of.zero else {
            return numbers;
        };
        if self.constants.get(zero).is_some_and(|zero| zero.is_zero) {
            return numbers;
        }
        let mut zero = zero.to_owned();
        if let Some(behind) = of.behind.filter(|&behind| behind > 0)
            && self.elements(&zero) != Some(1)
        {
            zero = self.with_dimensions_behind(&zero, behind);
        }
        if !self.float.contains(&zero) {
            let as_float = format!("{name} zero point");
            nodes.push(cast(&zero, &as_float, DataType::Float));
            zero = as_float;
        }
        nodes.push(made("Sub", &[&numbers, &zero], name, vec![]));
        name.to_owned()
    }

    /// The constant with dimensions of length 1 behind its only one.
    fn with_dimensions_behind(&mut self, name: &str, count: usize) -> String {
        let new = format!("{name} [{count} behind]");
        if self.constants.contains_key(&new) {
            return new;
        }
        if let Some(mut line) = self.constants.get(name).and_then(|c| c.line.clone()) {
            line.name.clone_from(&new);
            line.dims.extend(std::iter::repeat_n(1, count));
            self.constants.insert(new.clone(), Constant::of(&line));
            self.added.push(line);
        }
        new
    }

    fn dims(&self, name: &str) -> Option<&[i64]> {
        self.constants.get(name).map(|c| c.dims.as_slice())
    }

    fn elements(&self, name: &str) -> Option<i64> {
        self.dims(name).map(|dims| dims.iter().product())
    }
}

fn left(node: &NodeProto, numbers: usize, zero: usize) -> Operand<'_> {
    Operand {
        numbers: node.input.get(numbers).map_or("", String::as_str),
        zero: named(node, zero),
        behind: None,
    }
}

fn named(node: &NodeProto, input: usize) -> Option<&str> {
    let name = node.input.get(input).map(String::as_str);
    name.filter(|name| !name.is_empty())
}

/// The types that casts make of what nothing but casts reads.
fn only_cast(graph: &GraphProto) -> BTreeMap<String, BTreeSet<i64>> {
    let mut casts: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    let mut others: BTreeSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    for node in &graph.node {
        let to = node.attribute.iter().find(|a| a.name == "to").map(|a| a.i);
        match (node.op_type.as_str(), to, node.input.as_slice()) {
            ("Cast", Some(to), [input]) => drop(casts.entry(input.clone()).or_default().insert(to)),
            _ => others.extend(all_inputs(node)),
        }
    }
    casts.retain(|name, _| !others.contains(name.as_str()));
    casts
}

/// What a node reads, and what graphs within it may read from around them.
fn all_inputs(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).collect();
    let mut graphs: Vec<&GraphProto> = within(node).collect();
    while let Some(graph) = graphs.pop() {
        names.extend(graph.output.iter().map(|output| output.name.as_str()));
        for node in &graph.node {
            names.extend(node.input.iter().map(String::as_str));
            graphs.extend(within(node));
        }
    }
    names
}

fn within(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute
        .iter()
        .flat_map(|a| a.g.iter().chain(&a.graphs))
}

fn is_zero(tensor: &TensorProto) -> bool {
    tensor.external_data.is_empty()
        && tensor.raw_data.iter().all(|&byte| byte == 0)
        && tensor.int32_data.iter().all(|&number| number == 0)
}

fn made(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: output.to_owned(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

fn cast(from: &str, output: &str, to: DataType) -> NodeProto {
    let to = AttributeProto {
        name: "to".to_owned(),
        r#type: AttributeType::Int.into(),
        i: to as i64,
        ..AttributeProto::default()
    };
    made("Cast", &[from], output, vec![to])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::{mend, onnx, parsed, plans::optimised};
    use serde_json::Value;
    use std::{fs, path::Path};
    use tract_onnx::prelude::{Datum, Framework, InferenceFact, IntoTValue, Tensor};

    fn numbers(value: &Value) -> Vec<f32> {
        let numbers = value.as_array().unwrap().iter();
        numbers.map(|v| v.as_f64().unwrap() as f32).collect()
    }

    /// The quantised networks of `bench/parity/multimodal/make_networks.py`, with their integers and without:
    /// ONNX Runtime's answers, but for numbers that are rounded to the next step.
    #[test]
    fn both_ways_answer_as_onnx_runtime() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/networks");
        let cases = fs::read(fixtures.join("cases.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
        let mut compared = 0;
        for case in cases {
            let name = case["name"].as_str().unwrap();
            if !name.starts_with("int8-") || case["only"] != "" {
                continue;
            }
            for pay in [true, false] {
                let path = fixtures.join(name).join("net.onnx");
                let mut proto = onnx().proto_model_for_path(path).unwrap();
                mend::mend(&mut proto, pay).unwrap();
                let nodes = &proto.graph.as_ref().unwrap().node;
                let integers = nodes.iter().any(|node| {
                    node.op_type.ends_with("Integer") || node.op_type.starts_with("QLinear")
                });
                assert_eq!(integers, pay && !name.contains("qdq"), "{name}");
                let mut model = parsed(&proto).unwrap();
                let fact = InferenceFact::dt_shape(f32::datum_type(), [1, 2, 5, 5]);
                model.set_input_fact(0, fact).unwrap();
                let plan = optimised(model).unwrap();
                let rows = numbers(&case["inputs"]["x"]["data"]);
                let expected = case["expected"].as_array().unwrap();
                let (mut off, mut largest) = (0.0_f32, 0.0_f32);
                for (row, expected) in rows.chunks_exact(50).zip(expected) {
                    let input = Tensor::from_shape(&[1, 2, 5, 5], row).unwrap();
                    let answer = plan
                        .run([input.into_tvalue()].into_iter().collect())
                        .unwrap();
                    let found = answer[0]
                        .try_as_plain_ram()
                        .unwrap()
                        .as_slice::<f32>()
                        .unwrap();
                    for (found, expected) in found.iter().zip(numbers(expected)) {
                        off = off.max((found - expected).abs());
                        largest = largest.max(expected.abs());
                        compared += 1;
                    }
                }
                println!("{name}, integers {pay}: off by {off} of {largest}");
                assert!(
                    off <= largest / 100.0,
                    "{name}, integers {pay}: {off} of {largest}"
                );
            }
        }
        assert_eq!(compared, 6 * 2 * 9 * 3);
    }
}
