//! Handlers of certificates and keys, profiles, and transactions.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::device::{NO_CHAIN, PROFILES_PATH, TRANSACTIONS_PATH};
use crate::draft::{Change, Command, How};
use crate::handlers::{App, Call};
use crate::names;
use crate::reply::{self, Refusal, Reply, self_link};
use crate::routes::{Kind, Resource, View};

/// The header that names the transaction of a command.
const COORDINATION: &str = "x-f5-rest-coordination-id";

/// Answers a request about certificates, keys, profiles or transactions.
pub fn respond(app: &App, method: &str, resource: Resource, call: &Call<'_>) -> Result<Reply, Refusal> {
    match (method, resource) {
        ("GET", Resource::Objects(view, kind)) => {
            let items = app.device().objects(view, kind);
            Ok(reply::ok(&call.query()?.page(&view.kind(kind, "collectionstate"), &view.path(kind), items)))
        }
        ("POST", Resource::Objects(View::Crypto, kind)) => install(app, kind, call),
        ("POST", Resource::Objects(View::File, kind)) => create_file(app, kind, call),
        ("GET", Resource::Object(view, kind, name)) => {
            let object = app.device().object(view, kind, &names::full(&name)?)?;
            Ok(reply::ok(&object))
        }
        ("PATCH" | "PUT", Resource::Object(View::File, kind, name)) => change_file(app, kind, &name, call),
        ("DELETE", Resource::Object(_, kind, name)) => {
            let command = Command::Remove(kind, names::full(&name)?);
            carry_out(app, command, call, |_| Ok(json!({})))
        }
        ("GET", Resource::Transactions) => {
            let items = app.device().transactions().into_iter().map(|id| transaction(id, "STARTED", false)).collect();
            Ok(reply::ok(&call.query()?.page("tm:transactioncollectionstate", TRANSACTIONS_PATH, items)))
        }
        ("POST", Resource::Transactions) => {
            let id = app.device().open_transaction()?;
            Ok(reply::ok(&transaction(id, "STARTED", false)))
        }
        ("GET", Resource::Transaction(id)) => {
            app.device().commands(&id)?;
            Ok(reply::ok(&transaction(number(&id)?, "STARTED", false)))
        }
        ("GET", Resource::Commands(id)) => {
            let commands = app.device().commands(&id)?;
            let path = format!("{TRANSACTIONS_PATH}/{id}/commands");
            Ok(reply::ok(&call.query()?.page("tm:transaction:commandscollectionstate", &path, commands)))
        }
        ("PATCH" | "PUT", Resource::Transaction(id)) => commit(app, &id, call),
        ("DELETE", Resource::Transaction(id)) => app.device().abandon(&id).map(|()| reply::ok(&json!({}))),
        ("GET", Resource::Profiles) => {
            let kind = "tm:ltm:profile:client-ssl:client-sslcollectionstate";
            Ok(reply::ok(&call.query()?.page(kind, PROFILES_PATH, app.device().profiles())))
        }
        ("POST", Resource::Profiles) => change_profile(app, None, How::Create, call),
        ("GET", Resource::Profile(name)) => {
            let profile = app.device().profile(&names::full(&name)?)?;
            Ok(reply::ok(&profile))
        }
        ("PATCH", Resource::Profile(name)) => change_profile(app, Some(&name), How::Modify, call),
        ("PUT", Resource::Profile(name)) => change_profile(app, Some(&name), How::Replace, call),
        ("DELETE", Resource::Profile(name)) => {
            let command = Command::RemoveProfile(names::full(&name)?);
            carry_out(app, command, call, |_| Ok(json!({})))
        }
        (method, _) => {
            let message = format!("{method} is no method of {}", call.path());
            Err(Refusal::with_status(StatusCode::METHOD_NOT_ALLOWED, message))
        }
    }
}

/// Carries a command out and answers with the result of `done`, or adds it to the transaction that the request belongs
/// to.
fn carry_out(
    app: &App,
    command: Command,
    call: &Call<'_>,
    done: impl FnOnce(&crate::device::Device) -> Result<Value, Refusal>,
) -> Result<Reply, Refusal> {
    let mut device = app.device();
    let Some(id) = call.head.headers.get(COORDINATION) else {
        device.make(&[command])?;
        return done(&device).map(|shown| reply::ok(&shown));
    };
    let id = id.to_str().map_err(|_| Refusal::bad(format!("{COORDINATION} is no id")))?;
    // A request without a JSON body is shown without one.
    let body = serde_json::from_slice(call.body).unwrap_or_default();
    device.queue(id, command, (call.head.method.as_str(), call.path(), &body)).map(|shown| reply::ok(&shown))
}

fn install(app: &App, kind: Kind, call: &Call<'_>) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Install {
        name: String,
        #[serde(rename = "from-local-file")]
        file: String,
        #[serde(default)]
        partition: Option<String>,
        #[serde(default)]
        command: Option<String>,
    }
    let Install { name, file, partition, command } = call.parse()?;
    if let Some(other) = command.filter(|command| command != "install") {
        return Err(Refusal::bad(format!("the command {other:?} is none of this mock's; \"install\" is")));
    }
    let object = names::in_partition(&name, partition.as_deref().unwrap_or("Common"))?;
    let label = kind.label();
    let shown = json!({
        "kind": format!("tm:sys:crypto:{label}:installstate"),
        "command": "install",
        "name": name,
        "from-local-file": file,
    });
    carry_out(app, Command::Install(kind, object, file), call, |_| Ok(shown))
}

