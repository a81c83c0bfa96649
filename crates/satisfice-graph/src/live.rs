//! Graphs that are written to while models answer from them.

mod engine;
mod writer;

pub use engine::LiveEngine;
pub use writer::GraphWriter;
