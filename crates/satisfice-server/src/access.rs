//! Who may ask what: tokens with scopes, and where the server may be changed from.
//!
//! | what | who may |
//! |---|---|
//! | the server's health and readiness, the OpenAPI document, the form of the page at `/` | everybody |
//! | the server's metadata, index and statistics, about models in scope | any token |
//! | a model's readiness, metadata, configuration, statistics, inference | a token with that model in `models` |
//! | how a graph stands | a token that may write to it, or with a model of it in `models` |
//! | writes to a graph | a token with that graph in `write` |
//! | load, unload, log and trace settings | a token with `admin` |
//! | `/metrics` on the HTTP listener | a token with `metrics` or `admin` |
//!
//! Without tokens everybody may do everything, but what changes the server is then only on the
//! admin listener, or, where there is none, on listeners bound to loopback; and graphs are then
//! written to by way of listeners bound to loopback alone.

mod expiry;
mod tokens;

pub use expiry::Expiry;
pub use tokens::{TokensError, new_token};

use crate::{
    clip::clip,
    config::{AuthFile, Config},
};
use axum::http::HeaderMap;
use satisfice_core::{Error, ErrorKind};
use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};
use tokens::{Token, Tokens};

/// Time before a token's end from which the log says so.
const WARN_BEFORE: Duration = Duration::from_hours(14 * 24);

/// The tokens in force.
#[derive(Debug, Default)]
pub struct Access {
    tokens: RwLock<Option<Arc<Tokens>>>,
    /// Whether there is a listener for what changes the server.
    admin_listener: bool,
    /// Whether there is a listener for metrics.
    metrics_listener: bool,
}

impl Access {
    /// Access as it is configured.
    ///
    /// # Errors
    /// [`TokensError`] when the file with the tokens cannot be used.
    pub fn open(config: &Config) -> Result<Self, TokensError> {
        Ok(Self {
            tokens: RwLock::new(read(&config.auth)?),
            admin_listener: config.admin.listen.is_some(),
            metrics_listener: config.metrics.listen.is_some(),
        })
    }

