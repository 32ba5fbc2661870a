//! A handshake in memory: both sides take turns in one thread, without sockets, so that the part of each can be
//! measured apart. No handshake over a network costs less.

use std::ops::DerefMut;

use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData};

use super::keyring::Parties;
use super::matrix::{Case, ClientAuth, HandshakeId, SessionUse};
use crate::error::{Context, Error, Result};
use crate::wire::Handshake;

/// The most turns of both sides. The longest handshake, full TLS 1.2, needs three.
const TURNS: u32 = 8;

/// The bytes in transit, in buffers that are kept from one handshake to the next.
#[derive(Debug, Default)]
pub struct Pipe {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

/// A finished handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shake {
    /// The cost of the client's part, in the unit of the meter: from making the connection to dropping it.
    pub client: u64,
    /// The cost of the server's part.
    pub server: u64,
    /// The data that the client sent.
    pub to_server: Flow,
    /// The data that the server sent, with its tickets.
    pub to_client: Flow,
    /// The number of times that the client waited for the server before it could send data.
    pub round_trips: u32,
    /// The handshake, as the client saw it.
    pub handshake: Handshake,
}

/// The data that one side sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Bytes, with record headers.
    pub bytes: usize,
    /// The number of its flights: turns in which it sent something.
    pub flights: u32,
}

impl Flow {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.flights += u32::from(bytes > 0);
    }
}

/// Separates the parts of the two sides: each split returns the reading since the last one, which is one side's alone.
struct SplitMeter<'m, M> {
    read: &'m mut M,
    last: u64,
}

impl<M: FnMut() -> u64> SplitMeter<'_, M> {
    fn split(&mut self) -> u64 {
        let now = (self.read)();
        // A meter that fails reads 0; its owner reports the failure.
        now.saturating_sub(std::mem::replace(&mut self.last, now))
    }
}

/// Returns a constant reading, where only the whole matters.
pub fn unmetered() -> u64 {
    0
}

impl Pipe {
    /// Gives a client that has not met the server what it needs to resume, if the case is a resumed one.
    ///
    /// # Errors
    /// Those of [`Pipe::shake`].
    pub fn prime(&mut self, parties: &Parties) -> Result<()> {
        match parties.case.offer.resumption() {
            SessionUse::Full => Ok(()),
            SessionUse::Resumed => self.shake_as(parties, parties.case.offer.priming(), &mut unmetered).map(|_| ()),
        }
    }

    /// Shakes hands. `read` reads a meter that only grows, such as the thread's CPU time.
    ///
    /// # Errors
    /// If the handshake fails, or is not what the case specifies: kind, version, group, client certificate.
    pub fn shake(&mut self, parties: &Parties, read: &mut impl FnMut() -> u64) -> Result<Shake> {
        self.shake_as(parties, parties.case.offer, read)
    }

    fn shake_as(&mut self, parties: &Parties, offer: HandshakeId, read: &mut impl FnMut() -> u64) -> Result<Shake> {
        let Parties { case, .. } = parties;
        let Self { to_server, to_client } = self;
        to_server.clear();
        to_client.clear();
        let (mut sent_by_client, mut sent_by_server, mut round_trips) = (Flow::default(), Flow::default(), 0);
        let start = read();
        let mut meter = SplitMeter { read, last: start };

        let client = ClientConnection::new(parties.client.clone(), parties.name.clone());
        let mut client = client.context(|| format!("handshake {case}: making the client"))?;
        take_turn(&mut client, to_client, to_server).context(|| format!("handshake {case}: the client"))?;
        let mut client_took = meter.split();
        let server = ServerConnection::new(parties.server.clone());
        let mut server = server.context(|| format!("handshake {case}: making the server"))?;
        let mut server_took = 0;
        for turn in 0.. {
            if turn == TURNS {
                return Err(Error::new(format!("handshake {case}: not complete after {TURNS} turns")));
            }
            sent_by_client.add(to_server.len());
            take_turn(&mut server, to_server, to_client).context(|| format!("handshake {case}: the server"))?;
            server_took += meter.split();
            if to_client.is_empty() {
                break;
            }
            sent_by_server.add(to_client.len());
            round_trips += u32::from(client.is_handshaking());
            take_turn(&mut client, to_client, to_server).context(|| format!("handshake {case}: the client"))?;
            client_took += meter.split();
            if to_server.is_empty() {
                break;
            }
        }

        let handshake = Handshake::of(&client);
        check(*case, offer, &handshake, &client, &server)?;
        meter.split();
        drop(client);
        client_took += meter.split();
        drop(server);
        server_took += meter.split();
        Ok(Shake {
            client: client_took,
            server: server_took,
            to_server: sent_by_client,
            to_client: sent_by_server,
            round_trips,
            handshake,
        })
    }
}

/// Lets one side read all that has come, and write all that it has to send.
fn take_turn<C, D>(side: &mut C, inbox: &mut Vec<u8>, outbox: &mut Vec<u8>) -> std::io::Result<()>
where
    C: DerefMut<Target = ConnectionCommon<D>>,
    D: SideData,
{
    let mut unread = &inbox[..];
    while !unread.is_empty() {
        side.read_tls(&mut unread)?;
        side.process_new_packets().map_err(std::io::Error::other)?;
    }
    inbox.clear();
    while side.wants_write() {
        side.write_tls(outbox)?;
    }
    Ok(())
}

