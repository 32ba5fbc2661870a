//! Commands, and the draft of the device's state after some of them: all are carried out, or none is.

use std::collections::BTreeMap;

use hyper::StatusCode;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::device::{Chain, DEFAULT_CERTIFICATE, DEFAULT_KEY, DEFAULT_PROFILE, Device, MAX_PROFILES, Profile};
use crate::reply::Refusal;
use crate::routes::Kind;
use crate::tls;

/// A change to the device; names in full.
#[derive(Clone, Debug)]
pub enum Command {
    /// Makes an uploaded file an object, or the new content of one.
    Install(Kind, String, String),
    /// Removes an object that no profile names.
    Remove(Kind, String),
    Profile(Change),
    RemoveProfile(String),
}

/// The names that a profile is to have from now on; in full.
#[derive(Clone, Debug)]
pub struct Change {
    pub profile: String,
    pub cert: Option<String>,
    pub key: Option<String>,
    /// `Some(None)` is for no chain at all.
    pub chain: Option<Option<String>>,
    pub how: How,
}

/// The kind of a change to a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Makes the profile; there may be none of this name yet.
    Create,
    /// Keeps the fields that are left out.
    Modify,
    /// Clears the fields that are left out.
    Replace,
}

/// The differences from the present device; `None` is for a removal.
#[derive(Default)]
pub struct Draft {
    pub certificates: BTreeMap<String, Option<Chain>>,
    pub keys: BTreeMap<String, Option<PrivateKeyDer<'static>>>,
    pub profiles: BTreeMap<String, Option<Profile>>,
    /// The certificate that the virtual server is to serve, where that changes.
    pub certified: Option<CertifiedKey>,
}

