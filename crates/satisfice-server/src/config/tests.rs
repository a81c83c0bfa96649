#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use std::{fs, time::Duration};

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/satisfice.example.toml"
);

fn file(text: &str) -> Result<Config, String> {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("satisfice.toml");
    fs::write(&path, text).unwrap();
    let mut layers = Layers::new();
    layers.file(&path).map_err(|error| error.to_string())?;
    let loaded = layers.finish().map_err(|error| error.to_string())?;
    Ok(loaded.config)
}

fn refused(text: &str) -> String {
    let error = file(text).unwrap_err();
    error
        .rsplit_once('/')
        .map_or(error.clone(), |(_, end)| end.to_owned())
}

fn environment(name: &str, value: &str) -> Result<Config, String> {
    let mut layers = Layers::new();
    let variables = [(name.to_owned(), value.to_owned())];
    layers
        .environment(variables.into_iter())
        .map_err(|error| error.to_string())?;
    let loaded = layers.finish().map_err(|error| error.to_string())?;
    Ok(loaded.config)
}

#[test]
fn the_example_states_the_defaults() {
    let text = fs::read_to_string(EXAMPLE).unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
}

#[test]
fn the_example_explains_every_key() {
    let text = fs::read_to_string(EXAMPLE).unwrap();
    // What has no default stands there as a comment.
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("#~ ") {
            Some(setting) => setting,
            None => line,
        })
        .collect();
    let full: Config = toml::from_str(&uncommented.join("\n")).unwrap();
    assert!(full.admin.listen.is_some() && full.metrics.listen.is_some());
    assert!(full.tls.certificate.is_some() && full.tls.key.is_some());
    assert!(full.tls.client_ca.is_some());
    assert!(full.auth.file.is_some() && full.auth.mode.is_some());
    assert!(full.repository.path.is_some() && full.trace.endpoint.is_some());
    assert!(full.schedule.executors.is_some());
    assert!(!full.models.is_empty() && !full.trace.headers.is_empty());
    // Every other key has a default, and is in the text under its name.
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    for (section, keys) in &defaults {
        assert!(text.contains(section), "{section}");
        for key in keys.as_table().unwrap().keys() {
            assert!(text.contains(key), "{section}.{key}");
        }
    }
}

#[test]
fn a_wrong_file_is_refused_with_line_column_and_hint() {
    assert_eq!(
        refused("[http]\nlisten = \"127.0.0.1:1\"\n\n[limits]\nbody_byte_max = 1\n"),
        "satisfice.toml:5:1: unknown field `body_byte_max`, expected one of `body_bytes_max`, \
         `bodies_bytes_max`, `decompression_ratio_max`, `tensors`, `header_bytes_max`, `headers_max`, \
         `uri_bytes_max`, `connections_max`, `connections_per_address_max`, `header_read_timeout_ms`, \
         `idle_timeout_ms`, `tls_handshake_timeout_ms`, `body_read_timeout_ms`, `body_bytes_per_second_min`, `write_timeout_ms`, `drain_delay_ms`, `drain_timeout_ms` (hint: did you mean \
         `body_bytes_max`?)"
    );
    for (text, start) in [
        ("[htp]\n", "satisfice.toml:1:2: unknown field `htp`"),
        ("[log]\nlevel = 3\n", "satisfice.toml:2:9: "),
        (
            "[log]\nlevel = \"loud\"\n",
            "satisfice.toml:2:9: unknown variant `loud`",
        ),
        ("[http]\nlisten = \"here\"\n", "satisfice.toml:2:10: "),
        ("[limits]\nbody_bytes_max = -1\n", "satisfice.toml:2:18: "),
        ("[limits\n", "satisfice.toml:1:8: "),
        ("a = é\n", "satisfice.toml:1:5: "),
        (
            "[models.gcn2]\nadmision = {}\n",
            "satisfice.toml:2:1: unknown field",
        ),
    ] {
        let error = refused(text);
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, key) in [
        ("[tls]\ncertificate = \"a\"", "`tls.certificate`"),
        ("[tls]\nkey = \"a\"", "`tls.key`"),
        ("[tls]\nclient_ca = \"a\"", "`tls.client_ca`"),
        ("[admin]\nlisten = \"127.0.0.1:8000\"", "`admin.listen`"),
        (
            "[limits]\nheader_read_timeout_ms = 0",
            "`limits.header_read_timeout_ms`",
        ),
        (
            "[limits]\nconnections_per_address_max = 0",
            "`limits.connections_per_address_max`",
        ),
        (
            "[limits]\nheader_bytes_max = 1",
            "`limits.header_bytes_max`",
        ),
        ("[trace]\nendpoint = \"https://a\"", "`trace.endpoint`"),
        ("[models.\"../a\"]", "`models...&a`"),
    ] {
        let error = file(text).unwrap_err().replace('/', "&");
        assert!(error.contains(key), "{error}");
        assert!(error.contains("(hint: "), "{error}");
    }
}

