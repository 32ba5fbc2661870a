//! The two parties of a handshake: their keys, their certificates and their requirements.

use std::collections::BTreeMap;
use std::sync::Arc;

use rcgen::SerialNumber;
use rustls::client::Resumption as Sessions;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::matrix::{Case, ClientAuth, HandshakeId, SessionUse};
use crate::error::{Context, Result};
use crate::provision::pki::{Authority, Identity, KeyType, Purpose};
use crate::wire::tls::{self, Trust};

/// The name that servers' certificates are valid for.
pub const NAME: &str = "localhost";

/// An authority with an ECDSA P-256 key, and the certificates that it has signed. The authority is the same in every
/// case, so that cases of different keys differ in nothing else.
///
/// Certificates of one kind have the same length in every run: what a handshake puts on the wire must not depend on
/// a random number.
pub struct Keyring {
    authority: Authority,
    identities: BTreeMap<(KeyType, bool), Identity>,
}

impl Keyring {
    /// Makes a new authority, which has signed nothing yet.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new() -> Result<Self> {
        Ok(Self { authority: Authority::root(KeyType::EcdsaP256)?, identities: BTreeMap::new() })
    }

    /// Returns trust in the authority.
    pub fn trust(&self) -> Trust {
        self.authority.trust()
    }

    /// Returns the authority's certificate as PEM.
    pub fn pem(&self) -> String {
        self.authority.pem()
    }

    /// Returns a certificate for [`NAME`] and its key; there is one of each kind.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn identity(&mut self, key_type: KeyType, purpose: Purpose) -> Result<&Identity> {
        use std::collections::btree_map::Entry;
        Ok(match self.identities.entry((key_type, purpose == Purpose::Server)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.authority.issue_with(key_type, purpose, &[NAME], |params| {
                params.serial_number = Some(SerialNumber::from(1_u64));
            })?),
        })
    }

    /// Makes both parties of a case, which share no session yet.
    ///
    /// # Errors
    /// If a key cannot be made or used.
    pub fn parties(&mut self, case: Case) -> Result<Parties> {
        let client = Arc::new(self.client(case)?);
        let server = Arc::new(self.server(case)?);
        Ok(Parties { case, client, server, name: name()? })
    }

    fn client(&mut self, case: Case) -> Result<ClientConfig> {
        let builder = tls::verifying(&self.trust(), provider(case.offer), &[case.offer.version().supported()])?;
        let mut config = match case.client_auth {
            ClientAuth::Off => builder.with_no_client_auth(),
            ClientAuth::On => {
                let identity = self.identity(case.key_type, Purpose::Client)?;
                let made = builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key());
                made.context(|| format!("handshake {case}: using the client's key"))?
            }
        };
        config.resumption = sessions(case.offer.resumption());
        Ok(config)
    }

    fn server(&mut self, case: Case) -> Result<ServerConfig> {
        let what = || format!("handshake {case}: configuring the server");
        let provider = provider(case.offer);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[case.offer.version().supported()])
            .context(what)?;
        let builder = match case.client_auth {
            ClientAuth::Off => builder.with_no_client_auth(),
            ClientAuth::On => {
                let mut roots = RootCertStore::empty();
                roots.add(self.authority.certificate().clone()).context(what)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.context(what)?)
            }
        };
        let identity = self.identity(case.key_type, Purpose::Server)?;
        let mut config = builder.with_single_cert(identity.chain.clone(), identity.key.clone_key()).context(what)?;
        // Tickets, as with daemons: the server keeps no session.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if case.offer.resumption() == SessionUse::Resumed {
            config.ticketer = Ticketer::new().context(what)?;
            config.send_tls13_tickets = 1;
        }
        Ok(config)
    }
}

/// Returns a provider that has the offered group and no other.
fn provider(offer: HandshakeId) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![offer.group().supported()], ..default_provider() })
}

/// Returns the client's store of what it needs to resume.
pub(super) fn sessions(resumption: SessionUse) -> Sessions {
    match resumption {
        SessionUse::Full => Sessions::disabled(),
        SessionUse::Resumed => Sessions::in_memory_sessions(8),
    }
}

pub(super) fn name() -> Result<ServerName<'static>> {
    ServerName::try_from(NAME).context(|| format!("using {NAME} as a server name"))
}

/// A client and a server.
#[derive(Clone)]
pub struct Parties {
    pub(super) case: Case,
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) name: ServerName<'static>,
}

impl Parties {
    /// Returns the case that they are made for.
    pub fn case(&self) -> Case {
        self.case
    }

    /// Returns the same server with another client, which has no session yet.
    #[must_use]
    pub fn with_another_client(&self) -> Self {
        let mut client = ClientConfig::clone(&self.client);
        client.resumption = sessions(self.case.offer.resumption());
        Self { client: Arc::new(client), ..self.clone() }
    }
}
