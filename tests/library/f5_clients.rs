//! The F5 mock with clients of iControl REST from outside this project, f5-sdk and bigrest, and with the requests of
//! other clients: Ansible's modules, and users who log in more often than a BIG-IP lets them.

use std::path::Path;
use std::process::Command;

use certctl_bench::provision::pki::{Authority, Identity, KeyType, Purpose};
use certctl_bench::system::f5::F5Mock;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::common::needs::{needs, tools};

const DOWNLOADS: &str = "/var/config/rest/downloads";
const PROFILES: &str = "/mgmt/tm/ltm/profile/client-ssl";
const SERVED: &str = "/mgmt/tm/ltm/profile/client-ssl/~Common~clientssl-certctl";
const BASIC: (&str, &str) = ("Authorization", "Basic b3BlcmF0b3I6c2VjcmV0");

fn start() -> F5Mock {
    F5Mock::start(Path::new(env!("CARGO_BIN_EXE_f5-mock"))).unwrap()
}

fn identity(authority: &Authority) -> Identity {
    authority.issue(KeyType::EcdsaP256, Purpose::Server, &["localhost"]).unwrap()
}

/// Returns a client's observations at a fresh mock, true if the mock then serves the new certificate, and its counts.
fn run_client(client: &str, way: &str) -> (Value, bool, Value) {
    let (mock, authority, folder) =
        (start(), Authority::root(KeyType::EcdsaP256).unwrap(), tempfile::tempdir().unwrap());
    let new = identity(&authority);
    for (file, content) in [("cert.pem", new.chain_pem.as_bytes()), ("key.pem", new.key_pem.as_bytes())] {
        std::fs::write(folder.path().join(file), content).unwrap();
    }
    std::fs::write(folder.path().join("large.bin"), vec![7; 1_228_800]).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/f5_clients/deploy.py");
    let output = Command::new(tools().join("f5-clients/bin/python"))
        .args(["-W", "ignore"])
        .arg(script)
        .args([&mock.address.to_string(), client, way])
        .arg(folder.path())
        // The library requests would verify against these although it is not to verify.
        .env_remove("REQUESTS_CA_BUNDLE")
        .env_remove("CURL_CA_BUNDLE")
        .output()
        .unwrap();
    assert!(output.status.success(), "{client}, {way}: {}", String::from_utf8_lossy(&output.stderr));
    let counts = mock.counts().unwrap();
    let count = |name: &str| counts.get(name);
    let counted = json!({
        "uploads": count("uploads"), "certificates": count("certificates_installed"), "keys": count("keys_installed"),
        "deployments": count("deployments"), "logins": count("logins"), "tokens_active": count("tokens_active"),
    });
    let connection = Client::connect(&mock.address.to_string(), &authority.pem());
    // The handshake takes place with the first bytes.
    let mut connection = connection;
    assert_eq!(connection.send("GET", "/healthz", &[], "").status, 200);
    let shown = connection.reader.get_ref().conn.peer_certificates() == Some(&new.chain);
    (serde_json::from_slice(&output.stdout).unwrap(), shown, counted)
}

#[track_caller]
fn assert_deploys(client: &str, object: &str) {
    for (way, logins, timeout) in [("token", 1, json!(2_400)), ("basic", 0, Value::Null)] {
        let (seen, shown, counted) = run_client(client, way);
        let (default, new) = ("/Common/default.crt", format!("/Common/{object}"));
        let mut certificates = [default, &new];
        certificates.sort_unstable();
        let mut keys = ["/Common/default.key", &new];
        keys.sort_unstable();
        assert_eq!((&seen["certificates"], &seen["keys"]), (&json!(certificates), &json!(keys)), "{way}");
        assert_eq!(seen["profiles"], json!(["/Common/clientssl-certctl"]));
        assert_eq!((&seen["exists"], &seen["chain"]), (&json!([true, false]), &json!(new)));
        // In the transaction nothing has changed yet.
        let served = [&seen["before"], &seen["within"], &seen["after"]].map(|name| name.as_str().unwrap());
        assert_eq!(served, [default, default, &new], "{way}");
        assert_eq!(seen["timeout"], timeout);
        assert!(shown, "{way}: the virtual server shows another certificate");
        let expected = json!({
            "uploads": 3, "certificates": 1, "keys": 1, "deployments": 1, "logins": logins, "tokens_active": 0,
        });
        assert_eq!(counted, expected, "{way}");
    }
}

#[test]
fn f5_sdk_deploys_by_token_and_by_password() {
    needs!(F5Clients);
    assert_deploys("f5-sdk", "sdk");
}

