//! The device: certificates, keys, client-ssl profiles, and the transactions that change them all at once.
//!
//! One thing differs from an F5: a change of a profile that does not exist creates it, where an F5 answers 404. So each
//! user of the load has a profile of its own, without a step that creates it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::draft::{Command, Draft};
use crate::files::Files;
use crate::names;
use crate::reply::{Refusal, self_link};
use crate::routes::{Kind, View};
use crate::shelf::{Limits, Shelf, Trouble};
use crate::tls::Served;
use certctl_bench::servers::leaf::Leaf;

/// The profile of the virtual server that clients connect to.
pub const DEFAULT_PROFILE: &str = "/Common/clientssl-certctl";
/// The value of `chain` in a profile without a chain.
pub const NO_CHAIN: &str = "none";
/// The certificate and the key of the start, which a new profile names unless it names others.
pub const DEFAULT_CERTIFICATE: &str = "/Common/default.crt";
pub const DEFAULT_KEY: &str = "/Common/default.key";
/// The path of profiles.
pub const PROFILES_PATH: &str = "/mgmt/tm/ltm/profile/client-ssl";
/// The path of transactions.
pub const TRANSACTIONS_PATH: &str = "/mgmt/tm/transaction";

/// The most profiles; more are refused.
pub const MAX_PROFILES: usize = 4_096;
/// The bounds on objects, beyond which the oldest that no profile names are removed: certctl leaves the objects that it
/// has replaced.
const OBJECTS: Limits = Limits { items: 16_384, bytes: 64 << 20 };
/// The bounds on transactions, beyond which the oldest are forgotten, as an F5 does after two minutes.
const TRANSACTIONS: Limits = Limits { items: 4_096, bytes: usize::MAX };
const MAX_COMMANDS: usize = 64;

/// A certificate with its chain, if it has one.
pub type Chain = Vec<CertificateDer<'static>>;

/// The state of the device.
pub struct Device {
    pub files: Files,
    pub(crate) certificates: Shelf<Chain>,
    pub(crate) keys: Shelf<PrivateKeyDer<'static>>,
    pub(crate) profiles: BTreeMap<String, Profile>,
    transactions: Shelf<Vec<Queued>>,
    opened: u64,
    served: Arc<Served>,
    work: Work,
}

/// A command that waits for its transaction's commit, and the request that it came with.
struct Queued {
    command: Command,
    shown: Value,
}

/// The work done since the start.
#[derive(Default)]
struct Work {
    certificates_installed: u64,
    keys_installed: u64,
    profile_updates: u64,
    deployments: u64,
    commits_refused: u64,
}

/// The objects that a client-ssl profile names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub cert: String,
    pub key: String,
    pub chain: Option<String>,
}

impl Profile {
    /// Returns true if it names this object.
    pub fn names(&self, kind: Kind, object: &str) -> bool {
        match kind {
            Kind::Certificate => self.cert == object || self.chain.as_deref() == Some(object),
            Kind::Key => self.key == object,
        }
    }
}

impl Device {
    /// Returns a device with a default profile that names this leaf.
    pub fn new(leaf: &Leaf, served: Arc<Served>) -> Self {
        let mut device = Self {
            files: Files::default(),
            certificates: Shelf::new(OBJECTS),
            keys: Shelf::new(OBJECTS),
            profiles: BTreeMap::new(),
            transactions: Shelf::new(TRANSACTIONS),
            opened: 0,
            served,
            work: Work::default(),
        };
        // Empty shelves have room.
        let _ = device.certificates.put(DEFAULT_CERTIFICATE, vec![leaf.certificate.clone()], leaf.certificate.len());
        let _ = device.keys.put(DEFAULT_KEY, leaf.key.clone_key(), leaf.key.secret_der().len());
        let profile = Profile { cert: DEFAULT_CERTIFICATE.to_owned(), key: DEFAULT_KEY.to_owned(), chain: None };
        device.hold(&profile);
        device.profiles.insert(DEFAULT_PROFILE.to_owned(), profile);
        device
    }

    /// Opens a transaction and returns its id.
    pub fn open_transaction(&mut self) -> Result<u64, Refusal> {
        self.opened += 1;
        let put = self.transactions.put(&self.opened.to_string(), Vec::new(), 0);
        put.map_err(|trouble| refuse(trouble, "transaction", &self.opened.to_string()))?;
        Ok(self.opened)
    }