impl Draft {
    /// Returns the draft of these commands, in their order; an error when one cannot be carried out.
    pub fn of<'c>(device: &Device, commands: impl IntoIterator<Item = &'c Command>) -> Result<Self, Refusal> {
        let mut draft = Self::default();
        for command in commands {
            draft.add(device, command)?;
        }
        draft.check(device)?;
        Ok(draft)
    }

    fn add(&mut self, device: &Device, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::Install(Kind::Certificate, name, file) => {
                let chain: Result<Chain, _> = CertificateDer::pem_slice_iter(device.files.content(file)?).collect();
                let chain = chain.map_err(|error| Refusal::bad(format!("{file:?} is no PEM: {error}")))?;
                if chain.is_empty() {
                    return Err(Refusal::bad(format!("{file:?} holds no certificate in PEM")));
                }
                self.certificates.insert(name.clone(), Some(chain));
            }
            Command::Install(Kind::Key, name, file) => {
                // No detail: a parser's message may quote the key.
                let key = PrivateKeyDer::from_pem_slice(device.files.content(file)?);
                let key = key.map_err(|_| Refusal::bad(format!("{file:?} holds no private key in PEM")))?;
                self.keys.insert(name.clone(), Some(key));
            }
            Command::Remove(Kind::Certificate, name) => {
                self.certificate(device, name).ok_or_else(|| Refusal::unknown("certificate", name))?;
                self.certificates.insert(name.clone(), None);
            }
            Command::Remove(Kind::Key, name) => {
                self.key(device, name).ok_or_else(|| Refusal::unknown("key", name))?;
                self.keys.insert(name.clone(), None);
            }
            Command::Profile(change) => {
                let before = self.profile(device, &change.profile);
                if change.how == How::Create && before.is_some() {
                    let message = format!("the requested client-ssl profile ({}) already exists", change.profile);
                    return Err(Refusal::with_status(StatusCode::CONFLICT, message));
                }
                let after = change.of(before)?;
                self.profiles.insert(change.profile.clone(), Some(after));
            }
            Command::RemoveProfile(name) => {
                self.profile(device, name).ok_or_else(|| Refusal::unknown("client-ssl profile", name))?;
                if name == DEFAULT_PROFILE {
                    return Err(Refusal::bad(format!("the profile {name} is in use by a virtual server")));
                }
                self.profiles.insert(name.clone(), None);
            }
        }
        Ok(())
    }

    /// Checks that all objects that are named exist and belong together.
    fn check(&mut self, device: &Device) -> Result<(), Refusal> {
        let added =
            self.profiles.iter().filter(|(name, after)| after.is_some() && !device.profiles.contains_key(*name));
        if device.profiles.len() + added.count() > MAX_PROFILES {
            return Err(Refusal::bad(format!("there are {MAX_PROFILES} profiles; this device takes no more")));
        }
        let mut certified = None;
        for (name, profile) in self.profiles.iter().filter_map(|(name, after)| Some((name, after.as_ref()?))) {
            let key = self.certify(device, name, profile)?;
            if name == DEFAULT_PROFILE {
                certified = Some(key);
            }
        }
        // Profiles that do not change may name objects that do.
        let untouched = |(name, _): &(&String, &Profile)| !self.profiles.contains_key(*name);
        for (object, after) in self.changed(device) {
            for (name, profile) in device.profiles.iter().filter(untouched) {
                if !profile.names(object.0, object.1) {
                    continue;
                }
                if !after {
                    return Err(in_use(object.0, object.1));
                }
                let key = self.certify(device, name, profile)?;
                if name == DEFAULT_PROFILE {
                    certified = Some(key);
                }
            }
        }
        self.certified = certified;
        Ok(())
    }

    /// Returns the objects of the device that the draft changes, each with true if it exists afterwards.
    fn changed<'d>(&'d self, device: &'d Device) -> impl Iterator<Item = ((Kind, &'d str), bool)> {
        let certificates = self.certificates.iter().filter(|(name, _)| device.certificates.get(name).is_some());
        let keys = self.keys.iter().filter(|(name, _)| device.keys.get(name).is_some());
        certificates
            .map(|(name, after)| ((Kind::Certificate, name.as_str()), after.is_some()))
            .chain(keys.map(|(name, after)| ((Kind::Key, name.as_str()), after.is_some())))
    }

    /// Returns the certificate that a profile serves; an error when something is missing or does not belong together.
    fn certify(&self, device: &Device, name: &str, profile: &Profile) -> Result<CertifiedKey, Refusal> {
        let Profile { cert, key: key_name, chain: more } = profile;
        let missing = |kind: Kind, what: &str, object: &str| {
            // An object that the same transaction removes is in use.
            let removed = match kind {
                Kind::Certificate => self.certificates.contains_key(object),
                Kind::Key => self.keys.contains_key(object),
            };
            if removed {
                in_use(kind, object)
            } else {
                Refusal::bad(format!("{name} names the {what} {object}: not installed"))
            }
        };
        let certificates = |object: &str| {
            self.certificate(device, object).ok_or_else(|| missing(Kind::Certificate, "certificate", object))
        };
        let mut chain = certificates(cert)?.clone();
        if let Some(more) = more {
            chain.extend(certificates(more)?.iter().cloned());
        }
        let key = self.key(device, key_name).ok_or_else(|| missing(Kind::Key, "key", key_name))?;
        tls::certify(chain, key.clone_key()).map_err(|error| {
            Refusal::bad(format!("{name}: the key {key_name} does not belong to the certificate {cert}: {error}"))
        })
    }

    fn certificate<'d>(&'d self, device: &'d Device, name: &str) -> Option<&'d Chain> {
        self.certificates.get(name).map_or_else(|| device.certificates.get(name), Option::as_ref)
    }

    fn key<'d>(&'d self, device: &'d Device, name: &str) -> Option<&'d PrivateKeyDer<'static>> {
        self.keys.get(name).map_or_else(|| device.keys.get(name), Option::as_ref)
    }

    fn profile<'d>(&'d self, device: &'d Device, name: &str) -> Option<&'d Profile> {
        self.profiles.get(name).map_or_else(|| device.profiles.get(name), Option::as_ref)
    }
}

impl Change {
    /// Returns the profile after the change.
    fn of(&self, before: Option<&Profile>) -> Result<Profile, Refusal> {
        let kept = before.filter(|_| self.how == How::Modify);
        let default = |name: &str| (self.how == How::Create).then(|| name.to_owned());
        let needed = |what: &str, new: &Option<String>, old: fn(&Profile) -> &String, fallback: &str| {
            let name = new.clone().or_else(|| kept.map(old).cloned()).or_else(|| default(fallback));
            name.ok_or_else(|| Refusal::bad(format!("{} would have no {what}", self.profile)))
        };
        Ok(Profile {
            cert: needed("certificate", &self.cert, |profile| &profile.cert, DEFAULT_CERTIFICATE)?,
            key: needed("key", &self.key, |profile| &profile.key, DEFAULT_KEY)?,
            chain: self.chain.clone().unwrap_or_else(|| kept?.chain.clone()),
        })
    }
}

fn in_use(kind: Kind, name: &str) -> Refusal {
    let what = match kind {
        Kind::Certificate => "certificate",
        Kind::Key => "key",
    };
    Refusal::bad(format!("the {what} {name} is in use by a profile"))
}
