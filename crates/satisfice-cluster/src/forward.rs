//! A batch from a node whose group is not whole to a node of another replica, which answers it with its
//! own: both have the same parts, so the messages to the workers are the same.

use crate::{
    BatchAnswer, ClusterError, Exchange,
    group::Shared,
    hello::{Hello, Identity, Word, call, hear, say},
    slab::{Payload, SlabReader, SlabWriter, Wire},
    stream::NodeStream,
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

/// Longest batch that is handed on, in bytes.
const BYTES_MAX: u64 = 1 << 30;

/// Longest wait for whether the other node takes a batch on.
const WELCOME_MAX: Duration = Duration::from_secs(2);

/// What is said before the messages of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forwarded {
    pub identity: Identity,
    /// Length of the message to each worker.
    pub lengths: Vec<u64>,
    /// Longest wait for the answer, in milliseconds.
    pub wait_ms: u64,
}

/// The answer before its numbers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Answer {
        exchange: Exchange,
        outputs: usize,
        bytes: u64,
    },
    Failed {
        message: String,
    },
}

/// Lets a node of another replica answer.
pub(crate) fn hand_on(
    shared: &Shared,
    address: &str,
    messages: &[Vec<u8>],
    wait: Duration,
) -> io::Result<BatchAnswer> {
    let start = Instant::now();
    let hello = Hello::Forward(Forwarded {
        identity: shared.identity.clone(),
        lengths: messages
            .iter()
            .map(|message| message.len() as u64)
            .collect(),
        wait_ms: wait.as_millis() as u64,
    });
    let mut stream = call(&shared.network, address, &hello)?;
    match hear(&mut stream, wait.min(WELCOME_MAX))? {
        Word::Welcome => {}
        other => return Err(io::Error::other(format!("{other:?}"))),
    }
    for message in messages {
        stream.write_all(message)?;
    }
    let (exchange, outputs, bytes) = match hear(&mut stream, wait)? {
        Reply::Answer {
            exchange,
            outputs,
            bytes,
        } if bytes <= BYTES_MAX => (exchange, outputs, bytes),
        Reply::Answer { .. } => return Err(io::Error::other("too long an answer")),
        Reply::Failed { message } => return Err(io::Error::other(message)),
    };
    let payload = Payload::Owned(read(&mut stream, bytes, wait)?);
    let wrong = |error: ClusterError| io::Error::other(error.to_string());
    let mut reader = SlabReader::new(&payload, 0);
    let outputs = reader.f32s(outputs).map_err(wrong)?.into_owned();
    let recomputed = reader.u32s().map_err(wrong)?.into_owned();
    let counts = reader.u32s().map_err(wrong)?;
    reader.check(counts.len() == 10).map_err(wrong)?;
    let count = |at: usize| u64::from(counts[2 * at]) | u64::from(counts[2 * at + 1]) << 32;
    Ok(BatchAnswer {
        outputs,
        recomputed,
        edges: count(0),
        rows: count(1),
        exchange,
        bytes: count(2),
        layer_bytes: count(3),
        rows_moved: count(4),
        time: start.elapsed(),
        waited: start.elapsed(),
    })
}

/// Answers a batch of a node of another replica.
pub(crate) fn take_on(
    shared: &Shared,
    mut stream: NodeStream,
    forwarded: &Forwarded,
) -> io::Result<()> {
    let total = forwarded
        .lengths
        .iter()
        .try_fold(0_u64, |sum, &len| sum.checked_add(len));
    let refused = shared.identity.difference(&forwarded.identity).or_else(|| {
        let fits = total.is_some_and(|total| total <= BYTES_MAX)
            && forwarded.lengths.len() == shared.identity.workers;
        (!fits).then(|| "the batch is too large or for another number of workers".to_owned())
    });
    if let Some(message) = refused {
        return say(&mut stream, &Word::Refused { message });
    }
    // A group that is not whole says so before it is sent anything.
    let crew = match shared.crew(Instant::now()) {
        Ok(crew) => crew,
        Err(error) => {
            let message = error.to_string();
            return say(&mut stream, &Word::Refused { message });
        }
    };
    say(&mut stream, &Word::Welcome)?;
    let wait = Duration::from_millis(forwarded.wait_ms.min(600_000));
    let deadline = Instant::now() + wait;
    let mut messages = Vec::with_capacity(forwarded.lengths.len());
    for &length in &forwarded.lengths {
        messages.push(read(&mut stream, length, wait)?);
    }
    match crew.answer_scattered(messages, Some(deadline)) {
        Ok(answer) => give_back(&mut stream, &answer),
        Err(error) => {
            if let ClusterError::Slow { .. } = error {
                shared.suspect(error.to_string());
            }
            let message = error.to_string();
            say(&mut stream, &Reply::Failed { message })
        }
    }
}

fn give_back(stream: &mut NodeStream, answer: &BatchAnswer) -> io::Result<()> {
    let mut writer = SlabWriter::default();
    writer.f32s(&answer.outputs, Wire::F32);
    writer.u32s(&answer.recomputed);
    let counts = [
        answer.edges,
        answer.rows,
        answer.bytes,
        answer.layer_bytes,
        answer.rows_moved,
    ];
    writer.u32s(
        &counts
            .map(|count| [count as u32, (count >> 32) as u32])
            .concat(),
    );
    let payload = writer.finish();
    say(
        stream,
        &Reply::Answer {
            exchange: answer.exchange,
            outputs: answer.outputs.len(),
            bytes: payload.len() as u64,
        },
    )?;
    stream.write_all(&payload)
}

/// Reads bytes as they come: memory grows with what has come, not with what was announced.
fn read(stream: &mut NodeStream, length: u64, wait: Duration) -> io::Result<Vec<u8>> {
    stream
        .tcp()
        .set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
