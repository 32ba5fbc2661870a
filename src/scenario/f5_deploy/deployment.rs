//! One deployment to an F5, as certctl's connector does it over iControl REST: the request of each step, and the right
//! answer to it. Knows no socket.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::foreign;
use crate::measure::Outcome;
use crate::scenario::unwanted;
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode_as};

/// The names of the steps, in their order.
pub const STEPS: &[&str] = &[
    "login",
    "upload_cert",
    "upload_key",
    "install_cert",
    "install_key",
    "open_transaction",
    "update_profile",
    "commit",
    "read_profile",
    "logout",
];

/// The step that opens a round.
pub const LOGIN: usize = 0;
/// The step whose right answer is a deployment done.
pub const COMMIT: usize = 7;
const UPLOAD_CERT: usize = 1;
const UPLOAD_KEY: usize = 2;
const INSTALL_CERT: usize = 3;
const INSTALL_KEY: usize = 4;
const OPEN_TRANSACTION: usize = 5;
const UPDATE_PROFILE: usize = 6;
/// The step that gives the token back: an F5 has 100 for each user, each good for 20 minutes. certctl's connector
/// leaves it to expire.
pub const LOGOUT: usize = 9;

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// A user of an F5. Its password is never printed.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.username)
    }
}

/// A certificate and its key as PEM, to be deployed. The key is never printed.
pub struct Pair {
    /// The certificate with its chain.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// A deployment under way.
pub struct Deployment {
    pair: Arc<Pair>,
    /// The profile that is to name the new objects, without its partition.
    profile: String,
    certificate: Object,
    key: Object,
    token: String,
    transaction: String,
    /// The first step that has not had its right answer yet.
    reached: usize,
}

/// A certificate or key on the device.
struct Object {
    name: String,
    /// The path of its upload, as the device states it.
    file: String,
}

impl Object {
    fn new(name: String) -> Self {
        Self { name, file: String::new() }
    }

    /// Returns its name in the partition that certctl uses by default.
    fn full_name(&self) -> String {
        format!("/Common/{}", self.name)
    }
}

impl Deployment {
    /// Returns a deployment of `pair` to a profile. `id` is part of the names of its objects, which are new with every
    /// deployment: certctl leaves the objects that it has replaced in place.
    pub fn new(pair: Arc<Pair>, profile: &str, id: &str) -> Self {
        Self {
            pair,
            profile: profile.to_owned(),
            certificate: Object::new(format!("certctl-cert-{id}")),
            key: Object::new(format!("certctl-key-{id}")),
            token: String::new(),
            transaction: String::new(),
            reached: 0,
        }
    }

    /// Replaces `request` by that of a step. Values that earlier steps have not brought are empty in it.
    pub fn encode(&self, step: usize, host: &str, user: &Credentials, request: &mut Vec<u8>) -> Method {
        let profile = format!("/mgmt/tm/ltm/profile/client-ssl/~Common~{}", self.profile);
        let (method, path, body) = match step {
            LOGIN => {
                let Credentials { username, password } = user;
                let login = json!({"username": username, "password": password, "loginProviderName": "tmos"});
                (Method::Post, "/mgmt/shared/authn/login".to_owned(), login.to_string())
            }
            UPLOAD_CERT => return self.encode_upload(&self.certificate, &self.pair.certificate, host, request),
            UPLOAD_KEY => return self.encode_upload(&self.key, &self.pair.key, host, request),
            INSTALL_CERT => (Method::Post, "/mgmt/tm/sys/crypto/cert".to_owned(), install(&self.certificate)),
            INSTALL_KEY => (Method::Post, "/mgmt/tm/sys/crypto/key".to_owned(), install(&self.key)),
            OPEN_TRANSACTION => (Method::Post, "/mgmt/tm/transaction".to_owned(), "{}".to_owned()),
            UPDATE_PROFILE => {
                let names = json!({"cert": self.certificate.full_name(), "key": self.key.full_name()});
                (Method::Patch, profile, names.to_string())
            }
            COMMIT => {
                let path = format!("/mgmt/tm/transaction/{}", self.transaction);
                (Method::Patch, path, json!({"state": "VALIDATING"}).to_string())
            }
            LOGOUT => (Method::Delete, format!("/mgmt/shared/authz/tokens/{}", self.token), String::new()),
            _ => (Method::Get, profile, String::new()),
        };
        let mut fields = vec![("X-F5-Auth-Token", self.token.as_str())];
        if step == LOGIN {
            fields.clear();
        } else if step == UPDATE_PROFILE {
            fields.push(("X-F5-REST-Coordination-Id", &self.transaction));
        }
        *request = encode_as(method, &path, host, &fields, JSON, body.as_bytes());
        method
    }

