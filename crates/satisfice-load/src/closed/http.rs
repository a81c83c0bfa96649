//! HTTP/1.1 with the least that a client can do.

use crate::{
    LoadError,
    closed::measured::{Load, Measured, Tally},
};
use satisfice_core::InferRequest;
use satisfice_server::protocol::{
    Encoded, JSON_LENGTH_HEADER,
    client::{Format, encode_request},
};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Largest head of an answer that is read, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Pause after a broken connection, or a refusal: a client that is told so does not try at once.
const PAUSE: Duration = Duration::from_millis(1);

/// A request with its head, as it goes over the wire.
#[derive(Debug, Clone)]
pub struct HttpRequest(Arc<[u8]>);

impl HttpRequest {
    /// An inference request to `model`; every number of the answer is asked for in the same format.
    ///
    /// # Errors
    /// What cannot be encoded.
    pub fn infer(model: &str, request: &InferRequest, format: Format) -> Result<Self, LoadError> {
        let Encoded { body, json_length } = encode_request(request, None, format)?;
        let length = json_length.map(|length| format!("{JSON_LENGTH_HEADER}: {length}\r\n"));
        let path = format!("/v2/models/{model}/infer");
        Ok(Self::post(&path, &length.unwrap_or_default(), &body))
    }

    /// Any POST; `headers` are whole lines.
    pub fn post(path: &str, headers: &str, body: &[u8]) -> Self {
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Self(bytes.into())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What there is to know of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Length of its body, in bytes.
    pub body_bytes: usize,
    /// Whether the server closes the connection.
    pub closes: bool,
}

/// Sends `request` over every connection again and again.
///
/// # Errors
/// When the server cannot be reached at all.
///
/// # Panics
/// Where the runtime ends meanwhile.
pub async fn http(
    address: SocketAddr,
    request: &HttpRequest,
    load: Load,
) -> Result<Measured, LoadError> {
    // Refused here once rather than by every connection.
    drop(connect(address).await?);
    let now = Instant::now();
    let clients: Vec<_> = (0..load.connections)
        .map(|_| {
            let (request, tally) = (request.clone(), Tally::new(load, now));
            tokio::spawn(client(address, request, tally))
        })
        .collect();
    let mut tallies = Vec::with_capacity(clients.len());
    for client in clients {
        tallies.push(client.await.expect("invariant: a client does not panic"));
    }
    Ok(Tally::sum(load, tallies))
}

pub(crate) async fn connect(address: SocketAddr) -> Result<TcpStream, LoadError> {
    let io = |source| LoadError::Io { address, source };
    let stream = TcpStream::connect(address).await.map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    Ok(stream)
}

/// One request and its answer; the reply says that the connection closes also where not all of the request was taken.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    request: &HttpRequest,
    buffer: &mut [u8],
) -> Result<Reply, LoadError> {
    let (mut reader, mut writer) = stream.split();
    // A large request is answered while it is still being sent if it is refused.
    let (written, reply) = tokio::join!(
        writer.write_all(request.bytes()),
        read_reply(&mut reader, buffer)
    );
    let mut reply = reply?;
    reply.closes |= written.is_err();
    Ok(reply)
}

async fn client(address: SocketAddr, request: HttpRequest, mut tally: Tally) -> Tally {
    let mut buffer = vec![0; HEAD_BYTES_MAX];
    while tally.goes_on(Instant::now()) {
        match connect(address).await {
            Ok(stream) => {
                if converse(stream, &request, &mut buffer, &mut tally)
                    .await
                    .is_err()
                {
                    tally.broke();
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    tally
}

async fn converse(
    mut stream: TcpStream,
    request: &HttpRequest,
    buffer: &mut [u8],
    tally: &mut Tally,
) -> Result<(), LoadError> {
    while tally.goes_on(Instant::now()) {
        let sent = Instant::now();
        let reply = exchange(&mut stream, request, buffer).await?;
        tally.add(sent, reply.status);
        if reply.closes {
            return Ok(());
        }
        if reply.status != 200 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Reads one answer and forgets its body. `buffer` has to hold the head.
///
/// # Errors
/// When the connection breaks, and for what is no HTTP/1.1 with a length.
pub async fn read_reply(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut [u8],
) -> Result<Reply, LoadError> {
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            return Err(not_http(buffer));
        }
        let read = stream.read(&mut buffer[filled..]).await;
        let count = match read.map_err(LoadError::Broken)? {
            0 => return Err(LoadError::Broken(io::ErrorKind::UnexpectedEof.into())),
            count => count,
        };
        let from = filled.saturating_sub(3);
        filled += count;
        if let Some(end) = find(&buffer[from..filled], b"\r\n\r\n") {
            let head = from + end + 4;
            let reply = parse(&buffer[..head]).ok_or_else(|| not_http(&buffer[..head]))?;
            skip(
                stream,
                buffer,
                (reply.body_bytes + head).saturating_sub(filled),
            )
            .await
            .map_err(LoadError::Broken)?;
            return Ok(reply);
        }
    }
}

async fn skip(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut [u8],
    mut rest: usize,
) -> io::Result<()> {
    while rest > 0 {
        let most = rest.min(buffer.len());
        match stream.read(&mut buffer[..most]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => rest -= count,
        }
    }
    Ok(())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn parse(head: &[u8]) -> Option<Reply> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.1 ")?
        .get(..3)?
        .parse()
        .ok()?;
    let mut reply = Reply {
        status,
        body_bytes: 0,
        closes: false,
    };
    let mut has_length = status == 204;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            reply.body_bytes = value.trim().parse().ok()?;
            has_length = true;
        } else if name.eq_ignore_ascii_case("connection") {
            reply.closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    has_length.then_some(reply)
}

fn not_http(head: &[u8]) -> LoadError {
    let head = &head[..head.len().min(200)];
    LoadError::NotHttp {
        head: String::from_utf8_lossy(head).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_read_to_their_end() {
        let answers = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello\
            HTTP/1.1 503 Busy\r\nContent-Length:2\r\nConnection: close\r\n\r\nno";
        let mut buffer = [0; 80];
        // One byte at a time is the hardest.
        let (mut one, mut server) = tokio::io::duplex(1);
        tokio::spawn(async move { server.write_all(answers).await });
        let reply = read_reply(&mut one, &mut buffer).await.unwrap();
        assert_eq!(
            (reply.status, reply.body_bytes, reply.closes),
            (200, 5, false)
        );
        let reply = read_reply(&mut one, &mut buffer).await.unwrap();
        assert_eq!(
            (reply.status, reply.body_bytes, reply.closes),
            (503, 2, true)
        );
        assert!(read_reply(&mut one, &mut buffer).await.is_err());
    }

    #[tokio::test]
    async fn other_answers_are_errors() {
        for wrong in [
            "",
            "HTTP/1.1 200 OK\r\n\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        ] {
            let reply = read_reply(&mut wrong.as_bytes(), &mut [0; 100]).await;
            assert!(reply.is_err(), "{wrong}");
        }
        let long = "HTTP/1.1 200 OK\r\nX: ".to_owned() + &"x".repeat(1000);
        assert!(
            read_reply(&mut long.as_bytes(), &mut [0; 100])
                .await
                .is_err()
        );
    }
}
