//! Parameters of answers: what was done.

use super::{PLAN, ParameterSpec, Place, Reader, Values};

const fn answer(
    name: &'static str,
    reader: Reader,
    values: Values,
    doc: &'static str,
) -> ParameterSpec {
    ParameterSpec::new(name, reader, values)
        .at(Place::Answer)
        .says(doc)
}

/// A count or a time: a whole number.
const fn count(name: &'static str, reader: Reader, doc: &'static str) -> ParameterSpec {
    answer(name, reader, Values::Whole(0), doc)
}

/// Which strategies answered how many inputs.
pub const STRATEGIES: &str = "strategies";

/// Milliseconds that were left of the deadline.
pub const DEADLINE_LEFT_MS: &str = "deadline_left_ms";

/// Why the plan was taken, as JSON.
pub const EXPLANATION: &str = "explanation";

/// That an answer in a stream is the last to its request.
pub const FINAL_RESPONSE: &str = "triton_final_response";

/// What answers say, by engine.
pub const ANSWER: &[ParameterSpec] = &[
    answer(
        PLAN.name,
        Reader::Every,
        Values::Text,
        "the plan; `mixed` where inputs of the request were answered by several strategies",
    ),
    answer(
        STRATEGIES,
        Reader::Every,
        Values::Text,
        "which strategies answered how many inputs: `text=5,image+text=3`",
    ),
    answer(
        EXPLANATION,
        Reader::Every,
        Values::Text,
        "to a request with `explain`: JSON that says why this plan was taken, what the others were predicted to take and promised, and what the next more expensive one would have cost",
    ),
    answer(
        "expected_accuracy",
        Reader::Every,
        Values::Share,
        "share of right answers that is expected, over all inputs of the request",
    ),
    answer(
        "accuracy_lower_bound",
        Reader::Every,
        Values::Share,
        "share of right answers that is promised",
    ),
    answer(
        "expected_fidelity",
        Reader::Every,
        Values::Share,
        "share of answers as the dearest plan's that is expected",
    ),
    answer(
        "fidelity_lower_bound",
        Reader::Every,
        Values::Share,
        "share of answers as the dearest plan's that is promised",
    ),
    answer(
        DEADLINE_LEFT_MS,
        Reader::Every,
        Values::Over(f64::NEG_INFINITY),
        "milliseconds that were left of the deadline",
    ),
    answer(
        FINAL_RESPONSE,
        Reader::Compatibility,
        Values::Flag,
        "in a gRPC stream, where it was asked for: this is the last answer to its request",
    ),
    count(
        "candidates",
        Reader::Graph,
        "stored nodes with an edge to a query",
    ),
    count(
        "recomputed_nodes",
        Reader::Graph,
        "stored nodes that were computed anew",
    ),
    count("batch_edges", Reader::Graph, "edges of the request"),
    count(
        "edges",
        Reader::Graph,
        "in-edges of everything that was computed",
    ),
    count("rows", Reader::Graph, "rows that were read for them"),
    count(
        "predicted_us",
        Reader::Graph,
        "microseconds that the plan was predicted to take",
    ),
    count(
        "decode_us",
        Reader::Graph,
        "microseconds to make a batch of the request",
    ),
    count(
        "select_us",
        Reader::Graph,
        "microseconds to find what is computed",
    ),
    count("layers_us", Reader::Graph, "microseconds in the layers"),
    count(
        "head_us",
        Reader::Graph,
        "microseconds after the last layer",
    ),
    count(
        "version",
        Reader::Live,
        "the version of the graph that the answer is of",
    ),
    answer(
        "exchange",
        Reader::Cluster,
        Values::Word(&["partials", "rows"]),
        "what the machines exchanged",
    ),
    count(
        "exchange_bytes",
        Reader::Cluster,
        "bytes of what the layers exchanged",
    ),
    count(
        "exchange_bytes_predicted",
        Reader::Cluster,
        "the same as it was predicted",
    ),
    count(
        "link_bytes_predicted",
        Reader::Cluster,
        "bytes on the links as they were predicted",
    ),
    count(
        "message_bytes",
        Reader::Cluster,
        "bytes of all messages between workers",
    ),
    count(
        "rows_moved",
        Reader::Cluster,
        "rows that left their machine",
    ),
    count(
        "group_us",
        Reader::Cluster,
        "microseconds from the batch's scattering to its answer",
    ),
    count(
        "waited_us",
        Reader::Cluster,
        "microseconds that the batch waited for a group",
    ),
    answer(
        "modalities",
        Reader::Multimodal,
        Values::Text,
        "which modalities were read for how many inputs: `image=3,text=8`",
    ),
];
