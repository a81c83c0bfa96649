//! TLS on both transports, with certificates made on the spot.

use crate::client::{Answer, Server, post};
use crate::grpc::Client;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use satisfice_server::{Front, Limits, Tls, config::TlsFiles, grpc::proto::ServerReadyRequest};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const EMPTY: &[u8] = br#"{"inputs":[]}"#;

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in DER.
#[derive(Clone)]
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    pem: String,
    key_pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn sign(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// A client that trusts this authority, and may show a certificate.
    fn client(&self, identity: Option<&Identity>, alpn: &str) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.clone()));
                let chain = vec![identity.certificate.clone()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config
    }
}

/// A server with a certificate, of clients too if they are to have one.
struct Secure {
    dir: TempDir,
    files: TlsFiles,
    authority: Authority,
}

impl Secure {
    fn new(client_authority: Option<&Authority>) -> Self {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let files = TlsFiles {
            certificate: Some(path("server.pem")),
            key: Some(path("server.key")),
            client_ca: client_authority.map(|_| path("clients.pem")),
        };
        if let Some(authority) = client_authority {
            fs::write(path("clients.pem"), authority.0.pem()).unwrap();
        }
        let authority = Authority::new();
        let secure = Self {
            dir,
            files,
            authority,
        };
        secure.write(&secure.authority.sign("localhost"));
        secure
    }

    fn write(&self, identity: &Identity) {
        fs::write(self.dir.path().join("server.pem"), &identity.pem).unwrap();
        fs::write(self.dir.path().join("server.key"), &identity.key_pem).unwrap();
    }

    fn tls(&self) -> Tls {
        Tls::open(&self.files).unwrap().unwrap()
    }

    fn server(&self, limits: Limits) -> Server {
        Server::behind(Front::new(limits).with_tls(Arc::new(self.tls())))
    }
}

fn ask(server: &Server, config: ClientConfig) -> Result<Answer, std::io::Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, server.connect());
    stream.write_all(&post("/v2/models/echo/infer", "", EMPTY))?;
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => Ok(Answer::parse(&bytes)),
        Err(error) => Err(error),
    }
}

#[test]
fn http_within_tls() {
    let secure = Secure::new(None);
    let server = secure.server(Limits::default());
    let client = secure.authority.client(None, "http/1.1");
    assert_eq!(ask(&server, client).unwrap().status, 200);
    // Whoever trusts another authority does not talk to us.
    assert!(ask(&server, Authority::new().client(None, "http/1.1")).is_err());
}

#[test]
fn plain_text_is_not_answered() {
    let secure = Secure::new(None);
    let server = secure.server(Limits::default());
    for address in [server.address, server.grpc_address] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n")
            .unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    }
}

#[test]
fn slow_handshakes_are_cut_off() {
    let secure = Secure::new(None);
    let limits = Limits {
        tls_handshake_timeout: Duration::from_millis(200),
        connections_max: 1,
        ..Limits::default()
    };
    let server = secure.server(limits);
    for address in [server.address, server.grpc_address] {
        // One that says nothing, one that says the beginning of a greeting a byte at a time.
        let mut silent = TcpStream::connect(address).unwrap();
        silent
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let begun = Instant::now();
        let _ = silent.read_to_end(&mut Vec::new());
        assert!(begun.elapsed() < Duration::from_secs(10));
        let mut slow = TcpStream::connect(address).unwrap();
        let begun = Instant::now();
        let bytes = [&[22, 3, 1, 2, 0][..], &[0; 512]].concat();
        for byte in bytes {
            if slow.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(begun.elapsed() < Duration::from_secs(9));
    }
    // Their places are free again.
    let client = secure.authority.client(None, "http/1.1");
    assert_eq!(ask(&server, client).unwrap().status, 200);
}

#[test]
fn clients_show_certificates() {
    let (clients, others) = (Authority::new(), Authority::new());
    let secure = Secure::new(Some(&clients));
    let server = secure.server(Limits::default());
    let client = |identity| secure.authority.client(identity, "http/1.1");
    let identity = clients.sign("client");
    assert_eq!(ask(&server, client(Some(&identity))).unwrap().status, 200);
    assert!(ask(&server, client(None)).is_err());
    assert!(ask(&server, client(Some(&others.sign("client")))).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_within_tls() {
    let secure = Secure::new(None);
    let server = secure.server(Limits::default());
    let ready = async |config: ClientConfig, address| {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let connect = tower::service_fn(move |_: tonic::transport::Uri| {
            let connector = connector.clone();
            async move {
                let stream = tokio::net::TcpStream::connect(address).await?;
                let name = ServerName::try_from("localhost").unwrap();
                let stream = connector.connect(name, stream).await?;
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connect).await?;
        let answer = Client::new(channel)
            .server_ready(ServerReadyRequest {})
            .await;
        Ok::<_, tonic::transport::Error>(answer.unwrap().into_inner().ready)
    };
    // The HTTP listener speaks it too, with who asks for it.
    for address in [server.grpc_address, server.address] {
        let client = secure.authority.client(None, "h2");
        assert!(ready(client, address).await.unwrap());
        let stranger = Authority::new().client(None, "h2");
        assert!(ready(stranger, address).await.is_err());
    }
}

#[test]
fn wrong_files_are_named() {
    let secure = Secure::new(Some(&Authority::new()));
    let other = Authority::new().sign("localhost");
    let open = || Tls::open(&secure.files).unwrap_err().to_string();
    let path = |name| secure.dir.path().join(name);
    fs::write(path("server.key"), &other.key_pem).unwrap();
    assert!(open().contains("server.pem"), "{}", open());
    fs::write(path("server.key"), "no key").unwrap();
    assert!(open().contains("server.key"), "{}", open());
    secure.write(&secure.authority.sign("localhost"));
    fs::write(path("clients.pem"), "").unwrap();
    assert!(open().contains("clients.pem: no certificate"), "{}", open());
    fs::remove_file(path("server.pem")).unwrap();
    assert!(open().contains("server.pem"), "{}", open());
}
