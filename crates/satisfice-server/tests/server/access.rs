//! Tokens and scopes, over both transports.

use crate::client::{Server, post};
use crate::grpc::{client, request};
use base64::Engine as _;
use satisfice_server::{
    Access, Admission, Front, Limits, Role,
    access::new_token,
    config::Config,
    grpc::proto::{
        ModelConfigRequest, ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest,
        RepositoryIndexRequest, RepositoryModelLoadRequest, ServerLiveRequest,
        ServerMetadataRequest,
    },
};
use sha2::{Digest, Sha256};
use std::{fmt::Write, fs, path::Path, sync::Arc};
use tempfile::TempDir;
use tonic::{Code, Request};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

const EMPTY: &[u8] = br#"{"inputs":[]}"#;

/// Tokens for the model `echo`, for changing the server, and for metrics.
struct Tokens {
    dir: TempDir,
    echo: String,
    admin: String,
    metrics: String,
}

impl Tokens {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut file = String::new();
        let mut add = |entry: &str| {
            let (token, digest) = new_token().unwrap();
            writeln!(file, "[[tokens]]\nsha256 = \"{digest}\"\n{entry}").unwrap();
            token
        };
        let echo = add("name = \"e\"\nmodels = [\"ech*\"]");
        let admin = add("name = \"a\"\nadmin = true");
        let metrics = add("name = \"m\"\nmetrics = true");
        fs::write(dir.path().join("tokens.toml"), file).unwrap();
        Self {
            dir,
            echo,
            admin,
            metrics,
        }
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.auth.file = Some(self.dir.path().join("tokens.toml"));
        config
    }

    fn server(&self) -> Server {
        server(&self.config())
    }
}

fn server(config: &Config) -> Server {
    let access = Access::open(config).unwrap();
    Server::behind(Front::new(Limits::default()).with_access(Arc::new(access)))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn ask(server: &Server, method: &str, path: &str, headers: &str) -> crate::client::Answer {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
    );
    server.raw(text.as_bytes())
}

#[test]
fn health_is_open_and_nothing_else() {
    let tokens = Tokens::new();
    let server = tokens.server();
    for path in ["/v2/health/live", "/v2/health/ready"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v2"),
        ("GET", "/v2/models/echo"),
        ("GET", "/v2/models/echo/ready"),
        ("GET", "/v2/models/nobody/ready"),
        ("GET", "/v2/models/echo/versions/7/ready"),
        ("GET", "/v2/models/echo/config"),
        ("GET", "/v2/models/echo/versions/2/stats"),
        ("GET", "/v2/models/stats"),
        ("GET", "/v2/graphs"),
        ("GET", "/v2/graphs/debian"),
        ("POST", "/v2/graphs/debian/apply"),
        ("POST", "/v2/models/echo/infer"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/echo/unload"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/trace/setting"),
        ("GET", "/metrics"),
    ] {
        let answer = ask(&server, method, path, "");
        answer.refused(401, "token_missing");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
        let wrong = ask(&server, method, path, &bearer("satisfice_wrong"));
        wrong.refused(401, "unknown_token");
    }
}

#[test]
fn a_token_that_has_expired_is_refused_and_only_its_holder_is_told() {
    let dir = TempDir::new().unwrap();
    let mut file = String::new();
    let mut add = |name: &str, expires: &str| {
        let (token, digest) = new_token().unwrap();
        let entry = "models = [\"*\"]\nmetrics = true";
        writeln!(
            file,
            "[[tokens]]\nname = \"{name}\"\nsha256 = \"{digest}\"\n{entry}\n{expires}"
        )
        .unwrap();
        token
    };
    let over = add("over", "expires = \"2020-01-31T12:00:00Z\"");
    let coming = add("coming", "expires = \"2999-01-31\"");
    let without = add("without", "");
    let path = dir.path().join("tokens.toml");
    fs::write(&path, file).unwrap();
    let mut config = Config::default();
    config.auth.file = Some(path);
    let server = server(&config);
    let model = |token: &str| ask(&server, "GET", "/v2/models/echo", &bearer(token));
    let message = model(&over).refused(401, "token_expired");
    assert!(message.contains("2020-01-31T12:00:00Z"), "{message}");
    model(&over[1..]).refused(401, "unknown_token");
    assert_eq!(model(&coming).status, 200);
    assert_eq!(model(&without).status, 200);
    let metrics = ask(&server, "GET", "/metrics", &bearer(&without));
    let metrics = String::from_utf8(metrics.body).unwrap();
    let ends: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("satisfice_token_expires_timestamp_seconds{"))
        .collect();
    let wanted = [("over", 1_580_472_000_u64), ("coming", 32_474_736_000)];
    let wanted = wanted.map(|(name, at)| {
        format!("satisfice_token_expires_timestamp_seconds{{token=\"{name}\"}} {at}")
    });
    assert_eq!(ends, wanted);
}

