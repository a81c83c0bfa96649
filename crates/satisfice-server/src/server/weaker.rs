//! What a configuration would open that another one keeps closed: reading it anew does not do so by the way.

use crate::config::{AuthMode, Config};
use std::net::SocketAddr;

/// What `new` would open that `old` keeps closed, and how to do so on purpose.
pub(super) fn weakened(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let meant = new.auth.mode == Some(AuthMode::Open);
    if old.auth.file.is_some() && new.auth.file.is_none() && !meant {
        found.push(
            "`auth.file` is gone, and everybody could ask: if that is meant, say `mode = \"open\"` in `[auth]`"
                .to_owned(),
        );
    }
    let mut restart = |what: String| found.push(format!("{what}: if that is meant, restart"));
    if old.tls.certificate.is_some() && new.tls.certificate.is_none() {
        restart("`tls.certificate` is gone, and plain text would be spoken".to_owned());
    } else if old.tls.client_ca.is_some() && new.tls.client_ca.is_none() {
        restart("`tls.client_ca` is gone, and clients would need no certificate".to_owned());
    }
    for ((key, before), (_, after)) in old.listeners().into_iter().zip(new.listeners()) {
        if let Some(address) = after
            && reach(before) < reach(after)
        {
            restart(format!("`{key}` would reach further, at {address}"));
        }
    }
    if old.admin.listen.is_some() && new.admin.listen.is_none() {
        restart(
            "`admin.listen` is gone, and the server would be changed by way of the others"
                .to_owned(),
        );
    }
    found
}

/// How far a listener reaches. The later ones reach further.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Nowhere,
    Machine,
    Network,
    Everywhere,
}

fn reach(listener: Option<SocketAddr>) -> Reach {
    match listener.map(|address| address.ip()) {
        None => Reach::Nowhere,
        Some(ip) if ip.is_loopback() => Reach::Machine,
        Some(ip) if ip.is_unspecified() => Reach::Everywhere,
        Some(_) => Reach::Network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    const CLOSED: &str = "http.listen = \"127.0.0.1:8000\"\nadmin.listen = \"127.0.0.1:8002\"\nauth.file = \"t\"\n\
                          [tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n";

    #[test]
    fn what_opens_something_is_found() {
        for (from, to, named) in [
            ("auth.file = \"t\"\n", "", "auth.file"),
            (
                "auth.file = \"t\"\n",
                "auth.mode = \"tokens\"\n",
                "auth.file",
            ),
            ("client_ca = \"a\"\n", "", "tls.client_ca"),
            (
                "[tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n",
                "",
                "tls.certificate",
            ),
            ("\"127.0.0.1:8000\"", "\"0.0.0.0:8000\"", "http.listen"),
            ("\"127.0.0.1:8000\"", "\"10.0.0.1:8000\"", "http.listen"),
            ("\"127.0.0.1:8002\"", "\"[::]:8002\"", "admin.listen"),
            ("admin.listen = \"127.0.0.1:8002\"\n", "", "admin.listen"),
            (
                "auth",
                "metrics.listen = \"127.0.0.1:8003\"\nauth",
                "metrics.listen",
            ),
            (
                "auth",
                "grpc.listen = \"0.0.0.0:8001\"\nauth",
                "grpc.listen",
            ),
        ] {
            let found = weakened(&config(CLOSED), &config(&CLOSED.replacen(from, to, 1)));
            assert_eq!(found.len(), 1, "{from} -> {to}: {found:?}");
            assert!(found[0].starts_with(&format!("`{named}`")), "{found:?}");
        }
    }

    #[test]
    fn what_changes_nothing_or_closes_something_is_not() {
        let closed = config(CLOSED);
        let open = config("");
        assert!(weakened(&closed, &closed).is_empty());
        assert!(weakened(&open, &open).is_empty());
        for (from, to) in [
            ("\"t\"", "\"other\""),
            ("\"a\"", "\"another authority\""),
            ("auth.file = \"t\"\n", "auth.mode = \"open\"\n"),
            ("\"127.0.0.1:8000\"", "\"[::1]:80\""),
        ] {
            let found = weakened(&closed, &config(&CLOSED.replacen(from, to, 1)));
            assert!(found.is_empty(), "{from} -> {to}: {found:?}");
        }
        let wide = config("http.listen = \"0.0.0.0:8000\"\n");
        assert!(weakened(&wide, &open).is_empty());
    }
}
