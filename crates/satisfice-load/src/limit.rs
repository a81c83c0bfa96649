use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};
use std::io;
use tokio::net::TcpListener;

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
