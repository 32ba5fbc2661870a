//! A handshake over TCP with a server whose side cannot be measured: from connecting to the client's last message.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection};

use super::keyring::sessions;
use super::matrix::{HandshakeId, KeyExchange, SessionUse, TlsVersion};
use crate::error::{Error, Result};
use crate::wire::Handshake;
use crate::wire::tls::{self, Trust};

/// The longest silence of the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that listens already.
#[derive(Clone, Debug)]
pub struct RunningServer {
    /// Its name in ids and messages: `nginx`.
    pub label: String,
    /// Its address.
    pub address: SocketAddr,
    /// The trust against which its certificate is verified.
    pub trust: Trust,
    /// The name for which its certificate must be valid.
    pub name: ServerName<'static>,
}

/// A client of a peer that makes it the same offer again and again.
pub struct Visitor {
    peer: RunningServer,
    offer: HandshakeId,
    config: Arc<ClientConfig>,
}

/// The reason for which there was no handshake as offered.
enum NoHandshake {
    /// The server lacks the version or the group.
    Refused(AlertDescription),
    /// The connection or the handshake broke off.
    Broken(io::Error),
    /// The handshake was another one.
    Mismatch(String),
}

impl From<io::Error> for NoHandshake {
    fn from(error: io::Error) -> Self {
        use AlertDescription::{HandshakeFailure, ProtocolVersion};
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::AlertReceived(alert @ (HandshakeFailure | ProtocolVersion))) => Self::Refused(*alert),
            _ => Self::Broken(error),
        }
    }
}

impl Visitor {
    /// Makes a client that has not met the peer yet, and has no session to resume.
    ///
    /// # Errors
    /// If an authority's certificate is unusable.
    pub fn new(peer: &RunningServer, offer: HandshakeId) -> Result<Self> {
        let builder = tls::verifying(&peer.trust, Arc::new(provider(offer)), &[offer.version().supported()])?;
        let mut config = builder.with_no_client_auth();
        config.resumption = sessions(offer.resumption());
        Ok(Self { peer: peer.clone(), offer, config: Arc::new(config) })
    }

    /// Meets the peer for the first time, and gets what a resumed handshake needs, if the offer is one. Returns the
    /// reason if the peer lacks the version or the group, or prefers another.
    ///
    /// # Errors
    /// Those of [`Visitor::visit`].
    pub fn prime(&self) -> Result<Option<String>> {
        let offer = self.offer.priming();
        match self.shake(offer) {
            Ok(_) => Ok(None),
            Err(NoHandshake::Refused(alert)) => Ok(Some(format!("the server refused it with the alert {alert:?}"))),
            Err(NoHandshake::Mismatch(mismatch)) => Ok(Some(mismatch)),
            Err(fault) => Err(self.error(fault)),
        }
    }

    /// Connects, shakes hands and closes. Returns the time until the client could send data; it does not include
    /// closing, for which this waits, and reading the server's tickets.
    ///
    /// # Errors
    /// If the connection or the handshake fails, or the handshake is not the one that was offered.
    pub fn visit(&self) -> Result<Duration> {
        self.shake(self.offer).map_err(|fault| self.error(fault))
    }

    fn error(&self, fault: NoHandshake) -> Error {
        let RunningServer { label, address, .. } = &self.peer;
        let error = |what: String| Error::new(format!("handshake {} with {label} at {address}: {what}", self.offer));
        match fault {
            NoHandshake::Mismatch(mismatch) if self.offer.resumption() == SessionUse::Resumed => error(mismatch)
                .with_hint("let the server issue session tickets, or exclude resumed handshakes with a filter"),
            NoHandshake::Mismatch(mismatch) => error(mismatch),
            NoHandshake::Refused(alert) => error(format!("the server refused it with the alert {alert:?}")),
            NoHandshake::Broken(broken) if broken.kind() == io::ErrorKind::AddrNotAvailable => error(
                broken.to_string(),
            )
            .with_hint("wait a minute for closed connections to free their ports, or measure for a shorter time"),
            NoHandshake::Broken(broken) => error(broken.to_string()),
        }
    }

