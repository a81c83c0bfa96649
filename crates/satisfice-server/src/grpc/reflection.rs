//! The services' own description, for clients that come without it.

use super::proto::DESCRIPTORS;
use tonic_reflection::server::{Builder, v1, v1alpha};

/// The service as it is now.
pub(super) fn v1() -> v1::ServerReflectionServer<impl v1::ServerReflection> {
    builder()
        .build_v1()
        .expect("invariant: the descriptors were made with the code")
}

/// The service as older clients know it.
pub(super) fn v1alpha() -> v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection> {
    builder()
        .build_v1alpha()
        .expect("invariant: the descriptors were made with the code")
}

fn builder() -> Builder<'static> {
    Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS)
}
