//! Parameters of requests.

use super::{ANSWER, APPLY, ParameterSpec, Place, Reader, Use, Values};

const fn every(name: &'static str, values: Values) -> ParameterSpec {
    ParameterSpec::new(name, Reader::Every, values)
}

/// By when, counted from the request's first byte.
pub const DEADLINE_MS: ParameterSpec = every("deadline_ms", Values::Over(0.0))
    .says("milliseconds from the request's first byte, after which an answer is of no more use")
    .without("no deadline");

/// By when, as Triton names it.
pub const TIMEOUT: ParameterSpec = every("timeout", Values::Whole(0))
    .says(
        "microseconds, as Triton counts; 0 is no deadline. Of several deadlines the earliest holds",
    )
    .without("no deadline");

/// How right.
pub const MIN_ACCURACY: ParameterSpec = every("min_accuracy", Values::Share)
    .says("share of right answers that has to be promised at least; excludes `min_fidelity`")
    .without("no minimum");

/// How much like the dearest plan.
pub const MIN_FIDELITY: ParameterSpec = every("min_fidelity", Values::Share)
    .says("share of answers as the dearest plan's that has to be promised at least; excludes `min_accuracy`")
    .without("no minimum");

/// Before whom.
pub const PRIORITY: ParameterSpec = every("priority", Values::Whole(0))
    .says("1 goes first, higher numbers later; 0 stands for 100")
    .without("0");

/// By which plan.
pub const PLAN: ParameterSpec = every("plan", Values::Text)
    .says("the plan to take, such as `exact`, `recompute:25%` or `image+text`; refused where it does not keep the rest of the contract")
    .without("the server chooses by the contract, or the model's own plan")
    .code("unknown_plan");

/// Why this plan.
pub const EXPLAIN: ParameterSpec = every("explain", Values::Flag)
    .says("the answer says which plans there were, what each was predicted to take and promised, and why this one was taken")
    .without("`false`");

/// The contract: what every model's requests may ask for.
pub const CONTRACT: [ParameterSpec; 7] = [
    DEADLINE_MS,
    TIMEOUT,
    MIN_ACCURACY,
    MIN_FIDELITY,
    PRIORITY,
    PLAN,
    EXPLAIN,
];

/// Which way the edges of a request to a directed graph point.
pub const EDGE_DIRECTION: ParameterSpec = ParameterSpec::new(
    "edge_direction",
    Reader::Graph,
    Values::Word(&["both", "in", "out"]),
)
.says("which way all edges of the request point: `in` is from the stored node to the query, `out` from the query, `both` both ways")
.without("`both` on an undirected graph; on a directed one it, or the input of that name, has to be there")
.code("unknown_direction");

/// How a request names stored nodes.
pub const NODE_IDS: ParameterSpec = ParameterSpec::new(
    "node_ids",
    Reader::Graph,
    Values::Word(&["own", "position"]),
)
.says(
    "how `edge_index` names stored nodes: by their own ids, or by position whatever ids they have",
)
.without("`own`")
.code("unknown_node_ids");

/// What graph models read.
pub const GRAPH: [ParameterSpec; 2] = [EDGE_DIRECTION, NODE_IDS];

/// The least version of the graph to answer from.
pub const MIN_VERSION: ParameterSpec =
    ParameterSpec::new("min_version", Reader::Live, Values::Whole(0))
        .says("the least version of the graph that the answer is to be of, such as that of an own write, which is waited for")
        .without("the version that is there");

/// What models of a graph that may be written to read.
pub const LIVE_GRAPH: [ParameterSpec; 3] = [EDGE_DIRECTION, NODE_IDS, MIN_VERSION];

/// What the machines of a cluster exchange.
pub const EXCHANGE: ParameterSpec = ParameterSpec::new(
    "exchange",
    Reader::Cluster,
    Values::Word(&["auto", "partials", "rows"]),
)
.says("what the machines exchange for this request: partial results, rows, or what is predicted to be quicker")
.without("`exchange` of the cluster's configuration")
.code("unknown_exchange");

/// What graph models in clusters read.
pub const CLUSTER: [ParameterSpec; 3] = [EDGE_DIRECTION, NODE_IDS, EXCHANGE];

const fn transport(name: &'static str, values: Values) -> ParameterSpec {
    ParameterSpec::new(name, Reader::Transport, values)
}

const fn compatibility(name: &'static str, values: Values) -> ParameterSpec {
    ParameterSpec::new(name, Reader::Compatibility, values)
}

/// Whether outputs travel as binary data.
pub const BINARY_DATA_OUTPUT: ParameterSpec = transport("binary_data_output", Values::Flag)
    .says("outputs that do not say otherwise travel as binary data; over gRPC the request's own form decides")
    .without("`false`");

/// Whether answers in a stream say that they are the last ones.
pub const EMPTY_FINAL_RESPONSE: ParameterSpec =
    compatibility("triton_enable_empty_final_response", Values::Flag)
        .says("in a gRPC stream, answers say `triton_final_response`: every request has one answer, which is its last")
        .without("`false`");

const NO_STATE: Use = Use::Refused(
    "leave it out: requests are answered each by itself, models keep nothing between them",
);

/// Triton's name of a sequence.
pub const SEQUENCE_ID: ParameterSpec = compatibility("sequence_id", Values::Whole(0))
    .says("which sequence of requests this one belongs to; there are none here")
    .without("0")
    .code("unsupported_parameter")
    .usage(NO_STATE);

/// Triton's begin of a sequence.
pub const SEQUENCE_START: ParameterSpec = compatibility("sequence_start", Values::Flag)
    .says("whether a sequence begins")
    .without("`false`")
    .code("unsupported_parameter")
    .usage(NO_STATE);

