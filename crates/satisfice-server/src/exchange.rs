//! From a message that has arrived to its answer, the same over every transport.

use crate::{
    observe::{Record, Stage},
    protocol::{Answer, AnswerFormat, DecodedRequest, classification},
    service::{Call, Recording, ServedModel, Times},
};
use satisfice_core::{Error, ErrorKind, InferResponse, TensorData};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::Semaphore;

/// Messages up to this length are decoded and encoded where they are; larger ones could keep an async
/// thread from other connections.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// One request whose bytes are all here.
pub(crate) struct Exchange {
    pub model: Arc<ServedModel>,
    pub request_bytes: usize,
    /// When the request began to arrive.
    pub received: Instant,
    /// When its transport gives up.
    pub deadline: Option<Instant>,
    /// What is known of it.
    pub record: Arc<Record>,
}

impl Exchange {
    /// Decodes the request, has it answered and encodes the answer.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        codecs: &Codecs,
        decode: impl FnOnce() -> Result<DecodedRequest, Error> + Send + 'static,
        encode: impl FnOnce(Answer, AnswerFormat) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let model = Arc::clone(&self.model);
        self.record
            .is_for(model.name(), model.version(), self.request_bytes);
        let mut recording = Recording::new(model.stats(), self.received);
        let result = self.answer(codecs, &mut recording, decode, encode).await;
        recording.finish(&result);
        result
    }

    async fn answer<T: Send + 'static>(
        self,
        codecs: &Codecs,
        recording: &mut Recording<'_>,
        decode: impl FnOnce() -> Result<DecodedRequest, Error> + Send + 'static,
        encode: impl FnOnce(Answer, AnswerFormat) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let start = Instant::now();
        let decoded = codecs.decode(self.request_bytes, decode).await??;
        recording.decoded(start.elapsed());
        self.record.stage(Stage::Decode, start);
        let DecodedRequest {
            id,
            request,
            format,
        } = decoded;
        let call = Call {
            request,
            request_bytes: self.request_bytes,
            received: self.received,
            deadline: self.deadline,
            record: Arc::clone(&self.record),
        };
        let response = self.model.infer(call).await?;
        self.record.answered(&response);
        recording.answered(&response);
        let response_bytes = size(&response);
        let model = self.model;
        let encode = move || {
            let outputs = &model.metadata().outputs;
            let answer = Answer {
                model: model.name().to_owned(),
                version: Some(model.version().to_owned()),
                id,
                response: classification::classify(response, &format.classes, outputs)?,
            };
            encode(answer, format)
        };
        let start = Instant::now();
        let encoded = codecs.encode(response_bytes, encode).await?;
        recording.encoded(start.elapsed());
        self.record.stage(Stage::Encode, start);
        encoded
    }
}

/// Turns for large messages to be decoded or encoded, and what that has taken.
#[derive(Debug)]
pub(crate) struct Codecs {
    turns: Arc<Semaphore>,
    decoding: Mutex<Times>,
    encoding: Mutex<Times>,
}

impl Codecs {
    /// As many turns as there are cores.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            turns: Arc::new(Semaphore::new(cores)),
            decoding: Mutex::default(),
            encoding: Mutex::default(),
        }
    }

    /// Decodes `bytes` bytes.
    pub(crate) async fn decode<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.timed(&self.decoding, bytes, work).await
    }

    /// Encodes `bytes` bytes.
    async fn encode<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.timed(&self.encoding, bytes, work).await
    }

    /// Works here on what is small, or is brief for all that is known, and elsewhere on the rest.
    async fn timed<T: Send + 'static>(
        &self,
        times: &Mutex<Times>,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        if bytes <= INLINE_BYTES_MAX {
            return Ok(work());
        }
        let brief = lock(times).are_brief(bytes);
        let work = move || {
            let start = Instant::now();
            let done = work();
            (done, start.elapsed())
        };
        let (done, took) = match brief {
            true => work(),
            false => self.elsewhere(work).await?,
        };
        lock(times).observe(bytes, took.as_secs_f64());
        Ok(done)
    }

    /// Works on a blocking thread, on as much at once as there are turns.
    pub(crate) async fn elsewhere<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .expect("invariant: the semaphore is never closed");
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        task.await
            .map_err(|error| Error::new(ErrorKind::Internal, "codec_failed", error.to_string()))
    }
}

/// Nothing that is done under the lock can panic half-way.
fn lock(times: &Mutex<Times>) -> MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// About the bytes that an answer takes.
fn size(response: &InferResponse) -> usize {
    let tensors = response.outputs.iter().map(|output| output.tensor.data());
    tensors
        .map(|data| match data {
            TensorData::Bytes(strings) => strings.iter().map(|string| 4 + string.len()).sum(),
            _ => data.len() * data.datatype().size_bytes().unwrap_or(1),
        })
        .sum()
}
