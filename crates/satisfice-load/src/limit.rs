use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Request},
    response::Response,
    routing::post,
};
use satisfice_server::grpc::proto::{
    ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor,
    model_infer_response::InferOutputTensor,
};
use std::io;
use tokio::net::TcpListener;
use tonic::{
    Status,
    server::Grpc,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// A server that answers every POST with its body: what is left of a server when it does nothing.
///
/// # Errors
/// Never, but for what the listener says.
pub async fn echo_server(listener: TcpListener) -> io::Result<()> {
    let routes = Router::new()
        .fallback(post(async |body: Bytes| body))
        .layer(DefaultBodyLimit::max(1 << 30));
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        // Small answers are not to wait for more of them.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, routes).await
}

/// A gRPC server that answers every inference with its inputs: what is left of a server that reads and
/// writes the protocol's messages and does nothing else.
///
/// # Errors
/// What the transport says of the listener.
pub async fn grpc_echo_server(listener: TcpListener) -> Result<(), tonic::transport::Error> {
    let infer = "/inference.GRPCInferenceService/ModelInfer";
    let routes = Router::new().route(infer, post(grpc_echo));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .http2_adaptive_window(Some(true))
        .add_routes(Routes::from(routes));
    server.serve_with_incoming(incoming).await
}

async fn grpc_echo(request: Request) -> Response {
    let codec = ProstCodec::<ModelInferResponse, ModelInferRequest>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(usize::MAX);
    let echo = service_fn(async |request: tonic::Request<ModelInferRequest>| {
        Ok::<_, Status>(tonic::Response::new(answer(request.into_inner())))
    });
    grpc.unary(echo, request).await.map(Body::new)
}

fn answer(request: ModelInferRequest) -> ModelInferResponse {
    let output = |input: InferInputTensor| InferOutputTensor {
        name: input.name,
        datatype: input.datatype,
        shape: input.shape,
        contents: input.contents,
        ..InferOutputTensor::default()
    };
    ModelInferResponse {
        model_name: request.model_name,
        model_version: request.model_version,
        id: request.id,
        outputs: request.inputs.into_iter().map(output).collect(),
        raw_output_contents: request.raw_input_contents,
        ..ModelInferResponse::default()
    }
}