#[test]
fn a_token_is_for_its_models() {
    let tokens = Tokens::new();
    let server = tokens.server();
    for headers in [
        bearer(&tokens.echo),
        format!("X-Api-Key: {}\r\n", tokens.echo),
        format!("authorization: bearer  {}\r\n", tokens.echo),
    ] {
        let answer = server.post("/v2/models/echo/infer", &headers, EMPTY);
        assert_eq!(answer.status, 200, "{headers}");
    }
    let mine = bearer(&tokens.echo);
    for model in ["gate", "nobody", "..%2fecho"] {
        server
            .post(&format!("/v2/models/{model}/infer"), &mine, EMPTY)
            .refused(403, "model_forbidden");
    }
    // What there is besides is not told.
    let message = ask(&server, "GET", "/v2/models/echoes", &mine).refused(404, "model_not_found");
    assert!(!message.contains("gate"), "{message}");
    let page = ask(&server, "GET", "/", &mine);
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("echo") && !page.contains("gate"));
    let stats = ask(&server, "GET", "/v2/models/stats", &mine).json();
    let names = stats["model_stats"].as_array().unwrap();
    assert!(names.iter().all(|model| model["name"] == "echo"), "{stats}");
    let index = ask(&server, "POST", "/v2/repository/index", &mine).json();
    assert_eq!(index.as_array().unwrap().len(), 2, "{index}");

    ask(&server, "POST", "/v2/repository/models/echo/unload", &mine)
        .refused(403, "admin_forbidden");
    ask(&server, "GET", "/metrics", &mine).refused(403, "metrics_forbidden");
    server
        .post("/v2/models/echo/infer", &bearer(&tokens.admin), EMPTY)
        .refused(403, "model_forbidden");
    assert_eq!(
        ask(&server, "GET", "/metrics", &bearer(&tokens.metrics)).status,
        200
    );
    let metrics = ask(&server, "GET", "/metrics", &bearer(&tokens.admin));
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(
        metrics.contains(
            "satisfice_refused_requests_total{transport=\"http\",code=\"model_forbidden\"} 4"
        ),
        "{metrics}"
    );
    for token in [&tokens.echo, &tokens.admin, &tokens.metrics] {
        assert!(!metrics.contains(token.as_str()));
    }
    // Only now does it come to whether the server unloads models at all.
    ask(
        &server,
        "POST",
        "/v2/repository/models/echo/unload",
        &bearer(&tokens.admin),
    )
    .refused(400, "model_control_off");
}

