//! TLS on the listeners: certificates, and reading them anew.

use crate::config::TlsFiles;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};
use tokio_rustls::TlsAcceptor;

/// Certificates that cannot be used. Every variant is the operator's mistake.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read or is no PEM file with what it should hold.
    #[error("{path}: {source}", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("{path}: no certificate", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not go together, or are of a kind that is not supported.
    #[error("{path}: {source}", path = .path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The authorities for clients' certificates cannot be used.
    #[error("{path}: {message}", path = .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: String,
    },
}

/// What is spoken within TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// HTTP/2, or HTTP/1.1 with clients that know no other.
    Both,
    Http2,
}

impl Alpn {
    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Both => &[b"h2", b"http/1.1"],
            Self::Http2 => &[b"h2"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// The certificates in force. Connections keep those that they began with.
#[derive(Debug)]
pub struct Tls(RwLock<Arc<ServerConfig>>);

impl Tls {
    /// Reads certificates; nothing when none are named.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn open(files: &TlsFiles) -> Result<Option<Self>, TlsError> {
        Ok(read(files)?.map(|config| Self(RwLock::new(Arc::new(config)))))
    }

    /// Puts other certificates in force for connections to come.
    pub(crate) fn replace(&self, other: Self) {
        let config = other.0.into_inner();
        let config = config.unwrap_or_else(PoisonError::into_inner);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// What a new connection is accepted with.
    pub(crate) fn acceptor(&self, alpn: Alpn) -> TlsAcceptor {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut config = ServerConfig::clone(&config);
        config.alpn_protocols = alpn.names();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn read(files: &TlsFiles) -> Result<Option<ServerConfig>, TlsError> {
    let (Some(certificate), Some(key)) = (&files.certificate, &files.key) else {
        return Ok(None);
    };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem {
        path: key.clone(),
        source,
    })?;
    let wrong = |source| TlsError::Certificate {
        path: certificate.clone(),
        source,
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(verifier(path)?),
    };
    builder
        .with_single_cert(chain, key)
        .map(Some)
        .map_err(wrong)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem {
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(wrong)?;
    if chain.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(chain)
}

fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let wrong = |message: String| TlsError::Authorities {
        path: path.to_owned(),
        message,
    };
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = authorities.add(certificate);
        added.map_err(|error| wrong(error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
        .build()
        .map_err(|error: VerifierBuilderError| wrong(error.to_string()))
}