/// Triton's end of a sequence.
pub const SEQUENCE_END: ParameterSpec = compatibility("sequence_end", Values::Flag)
    .says("whether a sequence ends")
    .without("`false`")
    .code("unsupported_parameter")
    .usage(NO_STATE);

/// How MLServer is to decode all inputs.
pub const REQUEST_CONTENT_TYPE: ParameterSpec =
    compatibility("content_type", Values::Word(&["np", "str", "pd"]))
        .says("how MLServer would decode the inputs; tensors say it themselves here. `base64` is said of each input")
        .usage(Use::Ignored);

/// Headers that MLServer passes on.
pub const REQUEST_HEADERS: ParameterSpec = compatibility("headers", Values::Anything)
    .says("an object of headers, which MLServer's tools add")
    .usage(Use::Ignored);

/// What the server reads of a request before any model.
pub const WIRE_REQUEST: [ParameterSpec; 7] = [
    BINARY_DATA_OUTPUT,
    EMPTY_FINAL_RESPONSE,
    SEQUENCE_ID,
    SEQUENCE_START,
    SEQUENCE_END,
    REQUEST_CONTENT_TYPE,
    REQUEST_HEADERS,
];

/// How many bytes of binary data an input has.
pub const BINARY_DATA_SIZE: ParameterSpec = transport("binary_data_size", Values::Whole(0))
    .at(Place::Input)
    .says("bytes of the input among the binary data behind the JSON, instead of `data`; over gRPC nothing depends on it")
    .without("the input has `data`");

/// How the elements of an input are written.
pub const INPUT_CONTENT_TYPE: ParameterSpec =
    compatibility("content_type", Values::Word(&["np", "str", "base64"]))
        .at(Place::Input)
        .says("`base64`, as MLServer writes it: the elements of a BYTES tensor are base64. `np` and `str` say what the datatype says")
        .without("elements are as they are");

/// Headers that MLServer passes on.
pub const INPUT_HEADERS: ParameterSpec = REQUEST_HEADERS.at(Place::Input);

const NO_SHARED_MEMORY: Use = Use::Refused(
    "send the tensor in the message, as binary data (the binary_tensor_data extension) where it is large",
);

const fn shared_memory(name: &'static str, values: Values, place: Place) -> ParameterSpec {
    let code = match place {
        Place::Output => "unsupported_output",
        _ => "shared_memory",
    };
    compatibility(name, values)
        .at(place)
        .says("a place in memory that client and server share; the two share none here")
        .code(code)
        .usage(NO_SHARED_MEMORY)
}

/// What an input may say.
pub const INPUT: [ParameterSpec; 6] = [
    BINARY_DATA_SIZE,
    INPUT_CONTENT_TYPE,
    INPUT_HEADERS,
    shared_memory("shared_memory_region", Values::Text, Place::Input),
    shared_memory("shared_memory_byte_size", Values::Whole(0), Place::Input),
    shared_memory("shared_memory_offset", Values::Whole(0), Place::Input),
];

/// Whether an output travels as binary data.
pub const BINARY_DATA: ParameterSpec = transport("binary_data", Values::Flag)
    .at(Place::Output)
    .says("the output travels as binary data; over gRPC the request's own form decides")
    .without("`binary_data_output` of the request");

/// How many classes are wanted of an output.
pub const CLASSIFICATION: ParameterSpec = transport("classification", Values::Whole(0))
    .at(Place::Output)
    .says("so many of the largest values of each row, as strings `value:index:label`, instead of the output; 0 is the output itself")
    .without("0");

/// How MLServer is to encode an output.
pub const OUTPUT_CONTENT_TYPE: ParameterSpec =
    compatibility("content_type", Values::Word(&["np", "str"]))
        .at(Place::Output)
        .says("how MLServer would encode the output; its datatype says it here")
        .usage(Use::Ignored);

/// Headers that MLServer passes on.
pub const OUTPUT_HEADERS: ParameterSpec = REQUEST_HEADERS.at(Place::Output);

/// What an output that is asked for may say.
pub const OUTPUT: [ParameterSpec; 7] = [
    BINARY_DATA,
    CLASSIFICATION,
    OUTPUT_CONTENT_TYPE,
    OUTPUT_HEADERS,
    shared_memory("shared_memory_region", Values::Text, Place::Output),
    shared_memory("shared_memory_byte_size", Values::Whole(0), Place::Output),
    shared_memory("shared_memory_offset", Values::Whole(0), Place::Output),
];

/// What a request to load or unload a model may say.
pub const CONTROL: [ParameterSpec; 2] = [
    compatibility("unload_dependents", Values::Flag)
        .at(Place::Control)
        .says("whether models that depend on this one go with it; none do here")
        .without("`false`")
        .usage(Use::Ignored),
    compatibility("config", Values::Text)
        .at(Place::Control)
        .says("a configuration instead of the model's own")
        .without("the model's `model.toml`")
        .code("unsupported_parameter")
        .usage(Use::Refused(
            "change the model's files in the repository, and load it again",
        )),
];

/// Every parameter there is, by place.
pub fn all() -> impl Iterator<Item = &'static ParameterSpec> + Clone {
    const GROUPS: [&[ParameterSpec]; 10] = [
        &CONTRACT,
        &GRAPH,
        &[MIN_VERSION],
        &[EXCHANGE],
        &WIRE_REQUEST,
        &INPUT,
        &OUTPUT,
        &CONTROL,
        &APPLY,
        ANSWER,
    ];
    GROUPS.iter().flat_map(|group| group.iter())
}