    /// Puts other tokens in force; what listeners there are stays as it was.
    pub(crate) fn replace(&self, other: Self) {
        let tokens = other.tokens.into_inner();
        let tokens = tokens.unwrap_or_else(PoisonError::into_inner);
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Who sent these headers. A wrong token is nobody, even where everybody may ask.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Caller {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let Some(tokens) = &*tokens else {
            return Caller::Everybody;
        };
        match presented(headers) {
            Err(error) => Caller::Nobody(error),
            Ok(text) => match tokens.find(text) {
                Some(token) => unless_expired(token),
                None => Caller::Nobody(unauthenticated(
                    "unknown_token",
                    "the token is not one that this server knows",
                )),
            },
        }
    }

    /// Names of the tokens that end, in the order of the file, and when.
    pub fn expiries(&self) -> Vec<(String, Expiry)> {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let tokens = tokens.iter().flat_map(|tokens| tokens.iter());
        tokens
            .filter_map(|token| Some((token.name.clone(), token.expires?)))
            .collect()
    }

    /// Logs which tokens have expired or soon will.
    pub(crate) fn warn_of_expiry(&self) {
        for (token, expires) in self.expiries() {
            match expires.left(SystemTime::now()) {
                None => {
                    tracing::warn!(token, %expires, "a token has expired: its holders are refused");
                }
                Some(left) if left < WARN_BEFORE => tracing::warn!(
                    token,
                    %expires,
                    days_left = left.as_secs() / (24 * 3_600),
                    "a token expires soon: give its holders another one"
                ),
                Some(_) => {}
            }
        }
    }

    /// Whether the server may be changed by way of a listener at all.
    pub(crate) fn admin_at(&self, role: Role, address: Option<SocketAddr>) -> AdminPlace {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        match role {
            Role::Admin => AdminPlace::Here,
            Role::Main if self.admin_listener => AdminPlace::Elsewhere,
            Role::Main if tokens.is_some() => AdminPlace::Here,
            Role::Main if address.is_some_and(|address| address.ip().is_loopback()) => {
                AdminPlace::Here
            }
            Role::Main | Role::Metrics => AdminPlace::Nowhere,
        }
    }

    /// Whether graphs may be written to by way of a listener at all.
    pub(crate) fn write_at(&self, address: Option<SocketAddr>) -> WritePlace {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let is_loopback = address.is_some_and(|address| address.ip().is_loopback());
        match tokens.is_some() || is_loopback {
            true => WritePlace::Here,
            false => WritePlace::Nowhere,
        }
    }

    /// Whether a caller may read metrics by way of a listener.
    pub(crate) fn check_metrics(&self, role: Role, caller: &Caller) -> Result<(), Error> {
        match role {
            Role::Metrics => Ok(()),
            Role::Main if self.metrics_listener => Err(forbidden(
                "metrics_elsewhere",
                "metrics have a listener of their own",
            )
            .with_hint("ask at the address of `metrics.listen`")),
            Role::Main | Role::Admin => caller.check_metrics(),
        }
    }
}

/// The caller with this token. That it has expired is told to who holds it, and nobody else can ask.
fn unless_expired(token: Arc<Token>) -> Caller {
    match token.expires {
        Some(expires) if expires.left(SystemTime::now()).is_none() => Caller::Nobody(
            unauthenticated("token_expired", &format!("the token expired on {expires}"))
                .with_hint("ask whoever gave it to you for another one"),
        ),
        _ => Caller::Token(token),
    }
}

fn read(file: &AuthFile) -> Result<Option<Arc<Tokens>>, TokensError> {
    let tokens = file.file.as_deref().map(Tokens::read).transpose()?;
    Ok(tokens.map(Arc::new))
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Inference and everything around it.
    Main,
    /// What changes the server, and health.
    Admin,
    /// Metrics, and nothing else.
    Metrics,
}

/// Where what changes the server is reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminPlace {
    Here,
    Elsewhere,
    Nowhere,
}

impl AdminPlace {
    fn check(self) -> Result<(), Error> {
        match self {
            Self::Here => Ok(()),
            Self::Elsewhere => Err(forbidden(
                "admin_elsewhere",
                "this server is changed by way of its admin listener",
            )
            .with_hint("ask at the address of `admin.listen`")),
            Self::Nowhere => Err(forbidden(
                "admin_closed",
                "this server is not changed by way of a listener that others can reach",
            )
            .with_hint("configure `auth.file`, or `admin.listen`")),
        }
    }
}

/// Whether graphs may be written to by way of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WritePlace {
    Here,
    Nowhere,
}

impl WritePlace {
    fn check(self) -> Result<(), Error> {
        match self {
            Self::Here => Ok(()),
            Self::Nowhere => Err(forbidden(
                "write_closed",
                "graphs are not written to by way of a listener that others can reach",
            )
            .with_hint("configure `auth.file`, with tokens that have the graph in `write`")),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// There are no tokens: everybody may ask.
    Everybody,
    /// Whoever holds a token.
    Token(Arc<Token>),
    /// Someone without a token that is known.
    Nobody(Error),
}

impl Caller {
    /// The token's name, for logs.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Token(token) => Some(&token.name),
            Self::Everybody | Self::Nobody(_) => None,
        }
    }

    /// May ask about things that every caller may know.
    pub(crate) fn check_known(&self) -> Result<(), Error> {
        match self {
            Self::Everybody | Self::Token(_) => Ok(()),
            Self::Nobody(error) => Err(error.clone()),
        }
    }

    /// May use a model, whether it is there or not.
    pub(crate) fn check_model(&self, model: &str) -> Result<(), Error> {
        self.check_known()?;
        if self.sees(model) {
            return Ok(());
        }
        Err(forbidden(
            "model_forbidden",
            format!("the token is not for model `{}`", clip(model)),
        ))
    }

