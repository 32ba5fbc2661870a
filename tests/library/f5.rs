//! The F5 mock from outside, over real TLS; its start and its management; and `f5_deploy` at it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use certctl_bench::load::plan::{Model, Opening, Plan};
use certctl_bench::load::rate::Rate;
use certctl_bench::load::run::Control;
use certctl_bench::load::shard::Shard;
use certctl_bench::measure::{Measurement, Outcome};
use certctl_bench::provision::pki::{Authority, Identity, KeyType, Purpose};
use certctl_bench::run::{BoundWorkload, Workload, run};
use certctl_bench::scenario::Scenario as _;
use certctl_bench::scenario::f5_deploy::F5Deploy;
use certctl_bench::system::f5::{F5Mock, HEALTH_PATH, SERVED_PROFILE};
use certctl_bench::wire::Dialer;
use certctl_bench::wire::peer::{Connections, Peer};
use certctl_bench::wire::request::{Method, encode};
use certctl_bench::wire::tls::client_config;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::{Value, json};

use crate::client::{Answer, Client};

const BINARY: &str = env!("CARGO_BIN_EXE_f5-mock");
const PROFILE: &str = "/mgmt/tm/ltm/profile/client-ssl/clientssl-certctl";
const DOWNLOADS: &str = "/var/config/rest/downloads";
const MAX_BODY: usize = 1 << 20;

/// A running mock, from outside; it ends when dropped.
struct Mock {
    child: Child,
    announced: Value,
}

