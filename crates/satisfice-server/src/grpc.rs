//! The protocol over gRPC: `inference.GRPCInferenceService`, `inference.GraphService`, `grpc.health.v1.Health`, and their
//! reflection. It is
//! on a listener of its own, and beside HTTP on the HTTP listener.
//!
//! | method | answer |
//! |---|---|
//! | `ServerLive`, `ServerReady`, `ModelReady` | yes or no |
//! | `ServerMetadata` | name, version and extensions of the server |
//! | `ModelMetadata`, `ModelConfig` | signature |
//! | `LogSettings`, `TraceSetting` | the settings, changed first if there are changes |
//! | `ModelStatistics` | counts and times |
//! | `RepositoryIndex` | what is served and what could be |
//! | `RepositoryModelLoad`, `RepositoryModelUnload` | nothing, when it is done |
//! | `Apply` (of `GraphService`) | what a write to a graph did |
//! | `Graph`, `Graphs` | how graphs stand that may be written to |
//! | `ModelInfer` | outputs |
//! | `ModelStreamInfer` | outputs or an error message for each request, in their order |
//!
//! Elements travel raw (`raw_input_contents`) or typed (`contents`), never both in one message; the
//! answer's travel as the request's did, but raw where an output is `FP16` or `BF16`, which have no
//! typed form. `grpc-timeout` is the request's deadline. Messages may be compressed (gzip, deflate);
//! answers are when the request was.
//!
//! | kind | code |
//! |---|---|
//! | `InvalidInput` | `INVALID_ARGUMENT` |
//! | `Unauthenticated` | `UNAUTHENTICATED` |
//! | `Forbidden` | `PERMISSION_DENIED` |
//! | `NotFound` | `NOT_FOUND` |
//! | `Unsupported` | `UNIMPLEMENTED` |
//! | `TooLarge` | `RESOURCE_EXHAUSTED` |
//! | `Unavailable` | `UNAVAILABLE`, with `grpc-retry-pushback-ms` |
//! | `DeadlineExceeded` | `DEADLINE_EXCEEDED` |
//! | `Internal` | `INTERNAL` |
//!
//! The metadata `error-code` carries the stable code, the message the hint. Who may ask what:
//! [`access`](crate::access).

mod answer;
mod codec;
mod config;
mod contents;
mod error;
mod frames;
mod graphs;
mod handlers;
mod health;
mod metering;
mod parameters;
mod reflection;
mod request;
mod settings;
mod statistics;
mod timeout;

/// Messages and services as the `.proto` files in `proto/` say.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("inference");

    /// The gRPC Health Checking Protocol.
    pub mod health {
        tonic::include_proto!("grpc.health.v1");
    }

    /// The services as they describe themselves by reflection: an encoded `FileDescriptorSet`.
    pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");
}

use crate::{
    Service,
    connection::{self, Respond, Server, Spoken},
    edge::{Edge, Transport},
    front::{Front, Listener, Peer},
    http,
    protocol::{DecodedRequest, TensorLimits},
};
use axum::{
    Router,
    extract::Request,
    http::{Version, header::CONTENT_TYPE},
    response::Response,
};
use bytes::Bytes;
use handlers::Inference;
use health::Health;
use metering::Meter;
use proto::{
    graph_service_server::GraphServiceServer,
    grpc_inference_service_server::GrpcInferenceServiceServer, health::health_server::HealthServer,
};
use std::{future::Future, io, sync::Arc};
use tonic::{Status, codec::CompressionEncoding, service};

/// Serves gRPC on `listener` until `shutdown` completes, then lets running requests end; open
/// streams end after the requests that they have sent.
///
/// # Errors
/// When the listener has no local address; failures of single connections are logged.
pub async fn serve(
    listener: impl Into<Listener>,
    service: Arc<Service>,
    front: impl Into<Front>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (listener, front) = (listener.into(), front.into());
    let routes = Routes::new(Arc::clone(&service), front.clone());
    let server = Server::new(Spoken::Grpc, routes, front.limits());
    connection::serve(listener, server, &service, &front, shutdown).await
}

/// Reads a `ModelInferRequest` as it stands on the wire.
///
/// # Errors
/// The status that a client would get.
pub fn decode_request(bytes: Bytes, limits: TensorLimits) -> Result<DecodedRequest, Status> {
    request::decode(codec::decode(bytes)?, limits).map_err(error::status)
}

/// Whether a request is a call, by what it says of itself.
pub(crate) fn is_grpc(request: &Request) -> bool {
    let Some(kind) = request.headers().get(CONTENT_TYPE) else {
        return false;
    };
    let rest = kind.as_bytes().strip_prefix(b"application/grpc");
    request.version() == Version::HTTP_2
        && rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The methods with everything around them.
#[derive(Clone)]
pub(crate) struct Routes(Arc<Inner>);

struct Inner {
    edge: Edge,
    meter: Meter,
    methods: Router,
}

impl Routes {
    pub(crate) fn new(service: Arc<Service>, front: Front) -> Self {
        let limits = front.limits();
        let inference = Inference {
            service: Arc::clone(&service),
            front: front.clone(),
        };
        let mut graphs = GraphServiceServer::new(inference.clone())
            .max_decoding_message_size(limits.body_bytes_max)
            .max_encoding_message_size(usize::MAX);
        let mut inference = GrpcInferenceServiceServer::new(inference)
            .max_decoding_message_size(limits.body_bytes_max)
            .max_encoding_message_size(usize::MAX);
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
            graphs = graphs.accept_compressed(encoding).send_compressed(encoding);
            inference = inference
                .accept_compressed(encoding)
                .send_compressed(encoding);
        }
        let methods = service::Routes::new(inference)
            .add_service(graphs)
            .add_service(HealthServer::new(Health { service }))
            .add_service(reflection::v1())
            .add_service(reflection::v1alpha())
            .prepare()
            .into_axum_router();
        let meter = Meter::new(&front);
        let transport = Transport::Grpc;
        let edge = Edge { front, transport };
        Self(Arc::new(Inner {
            edge,
            meter,
            methods,
        }))
    }
}

impl Respond for Routes {
    async fn respond(&self, request: Request, peer: Option<Peer>) -> Response {
        let Inner {
            edge,
            meter,
            methods,
        } = &*self.0;
        if !is_grpc(&request) {
            let edge = Edge {
                front: edge.front.clone(),
                transport: Transport::Http,
            };
            let refuse = async |request, _| http::not_grpc(request);
            return edge.observe(request, peer, refuse).await;
        }
        let answer = |request, asked| meter.answer(request, asked, methods);
        edge.observe(request, peer, answer).await
    }
}
