//! The methods of the service for graphs.

use super::{
    error::status,
    handlers::{Inference, call},
    metering::Call,
    parameters,
    proto::{
        ApplyRequest, ApplyResponse, GraphRequest, GraphStatus, GraphsRequest, GraphsResponse,
        graph_service_server::GraphService,
    },
    request, timeout,
};
use crate::{
    observe::Stage,
    protocol::parameters::Wanted,
    service::{ServedGraph, WriteCall},
};
use prost::Message;
use satisfice_core::{self as core, Error};
use std::{sync::Arc, time::Instant};
use tonic::{Request, Response, Status};

impl Inference {
    async fn apply_to(
        &self,
        graph: &ServedGraph,
        message: ApplyRequest,
        call: &Call,
        deadline: Option<Instant>,
    ) -> Result<ApplyResponse, Error> {
        let record = &call.asked.record;
        let bytes = message.encoded_len();
        let place = graph.enter(bytes)?;
        let held = call.arriving.whole(bytes)?;
        let limits = self.front.limits().tensors;
        let start = Instant::now();
        let decode = move || {
            let mut parameters = parameters::decode(message.parameters)?;
            Wanted::take(&mut parameters)?;
            let inputs = request::inputs(message.inputs, &message.raw_input_contents, limits)?;
            let request = core::ApplyRequest {
                inputs,
                parameters,
                deadline: None,
            };
            Ok::<_, Error>((message.id, request))
        };
        let (id, request) = self.front.codecs().decode(bytes, decode).await??;
        record.stage(Stage::Decode, start);
        let written = graph.apply(WriteCall {
            request,
            place,
            received: record.received(),
            deadline,
            record: Arc::clone(record),
        });
        let written = written.await?;
        drop(held);
        let answer = ApplyResponse {
            graph_name: graph.name().to_owned(),
            id,
            version: written.version,
            repeated_write: written.repeated,
            nodes_added: written.nodes_added as u64,
            nodes_deleted: written.nodes_deleted as u64,
            edges_added: written.edges_added as u64,
            edges_deleted: written.edges_deleted as u64,
        };
        record.set_response_bytes(answer.encoded_len());
        Ok(answer)
    }
}

fn described(graph: &ServedGraph, call: &Call) -> GraphStatus {
    let state = graph.status();
    let models = graph.models().iter();
    let seen = models.filter(|model| call.asked.caller.sees(model));
    GraphStatus {
        name: graph.name().to_owned(),
        models: seen.cloned().collect(),
        version: state.version,
        visible_version: state.visible_version,
        nodes: state.nodes,
        edges: state.edges,
        features: state.features,
        directed: state.directed,
        log_bytes: state.log_bytes,
        failed: state.failed.unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl GraphService for Inference {
    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let call = call(&extensions)?;
        let deadline = timeout::deadline(&metadata, Instant::now()).map_err(status)?;
        let caller = &call.asked.caller;
        let address = call.asked.peer.map(|peer| peer.listener);
        let place = self.front.access().write_at(address);
        caller
            .check_write(place, &message.graph_name)
            .map_err(status)?;
        let found = self.service.graph(&message.graph_name);
        let graph = found.map_err(|error| status(caller.without_names(error)))?;
        let written = self.apply_to(&graph, message, &call, deadline).await;
        let written = written.inspect_err(|error| graph.refused(error));
        written.map(Response::new).map_err(status)
    }

    async fn graph(&self, request: Request<GraphRequest>) -> Result<Response<GraphStatus>, Status> {
        let call = call(request.extensions())?;
        let name = request.into_inner().name;
        let found = self.service.graph(&name);
        let models = found.as_ref().map_or(&[][..], ServedGraph::models);
        let caller = &call.asked.caller;
        caller.check_graph(&name, models).map_err(status)?;
        let graph = found.map_err(|error| status(caller.without_names(error)))?;
        Ok(Response::new(described(&graph, &call)))
    }

    async fn graphs(
        &self,
        request: Request<GraphsRequest>,
    ) -> Result<Response<GraphsResponse>, Status> {
        let call = call(request.extensions())?;
        let caller = &call.asked.caller;
        caller.check_known().map_err(status)?;
        let mut graphs = self.service.graphs();
        graphs.retain(|graph| caller.sees_graph(graph.name(), graph.models()));
        let graphs = graphs.iter().map(|graph| described(graph, &call));
        Ok(Response::new(GraphsResponse {
            graphs: graphs.collect(),
        }))
    }
}