    fn shake(&self, offer: HandshakeId) -> Result<Duration, NoHandshake> {
        let start = Instant::now();
        let mut tcp = TcpStream::connect_timeout(&self.peer.address, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let client = ClientConnection::new(self.config.clone(), self.peer.name.clone());
        let mut client = client.map_err(io::Error::other)?;
        while client.is_handshaking() {
            client.complete_io(&mut tcp)?;
        }
        let took = start.elapsed();
        if let Some(mismatch) = offer.mismatch(&Handshake::of(&client)) {
            return Err(NoHandshake::Mismatch(mismatch));
        }
        part(&mut client, &mut tcp)?;
        Ok(took)
    }
}

/// Returns a provider with the offered group alone, or first. In TLS 1.2 the curve of a server's certificate must be
/// among the groups as well (RFC 8422, section 5.1), and OpenSSL insists on it.
fn provider(offer: HandshakeId) -> CryptoProvider {
    let mut groups = vec![offer.group().supported()];
    if offer.version() == TlsVersion::Tls12 {
        let curves = [KeyExchange::P256.supported(), kx_group::SECP384R1];
        groups.extend(curves.into_iter().filter(|curve| curve.name() != offer.group().supported().name()));
    }
    CryptoProvider { kx_groups: groups, ..default_provider() }
}

/// Closes, and reads whatever the server still sends: tickets of TLS 1.3 come after the handshake. The server has
/// finished with this connection when the next one begins.
fn part(client: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    client.send_close_notify();
    while client.wants_write() {
        client.write_tls(tcp)?;
    }
    tcp.shutdown(std::net::Shutdown::Write)?;
    loop {
        match client.read_tls(tcp) {
            Ok(0) => return Ok(()),
            Ok(_) => client.process_new_packets().map(|_| ()).map_err(io::Error::other)?,
            // A server may reset a connection whose end it has read.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::keyring::Keyring;
    use crate::handshake::listener::Listener;

    #[test]
    fn every_offer_repeatedly_gets_its_declared_handshake() {
        let mut keyring = Keyring::new().unwrap();
        let listener = Listener::start(&mut keyring, &KeyExchange::ALL).unwrap();
        for offer in HandshakeId::all() {
            let visitor = Visitor::new(&listener.peer(&keyring).unwrap(), offer).unwrap();
            assert_eq!(visitor.prime().unwrap(), None);
            for _ in 0..3 {
                visitor.visit().unwrap();
            }
        }
    }

    #[test]
    fn a_client_without_a_session_cannot_resume() {
        let mut keyring = Keyring::new().unwrap();
        let listener = Listener::start(&mut keyring, &KeyExchange::ALL).unwrap();
        let offer = HandshakeId::new(TlsVersion::Tls13, KeyExchange::X25519, SessionUse::Resumed).unwrap();
        let error = Visitor::new(&listener.peer(&keyring).unwrap(), offer).unwrap().visit().unwrap_err();
        let expected = "expected resumed TLS1.3 X25519, had full TLS1.3 X25519";
        assert!(error.what().ends_with(expected) && error.what().contains("with rustls-loopback at 127."), "{error}");
    }

    #[test]
    fn a_server_without_the_group_is_reported() {
        let mut keyring = Keyring::new().unwrap();
        let listener = Listener::start(&mut keyring, &[KeyExchange::P256]).unwrap();
        let visitor = Visitor::new(&listener.peer(&keyring).unwrap(), HandshakeId::BASE).unwrap();
        assert_eq!(visitor.prime().unwrap().unwrap(), "the server refused it with the alert HandshakeFailure");
        let error = visitor.visit().unwrap_err();
        assert!(error.what().ends_with("refused it with the alert HandshakeFailure"), "{error}");
    }

    #[test]
    fn a_group_mismatch_is_reported() {
        let mut keyring = Keyring::new().unwrap();
        let listener = Listener::start(&mut keyring, &[KeyExchange::P256]).unwrap();
        let offer = HandshakeId::new(TlsVersion::Tls12, KeyExchange::X25519, SessionUse::Full).unwrap();
        let visitor = Visitor::new(&listener.peer(&keyring).unwrap(), offer).unwrap();
        let mismatch = visitor.prime().unwrap().unwrap();
        assert_eq!(mismatch, "expected full TLS1.2 X25519, had full TLS1.2 secp256r1");
    }

    #[test]
    fn a_server_of_another_authority_is_refused() {
        let mut keyring = Keyring::new().unwrap();
        let listener = Listener::start(&mut keyring, &KeyExchange::ALL).unwrap();
        let stranger = RunningServer { trust: Keyring::new().unwrap().trust(), ..listener.peer(&keyring).unwrap() };
        let error = Visitor::new(&stranger, HandshakeId::BASE).unwrap().visit().unwrap_err();
        assert!(error.what().contains("invalid peer certificate"), "{error}");
    }

    #[test]
    fn a_refused_connection_is_reported() {
        let mut keyring = Keyring::new().unwrap();
        let listener = Listener::start(&mut keyring, &KeyExchange::ALL).unwrap();
        let visitor = Visitor::new(&listener.peer(&keyring).unwrap(), HandshakeId::BASE).unwrap();
        drop(listener);
        let error = visitor.visit().unwrap_err();
        assert!(error.what().contains("refused"), "{error}");
    }
}
