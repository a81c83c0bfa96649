//! The service's methods.

use super::{
    answer, config,
    error::{code, status, typed},
    metering::Call,
    parameters,
    proto::{
        LogSettingsRequest, LogSettingsResponse, ModelConfigRequest, ModelConfigResponse,
        ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
        ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
        ModelStreamInferResponse, RepositoryIndexRequest, RepositoryIndexResponse,
        RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
        RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse,
        ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
        TraceSettingRequest, TraceSettingResponse,
        grpc_inference_service_server::GrpcInferenceService,
        model_metadata_response::TensorMetadata, repository_index_response::ModelIndex,
    },
    request, settings, timeout,
};
use crate::{
    Service,
    access::Role,
    edge::{Asked, Transport},
    exchange::Exchange,
    front::Front,
    observe::Finished,
    protocol::{Answer, AnswerFormat, ServerDescription, statistics::ModelStatistics},
    service::{ModelState, ServedModel, check_control_parameters},
};
use futures_util::stream::{BoxStream, StreamExt};
use prost::Message;
use satisfice_core::{Error, ErrorKind, Readiness, TensorSpec};
use std::{sync::Arc, time::Instant};
use tonic::{Extensions, Request, Response, Status, Streaming};

/// Requests of one stream that are worked on at once.
const STREAM_REQUESTS_MAX: usize = 8;

/// Under what the requests of a stream are noted.
const STREAM_PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// What every method has.
#[derive(Clone)]
pub(super) struct Inference {
    pub service: Arc<Service>,
    pub front: Front,
}

impl Inference {
    /// The model, for a caller who may use it; an empty version is the newest.
    fn find(&self, call: &Call, name: &str, version: &str) -> Result<Arc<ServedModel>, Error> {
        let caller = &call.asked.caller;
        caller.check_model(name)?;
        let found = self.service.find(name, given(version));
        found.map_err(|error| caller.without_names(error))
    }

    /// Refuses callers who may not change the server.
    fn check_admin(&self, extensions: &Extensions) -> Result<(), Status> {
        let Asked { caller, peer, .. } = call(extensions)?.asked;
        let address = peer.map(|peer| peer.listener);
        let place = self.front.access().admin_at(Role::Main, address);
        caller.check_admin(place).map_err(status)
    }

    async fn answer(
        &self,
        message: ModelInferRequest,
        call: &Call,
        received: Instant,
        deadline: Option<Instant>,
    ) -> Result<ModelInferResponse, Error> {
        let request_bytes = message.encoded_len();
        let model = self.find(call, &message.model_name, &message.model_version)?;
        let held = call
            .arriving
            .whole(request_bytes)
            .inspect_err(|error| model.stats().failed(error, received.elapsed()))?;
        let exchange = Exchange {
            model,
            request_bytes,
            received,
            deadline,
            record: Arc::clone(&call.asked.record),
        };
        let tensors = self.front.limits().tensors;
        let decode = move || request::decode(message, tensors);
        let encode = |answer: Answer, format: AnswerFormat| answer::encode(answer, &format);
        let answer = exchange.run(self.front.codecs(), decode, encode).await;
        if let Ok(answer) = &answer {
            call.asked.record.set_response_bytes(answer.encoded_len());
        }
        drop(held);
        answer
    }

    /// An answer within a stream, which an error does not end.
    async fn answer_in_stream(
        self,
        message: Result<ModelInferRequest, Status>,
        call: Call,
        deadline: Option<Instant>,
    ) -> Result<ModelStreamInferResponse, Status> {
        let message = message.map_err(typed)?;
        let record = Arc::new(call.asked.record.sibling());
        let asked = Asked {
            record,
            ..call.asked
        };
        let call = Call { asked, ..call };
        let echo = ModelInferResponse {
            model_name: message.model_name.clone(),
            model_version: message.model_version.clone(),
            id: message.id.clone(),
            ..ModelInferResponse::default()
        };
        let answer = self.answer(message, &call, Instant::now(), deadline).await;
        self.note_in_stream(&call, answer.as_ref().err());
        let (error_message, response) = match answer {
            Ok(response) => (String::new(), response),
            Err(error) => (status(error).message().to_owned(), echo),
        };
        Ok(ModelStreamInferResponse {
            error_message,
            infer_response: Some(response),
        })
    }

    /// Notes the end of a request within a stream.
    fn note_in_stream(&self, call: &Call, error: Option<&Error>) {
        let end = Finished {
            transport: Transport::Grpc.name(),
            method: "POST",
            path: STREAM_PATH,
            status: error.map_or(0, |error| code(error.kind()) as u16),
            code: error.map(Error::code),
            client: call.asked.peer.map(|peer| peer.client),
            response_bytes: None,
        };
        self.front.observer().finish(&call.asked.record, &end);
    }
}

