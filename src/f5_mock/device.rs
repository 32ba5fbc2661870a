//! The device: certificates, keys, client-ssl profiles, and the transactions that change profiles all at once.
//!
//! One thing is other than on an F5: a change of a profile that there is not makes one, where an F5 answers 404. So each
//! user of the load has a profile of its own, without a step that creates it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use crate::files::Files;
use crate::leaf::Leaf;
use crate::names;
use crate::reply::Refusal;
use crate::shelf::{Limits, Shelf, Trouble};
use crate::tls::{self, Served};

/// The profile of the virtual server that clients connect to.
pub const DEFAULT_PROFILE: &str = "/Common/clientssl-certctl";
/// How a profile without a chain is written.
pub const NO_CHAIN: &str = "none";
const DEFAULT_CERTIFICATE: &str = "/Common/default.crt";
const DEFAULT_KEY: &str = "/Common/default.key";

/// More profiles than this are refused.
const MAX_PROFILES: usize = 4_096;
/// Beyond it the oldest objects that no profile names go: certctl leaves what it has replaced.
const OBJECTS: Limits = Limits { items: 16_384, bytes: 64 << 20 };
/// Beyond it the oldest transactions are forgotten, as an F5 does after two minutes.
const TRANSACTIONS: Limits = Limits { items: 4_096, bytes: usize::MAX };
const MAX_COMMANDS: usize = 64;

/// The state of the device.
pub struct Device {
    pub files: Files,
    certificates: Shelf<Vec<CertificateDer<'static>>>,
    keys: Shelf<PrivateKeyDer<'static>>,
    profiles: HashMap<String, Profile>,
    transactions: Shelf<Vec<Change>>,
    opened: u64,
    served: Arc<Served>,
    work: Work,
}

/// What was done since the start.
#[derive(Default)]
struct Work {
    certificates_installed: u64,
    keys_installed: u64,
    profile_updates: u64,
    deployments: u64,
    commits_refused: u64,
}

/// What a client-ssl profile names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Profile {
    cert: String,
    key: String,
    chain: Option<String>,
}

/// What a profile is to name from now on; names in full.
#[derive(Clone, Debug)]
pub struct Change {
    pub profile: String,
    pub cert: Option<String>,
    pub key: Option<String>,
    /// `Some(None)` is for no chain at all.
    pub chain: Option<Option<String>>,
    /// Whether what is left out is cleared instead of kept.
    pub replace: bool,
}

impl Device {
    /// With a default profile that names this leaf.
    pub fn new(leaf: &Leaf, served: Arc<Served>) -> Self {
        let mut device = Self {
            files: Files::default(),
            certificates: Shelf::new(OBJECTS),
            keys: Shelf::new(OBJECTS),
            profiles: HashMap::new(),
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

    /// Installs an uploaded file as a certificate with what chain it holds.
    pub fn install_certificate(&mut self, name: &str, file: &str) -> Result<(), Refusal> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.files.content(file)?).collect();
        let chain = chain.map_err(|error| Refusal::bad(format!("{file:?} is no PEM: {error}")))?;
        if chain.is_empty() {
            return Err(Refusal::bad(format!("{file:?} holds no certificate in PEM")));
        }
        let bytes = chain.iter().map(|one| one.len()).sum();
        self.certificates.put(name, chain, bytes).map_err(|trouble| refuse(trouble, "certificate", name))?;
        self.work.certificates_installed += 1;
        Ok(())
    }

    /// Installs an uploaded file as a private key.
    pub fn install_key(&mut self, name: &str, file: &str) -> Result<(), Refusal> {
        // No detail: what a parser says may quote the key.
        let key = PrivateKeyDer::from_pem_slice(self.files.content(file)?);
        let key = key.map_err(|_| Refusal::bad(format!("{file:?} holds no private key in PEM")))?;
        let bytes = key.secret_der().len();
        self.keys.put(name, key, bytes).map_err(|trouble| refuse(trouble, "key", name))?;
        self.work.keys_installed += 1;
        Ok(())
    }

    /// Removes a certificate that no profile names.
    pub fn remove_certificate(&mut self, name: &str) -> Result<(), Refusal> {
        self.certificates.remove(name).map(drop).map_err(|trouble| refuse(trouble, "certificate", name))
    }

    /// Removes a key that no profile names.
    pub fn remove_key(&mut self, name: &str) -> Result<(), Refusal> {
        self.keys.remove(name).map(drop).map_err(|trouble| refuse(trouble, "key", name))
    }

    /// Opens a transaction and returns its id.
    pub fn open_transaction(&mut self) -> Result<u64, Refusal> {
        self.opened += 1;
        let put = self.transactions.put(&self.opened.to_string(), Vec::new(), 0);
        put.map_err(|trouble| refuse(trouble, "transaction", &self.opened.to_string()))?;
        Ok(self.opened)
    }

    /// How many commands wait in an open transaction.
    pub fn commands(&self, id: &str) -> Result<usize, Refusal> {
        let commands = self.transactions.get(id).map(Vec::len);
        commands.ok_or_else(|| Refusal::unknown("transaction", id))
    }

