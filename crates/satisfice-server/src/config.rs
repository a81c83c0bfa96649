//! How a server is set up: one TOML file, environment variables over it, flags over both.
//!
//! [`Config`] is what is in force; [`Layers`] puts it together and remembers where each value came
//! from. `docs/satisfice.example.toml` in the repository explains every key and states its default.

mod durations;
mod error;
mod layers;

pub(crate) use durations::{microseconds, milliseconds};
pub use error::ConfigError;
pub use layers::{Layers, Loaded, Source};

use crate::{Admission, Limits, VersionPolicy, repository::is_valid_name};
use serde::{Deserialize, Serialize, Serializer};
use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// Everything that an operator may set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP listener.
    pub http: HttpListener,
    /// The gRPC listener.
    pub grpc: GrpcListener,
    /// A listener for what changes the server. Without one, see [`Access`](crate::Access).
    pub admin: ExtraListener,
    /// A listener for `/metrics` alone, open to whoever reaches it.
    pub metrics: ExtraListener,
    /// Certificates of all listeners.
    pub tls: TlsFiles,
    /// Who may ask what.
    pub auth: AuthFile,
    /// What clients may use.
    pub limits: Limits,
    /// Where models are.
    pub repository: Repository,
    /// What is executed at once.
    pub schedule: Schedule,
    /// Settings of every model.
    pub model_defaults: ModelSettings,
    /// Settings of single models by name; what is absent is as in `model_defaults`.
    pub models: BTreeMap<String, ModelSettings>,
    /// What is logged.
    pub log: Log,
    /// Traces for OpenTelemetry.
    pub trace: Trace,
}

/// Where HTTP is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpListener {
    /// Address and port; 0 is any free port.
    pub listen: SocketAddr,
}

impl Default for HttpListener {
    fn default() -> Self {
        let listen = (Ipv4Addr::LOCALHOST, 8000).into();
        Self { listen }
    }
}

/// Where gRPC is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcListener {
    /// Address and port; 0 is any free port.
    pub listen: SocketAddr,
}

impl Default for GrpcListener {
    fn default() -> Self {
        let listen = (Ipv4Addr::LOCALHOST, 8001).into();
        Self { listen }
    }
}

/// A listener that need not be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtraListener {
    /// Address and port; there is no such listener when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// PEM files for TLS; plain text is spoken without them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate, then the intermediate ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Authorities one of which must have signed a client's certificate; clients need none when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Whoever has a token; the server does not start without `file`.
    Tokens,
    /// Everybody.
    Open,
}

/// Where the tokens are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthFile {
    /// Whether there are tokens; as `file` says when absent. A server that has tokens opens itself when it is told to
    /// with this key, not when `file` is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<AuthMode>,
    /// Tokens with their scopes, TOML or JSON; anybody may ask when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// The model repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
#[serde(default, deny_unknown_fields)]
pub struct Repository {
    /// A directory of model directories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Whether clients may load and unload.
    pub control: ModelControl,
    /// Start without recomputing the checksums of files.
    pub skip_checksums: bool,
    /// Take writes to the graphs of the models.
    pub live: bool,
    /// Seconds between two looks at the directory when it is polled; at least 1.
    pub poll_interval_s: u64,
    /// Have every model answer a small request before it is served. A model with a `warmup.json`, the body of
    /// a request, always answers that.
    pub warm_up: bool,
    /// End at the start when a model cannot be loaded, instead of serving the others.
    pub exit_on_error: bool,
    /// Not to be ready while a model could not be loaded, instead of ready for the others.
    pub strict_readiness: bool,
}

impl Default for Repository {
    fn default() -> Self {
        Self {
            path: None,
            control: ModelControl::default(),
            skip_checksums: false,
            live: false,
            poll_interval_s: 15,
            warm_up: false,
            exit_on_error: false,
            strict_readiness: false,
        }
    }
}

/// What is executed at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Cores that are handed out over all models, 1 to 64; those of the machine when absent, and at least 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executors: Option<usize>,
}

/// Who says which models are served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelControl {
    /// What is in the repository at the start is served, for good.
    #[default]
    None,
    /// What is in the repository at the start is served until a client says otherwise.
    Explicit,
    /// The repository is looked at again and again: what is new or has changed is loaded, what has
    /// gone is unloaded. A model that cannot be loaded is served as it was.
    Poll,
}

/// How one model is served.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// What each of its versions takes on at once.
    pub admission: Admission,
    /// Which of its versions are served: `latest`, `latest:N`, `all`, or numbers separated by commas.
    /// Requests that name no version get the highest.
    pub versions: VersionPolicy,
}

/// What is logged, on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least grave events that are logged.
    pub level: Level,
    /// Lines for people or JSON for programs.
    pub format: LogFormat,
    /// One line for every request.
    pub access: bool,
    /// Requests that take at least as many milliseconds are logged as warnings, even without
    /// `access`; 0 is never.
    pub slow_ms: u64,
    /// Whether the client's address is in the line.
    pub client_address: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Level::Info,
            format: LogFormat::Text,
            access: false,
            slow_ms: 0,
            client_address: true,
        }
    }
}

/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed that should not.
    Error,
    /// Something that an operator should look at.
    Warn,
    /// What the server does.
    Info,
    /// Refused requests and broken connections.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The level's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Traces, sent by OTLP over HTTP in protobuf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// The collector, such as `http://127.0.0.1:4318/v1/traces`; nothing is traced when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// One request in so many is traced, beside those that a client has sampled; 0 is only those.
    pub rate: u32,
    /// What the server is called in traces.
    pub service_name: String,
    /// Headers for the collector, such as its key.
    pub headers: BTreeMap<String, Secret>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            endpoint: None,
            rate: 1000,
            service_name: "satisfice".to_owned(),
            headers: BTreeMap::new(),
        }
    }
}

