//! Parameters of writes to graphs.

use super::{DEADLINE_MS, ParameterSpec, Place, Reader, TIMEOUT, Values};

const fn write(name: &'static str, values: Values) -> ParameterSpec {
    ParameterSpec::new(name, Reader::Live, values).at(Place::Write)
}

/// When a write is answered.
pub const ACK: ParameterSpec = write("ack", Values::Word(&["durable", "visible"]))
    .says("when the write is answered: once it is on disk, or once every model of the graph answers from it as well")
    .without("`durable`");

/// A name of the write, so that it is done once.
pub const REQUEST_ID: ParameterSpec = write("request_id", Values::Text)
    .says("a name of the write: a write of a name that is remembered is answered as before, and nothing is done; the last 65,536 are remembered, over restarts too")
    .without("the write is done as often as it is sent");

/// Where the write comes from.
pub const SOURCE: ParameterSpec = write("source", Values::Text)
    .says("where the write comes from, such as a topic and partition; needs `offset`")
    .without("nothing is remembered of it");

/// How far the source is with this write.
pub const OFFSET: ParameterSpec = write("offset", Values::Whole(0))
    .says("how far the source is with this write: one that is not beyond what was done of the source is answered as repeated, and nothing is done. Remembered for ever; needs `source`")
    .without("nothing is remembered of it");

/// The version that the graph has to have.
pub const IF_VERSION: ParameterSpec = write("if_version", Values::Whole(0))
    .says("the version that the graph has to have: the write is refused if others came before it")
    .without("any version");

/// When nobody waits for the write any more.
pub const WRITE_DEADLINE_MS: ParameterSpec = DEADLINE_MS
    .at(Place::Write)
    .says("milliseconds from the request's first byte, after which nobody waits for the answer; what is durable by then stays");

/// The same, as Triton names it.
pub const WRITE_TIMEOUT: ParameterSpec = TIMEOUT.at(Place::Write);

/// What a write to a graph may say.
pub const APPLY: [ParameterSpec; 7] = [
    ACK,
    REQUEST_ID,
    SOURCE,
    OFFSET,
    IF_VERSION,
    WRITE_DEADLINE_MS,
    WRITE_TIMEOUT,
];