    /// Forgets an open transaction.
    pub fn abandon(&mut self, id: &str) -> Result<(), Refusal> {
        self.transactions.remove(id).map(drop).map_err(|trouble| refuse(trouble, "transaction", id))
    }

    /// Adds a change to an open transaction and returns its number there.
    pub fn queue(&mut self, id: &str, change: Change) -> Result<usize, Refusal> {
        let commands = self.transactions.get_mut(id).ok_or_else(|| Refusal::unknown("transaction", id))?;
        if commands.len() >= MAX_COMMANDS {
            return Err(Refusal::bad(format!("transaction {id} has {MAX_COMMANDS} commands; it takes no more")));
        }
        commands.push(change);
        Ok(commands.len())
    }

    /// Makes all changes of a transaction, or none when one cannot be made. It is over in either case.
    pub fn commit(&mut self, id: &str) -> Result<(), Refusal> {
        let changes = self.transactions.remove(id).map_err(|trouble| refuse(trouble, "transaction", id))?;
        match self.make(&changes) {
            Ok(()) => {
                self.work.deployments += u64::from(!changes.is_empty());
                Ok(())
            }
            Err(refusal) => {
                self.work.commits_refused += 1;
                Err(refusal)
            }
        }
    }

    /// Makes all these changes, or none.
    pub fn make(&mut self, changes: &[Change]) -> Result<(), Refusal> {
        let mut drafts = BTreeMap::new();
        for change in changes {
            let before = drafts.get(&change.profile).or_else(|| self.profiles.get(&change.profile));
            let draft = change.of(before)?;
            drafts.insert(change.profile.clone(), draft);
        }
        let added = drafts.keys().filter(|name| !self.profiles.contains_key(*name)).count();
        if self.profiles.len() + added > MAX_PROFILES {
            return Err(Refusal::bad(format!("there are {MAX_PROFILES} profiles; this device takes no more")));
        }
        let certify = |(name, profile): (String, Profile)| {
            let certified = self.certify(&name, &profile)?;
            Ok((name, profile, certified))
        };
        let certified = drafts.into_iter().map(certify).collect::<Result<Vec<_>, Refusal>>()?;
        for (name, profile, certified) in certified {
            self.hold(&profile);
            if name == DEFAULT_PROFILE {
                self.served.replace(certified);
            }
            if let Some(before) = self.profiles.insert(name, profile) {
                self.release(&before);
            }
        }
        self.work.profile_updates += changes.len() as u64;
        Ok(())
    }

    /// A profile as iControl shows it.
    pub fn profile(&self, name: &str) -> Result<Value, Refusal> {
        let profile = self.profiles.get(name).ok_or_else(|| Refusal::unknown("client-ssl profile", name))?;
        let (partition, short) = names::parts(name);
        Ok(json!({
            "kind": "tm:ltm:profile:client-ssl:client-sslstate",
            "name": short,
            "partition": partition,
            "fullPath": name,
            "cert": profile.cert,
            "key": profile.key,
            "chain": profile.chain.as_deref().unwrap_or(NO_CHAIN),
        }))
    }

    /// Our own: how much was done.
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

    /// What a profile has to serve; an error when something is missing or does not belong together.
    fn certify(&self, name: &str, profile: &Profile) -> Result<CertifiedKey, Refusal> {
        let missing =
            |what: &str, object: &str| Refusal::bad(format!("{name} names the {what} {object}: not installed"));
        let certificates = |object: &str| self.certificates.get(object).ok_or_else(|| missing("certificate", object));
        let mut chain = certificates(&profile.cert)?.clone();
        if let Some(more) = &profile.chain {
            chain.extend(certificates(more)?.iter().cloned());
        }
        let key = self.keys.get(&profile.key).ok_or_else(|| missing("key", &profile.key))?;
        let Profile { cert, key: key_name, .. } = profile;
        tls::certify(chain, key.clone_key()).map_err(|error| {
            Refusal::bad(format!("{name}: the key {key_name} does not belong to the certificate {cert}: {error}"))
        })
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

impl Change {
    /// What the profile is after the change.
    fn of(&self, before: Option<&Profile>) -> Result<Profile, Refusal> {
        let before = before.filter(|_| !self.replace);
        let needed = |what: &str, new: &Option<String>, old: fn(&Profile) -> &String| {
            let name = new.as_ref().or_else(|| before.map(old));
            name.cloned().ok_or_else(|| Refusal::bad(format!("{} would have no {what}", self.profile)))
        };
        Ok(Profile {
            cert: needed("certificate", &self.cert, |profile| &profile.cert)?,
            key: needed("key", &self.key, |profile| &profile.key)?,
            chain: self.chain.clone().unwrap_or_else(|| before?.chain.clone()),
        })
    }
}

fn refuse(trouble: Trouble, what: &str, name: &str) -> Refusal {
    match trouble {
        Trouble::Unknown => Refusal::unknown(what, name),
        Trouble::Held => Refusal::bad(format!("the {what} {name} is in use by a profile")),
        Trouble::Full => Refusal::bad(format!("there is no room for the {what} {name}")),
    }
}
