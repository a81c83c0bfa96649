//! What the server costs: a model that does nothing.

use super::{
    super::Output,
    child::{IDENTITY, Server},
};
use crate::{cli::BenchServer, commands::serve::runtime};
use anyhow::Result;
use satisfice_core::{InferRequest, NamedTensor, Tensor, TensorData};
use satisfice_load::closed::{GrpcRequest, HttpRequest, Load, Measured, grpc, http};
use satisfice_server::protocol::client::Format;
use serde::Serialize;
use std::{fmt::Write, time::Duration};

const PROTOCOLS: [Protocol; 3] = [Protocol::Json, Protocol::Binary, Protocol::Grpc];

/// Shortest time that large tensors are measured.
const LARGE_SECONDS_MIN: f64 = 1.5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Json,
    Binary,
    Grpc,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Binary => "binary",
            Self::Grpc => "gRPC",
        }
    }
}

#[derive(Serialize)]
struct Document {
    cores: usize,
    seconds_each: f64,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    protocol: Protocol,
    tensor_bytes: usize,
    connections: usize,
    satisfice: Measured,
    /// A server that answers with the body, or with the message's inputs, and does nothing else.
    limit: Measured,
    /// `MLServer`, which has no binary tensors over HTTP.
    peer: Option<Measured>,
}

pub(super) fn run(args: &BenchServer, output: Output) -> Result<()> {
    let seconds = args.seconds.unwrap_or(if args.quick { 0.5 } else { 2.0 });
    let connections: &[usize] = match args.quick {
        true => &[1, 64],
        false => &[1, 8, 64, 256],
    };
    let ours = Server::of_this_program(&["bench", "serve-identity"])?;
    let limit = Server::of_this_program(&["bench", "serve-echo"])?;
    let peer = args
        .against
        .as_deref()
        .map(|dir| Server::of_program(&dir.join("run")));
    let peer = peer.transpose()?;
    let runtime = runtime()?;
    let mut rows = Vec::new();
    for protocol in PROTOCOLS {
        for floats in [1, 1 << 18] {
            for &connections in connections {
                let load = Load {
                    connections,
                    warm_up: Duration::from_millis(300),
                    // What takes long is to be answered more than once.
                    duration: Duration::from_secs_f64(match floats {
                        1 => seconds,
                        _ => seconds.max(LARGE_SECONDS_MIN),
                    }),
                };
                let requests = Requests::new(protocol, floats)?;
                let measure = |server| runtime.block_on(requests.measure(server, load));
                rows.push(Row {
                    protocol,
                    tensor_bytes: 4 * floats,
                    connections,
                    limit: measure(&limit)?,
                    satisfice: measure(&ours)?,
                    peer: match protocol {
                        Protocol::Binary => None,
                        Protocol::Json | Protocol::Grpc => {
                            peer.as_ref().map(measure).transpose()?
                        }
                    },
                });
                if let Some(row) = rows.last() {
                    output.say(line(row).trim_end())?;
                }
            }
        }
    }
    let document = Document {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        seconds_each: seconds,
        rows,
    };
    output.print(&document, || {
        "requests a second, median and 99th percentile in microseconds; limit: a server that answers with the body\n".to_owned()
    })
}

/// One request, for either transport.
enum Requests {
    Http(HttpRequest),
    Grpc(GrpcRequest),
}

impl Requests {
    fn new(protocol: Protocol, floats: usize) -> Result<Self> {
        // Numbers as models give them: JSON has all their digits.
        let values = (0..floats).map(|i| (i as f32 * 0.618).sin()).collect();
        let request = InferRequest {
            inputs: vec![NamedTensor {
                name: "x".to_owned(),
                tensor: Tensor::new(vec![floats], TensorData::Fp32(values))?,
            }],
            ..InferRequest::default()
        };
        Ok(match protocol {
            Protocol::Json => Self::Http(HttpRequest::infer(IDENTITY, &request, Format::Json)?),
            Protocol::Binary => Self::Http(HttpRequest::infer(IDENTITY, &request, Format::Binary)?),
            Protocol::Grpc => Self::Grpc(GrpcRequest::infer(IDENTITY, &request)),
        })
    }

    async fn measure(&self, server: &Server, load: Load) -> Result<Measured> {
        Ok(match self {
            Self::Grpc(request) => grpc(server.grpc, request, load).await?,
            Self::Http(request) => http(server.http, request, load).await?,
        })
    }
}

fn line(row: &Row) -> String {
    let mut text = format!(
        "{:<6} {:>7} B {:>3} connections: {}",
        row.protocol.name(),
        row.tensor_bytes,
        row.connections,
        figures(&row.satisfice)
    );
    let mut compare = |name: &str, other: &Measured| {
        let ratio = row.satisfice.per_second / other.per_second;
        let _ = write!(text, " | {name} {} ({ratio:.2}x)", figures(other));
    };
    compare("limit", &row.limit);
    if let Some(peer) = &row.peer {
        compare("peer", peer);
    }
    text + "\n"
}

fn figures(measured: &Measured) -> String {
    let refused: u64 = measured.refused.values().sum();
    let mut text = format!(
        "{:.0}/s, {} and {} us",
        measured.per_second, measured.p50_us, measured.p99_us
    );
    if refused + measured.broken > 0 {
        let _ = write!(text, ", {refused} refused, {} broken", measured.broken);
    }
    text
}
