//! Compiles the gRPC services, without `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["inference.proto", "health.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_transport(false)
        .bytes(".inference")
        .codec_path("crate::grpc::codec::BoundedCodec")
        .compile_fds(files)?;
    Ok(())
}
