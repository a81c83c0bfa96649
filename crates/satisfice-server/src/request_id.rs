//! A name for every request, in the answer and in the log.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tracing::Instrument;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const LENGTH_MAX: usize = 128;

/// Labels the request with its own id, or one made here.
pub(crate) async fn label(request: Request, next: Next) -> Response {
    let id = match request.headers().get(HEADER) {
        Some(id) if id.len() <= LENGTH_MAX && id.to_str().is_ok() => id.clone(),
        _ => next_id(),
    };
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
    );
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(HEADER, id);
    response
}

/// Different in every process and for every request.
fn next_id() -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u8));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::from_str(&format!("{:016x}-{count}", *PROCESS))
        .expect("invariant: hexadecimal digits, a dash and digits are a header value")
}