#[test]
fn each_layer_is_over_the_one_before() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("a.toml");
    let text = "[http]\nlisten = \"127.0.0.1:1\"\n[grpc]\nlisten = \"127.0.0.1:2\"\n\
                [limits]\nheaders_max = 7\n[auth]\nfile = \"tokens.toml\"\n";
    fs::write(&path, text).unwrap();
    let mut layers = Layers::new();
    layers.file(&path).unwrap();
    let variables = [
        ("SATISFICE_GRPC__LISTEN", "127.0.0.1:3"),
        ("SATISFICE_HTTP__LISTEN", "127.0.0.1:4"),
        ("SATISFICE_LIMITS__TENSORS__RANK_MAX", "3"),
        ("SATISFICE_TRACE__SERVICE_NAME", "12"),
        ("SATISFICE_PORT", "tcp://orchestrator"),
        ("OTHER__THING", "1"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    layers.environment(variables.into_iter()).unwrap();
    layers
        .flag("--listen", "http.listen", "127.0.0.1:5")
        .unwrap();
    let loaded = layers.finish().unwrap();
    let config = &loaded.config;
    assert_eq!(config.http.listen.port(), 5);
    assert_eq!(config.grpc.listen.port(), 3);
    assert_eq!(
        (config.limits.headers_max, config.limits.tensors.rank_max),
        (7, 3)
    );
    assert_eq!(config.trace.service_name, "12");
    assert_eq!(
        config.auth.file.as_deref(),
        Some(&*dir.path().join("tokens.toml"))
    );
    for (key, source) in [
        ("http.listen", "--listen"),
        ("grpc.listen", "SATISFICE_GRPC__LISTEN"),
        ("limits.headers_max", path.to_str().unwrap()),
        ("log.level", "default"),
    ] {
        assert_eq!(loaded.source(key).to_string(), source, "{key}");
    }
}

#[test]
fn variables_are_checked_like_files() {
    let error = environment("SATISFICE_HTTP__LISTN", "127.0.0.1:1").unwrap_err();
    assert!(
        error.starts_with("SATISFICE_HTTP__LISTN: `http.listn`: unknown field"),
        "{error}"
    );
    assert!(environment("SATISFICE_HTTP__LISTEN", "7").is_err());
    assert!(environment("SATISFICE_LIMITS__BODY_BYTES_MAX", "1 = 2").is_err());
    let config = environment("SATISFICE_LOG__ACCESS", "true").unwrap();
    assert!(config.log.access);
}

#[test]
fn models_inherit() {
    let config = file(
        "[model_defaults.admission]\nwaiting_max = 5\nexecuting_max = 1\nspare_time = \"quality\"\n\
         [models.a.admission]\nwaiting_max = 6\n[models.b]\n",
    )
    .unwrap();
    let spare_time = |name| crate::service::Settings::from(&config).of(name).spare_time;
    assert_eq!(spare_time("a"), crate::SpareTime::Quality);
    for (name, waiting_max) in [("a", 6), ("b", 5), ("c", 5)] {
        let admission = crate::service::Settings::from(&config).of(name);
        assert_eq!(
            (admission.waiting_max, admission.executing_max),
            (waiting_max, 1),
            "{name}"
        );
    }
}

#[test]
fn secrets_are_not_shown() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("a.toml");
    fs::write(&path, "[trace.headers]\nauthorization = \"Bearer hush\"\n").unwrap();
    let mut layers = Layers::new();
    layers.file(&path).unwrap();
    let loaded = layers.finish().unwrap();
    assert_eq!(
        loaded.config.trace.headers["authorization"].reveal(),
        "Bearer hush"
    );
    let shown = format!("{:?} {:?}", loaded.entries(), loaded.config);
    assert!(
        shown.contains("authorization") && !shown.contains("hush"),
        "{shown}"
    );
}

#[test]
fn durations_are_in_milliseconds() {
    let config = file("[limits]\ndrain_timeout_ms = 1500\n").unwrap();
    assert_eq!(config.limits.drain_timeout, Duration::from_millis(1500));
}