#[test]
fn credentials_that_are_none() {
    let tokens = Tokens::new();
    let server = tokens.server();
    let token = &tokens.echo;
    for headers in [
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        "Authorization: Bearer\r\n".to_owned(),
        format!("Authorization: Bearer {token}\r\nX-Api-Key: {token}\r\n"),
        format!("X-Api-Key: {token}\r\nX-Api-Key: {token}\r\n"),
        "X-Api-Key: \u{e9}\r\n".to_owned(),
    ] {
        let answer = server.post("/v2/models/echo/infer", &headers, EMPTY);
        assert_eq!(answer.status, 401, "{headers}");
        assert!(!String::from_utf8(answer.body).unwrap().contains(token));
    }
    // A refused client may finish sending and then read why.
    let large = vec![b' '; 8 << 20];
    let answer = server.raw(&post("/v2/models/echo/infer", "", &large));
    answer.refused(401, "token_missing");
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a list of calls")]
async fn the_same_over_grpc() {
    let tokens = Tokens::new();
    let server = tokens.server();
    let mut client = client(&server).await;
    client.server_live(ServerLiveRequest {}).await.unwrap();
    let ready = ModelReadyRequest {
        name: "echo".to_owned(),
        ..ModelReadyRequest::default()
    };
    let mut mine = Request::new(ready.clone());
    let bearer = format!("Bearer {}", tokens.echo).parse().unwrap();
    mine.metadata_mut().insert("authorization", bearer);
    assert!(client.model_ready(mine).await.unwrap().into_inner().ready);

    macro_rules! refused {
        ($method:ident, $message:expr, $token:expr) => {{
            let mut request = Request::new($message);
            if let Some(token) = $token {
                let value = format!("Bearer {token}").parse().unwrap();
                request.metadata_mut().insert("authorization", value);
            }
            let status = client.$method(request).await.unwrap_err();
            let code = status.metadata().get("error-code").unwrap();
            (status.code(), code.to_str().unwrap().to_owned())
        }};
    }
    let nobody = || (Code::Unauthenticated, "token_missing".to_owned());
    let none = None::<&str>;
    let name = || "echo".to_owned();
    assert_eq!(
        refused!(server_metadata, ServerMetadataRequest {}, none),
        nobody()
    );
    // Whether a model is there is not everybody's business.
    assert_eq!(refused!(model_ready, ready, none), nobody());
    let absent = || ModelReadyRequest {
        name: "nobody".to_owned(),
        ..Default::default()
    };
    assert_eq!(refused!(model_ready, absent(), none), nobody());
    assert_eq!(
        refused!(model_ready, absent(), Some(&tokens.echo)),
        (Code::PermissionDenied, "model_forbidden".to_owned())
    );
    let message = || ModelMetadataRequest {
        name: name(),
        ..Default::default()
    };
    assert_eq!(refused!(model_metadata, message(), none), nobody());
    let message = ModelConfigRequest {
        name: name(),
        ..Default::default()
    };
    assert_eq!(refused!(model_config, message, none), nobody());
    assert_eq!(
        refused!(model_statistics, ModelStatisticsRequest::default(), none),
        nobody()
    );
    assert_eq!(
        refused!(repository_index, RepositoryIndexRequest::default(), none),
        nobody()
    );
    assert_eq!(
        refused!(model_infer, request("echo", vec![]), none),
        nobody()
    );
    assert_eq!(
        refused!(
            model_infer,
            request("echo", vec![]),
            Some("satisfice_wrong")
        ),
        (Code::Unauthenticated, "unknown_token".to_owned())
    );
    assert_eq!(
        refused!(model_infer, request("gate", vec![]), Some(&tokens.echo)),
        (Code::PermissionDenied, "model_forbidden".to_owned())
    );
    let load = || RepositoryModelLoadRequest {
        model_name: name(),
        ..Default::default()
    };
    assert_eq!(
        refused!(repository_model_load, load(), Some(&tokens.echo)),
        (Code::PermissionDenied, "admin_forbidden".to_owned())
    );
    assert_eq!(
        refused!(repository_model_load, load(), Some(&tokens.admin)),
        (Code::InvalidArgument, "model_control_off".to_owned())
    );
    let mut allowed = Request::new(request("echo", vec![]));
    allowed
        .metadata_mut()
        .insert("x-api-key", tokens.echo.parse().unwrap());
    assert_eq!(
        client.model_infer(allowed).await.unwrap().into_inner().id,
        "7"
    );

    // In a stream every request is asked about; the stream goes on.
    let messages = ["gate", "echo"].map(|model| request(model, vec![]));
    let mut stream = Request::new(futures_util::stream::iter(messages));
    stream
        .metadata_mut()
        .insert("x-api-key", tokens.echo.parse().unwrap());
    let mut answers = client
        .model_stream_infer(stream)
        .await
        .unwrap()
        .into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(first.error_message.contains("gate"), "{first:?}");
    assert!(
        answers
            .message()
            .await
            .unwrap()
            .unwrap()
            .error_message
            .is_empty()
    );
}

/// The status and code of asking for the log's settings at a router of this role.
async fn log_settings(config: &Config, role: Role) -> (u16, String) {
    let front = Front::new(Limits::default()).with_access(Arc::new(Access::open(config).unwrap()));
    let service =
        satisfice_server::Service::new(satisfice_server::Models::new(), Admission::default());
    let routes = satisfice_server::Routes::new(role, Arc::new(service), front);
    let request = axum::http::Request::get("/v2/logging");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let answer = routes.answer(request).await;
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (status, json["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_the_server_is_changed_only_from_where_others_cannot() {
    // A router that does not know its listener takes it for one that others reach.
    let mut config = Config::default();
    assert_eq!(
        log_settings(&config, Role::Main).await,
        (403, "admin_closed".to_owned())
    );
    config.admin.listen = Some("127.0.0.1:8002".parse().unwrap());
    assert_eq!(
        log_settings(&config, Role::Main).await,
        (403, "admin_elsewhere".to_owned())
    );
    // This one may ask; that the log is not the server's own is another matter.
    assert_eq!(
        log_settings(&config, Role::Admin).await,
        (501, "fixed_setting".to_owned())
    );
    assert_eq!(
        log_settings(&config, Role::Metrics).await,
        (404, "route_not_found".to_owned())
    );
    // On loopback it is open.
    let server = server(&Config::default());
    server.get("/v2/logging").refused(501, "fixed_setting");
}

#[test]
fn metrics_may_have_a_listener_of_their_own() {
    let mut config = Config::default();
    config.metrics.listen = Some("127.0.0.1:8003".parse().unwrap());
    server(&config)
        .get("/metrics")
        .refused(403, "metrics_elsewhere");
}

#[test]
fn a_file_of_tokens_that_is_not_there_is_named() {
    let mut config = Config::default();
    config.auth.file = Some(Path::new("/nowhere/tokens.toml").to_owned());
    let error = Access::open(&config).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/tokens.toml: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_describe_themselves_to_any_token() {
    let tokens = Tokens::new();
    let server = tokens.server();
    let channel = crate::grpc::channel(&server).await;
    let ask = async |token: Option<&str>| {
        let message = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut request = Request::new(futures_util::stream::iter([message]));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = ServerReflectionClient::new(channel.clone());
        let mut answers = client.server_reflection_info(request).await?.into_inner();
        Ok::<_, tonic::Status>(answers.message().await?.is_some())
    };
    assert_eq!(ask(None).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(
        ask(Some("satisfice_wrong")).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert!(ask(Some(&tokens.echo)).await.unwrap());
}

#[test]
fn a_browser_gets_a_form_for_a_token() {
    let tokens = Tokens::new();
    let server = tokens.server();
    let html = "Accept: text/html,*/*;q=0.8\r\n";
    let form = ask(&server, "GET", "/", html);
    assert_eq!(form.status, 401);
    assert_eq!(form.header("www-authenticate"), Some("Bearer"));
    let policy = form.header("content-security-policy").unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
    let page = String::from_utf8(form.body).unwrap();
    assert!(
        page.contains("<form") && page.contains("type=password"),
        "{page}"
    );
    // It brings nothing from elsewhere, and tells nothing.
    for text in ["src=", "http://", "https://", "echo", "gate"] {
        assert!(!page.contains(text), "{text} is in {page}");
    }
    for tag in ["style", "script"] {
        let (_, rest) = page.split_once(&format!("<{tag}>")).unwrap();
        let (text, _) = rest.split_once(&format!("</{tag}>")).unwrap();
        let digest = Sha256::digest(text.as_bytes());
        let hash = base64::engine::general_purpose::STANDARD.encode(digest);
        assert!(
            policy.contains(&format!("{tag}-src 'sha256-{hash}'")),
            "{policy}"
        );
    }

    let metrics = ask(&server, "GET", "/metrics", &bearer(&tokens.metrics));
    let counted = r#"satisfice_refused_requests_total{transport="http",code="token_missing"} 1"#;
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains(counted), "{metrics}");

    let mine = format!("{html}{}", bearer(&tokens.echo));
    let shown = ask(&server, "GET", "/", &mine);
    assert_eq!(shown.status, 200);
    assert_eq!(shown.header("cache-control"), Some("no-store"));
    let page = String::from_utf8(shown.body).unwrap();
    assert!(
        page.contains("<h2>echo</h2>") && !page.contains("gate"),
        "{page}"
    );
    assert!(page.contains("Bearer $SATISFICE_TOKEN") && !page.contains(&tokens.echo));
}
