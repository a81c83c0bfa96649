//! Certificates of nodes: each shows its own, and believes those of the cluster's authority alone.

use crate::ClusterError;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Files of certificates; with them nodes speak TLS 1.3 with each other, and refuse whoever does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The node's certificate and those between it and the authority's (PEM). It names the host of the
    /// node's address, and may be shown by who calls and by who is called.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Certificates of the authorities that other nodes' certificates are believed of (PEM).
    pub ca: PathBuf,
}

impl TlsFiles {
    pub(crate) fn all(&mut self) -> [&mut PathBuf; 3] {
        [&mut self.certificate, &mut self.key, &mut self.ca]
    }
}

/// What connections are secured with, at either end.
#[derive(Debug)]
pub(crate) struct Tls {
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn open(files: &TlsFiles) -> Result<Self, ClusterError> {
        let TlsFiles {
            certificate,
            key,
            ca,
        } = files;
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
        let mut authorities = RootCertStore::empty();
        for authority in certificates(ca)? {
            authorities.add(authority).map_err(|e| wrong(ca, &e))?;
        }
        let authorities = Arc::new(authorities);
        let callers =
            WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider.clone());
        let callers = callers.build().map_err(|e| wrong(ca, &e))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| wrong(certificate, &e))?
            .with_client_cert_verifier(callers)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|e| wrong(certificate, &e))?;
        // Every connection begins with certificates, and after that only nodes' words are on it.
        server.send_tls13_tickets = 0;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| wrong(certificate, &e))?
            .with_root_certificates(authorities)
            .with_client_auth_cert(chain, key)
            .map_err(|e| wrong(certificate, &e))?;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

fn wrong(path: &Path, error: &dyn Display) -> ClusterError {
    ClusterError::Config {
        place: path.display().to_string(),
        message: error.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|e| wrong(path, &e))?;
    match chain.is_empty() {
        true => Err(wrong(path, &"no certificate")),
        false => Ok(chain),
    }
}