fn create_file(app: &App, kind: Kind, call: &Call<'_>) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Create {
        name: String,
        #[serde(default)]
        partition: Option<String>,
        #[serde(rename = "sourcePath")]
        source: String,
    }
    let Create { name, partition, source } = call.parse()?;
    let object = names::in_partition(&name, partition.as_deref().unwrap_or("Common"))?;
    if app.device().object(View::File, kind, &object).is_ok() {
        let message = format!("the requested ssl-{} ({object}) already exists", kind.label());
        return Err(Refusal::with_status(StatusCode::CONFLICT, message));
    }
    let command = Command::Install(kind, object.clone(), source);
    carry_out(app, command, call, |device| device.object(View::File, kind, &object))
}

fn change_file(app: &App, kind: Kind, name: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Wanted {
        #[serde(rename = "sourcePath")]
        source: String,
    }
    let object = names::full(name)?;
    app.device().object(View::File, kind, &object)?;
    let Wanted { source } = call.parse()?;
    let command = Command::Install(kind, object.clone(), source);
    carry_out(app, command, call, |device| device.object(View::File, kind, &object))
}

fn commit(app: &App, id: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Commit {
        state: String,
        #[serde(default, rename = "validateOnly")]
        validate_only: bool,
    }
    let Commit { state, validate_only } = call.parse()?;
    let mut device = app.device();
    device.commands(id)?;
    if state != "VALIDATING" {
        return Err(Refusal::bad(format!("a transaction's state cannot become {state:?}; VALIDATING commits it")));
    }
    if validate_only {
        device.validate(id)?
    } else {
        device.commit(id)?
    }
    Ok(reply::ok(&transaction(number(id)?, "COMPLETED", validate_only)))
}

/// Returns a transaction as iControl shows it. An F5 numbers its transactions.
fn transaction(id: u64, state: &str, validate_only: bool) -> Value {
    json!({
        "kind": "tm:transactionstate",
        "transId": id,
        "state": state,
        "timeoutSeconds": 120,
        "asyncExecution": false,
        "validateOnly": validate_only,
        "executionTimeout": 300,
        "executionTime": 0,
        "failureReason": "",
        "selfLink": self_link(&format!("{TRANSACTIONS_PATH}/{id}")),
    })
}

fn number(id: &str) -> Result<u64, Refusal> {
    id.parse().map_err(|_| Refusal::unknown("transaction", id))
}

/// Makes or changes a profile: the one that the path names, or the body.
fn change_profile(app: &App, name: Option<&str>, how: How, call: &Call<'_>) -> Result<Reply, Refusal> {
    #[derive(Deserialize, Default)]
    struct Pair {
        cert: Option<String>,
        key: Option<String>,
        chain: Option<String>,
    }
    #[derive(Deserialize)]
    struct Wanted {
        name: Option<String>,
        partition: Option<String>,
        #[serde(flatten)]
        pair: Pair,
        /// The same values once more, as a list; here it has one entry at most.
        #[serde(default, rename = "certKeyChain")]
        list: Vec<Pair>,
    }
    let Wanted { name: own, partition, pair, mut list } = call.parse()?;
    let profile = match (name, own) {
        (Some(name), _) => names::full(name)?,
        (None, Some(name)) => names::in_partition(&name, partition.as_deref().unwrap_or("Common"))?,
        (None, None) => return Err(Refusal::bad("a profile needs a name")),
    };
    if list.len() > 1 {
        return Err(Refusal::bad("certKeyChain has one entry at most in this mock"));
    }
    let entry = list.pop().unwrap_or_default();
    let before = app.device().profile(&profile).unwrap_or_default();
    let object = |name: Option<String>| name.map(|name| names::full(&name)).transpose();
    // A client that writes back what it has read changes one of the two: the one that differs from before is meant.
    let meant = |field: &str, plain: Option<String>, listed: Option<String>| -> Result<Option<String>, Refusal> {
        let (plain, listed) = (object(plain)?, object(listed)?);
        let is_old = plain.as_deref() == before[field].as_str();
        Ok(if is_old { listed.or(plain) } else { plain.or(listed) })
    };
    let chain = match (pair.chain, entry.chain) {
        (Some(plain), Some(listed)) if before["chain"] == *plain => Some(listed),
        (plain, listed) => plain.or(listed),
    };
    let change = Change {
        profile: profile.clone(),
        cert: meant("cert", pair.cert, entry.cert)?,
        key: meant("key", pair.key, entry.key)?,
        chain: match chain.as_deref() {
            None => None,
            Some(NO_CHAIN | "") => Some(None),
            Some(_) => Some(object(chain)?),
        },
        how,
    };
    carry_out(app, Command::Profile(change), call, |device| device.profile(&profile))
}
