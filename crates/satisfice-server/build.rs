//! Compiles the gRPC services, without `protoc`.

use protox::prost::Message;
use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(
        ["inference.proto", "graph.proto", "health.proto"],
        ["proto"],
    )?;
    let out = env::var("OUT_DIR")?;
    fs::write(
        Path::new(&out).join("descriptors.bin"),
        files.encode_to_vec(),
    )?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_transport(false)
        .bytes(".inference")
        .codec_path("crate::grpc::codec::BoundedCodec")
        .compile_fds(files)?;
    Ok(())
}
