use crate::{GraphEngine, GraphError, GraphWriter, ModelDir};
use satisfice_core::{
    Engine, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata, Offer, Readiness,
    WritableGraph,
    parameters::{LIVE_GRAPH, MIN_VERSION, ParameterSpec},
};
use satisfice_store::Check;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a request waits at most for the version that it asks for.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A graph model that follows a graph which may be written to.
#[derive(Debug)]
pub struct LiveEngine {
    engine: Arc<GraphEngine>,
    writer: Arc<GraphWriter>,
}

impl LiveEngine {
    /// A model that follows a graph.
    ///
    /// # Errors
    /// As [`GraphEngine::follow`].
    pub fn open(
        model_dir: &ModelDir,
        writer: Arc<GraphWriter>,
        check: Check,
    ) -> Result<Self, GraphError> {
        let engine = GraphEngine::follow(model_dir, writer.graph(), check)?;
        Ok(Self { engine, writer })
    }

    /// The model.
    pub fn engine(&self) -> &GraphEngine {
        &self.engine
    }

    /// Waits until the model shows the version that a request asks for. One that the graph does not have is refused
    /// at once, so that the wait is for the model alone.
    fn wait(&self, request: &InferRequest) -> Result<(), Error> {
        let least = MIN_VERSION.whole(&request.parameters)?;
        let Some(least) = least.map(i64::unsigned_abs) else {
            return Ok(());
        };
        if self.engine.version() >= Some(least) {
            return Ok(());
        }
        let version = self.writer.status().version;
        if version < least {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "version_not_there",
                format!("the graph has version {version}, but the request asks for {least}"),
            )
            .with_hint("ask for the version that a write was answered with, or an earlier one"));
        }
        let longest = Instant::now() + WAIT_MAX;
        let until = request.deadline.map_or(longest, |end| end.min(longest));
        match self.writer.graph().wait_for(least, until) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Unavailable,
                "version_not_visible",
                format!("the model does not show version {least} of the graph yet"),
            )
            .with_hint("send the request again later")),
        }
    }
}

impl Engine for LiveEngine {
    fn metadata(&self) -> &ModelMetadata {
        self.engine.metadata()
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        self.wait(request)?;
        self.engine.infer(request)
    }

    fn offers(&self, request: &InferRequest) -> Result<Vec<Offer>, Error> {
        self.wait(request)?;
        self.engine.offers(request)
    }

    fn parameters(&self) -> &'static [ParameterSpec] {
        &LIVE_GRAPH
    }

    fn example(&self) -> Option<InferRequest> {
        self.engine.example()
    }

    fn shares_cores(&self) -> bool {
        self.engine.shares_cores()
    }

    fn readiness(&self) -> Readiness {
        self.engine.readiness()
    }

    fn graph(&self) -> Option<Arc<dyn WritableGraph>> {
        Some(self.writer.clone())
    }
}
