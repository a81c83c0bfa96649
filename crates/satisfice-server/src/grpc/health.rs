//! `grpc.health.v1.Health`: the whole server, the inference service, or a model by its name.

use super::proto::{
    grpc_inference_service_server::SERVICE_NAME,
    health::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
        health_server,
    },
};
use super::{error, handlers::call};
use crate::{Service, clip::clip};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(super) struct Health {
    pub service: Arc<Service>,
}

impl Health {
    /// Of a model only those learn who may use it.
    fn status(&self, request: Request<HealthCheckRequest>) -> Result<ServingStatus, Status> {
        let (_, extensions, HealthCheckRequest { service: name }) = request.into_parts();
        let readiness = if name.is_empty() || name == SERVICE_NAME {
            Ok(self.service.readiness())
        } else {
            let caller = call(&extensions)?.asked.caller;
            caller.check_model(&name).map_err(error::status)?;
            self.service.model_readiness(&name, None)
        };
        Ok(match readiness {
            Err(_) => ServingStatus::ServiceUnknown,
            Ok(readiness) if readiness.is_ready() => ServingStatus::Serving,
            Ok(_) => ServingStatus::NotServing,
        })
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    let status = status.into();
    HealthCheckResponse { status }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.get_ref().service.clone();
        match self.status(request)? {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("no service `{}`", clip(&name))))
            }
            status => Ok(Response::new(answer(status))),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// The status now, and that it is no longer serving when the server drains; then the end.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let now = self.status(request)?;
        let drained = self.service.drained();
        let then = async move {
            drained.await;
            Ok(answer(ServingStatus::NotServing))
        };
        let first = stream::once(async move { Ok(answer(now)) });
        Ok(Response::new(first.chain(stream::once(then)).boxed()))
    }
}
