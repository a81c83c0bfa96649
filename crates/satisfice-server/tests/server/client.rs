//! A server in a thread, and a client that sends exactly the bytes it is given.

use crate::engines::{Echo, Failing, Gate};
use futures_util::FutureExt;
use satisfice_server::{Admission, Front, Limits, Loader, Models, Service, grpc, serve};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::oneshot;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) grpc_address: SocketAddr,
    pub(crate) gate: Arc<Gate>,
    pub(crate) service: Arc<Service>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(Admission::default(), Limits::default())
    }

    /// Serves `echo` (versions 2 and 10), `failing` and `gate`.
    pub(crate) fn with(admission: Admission, limits: Limits) -> Self {
        Self::controlled(admission, limits, None)
    }

    /// The same behind a front of one's own.
    pub(crate) fn behind(front: Front) -> Self {
        Self::build(Admission::default(), front, None)
    }

    /// The same with model control.
    pub(crate) fn controlled(
        admission: Admission,
        limits: Limits,
        loader: Option<Arc<dyn Loader>>,
    ) -> Self {
        Self::build(admission, Front::new(limits), loader)
    }

    /// Serves other models as well.
    pub(crate) fn serving(front: Front, models: Models) -> Self {
        Self::of(models, Admission::default(), front, None)
    }

    fn build(admission: Admission, front: Front, loader: Option<Arc<dyn Loader>>) -> Self {
        Self::of(Models::new(), admission, front, loader)
    }

    fn of(
        mut models: Models,
        admission: Admission,
        front: Front,
        loader: Option<Arc<dyn Loader>>,
    ) -> Self {
        let gate = Gate::new();
        models.insert("echo", 10, Echo::new()).unwrap();
        models.insert("echo", 2, Echo::new()).unwrap();
        models.insert("failing", 1, Failing::new()).unwrap();
        models.insert("gate", 1, gate.clone()).unwrap();
        let service = Service::new(models, admission);
        let service = Arc::new(match loader {
            None => service,
            Some(loader) => service.with_loader(loader),
        });
        let (stop, stopped) = oneshot::channel();
        let (address, bound) = mpsc::channel();
        let served = Arc::clone(&service);
        let thread = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let bind = || tokio::net::TcpListener::bind("127.0.0.1:0");
                let (http, grpc) = (bind().await.unwrap(), bind().await.unwrap());
                for listener in [&http, &grpc] {
                    address.send(listener.local_addr().unwrap()).unwrap();
                }
                let stopped = async { drop(stopped.await) }.shared();
                tokio::try_join!(
                    serve(http, Arc::clone(&served), front.clone(), stopped.clone()),
                    grpc::serve(grpc, served, front, stopped),
                )
                .unwrap();
            });
        });
        Self {
            address: bound.recv().unwrap(),
            grpc_address: bound.recv().unwrap(),
            gate,
            service,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Sends bytes, reads to the end of the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        Answer::read(&mut stream)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes())
    }

    pub(crate) fn post(&self, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.raw(&post(path, headers, body))
    }

    pub(crate) fn infer(&self, model: &str, body: &str) -> Answer {
        self.post(&format!("/v2/models/{model}/infer"), "", body.as_bytes())
    }

    /// Sends a request and leaves the connection open, the answer unread.
    pub(crate) fn begin(&self, model: &str, body: &str) -> TcpStream {
        let mut stream = self.connect();
        let bytes = post(&format!("/v2/models/{model}/infer"), "", body.as_bytes());
        stream.write_all(&bytes).unwrap();
        stream
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for the server's end.
    pub(crate) fn join(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gate.open();
        self.stop();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

/// A request whose connection ends with it; `headers` are whole lines.
pub(crate) fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads to the end of the connection; status 0 when there was nothing.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes); // a reset after the answer is no failure here
        Self::parse(&bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let (head, body) = match end {
            Some(end) => (&bytes[..end], &bytes[end + 4..]),
            None => (bytes, &[][..]),
        };
        let head = String::from_utf8(head.to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.map_or(0, |status| status.parse().unwrap()),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn json_length(&self) -> Option<usize> {
        self.header("inference-header-content-length")
            .map(|length| length.parse().unwrap())
    }

    /// Checks that this is an error with this status and code, and gives its message and hint.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> String {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json = self.json();
        assert_eq!(json["code"], code, "{text}");
        assert!(json["error"].is_string());
        assert_eq!(
            self.header("retry-after"),
            (status == 503).then_some("1"),
            "{text}"
        );
        format!(
            "{} {}",
            json["error"].as_str().unwrap(),
            json["hint"].as_str().unwrap_or_default()
        )
    }
}