/// Checks a finished handshake against its case, as both sides see it.
fn check(
    case: Case,
    offer: HandshakeId,
    handshake: &Handshake,
    client: &ClientConnection,
    server: &ServerConnection,
) -> Result<()> {
    let authenticated = server.peer_certificates().is_some();
    let mismatch = if client.is_handshaking() || server.is_handshaking() {
        Some("the handshake is not complete, and neither side sends".to_owned())
    } else if client.handshake_kind() != server.handshake_kind() {
        Some(format!("client and server disagree: {:?}, {:?}", client.handshake_kind(), server.handshake_kind()))
    } else if authenticated != (case.client_auth == ClientAuth::On) {
        Some(format!("client certificate verified: {authenticated}"))
    } else {
        offer.mismatch(handshake)
    };
    match mismatch {
        None => Ok(()),
        Some(mismatch) => Err(Error::new(format!("handshake {case}: {mismatch}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::keyring::Keyring;
    use crate::handshake::matrix::{KeyExchange, TlsVersion};

    fn resumed(case: Case) -> Case {
        let offer = HandshakeId::new(case.offer.version(), case.offer.group(), SessionUse::Resumed).unwrap();
        Case { offer, ..case }
    }

    #[test]
    fn every_case_repeatedly_gets_its_declared_handshake() {
        let (mut keyring, mut pipe) = (Keyring::new().unwrap(), Pipe::default());
        for case in Case::all() {
            let parties = keyring.parties(case).unwrap();
            pipe.prime(&parties).unwrap();
            for _ in 0..3 {
                let shake = pipe.shake(&parties, &mut unmetered).unwrap();
                let expected = match (case.offer.version(), case.offer.resumption()) {
                    (TlsVersion::Tls12, SessionUse::Full) => 2,
                    _ => 1,
                };
                assert_eq!(shake.round_trips, expected, "{case}");
                assert!(shake.to_server.bytes > 200 && shake.to_client.bytes > 100, "{case}: {shake:?}");
            }
        }
    }

    #[test]
    fn a_resumed_case_that_does_not_resume_is_an_error() {
        let (mut keyring, mut pipe) = (Keyring::new().unwrap(), Pipe::default());
        let parties = keyring.parties(resumed(Case::BASE)).unwrap();
        let error = pipe.shake(&parties, &mut unmetered).unwrap_err();
        let expected =
            "handshake tls13/ecdsa-p256/x25519/resumed/no-client-auth: expected resumed TLS1.3 X25519, had full";
        assert!(error.what().starts_with(expected), "{error}");
    }

    #[test]
    fn a_full_case_that_resumes_is_an_error() {
        let (mut keyring, mut pipe) = (Keyring::new().unwrap(), Pipe::default());
        let mut parties = keyring.parties(resumed(Case::BASE)).unwrap();
        pipe.prime(&parties).unwrap();
        parties.case = Case::BASE;
        let error = pipe.shake(&parties, &mut unmetered).unwrap_err();
        assert!(error.what().contains("expected full TLS1.3 X25519, had resumed TLS1.3 X25519"), "{error}");
    }

    #[test]
    fn a_certificate_of_another_authority_is_an_error() {
        let mut pipe = Pipe::default();
        let mut parties = Keyring::new().unwrap().parties(Case::BASE).unwrap();
        parties.server = Keyring::new().unwrap().parties(Case::BASE).unwrap().server;
        let error = pipe.shake(&parties, &mut unmetered).unwrap_err();
        assert!(error.what().contains("the client: invalid peer certificate"), "{error}");
    }

    #[test]
    fn a_missing_client_certificate_is_an_error() {
        let (mut keyring, mut pipe) = (Keyring::new().unwrap(), Pipe::default());
        let strict = keyring.parties(Case { client_auth: ClientAuth::On, ..Case::BASE }).unwrap();
        let mut parties = keyring.parties(Case::BASE).unwrap();
        parties.server = strict.server.clone();
        let error = pipe.shake(&parties, &mut unmetered).unwrap_err();
        assert!(error.what().contains("the server: peer sent no certificates"), "{error}");
        // Likewise a server that does not request the certificate that the case has.
        let mut parties = strict;
        parties.server = keyring.parties(Case::BASE).unwrap().server;
        let error = pipe.shake(&parties, &mut unmetered).unwrap_err();
        assert!(error.what().contains("client certificate verified: false"), "{error}");
    }

    #[test]
    fn client_and_server_are_metered_separately() {
        let (mut keyring, mut pipe) = (Keyring::new().unwrap(), Pipe::default());
        let parties = keyring.parties(Case::BASE).unwrap();
        let mut reads = 0;
        let shake = pipe.shake(&parties, &mut || {
            reads += 1;
            reads
        });
        let shake = shake.unwrap();
        // ClientHello, Finished, the end; ServerHello to Finished, reading the client's Finished, the end.
        assert_eq!((shake.client, shake.server), (3, 3));
        assert_eq!((shake.to_server.flights, shake.to_client.flights), (2, 1));
        // One reading at the start, and one for the check, which belongs to neither side.
        assert_eq!(reads, 1 + 3 + 3 + 1);
    }

    #[test]
    fn the_post_quantum_key_share_is_on_the_wire() {
        let (mut keyring, mut pipe) = (Keyring::new().unwrap(), Pipe::default());
        let mut bytes = |group| {
            let offer = HandshakeId::new(TlsVersion::Tls13, group, SessionUse::Full).unwrap();
            let parties = keyring.parties(Case { offer, ..Case::BASE }).unwrap();
            pipe.shake(&parties, &mut unmetered).unwrap().to_server.bytes
        };
        // A key of ML-KEM-768 has 1184 bytes, and comes before that of X25519 (32).
        assert_eq!(bytes(KeyExchange::X25519MlKem768) - bytes(KeyExchange::X25519), 1184);
    }
}