    fn encode_upload(&self, object: &Object, pem: &str, host: &str, request: &mut Vec<u8>) -> Method {
        let path = format!("/mgmt/shared/file-transfer/uploads/{}.pem", object.name);
        let range = format!("0-{}/{}", pem.len().saturating_sub(1), pem.len());
        let fields = [("X-F5-Auth-Token", self.token.as_str()), ("Content-Range", &range)];
        *request = encode_as(Method::Post, &path, host, &fields, BYTES, pem.as_bytes());
        Method::Post
    }

    /// Returns the outcome of a step, and keeps what later ones need. An answer is right only when all steps before it
    /// had their right answers.
    pub fn judge(&mut self, step: usize, response: &Response<'_>) -> Outcome {
        let answer: Value = match response.status {
            200 => serde_json::from_slice(response.body).unwrap_or_default(),
            _ => Value::Null,
        };
        let is_due = response.status == 200 && self.reached == step && response.is_json();
        if is_due && self.accept(step, &answer).is_some() {
            self.reached = step + 1;
            return Outcome::Ok;
        }
        self.hide_tokens(response.body);
        unwanted(response.status, 200)
    }

    /// Registers the tokens in an answer that will be shown, JSON or not: that of this deployment, and every value that
    /// the answer calls one.
    fn hide_tokens(&self, answer: &[u8]) {
        foreign::keep_token(&self.token);
        let answer = String::from_utf8_lossy(answer);
        for (at, key) in answer.match_indices("\"token\"") {
            let value = answer[at + key.len()..].trim_start_matches(|c: char| c.is_whitespace() || c == ':');
            // The answer may be cut off.
            if let Some(token) = value.strip_prefix('"').and_then(|token| token.split('"').next()) {
                foreign::keep_token(token);
            }
        }
    }

    /// Takes what later steps need from an answer; `None`, with nothing taken, if it is not the right one.
    fn accept(&mut self, step: usize, answer: &Value) -> Option<()> {
        let has = |name: &str, value: &str| (answer[name] == value).then_some(());
        match step {
            LOGIN => self.token = text(&answer["token"]["token"])?,
            UPLOAD_CERT => self.certificate.file = text(&answer["localFilePath"])?,
            UPLOAD_KEY => self.key.file = text(&answer["localFilePath"])?,
            INSTALL_CERT => has("name", &self.certificate.name)?,
            INSTALL_KEY => has("name", &self.key.name)?,
            OPEN_TRANSACTION => {
                has("state", "STARTED")?;
                self.transaction = text(&answer["transId"])?;
            }
            // The answer is the command, which waits in the transaction: nothing is done yet.
            UPDATE_PROFILE => {}
            COMMIT => has("state", "COMPLETED")?,
            LOGOUT => has("token", &self.token)?,
            _ => {
                has("cert", &self.certificate.full_name())?;
                has("key", &self.key.full_name())?;
            }
        }
        Some(())
    }
}

fn install(object: &Object) -> String {
    json!({"command": "install", "name": object.name, "from-local-file": object.file}).to_string()
}

/// Returns a string or number that can stand in a request.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
}