    /// Returns the commands that wait in an open transaction.
    pub fn commands(&self, id: &str) -> Result<Vec<Value>, Refusal> {
        Ok(self.transaction(id)?.iter().map(|queued| queued.shown.clone()).collect())
    }

    /// Returns the open transactions.
    pub fn transactions(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.transactions.iter().filter_map(|(id, _)| id.parse().ok()).collect();
        ids.sort_unstable();
        ids
    }

    /// Forgets an open transaction.
    pub fn abandon(&mut self, id: &str) -> Result<(), Refusal> {
        self.transactions.remove(id).map(drop).map_err(|trouble| refuse(trouble, "transaction", id))
    }

    /// Adds a command to an open transaction and shows how it waits there; `request` is its method, path and body.
    pub fn queue(&mut self, id: &str, command: Command, request: (&str, &str, &Value)) -> Result<Value, Refusal> {
        let commands = self.transactions.get_mut(id).ok_or_else(|| Refusal::unknown("transaction", id))?;
        if commands.len() >= MAX_COMMANDS {
            return Err(Refusal::bad(format!("transaction {id} has {MAX_COMMANDS} commands; it takes no more")));
        }
        let (number, (method, path, body)) = (commands.len() + 1, request);
        let shown = json!({
            "kind": "tm:transaction:commandsstate",
            "commandId": number,
            "evalOrder": number,
            "method": method,
            "uri": format!("https://localhost{path}"),
            "body": body,
            "selfLink": self_link(&format!("{TRANSACTIONS_PATH}/{id}/commands/{number}")),
        });
        commands.push(Queued { command, shown: shown.clone() });
        Ok(shown)
    }

    /// Checks that all commands of a transaction can be carried out; it stays open.
    pub fn validate(&self, id: &str) -> Result<(), Refusal> {
        let commands = self.transaction(id)?.iter().map(|queued| &queued.command);
        Draft::of(self, commands).map(drop)
    }

    /// Carries out all commands of a transaction, or none when one cannot be. It is over in either case.
    pub fn commit(&mut self, id: &str) -> Result<(), Refusal> {
        let commands = self.transactions.remove(id).map_err(|trouble| refuse(trouble, "transaction", id))?;
        let commands: Vec<Command> = commands.into_iter().map(|queued| queued.command).collect();
        match self.make(&commands) {
            Ok(()) => {
                self.work.deployments += u64::from(!commands.is_empty());
                Ok(())
            }
            Err(refusal) => {
                self.work.commits_refused += 1;
                Err(refusal)
            }
        }
    }

    /// Carries out all these commands, or none.
    pub fn make(&mut self, commands: &[Command]) -> Result<(), Refusal> {
        let Draft { certificates, keys, profiles, certified } = Draft::of(self, commands)?;
        // New objects come first: only they may find no room, and no profile names them yet.
        for (name, chain) in &certificates {
            if let Some(chain) = chain.as_ref().filter(|_| self.certificates.get(name).is_none()) {
                let put = self.certificates.put(name, chain.clone(), size(chain));
                put.map_err(|trouble| refuse(trouble, "certificate", name))?;
            }
        }
        for (name, key) in &keys {
            if let Some(key) = key.as_ref().filter(|_| self.keys.get(name).is_none()) {
                let put = self.keys.put(name, key.clone_key(), key.secret_der().len());
                put.map_err(|trouble| refuse(trouble, "key", name))?;
            }
        }
        for (name, profile) in profiles {
            if let Some(profile) = &profile {
                self.hold(profile);
            }
            let before = match profile {
                Some(profile) => self.profiles.insert(name, profile),
                None => self.profiles.remove(&name),
            };
            if let Some(before) = before {
                self.release(&before);
            }
        }
        for (name, chain) in certificates {
            match chain {
                Some(chain) => {
                    let bytes = size(&chain);
                    self.certificates.replace(&name, chain, bytes);
                }
                // The draft has checked that it exists, and that no profile names it.
                None => drop(self.certificates.remove(&name)),
            }
        }
        for (name, key) in keys {
            match key {
                Some(key) => {
                    let bytes = key.secret_der().len();
                    self.keys.replace(&name, key, bytes);
                }
                None => drop(self.keys.remove(&name)),
            }
        }
        if let Some(certified) = certified {
            self.served.replace(certified);
        }
        for command in commands {
            match command {
                Command::Install(Kind::Certificate, ..) => self.work.certificates_installed += 1,
                Command::Install(Kind::Key, ..) => self.work.keys_installed += 1,
                Command::Profile(_) => self.work.profile_updates += 1,
                Command::Remove(..) | Command::RemoveProfile(_) => {}
            }
        }
        Ok(())
    }