/// A text that is not empty, which protobuf has for one that is absent.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// What the layers around the service have found out about a call.
pub(super) fn call(extensions: &Extensions) -> Result<Call, Status> {
    extensions.get::<Call>().cloned().ok_or_else(|| {
        let message = "the call did not come by the layers around the service";
        status(Error::new(ErrorKind::Internal, "not_layered", message))
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
        let Asked { caller, .. } = call(request.extensions())?.asked;
        let ModelReadyRequest { name, version } = request.into_inner();
        caller.check_model(&name).map_err(status)?;
        let readiness = self.service.model_readiness(&name, given(&version));
        let ready = readiness.is_ok_and(Readiness::is_ready);
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        request: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        let call = call(request.extensions())?;
        call.asked.caller.check_known().map_err(status)?;
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
        let call = call(request.extensions())?;
        let ModelMetadataRequest { name, version } = request.into_inner();
        let description = self
            .find(&call, &name, &version)
            .map_err(status)?
            .describe();
        Ok(Response::new(ModelMetadataResponse {
            name: description.name,
            versions: description.versions,
            platform: description.metadata.platform,
            inputs: tensor_metadata(description.metadata.inputs),
            outputs: tensor_metadata(description.metadata.outputs),
            ..ModelMetadataResponse::default()
        }))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let call = call(request.extensions())?;
        let ModelConfigRequest { name, version } = request.into_inner();
        let description = self
            .find(&call, &name, &version)
            .map_err(status)?
            .describe();
        let config = Some(config::config(description));
        Ok(Response::new(ModelConfigResponse { config }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let Asked { caller, .. } = call(request.extensions())?.asked;
        let ModelStatisticsRequest { name, version } = request.into_inner();
        match given(&name) {
            Some(name) => caller.check_model(name),
            None => caller.check_known(),
        }
        .map_err(status)?;
        let models = self.service.select(given(&name), given(&version));
        let mut models = models.map_err(|error| status(caller.without_names(error)))?;
        models.retain(|model| caller.sees(model.name()));
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
        let Asked { caller, .. } = call(request.extensions())?.asked;
        caller.check_known().map_err(status)?;
        let ready = request.into_inner().ready;
        let entries = self.service.index().await.map_err(status)?.into_iter();
        let wanted = entries
            .filter(|entry| caller.sees(&entry.name))
            .filter(|entry| !ready || entry.state == ModelState::Ready);
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
        self.check_admin(request.extensions())?;
        let request = request.into_inner();
        let parameters = parameters::of_control(request.parameters);
        check_control_parameters(parameters).map_err(status)?;
        let loaded = self.service.load(&request.model_name).await;
        loaded.map_err(status)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        self.check_admin(request.extensions())?;
        let request = request.into_inner();
        let parameters = parameters::of_control(request.parameters);
        check_control_parameters(parameters).map_err(status)?;
        let unloaded = self.service.unload(&request.model_name);
        unloaded.map_err(status)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }

    async fn log_settings(
        &self,
        request: Request<LogSettingsRequest>,
    ) -> Result<Response<LogSettingsResponse>, Status> {
        self.check_admin(request.extensions())?;
        let changes = settings::log_changes(request.into_inner());
        let observer = self.front.observer();
        let now = match changes.is_empty() {
            true => observer.log_settings(),
            false => observer.change_log(&changes),
        };
        Ok(Response::new(settings::log_settings(now.map_err(status)?)))
    }

    async fn trace_setting(
        &self,
        request: Request<TraceSettingRequest>,
    ) -> Result<Response<TraceSettingResponse>, Status> {
        self.check_admin(request.extensions())?;
        let request = request.into_inner();
        let model = given(&request.model_name);
        if let Some(model) = model {
            self.service.find(model, None).map_err(status)?;
        }
        let changes = settings::trace_changes(&request);
        let now = self.front.observer().change_traces(model, &changes);
        Ok(Response::new(settings::trace_settings(
            now.map_err(status)?,
        )))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let call = call(&extensions)?;
        let received = Instant::now();
        let deadline = timeout::deadline(&metadata, received).map_err(status)?;
        let answer = self.answer(message, &call, received, deadline);
        answer.await.map(Response::new).map_err(status)
    }

    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let call = call(&extensions)?;
        call.asked.caller.check_known().map_err(status)?;
        let deadline = timeout::deadline(&metadata, Instant::now()).map_err(status)?;
        let inference = self.clone();
        let answers = messages
            .take_until(Box::pin(self.service.drained()))
            .map(move |message| {
                inference
                    .clone()
                    .answer_in_stream(message, call.clone(), deadline)
            })
            .buffered(STREAM_REQUESTS_MAX);
        Ok(Response::new(answers.boxed()))
    }
}
