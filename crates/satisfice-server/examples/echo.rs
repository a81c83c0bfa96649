//! Serves an engine that answers with its own inputs, at 127.0.0.1:8000 or the address given.
//!
//! ```sh
//! cargo run -p satisfice-server --example echo
//! curl http://127.0.0.1:8000/v2/models/echo/infer -d '{"inputs": [
//!   {"name": "x", "datatype": "FP32", "shape": [2], "data": [0.5, 1]}]}'
//! ```

use satisfice_core::{
    DataType, Engine, Error, InferRequest, InferResponse, ModelMetadata, NamedTensor, Parameters,
    TensorSpec,
};
use satisfice_server::{Admission, Limits, Models, Service, serve};
use std::sync::Arc;

/// Answers with its inputs: `x`, numbers, and `text`, strings.
struct Echo(ModelMetadata);

impl Echo {
    fn new() -> Self {
        let spec = |name: &str, datatype| TensorSpec {
            name: name.to_owned(),
            datatype,
            shape: vec![-1],
            labels: None,
        };
        let specs = vec![spec("x", DataType::Fp32), spec("text", DataType::Bytes)];
        Self(ModelMetadata {
            platform: "echo".to_owned(),
            inputs: specs.clone(),
            outputs: specs,
        })
    }
}

impl Engine for Echo {
    fn metadata(&self) -> &ModelMetadata {
        &self.0
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let wanted = |input: &&NamedTensor| {
            request.outputs.is_empty() || request.outputs.contains(&input.name)
        };
        Ok(InferResponse {
            outputs: request.inputs.iter().filter(wanted).cloned().collect(),
            parameters: Parameters::new(),
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:8000");
    let mut models = Models::new();
    models.insert("echo", 1, Arc::new(Echo::new()))?;
    let service = Arc::new(Service::new(models, Admission::default()));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    serve(listener, service, Limits::default(), std::future::pending()).await?;
    Ok(())
}
