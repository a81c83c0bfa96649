//! gRPC, one connection a client.

use crate::{
    LoadError,
    closed::measured::{Load, Measured, Tally},
};
use satisfice_core::{InferRequest, TensorData};
use satisfice_server::grpc::proto::{
    ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::InferInputTensor,
};
use std::{net::SocketAddr, time::Instant};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

/// A message to send.
#[derive(Debug, Clone)]
pub struct GrpcRequest(ModelInferRequest);

impl GrpcRequest {
    /// A request to `model` whose inputs travel raw. Only those of type FP32 do.
    pub fn infer(model: &str, request: &InferRequest) -> Self {
        let raw = |data: &TensorData| match data {
            TensorData::Fp32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(),
            _ => Vec::new(),
        };
        let inputs = request.inputs.iter();
        Self(ModelInferRequest {
            model_name: model.to_owned(),
            inputs: inputs
                .clone()
                .map(|input| InferInputTensor {
                    name: input.name.clone(),
                    datatype: input.tensor.datatype().name().to_owned(),
                    shape: input.tensor.shape().iter().map(|&d| d as i64).collect(),
                    ..InferInputTensor::default()
                })
                .collect(),
            raw_input_contents: inputs
                .map(|input| raw(input.tensor.data()).into())
                .collect(),
            ..ModelInferRequest::default()
        })
    }
}

/// Sends `request` over every connection again and again. Statuses count as HTTP's would.
///
/// # Errors
/// When the server cannot be reached at all.
///
/// # Panics
/// Where the runtime ends meanwhile.
pub async fn grpc(
    address: SocketAddr,
    request: &GrpcRequest,
    load: Load,
) -> Result<Measured, LoadError> {
    let mut channels = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        channels.push(connect(address).await?);
    }
    let now = Instant::now();
    let clients: Vec<_> = channels
        .into_iter()
        .map(|channel| {
            let (request, tally) = (request.clone(), Tally::new(load, now));
            tokio::spawn(client(channel, request, tally))
        })
        .collect();
    let mut tallies = Vec::with_capacity(clients.len());
    for client in clients {
        tallies.push(client.await.expect("invariant: a client does not panic"));
    }
    Ok(Tally::sum(load, tallies))
}

async fn connect(address: SocketAddr) -> Result<Channel, LoadError> {
    let grpc = |source| LoadError::Grpc { address, source };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(grpc)?;
    let endpoint = endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    endpoint.connect().await.map_err(grpc)
}

async fn client(channel: Channel, request: GrpcRequest, mut tally: Tally) -> Tally {
    let mut client = GrpcInferenceServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    while tally.goes_on(Instant::now()) {
        let sent = Instant::now();
        match client.model_infer(request.0.clone()).await {
            Ok(_) => tally.add(sent, 200),
            Err(status) => tally.add(sent, as_http(status.code())),
        }
    }
    tally
}

fn as_http(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::InvalidArgument => 400,
        Code::NotFound => 404,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        _ => 500,
    }
}