impl Mock {
    fn start() -> Self {
        let mut child = Command::new(BINARY).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, announced: serde_json::from_str(&line).unwrap() }
    }

    fn text(&self, key: &str) -> &str {
        self.announced[key].as_str().unwrap()
    }

    fn connect(&self) -> Client {
        Client::connect(self.text("address"), self.text("ca_pem"))
    }

    /// Returns a connection and a token.
    fn log_in(&self) -> Session {
        let mut client = self.connect();
        let login = json!({"username": "admin", "password": "recognisable", "loginProviderName": "tmos"}).to_string();
        let answer = client.send("POST", "/mgmt/shared/authn/login", &[], &login);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let token = answer.json()["token"].clone();
        assert_eq!((&token["name"], &token["timeout"]), (&token["token"], &json!(1_200)));
        let micros = |name: &str| token[name].as_i64().unwrap();
        assert_eq!(micros("expirationMicros") - micros("lastUpdateMicros"), 1_200_000_000);
        Session { client, token: token["token"].as_str().unwrap().to_owned() }
    }

    fn counts(&self) -> Value {
        self.connect().send("GET", "/mock/counts", &[], "").json()
    }

    /// Returns the config of a client with this version, which keeps sessions.
    fn remembering(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.text("ca_pem").as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // Already gone in the test that stops it itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A user who has logged in.
struct Session {
    client: Client,
    token: String,
}

impl Session {
    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers: Vec<_> = [("X-F5-Auth-Token", self.token.as_str())].into_iter().chain(headers.to_vec()).collect();
        self.client.send(method, path, &headers, body)
    }

    /// Returns the answer to a request that is carried out.
    fn done(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.send(method, path, &[], &body.to_string());
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        answer.json()
    }

    /// Returns the message of a request that is refused in iControl's shape.
    fn refused(&mut self, status: u16, method: &str, path: &str, body: &str) -> String {
        refusal(&self.send(method, path, &[], body), status)
    }

    fn upload(&mut self, file: &str, content: &str) -> Value {
        let range = format!("0-{}/{}", content.len() - 1, content.len());
        let path = format!("/mgmt/shared/file-transfer/uploads/{file}");
        let answer = self.send("POST", &path, &[("Content-Range", &range)], content);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["localFilePath"].clone()
    }

    /// Uploads and installs a certificate and its key, both under one name.
    fn install(&mut self, name: &str, certificate: &str, key: &str) {
        for (kind, content) in [("cert", certificate), ("key", key)] {
            let file = self.upload(&format!("{name}.{kind}"), content);
            let install = json!({"command": "install", "name": name, "from-local-file": file});
            assert_eq!(self.done("POST", &format!("/mgmt/tm/sys/crypto/{kind}"), &install)["name"], name);
        }
    }

    fn open_transaction(&mut self) -> String {
        let transaction = self.done("POST", "/mgmt/tm/transaction", &json!({}));
        assert_eq!(transaction["state"], "STARTED");
        transaction["transId"].to_string()
    }

    /// Queues a change by which a profile names a certificate and its key once the transaction is committed.
    fn queue(&mut self, transaction: &str, path: &str, name: &str) {
        let body = json!({"cert": format!("/Common/{name}"), "key": format!("/Common/{name}")}).to_string();
        let answer = self.send("PATCH", path, &[("X-F5-REST-Coordination-Id", transaction)], &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    fn named(&mut self, path: &str) -> Value {
        self.done("GET", path, &json!({}))["cert"].clone()
    }
}

fn refusal(answer: &Answer, status: u16) -> String {
    let json = answer.json();
    assert_eq!((answer.status, &json["code"]), (status, &json!(status)), "{}", answer.body);
    json["message"].as_str().unwrap().to_owned()
}

const VALIDATING: &str = r#"{"state":"VALIDATING"}"#;

fn identity(authority: &Authority, key_type: KeyType) -> Identity {
    authority.issue(key_type, Purpose::Server, &["localhost"]).unwrap()
}

/// Returns the chain that is shown to a client that trusts `ca_pem`.
fn shown(address: &str, ca_pem: &str) -> Vec<CertificateDer<'static>> {
    let mut client = Client::connect(address, ca_pem);
    assert_eq!(client.send("GET", "/healthz", &[], "").shape(), (200, "text/plain; charset=utf-8", "ok"));
    let tls = &client.reader.get_ref().conn;
    assert_eq!(tls.alpn_protocol(), Some(b"http/1.1".as_slice()));
    tls.peer_certificates().unwrap().to_vec()
}

#[test]
fn a_committed_certificate_is_served_at_the_next_handshake() {
    let mock = Mock::start();
    assert_eq!(mock.text("version"), env!("CARGO_PKG_VERSION"));
    let before = shown(mock.text("address"), mock.text("ca_pem"));
    let authority = Authority::root(KeyType::EcdsaP256).unwrap();
    let new = identity(&authority, KeyType::EcdsaP256);
    let mut session = mock.log_in();
    session.install("new", &new.chain_pem, &new.key_pem);
    let transaction = session.open_transaction();
    session.queue(&transaction, PROFILE, "new");
    // Until the commit nothing has changed.
    assert_eq!(session.named(PROFILE), "/Common/default.crt");
    assert_eq!(shown(mock.text("address"), mock.text("ca_pem")), before);
    let path = format!("/mgmt/tm/transaction/{transaction}");
    assert_eq!(session.done("GET", &path, &json!({}))["state"], "STARTED");
    let completed = session.send("PATCH", &path, &[], VALIDATING).json();
    assert_eq!((completed["state"].as_str(), completed["transId"].to_string()), (Some("COMPLETED"), transaction));
    // The session's own connection is older and goes on.
    assert_eq!(session.named(PROFILE), "/Common/new");
    assert_eq!(shown(mock.text("address"), &authority.pem()), new.chain);
    session.refused(404, "PATCH", &path, VALIDATING);
    // Objects that are served cannot be removed; those that they replaced can.
    assert!(session.refused(400, "DELETE", "/mgmt/tm/sys/crypto/cert/new", "").contains("in use"));
    assert!(session.refused(400, "DELETE", "/mgmt/tm/sys/crypto/key/~Common~new", "").contains("in use"));
    for (kind, object) in [("cert", "default.crt"), ("key", "default.key")] {
        let path = format!("/mgmt/tm/sys/crypto/{kind}/~Common~{object}");
        session.done("DELETE", &path, &json!({}));
        session.refused(404, "DELETE", &path, "");
    }
    // On the old connection: a new one is shown a certificate that this client's authority did not sign.
    let counts = session.done("GET", "/mock/counts", &json!({}));
    for (name, count) in [("logins", 1), ("uploads", 2), ("deployments", 1), ("profile_updates", 1)] {
        assert_eq!(counts[name], count, "{name}: {counts}");
    }
}

#[test]
fn requests_without_a_valid_token_are_refused() {
    let mock = Mock::start();
    let mut client = mock.connect();
    for (headers, method, path) in [
        (vec![], "GET", PROFILE),
        (vec![("X-F5-Auth-Token", "wrong")], "POST", "/mgmt/tm/transaction"),
        (vec![("Authorization", "Bearer wrong")], "POST", "/mgmt/tm/sys/crypto/cert"),
        (vec![("Authorization", "Basic dXNlcjo=")], "GET", PROFILE),
        (vec![("Authorization", "Basic !")], "GET", "/mgmt/shared/echo-query"),
        // An invalid token is not made up for by a password.
        (vec![("X-F5-Auth-Token", "wrong"), ("Authorization", "Basic dXNlcjpwYXNz")], "GET", PROFILE),
        (vec![("Content-Range", "0-0/1")], "POST", "/mgmt/shared/file-transfer/uploads/x"),
        (vec![], "GET", "/mgmt/nothing"),
    ] {
        let answer = client.send(method, path, &headers, "{}");
        refusal(&answer, 401);
        assert_eq!(answer.header("www-authenticate"), Some(r#"Basic realm="Enterprise Manager""#));
    }
    for login in [r#"{"username":"u"}"#, r#"{"username":"","password":"p"}"#, r#"{"username":"u","password":""}"#] {
        refusal(&client.send("POST", "/mgmt/shared/authn/login", &[], login), 401);
    }
    let (first, second) = (mock.log_in(), mock.log_in());
    assert_ne!(first.token, second.token);
    assert_eq!(client.exchange("GET", PROFILE, Some(&first.token), "").status, 200);
    for authorization in ["Basic dXNlcjpwYXNz", "bAsIc dXNlcjpwYXNz"] {
        assert_eq!(client.send("GET", PROFILE, &[("Authorization", authorization)], "").status, 200);
    }
    for header in ["X-F5-Auth-Token", "x-f5-auth-token"] {
        assert_eq!(client.send("GET", PROFILE, &[(header, &first.token)], "").status, 200);
    }
}

#[test]
fn a_commit_is_atomic() {
    let mock = Mock::start();
    let mut session = mock.log_in();
    let authority = Authority::root(KeyType::EcdsaP256).unwrap();
    let (one, other) = (identity(&authority, KeyType::EcdsaP256), identity(&authority, KeyType::Rsa2048));
    session.install("one", &one.chain_pem, &one.key_pem);
    session.install("crossed", &one.chain_pem, &other.key_pem);
    let more = "/mgmt/tm/ltm/profile/client-ssl/~Common~more";
    for wrong in ["crossed", "missing"] {
        let transaction = session.open_transaction();
        session.queue(&transaction, PROFILE, "one");
        session.queue(&transaction, more, wrong);
        let path = format!("/mgmt/tm/transaction/{transaction}");
        let message = session.refused(400, "PATCH", &path, VALIDATING);
        assert!(message.contains("/Common/more") && message.contains(wrong), "{message}");
        assert_eq!(session.named(PROFILE), "/Common/default.crt");
        session.refused(404, "GET", more, "");
        session.refused(404, "PATCH", &path, VALIDATING);
    }
    // Outside a transaction as well, and by PUT, which keeps nothing.
    let crossed = json!({"cert": "crossed", "key": "/Common/crossed"}).to_string();
    assert!(session.refused(400, "PATCH", PROFILE, &crossed).contains("does not belong"));
    assert!(session.refused(400, "PUT", PROFILE, r#"{"cert":"one"}"#).contains("no key"));
    let transaction = session.open_transaction();
    session.queue(&transaction, PROFILE, "one");
    session.done("DELETE", &format!("/mgmt/tm/transaction/{transaction}"), &json!({}));
    assert_eq!(session.named(PROFILE), "/Common/default.crt");
    // A chain is kept by PATCH, and cleared by "none".
    session.done("PUT", more, &json!({"cert": "one", "key": "one", "chain": "crossed"}));
    let kept = session.done("PATCH", more, &json!({"cert": "one"}));
    assert_eq!((&kept["key"], &kept["chain"]), (&json!("/Common/one"), &json!("/Common/crossed")));
    assert_eq!(session.done("PATCH", more, &json!({"chain": "none"}))["chain"], "none");
    let counts = mock.counts();
    assert_eq!((&counts["deployments"], &counts["commits_refused"]), (&json!(0), &json!(2)));
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let mock = Mock::start();
    let mut session = mock.log_in();
    for (status, method, path, body, reason) in [
        (400, "POST", "/mgmt/tm/sys/crypto/cert", "{oops", "not what is wanted"),
        (400, "POST", "/mgmt/tm/sys/crypto/cert", "[]", "no JSON object"),
        (400, "POST", "/mgmt/tm/sys/crypto/cert", "", "no JSON object"),
        (400, "POST", "/mgmt/tm/sys/crypto/cert", r#"{"name":"n"}"#, "from-local-file"),
        (400, "POST", "/mgmt/tm/sys/crypto/key", r#"{"from-local-file":"f"}"#, "name"),
        (400, "POST", "/mgmt/tm/sys/crypto/key", r#"{"name":"a/b","from-local-file":"f"}"#, "no name of an object"),
        (400, "POST", "/mgmt/tm/sys/crypto/key", r#"{"name":"n","from-local-file":"/etc/passwd"}"#, "not uploaded"),
        (400, "POST", "/mgmt/shared/file-transfer/uploads/f", "x", "Content-Range"),
        (404, "PATCH", "/mgmt/tm/transaction/77", VALIDATING, "77"),
        (404, "GET", "/mgmt/tm/transaction/77", "", "77"),
        (404, "GET", "/mgmt/tm/ltm/profile/client-ssl/nope", "", "/Common/nope"),
        (404, "GET", "/mgmt/tm/sys/version", "", "not registered"),
        (405, "POST", PROFILE, "", "POST"),
    ] {
        let message = session.refused(status, method, path, body);
        assert!(message.contains(reason), "{method} {path} {body}: {message}");
    }
    let transaction = format!("/mgmt/tm/transaction/{}", session.open_transaction());
    assert!(session.refused(400, "PATCH", &transaction, r#"{"state":"DONE"}"#).contains("DONE"));
    // Still open.
    session.done("PATCH", &transaction, &json!({"state": "VALIDATING"}));
    let unknown = session.send("PATCH", PROFILE, &[("X-F5-REST-Coordination-Id", "77")], r#"{"cert":"x"}"#);
    refusal(&unknown, 404);
    for (kind, content) in [("cert", "no PEM"), ("key", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----")]
    {
        let file = session.upload("f", content);
        let body = json!({"name": "n", "from-local-file": file}).to_string();
        assert!(session.refused(400, "POST", &format!("/mgmt/tm/sys/crypto/{kind}"), &body).contains("PEM"));
    }
}

#[test]
fn uploads_are_bounded() {
    let mock = Mock::start();
    let mut session = mock.log_in();
    assert_eq!(session.upload("f", "content"), format!("{DOWNLOADS}/f"));
    let path = "/mgmt/shared/file-transfer/uploads/f";
    let mut chunk = |range: &str, content: &str| session.send("POST", path, &[("Content-Range", range)], content);
    assert_eq!(chunk("0-2/6", "abc").json()["remainingByteCount"], 3);
    assert!(refusal(&chunk("4-5/6", "ef"), 400).contains("does not follow"));
    assert!(refusal(&chunk("3-4/6", "def"), 400).contains("3 bytes"));
    assert_eq!(chunk("3-5/6", "def").json()["remainingByteCount"], 0);
    // 1.2 MiB in chunks of 512 KiB and of 1 MiB.
    for size in [512 << 10, MAX_BODY] {
        let total = 1_228_800;
        let remaining = (0..total).step_by(size).map(|first| {
            let last = (first + size).min(total) - 1;
            let range = format!("{first}-{last}/{total}");
            chunk(&range, &"x".repeat(last + 1 - first)).json()["remainingByteCount"].as_u64().unwrap()
        });
        assert_eq!(remaining.last(), Some(0));
    }
    let most = "x".repeat(MAX_BODY);
    let beyond = format!("0-{}/{}", MAX_BODY - 1, (16 << 20) + 1);
    assert!(refusal(&chunk(&beyond, &most), 400).contains("at most"));
    refusal(&chunk("0-0/1", &(most + "x")), 413);
    assert_eq!(mock.counts()["uploads"], 4);
}

#[test]
fn both_versions_of_tls_resume_a_session() {
    let mock = Mock::start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = mock.remembering(version);
        let kinds = [(); 2].map(|()| {
            let name = ServerName::try_from("localhost").unwrap();
            let tls = ClientConnection::new(config.clone(), name).unwrap();
            let mut stream = StreamOwned::new(tls, TcpStream::connect(mock.text("address")).unwrap());
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            // To the end, which is TLS's close: tickets come after the handshake.
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert_eq!(stream.conn.protocol_version(), Some(version.version));
            stream.conn.handshake_kind().unwrap()
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
    }
}

#[test]
fn the_mock_ends_with_its_stdin_and_binds_only_loopback() {
    let mut mock = Mock::start();
    let _idle = mock.log_in();
    drop(mock.child.stdin.take());
    assert!(mock.child.wait().unwrap().success());
    let output = Command::new(BINARY).args(["--listen", "0.0.0.0:0"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("0.0.0.0 is not a loopback address"));
}

#[test]
fn deployments_succeed_one_after_another() {
    let mock = F5Mock::start(Path::new(BINARY)).unwrap();
    let address = mock.address.to_string();
    let before = mock.counts().unwrap();
    let root = Authority::root(KeyType::EcdsaP256).unwrap();
    let intermediate = root.intermediate(KeyType::EcdsaP256).unwrap();
    // Of several authorities: the management's connection does not depend on the certificate that is served.
    for (authority, key_type) in [(&root, KeyType::Rsa2048), (&intermediate, KeyType::EcdsaP384)] {
        let new = identity(authority, key_type);
        mock.deploy(&new).unwrap();
        assert_eq!(shown(&address, &root.pem()), new.chain);
    }
    let crossed =
        Identity { key_pem: identity(&root, KeyType::EcdsaP256).key_pem, ..identity(&root, KeyType::EcdsaP256) };
    let error = mock.deploy(&crossed).unwrap_err().to_string();
    assert!(error.contains("commit: failed (400)") && error.contains(SERVED_PROFILE), "{error}");
    assert!(
        !error.contains("PRIVATE KEY") && !format!("{:?}", mock.credentials()).contains(&mock.credentials().password)
    );
    let after = mock.counts().unwrap();
    // The one that failed has given its token back too.
    assert_eq!(after.get("tokens_active"), 0);
    assert_eq!(after.get("deployments") - before.get("deployments"), 2);
    let management = mock.management();
    let new = identity(&root, KeyType::EcdsaP256);
    std::thread::scope(|scope| scope.spawn(|| management.deploy(&new)).join().unwrap()).unwrap();
    assert_eq!(shown(&address, &root.pem()), new.chain);
}

/// Runs four users who make so many rounds each.
fn deploy(mock: &F5Mock, scenario: &Rc<F5Deploy>, rounds: u64) -> Measurement {
    let plan = Plan {
        model: Model::Closed { think: Duration::ZERO, rounds: Some(rounds) },
        steps: scenario.steps().len(),
        starts_after: Duration::ZERO,
        goes_on: Duration::ZERO,
        warm_up: Duration::ZERO,
        window: Duration::from_secs(60),
        connections: 4,
        further: 0,
        opening: Opening::Before(Rate::per_second(1_000)),
        timeout: Duration::from_secs(30),
        max_lag: Duration::from_secs(10),
        rng_seed: 1,
        part: None,
    };
    let dialer = Dialer::new(mock.address, mock.base.server_name().unwrap(), client_config(&mock.trust).unwrap());
    let greeting = encode(Method::Get, HEALTH_PATH, &mock.base.host_header(), None, "");
    let peer = Peer { dialers: vec![dialer], connections: Connections::Kept(greeting) };
    let workload = Workload { name: "f5_deploy", plan, thresholds: Vec::new() };
    let bound = BoundWorkload { workload, scenario: scenario.clone(), peer: Arc::new(peer), others: Vec::new() };
    let measured = run(&[bound], &[Shard::WHOLE], &Control::default()).unwrap();
    measured.into_iter().next().unwrap()
}

#[test]
fn f5_deploy_counts_agree_with_the_mock() {
    let mock = F5Mock::start(Path::new(BINARY)).unwrap();
    let before = mock.counts().unwrap();
    let scenario = Rc::new(F5Deploy::new(&mock.base.host_header(), mock.credentials().clone()).unwrap());
    let measurement = deploy(&mock, &scenario, 6);
    assert_eq!(measurement.steps.len(), 10);
    for step in &measurement.steps {
        let counts = (step.scheduled, step.outcomes.count(Outcome::Ok), step.response.count());
        assert_eq!(counts, (24, 24, 24), "{}: {:?}", step.name, measurement.examples);
    }
    let work = mock.counts().unwrap().work_since(&before, &scenario.claims(), 0);
    assert_eq!(work.len(), 3);
    for one in work {
        assert_eq!((one.claimed, one.found), (24, 24), "{}", one.name);
    }
    // An F5 has 100 tokens for a user: none is left behind.
    assert_eq!(mock.counts().unwrap().get("tokens_active"), 0);
}

#[test]
fn f5_deploy_counts_no_step_after_a_failed_login() {
    let mock = F5Mock::start(Path::new(BINARY)).unwrap();
    let mut credentials = mock.credentials().clone();
    credentials.password.clear();
    let scenario = Rc::new(F5Deploy::new(&mock.base.host_header(), credentials).unwrap());
    let measurement = deploy(&mock, &scenario, 1);
    for step in &measurement.steps {
        assert_eq!(step.outcomes.sorted(), [(Outcome::Failed(401), 4)], "{}", step.name);
    }
    assert_eq!(mock.counts().unwrap().get("deployments"), 0);
    assert!(scenario.claims().iter().all(|claim| claim.claimed == 0));
}
