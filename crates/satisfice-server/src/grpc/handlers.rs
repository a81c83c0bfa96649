//! The service's methods.

use super::{
    answer, config,
    error::status,
    metering::Arriving,
    proto::{
        ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
        ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
        ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
        RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
        RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
        ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
        ServerReadyRequest, ServerReadyResponse,
        grpc_inference_service_server::GrpcInferenceService,
        model_metadata_response::TensorMetadata, repository_index_response::ModelIndex,
    },
    request, timeout,
};
use crate::{
    Service,
    exchange::{Codecs, Exchange},
    protocol::{
        Answer, AnswerFormat, ServerDescription, TensorLimits, statistics::ModelStatistics,
    },
    service::{ModelState, ServedModel, check_control_parameters},
};
use futures_util::stream::{BoxStream, StreamExt};
use prost::Message;
use satisfice_core::{Error, ErrorKind, TensorSpec};
use std::{sync::Arc, time::Instant};
use tonic::{Extensions, Request, Response, Status, Streaming};

/// Requests of one stream that are worked on at once.
const STREAM_REQUESTS_MAX: usize = 8;

/// What every method has.
#[derive(Clone)]
pub(super) struct Inference {
    pub service: Arc<Service>,
    pub tensors: TensorLimits,
    pub codecs: Arc<Codecs>,
}

impl Inference {
    /// The model; an empty version is the newest.
    fn find(&self, name: &str, version: &str) -> Result<Arc<ServedModel>, Error> {
        self.service.find(name, given(version))
    }

    async fn answer(
        &self,
        message: ModelInferRequest,
        arriving: &Arriving,
        received: Instant,
        deadline: Option<Instant>,
    ) -> Result<ModelInferResponse, Error> {
        let request_bytes = message.encoded_len();
        let model = self.find(&message.model_name, &message.model_version)?;
        let held = arriving
            .take(request_bytes)
            .inspect_err(|error| model.stats().failed(error, received.elapsed()))?;
        let exchange = Exchange {
            model,
            request_bytes,
            received,
            deadline,
        };
        let tensors = self.tensors;
        let decode = move || request::decode(message, tensors);
        let encode = |answer: Answer, format: AnswerFormat| answer::encode(answer, &format);
        let answer = exchange.run(&self.codecs, decode, encode).await;
        drop(held);
        answer
    }

    /// An answer within a stream, which an error does not end.
    async fn answer_in_stream(
        self,
        message: Result<ModelInferRequest, Status>,
        arriving: Arriving,
        deadline: Option<Instant>,
    ) -> Result<ModelStreamInferResponse, Status> {
        let message = message?;
        let echo = ModelInferResponse {
            model_name: message.model_name.clone(),
            model_version: message.model_version.clone(),
            id: message.id.clone(),
            ..ModelInferResponse::default()
        };
        let answer = self
            .answer(message, &arriving, Instant::now(), deadline)
            .await;
        let (error_message, response) = match answer {
            Ok(response) => (String::new(), response),
            Err(error) => (status(error).message().to_owned(), echo),
        };
        Ok(ModelStreamInferResponse {
            error_message,
            infer_response: Some(response),
        })
    }
}

/// A text that is not empty, which protobuf has for one that is absent.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn arriving(extensions: &Extensions) -> Result<Arriving, Status> {
    let arriving = extensions.get::<Arriving>().cloned();
    arriving.ok_or_else(|| {
        let message = "the call was not counted";
        status(Error::new(ErrorKind::Internal, "not_counted", message))
    })
}

fn tensor_metadata(specs: Vec<TensorSpec>) -> Vec<TensorMetadata> {
    let metadata = |spec: TensorSpec| TensorMetadata {
        name: spec.name,
        datatype: spec.datatype.name().to_owned(),
        shape: spec.shape,
    };
    specs.into_iter().map(metadata).collect()
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = self.service.is_ready();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let ready = self.service.is_ready() && self.find(&name, &version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        let server = ServerDescription::THIS;
        let extensions = server.extensions.iter();
        Ok(Response::new(ServerMetadataResponse {
            name: server.name.to_owned(),
            version: server.version.to_owned(),
            extensions: extensions.map(ToString::to_string).collect(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let description = self.find(&name, &version).map_err(status)?.describe();
        Ok(Response::new(ModelMetadataResponse {
            name: description.name,
            versions: description.versions,
            platform: description.metadata.platform,
            inputs: tensor_metadata(description.metadata.inputs),
            outputs: tensor_metadata(description.metadata.outputs),
        }))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let description = self.find(&name, &version).map_err(status)?.describe();
        let config = Some(config::config(description));
        Ok(Response::new(ModelConfigResponse { config }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let models = self.service.select(given(&name), given(&version));
        let models = models.map_err(status)?;
        let stats = models
            .iter()
            .map(|model| ModelStatistics::new(model).into());
        Ok(Response::new(ModelStatisticsResponse {
            model_stats: stats.collect(),
        }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let ready = request.into_inner().ready;
        let entries = self.service.index().await.map_err(status)?.into_iter();
        let wanted = entries.filter(|entry| !ready || entry.state == ModelState::Ready);
        let models = wanted.map(|entry| ModelIndex {
            name: entry.name,
            version: entry.version.unwrap_or_default(),
            state: entry.state.name().to_owned(),
            reason: entry.reason,
        });
        Ok(Response::new(RepositoryIndexResponse {
            models: models.collect(),
        }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let request = request.into_inner();
        let parameters = request.parameters.keys().map(String::as_str);
        check_control_parameters(parameters).map_err(status)?;
        let loaded = self.service.load(&request.model_name).await;
        loaded.map_err(status)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let request = request.into_inner();
        let parameters = request.parameters.keys().map(String::as_str);
        check_control_parameters(parameters).map_err(status)?;
        let unloaded = self.service.unload(&request.model_name);
        unloaded.map_err(status)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let arriving = arriving(&extensions)?;
        let received = Instant::now();
        let deadline = timeout::deadline(&metadata, received).map_err(status)?;
        let answer = self.answer(message, &arriving, received, deadline);
        answer.await.map(Response::new).map_err(status)
    }

    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let arriving = arriving(&extensions)?;
        let deadline = timeout::deadline(&metadata, Instant::now()).map_err(status)?;
        let inference = self.clone();
        let answers = messages
            .take_until(Box::pin(self.service.drained()))
            .map(move |message| {
                inference
                    .clone()
                    .answer_in_stream(message, arriving.clone(), deadline)
            })
            .buffered(STREAM_REQUESTS_MAX);
        Ok(Response::new(answers.boxed()))
    }
}