#[test]
fn bigrest_deploys_by_token_and_by_password() {
    needs!(F5Clients);
    assert_deploys("bigrest", "big");
}

/// A client that sends a user's name and password.
struct User {
    client: Client,
}

impl User {
    fn of(mock: &F5Mock, authority: &str) -> Self {
        Self { client: Client::connect(&mock.address.to_string(), authority) }
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let headers: Vec<_> = [BASIC].into_iter().chain(headers.to_vec()).collect();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.client.send(method, path, &headers, &body)
    }

    #[track_caller]
    fn done(&mut self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.send(method, path, &[], &body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        answer.json()
    }

    #[track_caller]
    fn refused(&mut self, status: u16, method: &str, path: &str, body: Value) -> String {
        let answer = self.send(method, path, &[], &body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        answer.json()["message"].as_str().unwrap().to_owned()
    }

    fn upload(&mut self, file: &str, content: &str) -> String {
        let range = format!("0-{}/{}", content.len() - 1, content.len());
        let path = format!("/mgmt/shared/file-transfer/uploads/{file}");
        let answer = self.client.send("POST", &path, &[BASIC, ("Content-Range", &range)], content);
        assert_eq!(answer.status, 200, "{}", answer.body);
        format!("file:{DOWNLOADS}/{file}")
    }
}

/// Returns a mock to which the first of two identities was deployed, an authority of both, and a user.
fn mock_with_user() -> (F5Mock, Authority, User) {
    let (mock, authority) = (start(), Authority::root(KeyType::EcdsaP256).unwrap());
    mock.deploy(&identity(&authority)).unwrap();
    let user = User::of(&mock, &authority.pem());
    (mock, authority, user)
}

#[test]
fn the_101st_token_is_refused_until_one_is_revoked() {
    let (mock, _, mut user) = mock_with_user();
    // The deployment before has given its own token back.
    assert_eq!(mock.counts().unwrap().get("tokens_active"), 0);
    let login = json!({"username": "operator", "password": "secret", "loginProviderName": "tmos"});
    let tokens: Vec<String> = (0..100)
        .map(|_| user.done("POST", "/mgmt/shared/authn/login", login.clone())["token"]["token"].to_string())
        .collect();
    let message = user.refused(400, "POST", "/mgmt/shared/authn/login", login.clone());
    assert!(message.starts_with("user ") && message.ends_with(" has reached maximum active login tokens"), "{message}");
    let other = json!({"username": "other", "password": "secret"});
    user.done("POST", "/mgmt/shared/authn/login", other);
    let collection = user.done("GET", "/mgmt/shared/authz/tokens?$top=10", Value::Null);
    assert_eq!((&collection["totalItems"], collection["items"].as_array().unwrap().len()), (&json!(100), 10));
    let token = format!("/mgmt/shared/authz/tokens/{}", tokens[0].trim_matches('"'));
    assert_eq!(user.done("PATCH", &token, json!({"timeout": "36000"}))["timeout"], 36_000);
    let beyond = user.refused(406, "PATCH", &token, json!({"timeout": 36_001}));
    assert!(beyond.contains("absolute timeout (36000 seconds) exceeded"), "{beyond}");
    user.done("DELETE", &token, Value::Null);
    user.refused(404, "GET", &token, Value::Null);
    user.done("POST", "/mgmt/shared/authn/login", login.clone());
    user.refused(400, "POST", "/mgmt/shared/authn/login", login.clone());
    user.done("DELETE", "/mgmt/shared/authz/tokens", Value::Null);
    user.done("POST", "/mgmt/shared/authn/login", login);
}

#[test]
fn a_certificate_in_use_is_renewed_by_its_name() {
    let (mock, authority, mut user) = mock_with_user();
    let [old, new] = [(); 2].map(|()| identity(&authority));
    let (cert, key) = ("/mgmt/tm/sys/file/ssl-cert", "/mgmt/tm/sys/file/ssl-key");
    for (path, file, content) in [(key, "site.key", &old.key_pem), (cert, "site.crt", &old.chain_pem)] {
        let source = user.upload(file, content);
        user.refused(404, "GET", &format!("{path}/~Common~{file}?expandSubcollections=true"), Value::Null);
        let create = json!({"name": file, "partition": "Common", "sourcePath": source});
        assert_eq!(user.done("POST", path, create.clone())["fullPath"], format!("/Common/{file}"));
        user.refused(409, "POST", path, create);
        user.done("POST", "/mgmt/tm/util/unix-rm", json!({"command": "run", "utilCmdArgs": source}));
    }
    let pair = json!([{"name": "site", "cert": "/Common/site.crt", "key": "/Common/site.key", "chain": "none"}]);
    let served = user.done("PATCH", SERVED, json!({"certKeyChain": pair}));
    assert_eq!(
        (&served["cert"], &served["certKeyChain"][0]["key"]),
        (&json!("/Common/site.crt"), &json!("/Common/site.key"))
    );

    // One without the other does not fit; both in one transaction do.
    let files = [("site.crt", &new.chain_pem), ("site.key", &new.key_pem)];
    let sources = files.map(|(file, content)| user.upload(file, content));
    let change = |source: &String| json!({"sourcePath": source});
    let alone = user.refused(400, "PATCH", &format!("{cert}/~Common~site.crt"), change(&sources[0]));
    assert!(alone.contains("does not belong"), "{alone}");
    let id = user.done("POST", "/mgmt/tm/transaction", json!({}))["transId"].to_string();
    let coordinated = [("X-F5-REST-Coordination-Id", id.as_str())];
    for (path, source) in [(format!("{cert}/~Common~site.crt"), &sources[0]), (format!("{key}/site.key"), &sources[1])]
    {
        let queued = user.send("PUT", &path, &coordinated, &change(source));
        assert_eq!((queued.status, &queued.json()["kind"]), (200, &json!("tm:transaction:commandsstate")), "{path}");
    }
    let path = format!("/mgmt/tm/transaction/{id}");
    assert_eq!(user.done("GET", &format!("{path}/commands"), Value::Null)["items"].as_array().unwrap().len(), 2);
    assert_eq!(user.done("PATCH", &path, json!({"state": "VALIDATING", "validateOnly": true}))["validateOnly"], true);
    assert_eq!(user.done("PATCH", &path, json!({"state": "VALIDATING"}))["state"], "COMPLETED");
    let mut client = Client::connect(&mock.address.to_string(), &authority.pem());
    assert_eq!(client.send("GET", "/healthz", &[], "").status, 200);
    assert_eq!(client.reader.get_ref().conn.peer_certificates(), Some(new.chain.as_slice()));
    let in_use = user.refused(400, "DELETE", &format!("{cert}/~Common~site.crt"), Value::Null);
    assert!(in_use.contains("in use"), "{in_use}");
}

#[test]
fn collections_have_pages_fields_and_partitions() {
    let (_mock, _, mut user) = mock_with_user();
    for (name, partition) in [("a", "Common"), ("b", "Web"), ("c", "Web")] {
        let profile = user.done("POST", PROFILES, json!({"name": name, "partition": partition}));
        assert_eq!(
            (&profile["fullPath"], &profile["cert"]),
            (&json!(format!("/{partition}/{name}")), &json!("/Common/default.crt"))
        );
    }
    user.refused(409, "POST", PROFILES, json!({"name": "/Web/b"}));
    let mut names = |query: &str| -> Value {
        let collection = user.done("GET", &format!("{PROFILES}/?{query}"), Value::Null);
        collection["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect()
    };
    assert_eq!(names("$filter=partition%20eq%20Web"), json!(["b", "c"]));
    assert_eq!(names("%24filter=partition+eq+Web&$skip=1&$top=1"), json!(["c"]));
    let selected = user.done("GET", &format!("{PROFILES}?$select=name,partition&$top=1"), Value::Null);
    assert_eq!(selected["items"], json!([{"name": "a", "partition": "Common"}]));
    assert!(selected["nextLink"].as_str().unwrap().contains("$skip=1"), "{selected}");
    assert_eq!(user.done("GET", &format!("{PROFILES}/~Web~b"), Value::Null)["partition"], "Web");
    for collection in [
        "/mgmt/tm/sys/",
        "/mgmt/tm/ltm",
        "/mgmt/tm/sys/crypto/cert",
        "/mgmt/tm/sys/file/ssl-key",
        "/mgmt/tm/transaction",
    ] {
        let shown = user.done("GET", collection, Value::Null);
        assert!(shown["selfLink"].as_str().unwrap().contains("?ver="), "{collection}: {shown}");
    }
    user.done("DELETE", &format!("{PROFILES}/~Web~b"), Value::Null);
    user.refused(404, "DELETE", &format!("{PROFILES}/~Web~b"), Value::Null);
    let in_use = user.refused(400, "DELETE", SERVED, Value::Null);
    assert!(in_use.contains("in use by a virtual server"), "{in_use}");
}