    /// Returns a profile as iControl shows it.
    pub fn profile(&self, name: &str) -> Result<Value, Refusal> {
        let profile = self.profiles.get(name).ok_or_else(|| Refusal::unknown("client-ssl profile", name))?;
        Ok(show(name, profile))
    }

    /// Returns all profiles.
    pub fn profiles(&self) -> Vec<Value> {
        self.profiles.iter().map(|(name, profile)| show(name, profile)).collect()
    }

    /// Returns a certificate or key as iControl shows it: by its name alone.
    pub fn object(&self, view: View, kind: Kind, name: &str) -> Result<Value, Refusal> {
        let (there, label) = match kind {
            Kind::Certificate => (self.certificates.get(name).is_some(), "certificate"),
            Kind::Key => (self.keys.get(name).is_some(), "key"),
        };
        if !there {
            return Err(Refusal::unknown(label, name));
        }
        let (partition, short) = names::parts(name);
        Ok(json!({
            "kind": view.kind(kind, "state"),
            "name": short,
            "partition": partition,
            "fullPath": name,
            "generation": 1,
            "selfLink": self_link(&format!("{}/{}", view.path(kind), names::in_url(name))),
        }))
    }

    /// Returns all certificates or keys.
    pub fn objects(&self, view: View, kind: Kind) -> Vec<Value> {
        let mut names: Vec<&String> = match kind {
            Kind::Certificate => self.certificates.iter().map(|(name, _)| name).collect(),
            Kind::Key => self.keys.iter().map(|(name, _)| name).collect(),
        };
        names.sort_unstable();
        names.into_iter().filter_map(|name| self.object(view, kind, name).ok()).collect()
    }

    /// Returns the counts of work done, which an F5 does not have.
    pub fn work(&self) -> Value {
        let work = &self.work;
        json!({
            "certificates_installed": work.certificates_installed,
            "keys_installed": work.keys_installed,
            "transactions": self.opened,
            "profile_updates": work.profile_updates,
            "deployments": work.deployments,
            "commits_refused": work.commits_refused,
        })
    }

    fn transaction(&self, id: &str) -> Result<&Vec<Queued>, Refusal> {
        self.transactions.get(id).ok_or_else(|| Refusal::unknown("transaction", id))
    }

    fn hold(&mut self, profile: &Profile) {
        self.keys.hold(&profile.key);
        for name in std::iter::once(&profile.cert).chain(&profile.chain) {
            self.certificates.hold(name);
        }
    }

    fn release(&mut self, profile: &Profile) {
        self.keys.release(&profile.key);
        for name in std::iter::once(&profile.cert).chain(&profile.chain) {
            self.certificates.release(name);
        }
    }
}

fn size(chain: &Chain) -> usize {
    chain.iter().map(|one| one.len()).sum()
}

fn show(name: &str, profile: &Profile) -> Value {
    let (partition, short) = names::parts(name);
    let chain = profile.chain.as_deref().unwrap_or(NO_CHAIN);
    json!({
        "kind": "tm:ltm:profile:client-ssl:client-sslstate",
        "name": short,
        "partition": partition,
        "fullPath": name,
        "generation": 1,
        "selfLink": self_link(&format!("{PROFILES_PATH}/{}", names::in_url(name))),
        "defaultsFrom": "/Common/clientssl",
        "cert": profile.cert,
        "key": profile.key,
        "chain": chain,
        "certKeyChain": [{"name": "default", "cert": profile.cert, "key": profile.key, "chain": chain}],
    })
}

fn refuse(trouble: Trouble, what: &str, name: &str) -> Refusal {
    match trouble {
        Trouble::Unknown => Refusal::unknown(what, name),
        Trouble::Held => Refusal::bad(format!("the {what} {name} is in use by a profile")),
        Trouble::Full => Refusal::bad(format!("there is no room for the {what} {name}")),
    }
}