/// A text that is neither logged nor shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    const HIDDEN: &str = "[redacted]";

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Self::HIDDEN)
    }
}

impl Config {
    /// Refuses what is well-formed but makes no sense.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.check_tls()?;
        self.check_auth()?;
        self.check_listeners()?;
        self.check_limits()?;
        self.check_models()?;
        self.check_trace()?;
        match self.models.keys().find(|name| !is_valid_name(name)) {
            None => Ok(()),
            Some(name) => Err(ConfigError::value(
                format!("models.{name}"),
                "this is not a model name",
                "names are 1 to 255 of A-Z, a-z, 0-9, `.`, `_` and `-`, not starting with `.`",
            )),
        }
    }

    fn check_tls(&self) -> Result<(), ConfigError> {
        let TlsFiles {
            certificate,
            key,
            client_ca,
        } = &self.tls;
        match (certificate, key, client_ca) {
            (Some(_), None, _) => Err(ConfigError::value(
                "tls.certificate",
                "there is a certificate but no key",
                "set `tls.key` to the certificate's private key",
            )),
            (None, Some(_), _) => Err(ConfigError::value(
                "tls.key",
                "there is a key but no certificate",
                "set `tls.certificate`",
            )),
            (None, None, Some(_)) => Err(ConfigError::value(
                "tls.client_ca",
                "clients cannot show certificates without TLS",
                "set `tls.certificate` and `tls.key`",
            )),
            _ => Ok(()),
        }
    }

    fn check_auth(&self) -> Result<(), ConfigError> {
        match (self.auth.mode, &self.auth.file) {
            (Some(AuthMode::Open), Some(_)) => Err(ConfigError::value(
                "auth.mode",
                "`open` lets everybody ask, but there is a file with tokens",
                "leave out one of `auth.mode` and `auth.file`",
            )),
            (Some(AuthMode::Tokens), None) => Err(ConfigError::value(
                "auth.mode",
                "there are no tokens",
                "set `auth.file`",
            )),
            _ => Ok(()),
        }
    }

    /// Where the server listens, by key.
    pub(crate) fn listeners(&self) -> [(&'static str, Option<SocketAddr>); 4] {
        [
            ("http.listen", Some(self.http.listen)),
            ("grpc.listen", Some(self.grpc.listen)),
            ("admin.listen", self.admin.listen),
            ("metrics.listen", self.metrics.listen),
        ]
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        let mut taken = BTreeMap::new();
        for (key, address) in self.listeners() {
            let Some(address) = address.filter(|address| address.port() != 0) else {
                continue;
            };
            if let Some(other) = taken.insert(address, key) {
                return Err(ConfigError::value(
                    key,
                    format!("{address} is taken by `{other}`"),
                    "give each listener a port of its own",
                ));
            }
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let positive = [
            ("limits.body_bytes_max", limits.body_bytes_max > 0),
            ("limits.connections_max", limits.connections_max > 0),
            ("limits.headers_max", limits.headers_max > 0),
            ("limits.uri_bytes_max", limits.uri_bytes_max > 0),
            (
                "limits.decompression_ratio_max",
                limits.decompression_ratio_max > 0,
            ),
            (
                "limits.header_read_timeout_ms",
                !limits.header_read_timeout.is_zero(),
            ),
            ("limits.idle_timeout_ms", !limits.idle_timeout.is_zero()),
            (
                "limits.connections_per_address_max",
                limits.connections_per_address_max != Some(0),
            ),
            (
                "limits.body_read_timeout_ms",
                !limits.body_read_timeout.is_zero(),
            ),
            ("limits.write_timeout_ms", !limits.write_timeout.is_zero()),
            (
                "limits.tls_handshake_timeout_ms",
                !limits.tls_handshake_timeout.is_zero(),
            ),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, positive)| !positive) {
            let hint = "leave it out for the default";
            return Err(ConfigError::value(*key, "0 would let nothing in", hint));
        }
        if limits.header_bytes_max < Limits::HEADER_BYTES_MIN {
            let message = format!("less than {} cannot be kept", Limits::HEADER_BYTES_MIN);
            let hint = "leave it out for the default";
            return Err(ConfigError::value("limits.header_bytes_max", message, hint));
        }
        Ok(())
    }

    fn check_models(&self) -> Result<(), ConfigError> {
        let named = self.models.iter();
        let named = named.map(|(name, settings)| (format!("models.{name}"), settings));
        let defaults = ("model_defaults".to_owned(), &self.model_defaults);
        for (key, settings) in std::iter::once(defaults).chain(named) {
            let Admission {
                share, audit_share, ..
            } = settings.admission;
            let hint = "leave it out for the default";
            if !(share > 0.0 && share.is_finite()) {
                let key = format!("{key}.admission.share");
                return Err(ConfigError::value(key, "a share is above 0", hint));
            }
            if !(0.0..=1.0).contains(&audit_share) {
                let key = format!("{key}.admission.audit_share");
                return Err(ConfigError::value(key, "this share is from 0 to 1", hint));
            }
        }
        Ok(())
    }

    fn check_trace(&self) -> Result<(), ConfigError> {
        match &self.trace.endpoint {
            Some(endpoint) if !endpoint.starts_with("http://") => Err(ConfigError::value(
                "trace.endpoint",
                format!("`{endpoint}` is not an http:// address"),
                "send traces to a collector on this machine or network, such as http://127.0.0.1:4318/v1/traces",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