    /// Whether a model may be mentioned.
    pub(crate) fn sees(&self, model: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Token(token) => token.is_for(model),
            Self::Nobody(_) => false,
        }
    }

    /// May know how a graph of these models stands.
    pub(crate) fn check_graph(&self, graph: &str, models: &[String]) -> Result<(), Error> {
        self.check_known()?;
        if self.sees_graph(graph, models) {
            return Ok(());
        }
        Err(forbidden(
            "graph_forbidden",
            format!("the token is not for graph `{}`", clip(graph)),
        ))
    }

    /// Whether a graph of these models may be mentioned.
    pub(crate) fn sees_graph(&self, graph: &str, models: &[String]) -> bool {
        self.writes(graph) || models.iter().any(|model| self.sees(model))
    }

    /// May write to a graph, whether it is there or not.
    pub(crate) fn check_write(&self, place: WritePlace, graph: &str) -> Result<(), Error> {
        self.check_known()?;
        place.check()?;
        if self.writes(graph) {
            return Ok(());
        }
        let message = format!("the token is not for writing to graph `{}`", clip(graph));
        Err(forbidden("write_forbidden", message)
            .with_hint("use one that has the graph in `write`"))
    }

    fn writes(&self, graph: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Token(token) => token.writes_to(graph),
            Self::Nobody(_) => false,
        }
    }

    /// An error about a model, without the names of others where they may not be mentioned.
    pub(crate) fn without_names(&self, error: Error) -> Error {
        match self {
            Self::Everybody => error,
            _ => Error::new(error.kind(), error.code(), error.message()),
        }
    }

    /// May change the server.
    pub(crate) fn check_admin(&self, place: AdminPlace) -> Result<(), Error> {
        place.check()?;
        self.check_known()?;
        match self {
            Self::Token(token) if !token.admin => Err(forbidden(
                "admin_forbidden",
                "the token is not for changing the server",
            )
            .with_hint("use one with `admin = true`")),
            _ => Ok(()),
        }
    }

    /// May read metrics.
    fn check_metrics(&self) -> Result<(), Error> {
        self.check_known()?;
        match self {
            Self::Token(token) if !(token.metrics || token.admin) => Err(forbidden(
                "metrics_forbidden",
                "the token is not for metrics",
            )
            .with_hint("use one with `metrics = true`")),
            _ => Ok(()),
        }
    }
}

/// The token in `Authorization: Bearer` or `x-api-key`.
fn presented(headers: &HeaderMap) -> Result<&str, Error> {
    let mut values = headers.get_all("authorization").into_iter();
    let mut keys = headers.get_all("x-api-key").into_iter();
    let wrong = |message| unauthenticated("wrong_credentials", message);
    match (values.next(), values.next(), keys.next(), keys.next()) {
        (None, None, None, None) => Err(unauthenticated(
            "token_missing",
            "this server asks for a token",
        )
        .with_hint("send `Authorization: Bearer <token>` or `x-api-key: <token>`")),
        (Some(value), None, None, None) => {
            let text = value.to_str().unwrap_or_default();
            let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
            match scheme.eq_ignore_ascii_case("bearer") {
                true => Ok(token.trim()),
                false => Err(wrong("`Authorization` is not of the scheme Bearer")),
            }
        }
        (None, None, Some(key), None) => key.to_str().map_err(|_| wrong("`x-api-key` is not text")),
        _ => Err(wrong("there is more than one token")),
    }
}

fn unauthenticated(code: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, code, message)
}

fn forbidden(code: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Forbidden, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tokens_graphs_are_written_to_from_the_machine_itself_alone() {
        let access = Access::default();
        let at = |address: &str| access.write_at(Some(address.parse().unwrap()));
        assert_eq!(at("127.0.0.1:1"), WritePlace::Here);
        assert_eq!(at("[::1]:1"), WritePlace::Here);
        for place in [at("0.0.0.0:1"), at("10.0.0.1:1"), access.write_at(None)] {
            let error = Caller::Everybody.check_write(place, "g").unwrap_err();
            assert_eq!(error.code(), "write_closed");
        }
    }
}
