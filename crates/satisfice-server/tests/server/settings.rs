//! Settings that clients may change, and configurations read anew.

use crate::client::Server;
use crate::grpc::client;
use satisfice_server::{
    Admission, Bound, Front, Limits, Models, Observer, Service,
    access::new_token,
    config::{Config, Level, Log, Trace},
    grpc::proto::{
        LogSettingsRequest, TraceSettingRequest, log_settings_request, trace_setting_request,
    },
};
use serde_json::json;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
};

/// A server with a collector that is not there, and the levels that its log was set to.
fn server() -> (Server, Arc<Mutex<Vec<Level>>>) {
    let levels: Arc<Mutex<Vec<Level>>> = Arc::default();
    let set = Arc::clone(&levels);
    let trace = Trace {
        endpoint: Some("http://127.0.0.1:9/v1/traces".to_owned()),
        ..Trace::default()
    };
    let observer = Observer::new(Log::default(), move |level| set.lock().unwrap().push(level));
    let observer = observer.with_traces(&trace).unwrap();
    let front = Front::new(Limits::default()).with_observer(Arc::new(observer));
    (Server::behind(front), levels)
}

#[test]
fn the_log_level_over_http() {
    let (server, levels) = server();
    let first = server.get("/v2/logging").json();
    assert_eq!(
        first,
        json!({"log_file": "", "log_info": true, "log_warning": true, "log_error": true,
               "log_verbose_level": 0, "log_format": "default"})
    );
    let changed = server.post("/v2/logging", "", br#"{"log_verbose_level": 1}"#);
    assert_eq!(changed.json()["log_verbose_level"], 1);
    assert_eq!(server.get("/v2/logging").json()["log_verbose_level"], 1);
    assert_eq!(*levels.lock().unwrap(), [Level::Debug]);
    for (body, status, code) in [
        (&br#"{"log_verbose_level": true}"#[..], 400, "wrong_setting"),
        (br#"{"log_level": 1}"#, 400, "unknown_setting"),
        (br#"{"log_file": "/tmp/a"}"#, 501, "fixed_setting"),
        (b"[]", 400, "wrong_json"),
    ] {
        let answer = server.post("/v2/logging", "", body);
        assert_eq!(answer.status, status, "{answer:?}");
        if code != "wrong_json" {
            answer.refused(status, code);
        }
    }
    assert_eq!(levels.lock().unwrap().len(), 1);
}

#[test]
fn trace_settings_over_http() {
    let (server, _) = server();
    assert_eq!(server.get("/v2/trace/setting").json()["trace_rate"], "1000");
    let path = "/v2/models/echo/trace/setting";
    let changed = server
        .post(path, "", br#"{"trace_rate": "5", "trace_level": ["OFF"]}"#)
        .json();
    assert_eq!(
        (&changed["trace_rate"], &changed["trace_level"]),
        (&json!("5"), &json!(["OFF"]))
    );
    let all = server.get("/v2/trace/setting").json();
    assert_eq!(
        (&all["trace_rate"], &all["trace_level"]),
        (&json!("1000"), &json!(["TIMESTAMPS"]))
    );
    server.post(path, "", br#"{"trace_rate": null}"#);
    assert_eq!(server.get(path).json()["trace_rate"], "1000");
    server
        .get("/v2/models/nobody/trace/setting")
        .refused(404, "model_not_found");
    server
        .post(path, "", br#"{"trace_rate": -1}"#)
        .refused(400, "wrong_setting");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_over_grpc() {
    use log_settings_request::{SettingValue, setting_value::ParameterChoice};
    let (server, levels) = server();
    let mut client = client(&server).await;
    let value = SettingValue {
        parameter_choice: Some(ParameterChoice::Uint32Param(2)),
    };
    let settings = [("log_verbose_level".to_owned(), value)].into();
    let request = LogSettingsRequest { settings };
    let answer = client.log_settings(request).await.unwrap().into_inner();
    assert_eq!(answer.settings.len(), 6);
    assert_eq!(*levels.lock().unwrap(), [Level::Trace]);

    let value = trace_setting_request::SettingValue {
        value: vec!["7".to_owned()],
    };
    let request = TraceSettingRequest {
        settings: [("trace_rate".to_owned(), value)].into(),
        model_name: "echo".to_owned(),
    };
    let answer = client.trace_setting(request).await.unwrap().into_inner();
    assert_eq!(answer.settings["trace_rate"].value, ["7"]);
    assert_eq!(server.get("/v2/trace/setting").json()["trace_rate"], "1000");
    let request = TraceSettingRequest {
        model_name: "nobody".to_owned(),
        ..Default::default()
    };
    assert!(client.trace_setting(request).await.is_err());
}

fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_whole_server_takes_a_new_configuration() {
    let dir = tempfile::TempDir::new().unwrap();
    let (token, digest) = new_token().unwrap();
    let path = dir.path().join("tokens.toml");
    let write = |entry: &str| fs::write(&path, entry).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::default();
    (config.http.listen, config.grpc.listen) = (any, any);
    (config.admin.listen, config.metrics.listen) = (Some(any), Some(any));
    config.auth.file = Some(path.clone());
    write(&format!(
        "[[tokens]]\nname = \"a\"\nsha256 = \"{digest}\"\nadmin = true\n"
    ));

    let service = Arc::new(Service::new(Models::new(), Admission::default()));
    let server = satisfice_server::Server::new(config.clone(), service, |_| {}).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bound = runtime.block_on(async { Bound::bind(&config) }).unwrap();
    let addresses: Vec<_> = bound.addresses().unwrap();
    let address = |name: &str| addresses.iter().find(|(n, _)| *n == name).unwrap().1;
    let (http, admin, metrics) = (address("HTTP"), address("admin"), address("metrics"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let stopped = async { drop(stopped.await) };
            runtime.block_on(server.run(bound, stopped)).unwrap();
        });
        let mine = format!("Authorization: Bearer {token}\r\n");
        assert!(get(http, "/v2", &mine).starts_with("HTTP/1.1 200"));
        assert!(get(http, "/v2/logging", &mine).starts_with("HTTP/1.1 403"));
        assert!(get(admin, "/v2/logging", &mine).starts_with("HTTP/1.1 200"));
        assert!(get(admin, "/v2/logging", "").starts_with("HTTP/1.1 401"));
        assert!(get(metrics, "/metrics", "").starts_with("HTTP/1.1 200"));
        assert!(get(metrics, "/v2", &mine).starts_with("HTTP/1.1 404"));

        // A broken file leaves everything as it was.
        write("tokens = 3");
        assert!(server.reload(config.clone()).is_err());
        assert!(get(http, "/v2", &mine).starts_with("HTTP/1.1 200"));
        // Another one takes effect; what needs a restart is said.
        write("tokens = []");
        let mut other = config.clone();
        other.limits.headers_max = 50;
        assert_eq!(server.reload(other).unwrap(), ["limits"]);
        assert!(get(http, "/v2", &mine).starts_with("HTTP/1.1 401"));
        assert_eq!(server.reload(config.clone()).unwrap(), [""; 0]);
        drop(stop);
        running.join().unwrap();
    });
}
