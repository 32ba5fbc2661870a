//! The record layer of TLS 1.3 (RFC 8446, section 5) of a client, from the end of the handshake on. The TLS library makes
//! the handshake; its connection then has some 3 KiB of which sending and receiving need a tenth beside the keys.

use std::cell::RefCell;
use std::mem;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rustls::{
    AlertDescription, CipherSuite, ContentType, Error, HandshakeType, InvalidMessage, KeyLog, PeerMisbehaved,
    SupportedCipherSuite,
};

/// The bytes before a record: type, version, length.
const HEADER_BYTES: usize = 5;
/// The bytes after it, by which it is authenticated, for each suite.
const TAG_BYTES: usize = 16;
/// The most plaintext of a record.
const MOST_PLAIN: usize = 1 << 14;
/// The most bytes of a sealed record (section 5.2).
const MOST_SEALED: usize = MOST_PLAIN + 256;
/// The longest secret, of SHA-384.
const LONGEST_SECRET: usize = 48;
/// The longest handshake message. A ticket has at most 64 KiB, with as many of extensions (section 4.6.1).
const LONGEST_MESSAGE: usize = 132 * 1024;
/// The most bytes of records without data in a row. A connection is read until it brings data: a peer that sends none
/// for ever would keep the thread from all others, and from its timers.
const MOST_WITHOUT_DATA: u32 = 256 * 1024;
/// The value of a KeyUpdate that wants none in return (section 4.6.3).
const UPDATE_NOT_REQUESTED: u8 = 0;
/// The value of one that does.
const UPDATE_REQUESTED: u8 = 1;
/// The level of an alert that ends the connection (section 6).
const FATAL: u8 = 2;

thread_local! {
    /// The secrets of the handshake that this thread has processed last.
    static TAKEN: RefCell<[Option<Secret>; 2]> = const { RefCell::new([None, None]) };
}

/// Takes the traffic secrets from the TLS library. They stay in memory.
#[derive(Debug)]
pub(super) struct SecretTaker;

impl KeyLog for SecretTaker {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if let Some(side) = side(label) {
            TAKEN.with_borrow_mut(|taken| taken[side] = Secret::of(secret));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        side(label).is_some()
    }
}

/// Returns the place in [`TAKEN`] of a secret with this label, as NSS names it in its key logs.
fn side(label: &str) -> Option<usize> {
    ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"].iter().position(|wanted| *wanted == label)
}

/// The traffic secrets of a handshake.
pub(super) struct TrafficSecrets {
    client: Secret,
    server: Secret,
}

impl TrafficSecrets {
    /// Forgets those that were taken before.
    pub(super) fn forget() {
        TAKEN.set([None, None]);
    }

    /// Returns those that [`SecretTaker`] has taken since.
    pub(super) fn take() -> Option<Self> {
        let [client, server] = TAKEN.take();
        Some(Self { client: client?, server: server? })
    }
}

/// A traffic secret, from which the key of one direction is made.
#[derive(Clone, Copy)]
struct Secret {
    bytes: [u8; LONGEST_SECRET],
    length: u8,
}

/// The length of what is derived from a secret.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secret {
    fn of(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; LONGEST_SECRET];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, length: secret.len() as u8 })
    }

    /// Fills `out` by HKDF-Expand-Label, with an empty context (section 7.1).
    fn expand(&self, hash: hkdf::Algorithm, label: &str, out: &mut [u8]) {
        let (length, full) = ((out.len() as u16).to_be_bytes(), ["tls13 ", label].concat());
        let info: [&[u8]; 4] = [&length, &[full.len() as u8], full.as_bytes(), &[0]];
        let secret = Prk::new_less_safe(hash, &self.bytes[..usize::from(self.length)]);
        let expanded = secret.expand(&info, Length(out.len())).and_then(|key| key.fill(out));
        expanded.expect("a length within 255 times that of the hash");
    }

    /// Returns the secret that follows it (section 7.2).
    fn next(&self, hash: hkdf::Algorithm) -> Self {
        let mut next = *self;
        self.expand(hash, "traffic upd", &mut next.bytes[..usize::from(self.length)]);
        next
    }
}

/// The algorithms of a cipher suite.
#[derive(Clone, Copy)]
struct Algorithms {
    aead: &'static Algorithm,
    hash: hkdf::Algorithm,
    /// The number of records after which a key is replaced (section 5.5).
    limit: u64,
}

impl Algorithms {
    fn of(suite: SupportedCipherSuite) -> Option<Self> {
        let SupportedCipherSuite::Tls13(suite) = suite else { return None };
        let (aead, hash) = match suite.common.suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => (&AES_128_GCM, HKDF_SHA256),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => (&AES_256_GCM, HKDF_SHA384),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => (&CHACHA20_POLY1305, HKDF_SHA256),
            _ => return None,
        };
        Some(Self { aead, hash, limit: suite.common.confidentiality_limit })
    }
}

/// One direction of a connection.
struct Direction {
    secret: Secret,
    key: LessSafeKey,
    iv: [u8; 12],
    /// The number of records under this key.
    sequence: u64,
}

impl Direction {
    fn new(secret: Secret, algorithms: Algorithms) -> Self {
        let (mut key, mut iv) = ([0; 32], [0; 12]);
        let key = &mut key[..algorithms.aead.key_len()];
        secret.expand(algorithms.hash, "key", key);
        secret.expand(algorithms.hash, "iv", &mut iv);
        let key = UnboundKey::new(algorithms.aead, key).expect("a key of the length that the algorithm has");
        Self { secret, key: LessSafeKey::new(key), iv, sequence: 0 }
    }

    fn update(&mut self, algorithms: Algorithms) {
        *self = Self::new(self.secret.next(algorithms.hash), algorithms);
    }

    /// Returns the nonce of the next record (section 5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, of_sequence)| *byte ^= of_sequence);
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a record of this type at the beginning of `out`, and returns its length.
    fn seal(&mut self, kind: ContentType, plain: &[u8], out: &mut [u8]) -> usize {
        let sealed = plain.len() + 1 + TAG_BYTES;
        let [high, low] = (sealed as u16).to_be_bytes();
        let header = [ContentType::ApplicationData.into(), 3, 3, high, low];
        out[..HEADER_BYTES].copy_from_slice(&header);
        let (inner, rest) = out[HEADER_BYTES..].split_at_mut(plain.len() + 1);
        inner[..plain.len()].copy_from_slice(plain);
        inner[plain.len()] = kind.into();
        let nonce = self.nonce();
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), inner);
        rest[..TAG_BYTES].copy_from_slice(tag.expect("a record within the bounds of the algorithm").as_ref());
        HEADER_BYTES + sealed
    }

    /// Opens a record in place, and returns its type and its plaintext.
    fn open<'r>(&mut self, header: [u8; HEADER_BYTES], sealed: &'r mut [u8]) -> Result<(ContentType, &'r [u8]), Error> {
        let nonce = self.nonce();
        let inner = self.key.open_in_place(nonce, Aad::from(header), sealed).map_err(|_| Error::DecryptError)?;
        // Padding does not change what a record may have at most (section 5.4).
        if inner.len() > MOST_PLAIN + 1 {
            return Err(Error::PeerSentOversizedRecord);
        }
        // The type is the last byte that is not 0, and the padding follows it.
        let Some(end) = inner.iter().rposition(|byte| *byte != 0) else {
            return Err(PeerMisbehaved::IllegalTlsInnerPlaintext.into());
        };
        Ok((inner[end].into(), &inner[..end]))
    }
}

/// The record layer of a connection.
pub(super) struct Records {
    algorithms: Algorithms,
    read: Direction,
    write: Direction,
    /// The beginning of a handshake message that has not come whole.
    message: Vec<u8>,
    /// True if the peer is owed a KeyUpdate before the next record.
    owes_update: bool,
    /// The bytes of the records since the last that brought data.
    without_data: u32,
}

/// The bytes that were opened.
#[derive(Debug, PartialEq)]
pub(super) struct Opened {
    /// Their number.
    pub(super) used: usize,
    /// True if the peer's close_notify is among them.
    pub(super) ended: bool,
}

impl Records {
    /// The most bytes by which [`Self::seal`] makes plaintext longer: those of a record, and a KeyUpdate before it.
    pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES + (HEADER_BYTES + 5 + 1 + TAG_BYTES);

    /// Makes the record layer of a connection that has neither sealed nor opened a record with these secrets. Returns
    /// `None` if it does not know the suite.
    pub(super) fn of_client(secrets: &TrafficSecrets, suite: SupportedCipherSuite) -> Option<Self> {
        let algorithms = Algorithms::of(suite)?;
        let [read, write] = [secrets.server, secrets.client].map(|secret| Direction::new(secret, algorithms));
        Some(Self { algorithms, read, write, message: Vec::new(), owes_update: false, without_data: 0 })
    }

    /// Opens those of the records in `bytes` that are whole, in place, and hands their plaintext to `take`.
    ///
    /// # Errors
    /// If the peer breaks the protocol or reports an error.
    pub(super) fn open(&mut self, bytes: &mut [u8], take: &mut dyn FnMut(&[u8])) -> Result<Opened, Error> {
        let mut used = 0;
        while let Some(header) = bytes[used..].first_chunk::<HEADER_BYTES>().copied() {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            match ContentType::from(header[0]) {
                ContentType::ApplicationData => {}
                ContentType::Unknown(_) => return Err(InvalidMessage::InvalidContentType.into()),
                _ => return Err(InvalidMessage::UnexpectedMessage("a record that is not sealed").into()),
            }
            if length > MOST_SEALED {
                return Err(Error::PeerSentOversizedRecord);
            }
            let Some(sealed) = bytes.get_mut(used + HEADER_BYTES..used + HEADER_BYTES + length) else { break };
            let (kind, plain) = self.read.open(header, sealed)?;
            used += HEADER_BYTES + length;
            if kind != ContentType::Handshake && !self.message.is_empty() {
                return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
            }
            if kind == ContentType::ApplicationData && !plain.is_empty() {
                self.without_data = 0;
                take(plain);
                continue;
            }
            self.without_data += (HEADER_BYTES + length) as u32;
            if self.without_data > MOST_WITHOUT_DATA {
                return Err(InvalidMessage::UnexpectedMessage("records without data, without end").into());
            }
            match kind {
                ContentType::ApplicationData => {}
                ContentType::Handshake => self.handshake(plain)?,
                ContentType::Alert => match alert(plain)? {
                    // What may follow is not for this connection (section 6.1).
                    AlertDescription::CloseNotify => return Ok(Opened { used: bytes.len(), ended: true }),
                    // A close_notify is to follow (section 6.1).
                    AlertDescription::UserCanceled => {}
                    alert => return Err(Error::AlertReceived(alert)),
                },
                _ => return Err(InvalidMessage::UnexpectedMessage("a record of this type").into()),
            }
        }
        Ok(Opened { used, ended: false })
    }

    /// Processes a part of the handshake messages that follow the handshake (section 4.6).
    fn handshake(&mut self, part: &[u8]) -> Result<(), Error> {
        if part.is_empty() {
            return Err(InvalidMessage::InvalidEmptyPayload.into());
        }
        self.message.extend_from_slice(part);
        let message = mem::take(&mut self.message);
        let mut rest = &message[..];
        while let [kind, high, middle, low, behind @ ..] = rest {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > LONGEST_MESSAGE {
                return Err(InvalidMessage::HandshakePayloadTooLarge.into());
            }
            let Some((payload, behind)) = behind.split_at_checked(length) else { break };
            match HandshakeType::from(*kind) {
                // No session is resumed.
                HandshakeType::NewSessionTicket => {}
                HandshakeType::KeyUpdate if !behind.is_empty() => {
                    return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                }
                HandshakeType::KeyUpdate => {
                    match payload {
                        [UPDATE_NOT_REQUESTED] => {}
                        [UPDATE_REQUESTED] => self.owes_update = true,
                        _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
                    }
                    self.read.update(self.algorithms);
                }
                got_type => {
                    let expect_types = vec![HandshakeType::NewSessionTicket, HandshakeType::KeyUpdate];
                    return Err(Error::InappropriateHandshakeMessage { expect_types, got_type });
                }
            }
            rest = behind;
        }
        self.message = rest.to_vec();
        Ok(())
    }

    /// Seals at most [`MOST_PLAIN`] bytes at the beginning of `out`, which has [`Self::OVERHEAD_BYTES`] more, and returns
    /// the number of bytes that are for the peer.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> usize {
        let updated = self.update(out);
        updated + self.write.seal(ContentType::ApplicationData, plain, &mut out[updated..])
    }

    /// Changes the key of this side, where that is due, and returns the number of bytes that tell the peer.
    fn update(&mut self, out: &mut [u8]) -> usize {
        if !mem::take(&mut self.owes_update) && self.write.sequence < self.algorithms.limit {
            return 0;
        }
        let message = [HandshakeType::KeyUpdate.into(), 0, 0, 1, UPDATE_NOT_REQUESTED];
        let length = self.write.seal(ContentType::Handshake, &message, out);
        self.write.update(self.algorithms);
        length
    }

    /// Returns the sealed alert that announces the end to the peer (section 6.1).
    pub(super) fn close_notify(&mut self) -> Vec<u8> {
        // Its level means nothing, and is that of a warning everywhere.
        self.alert(1, AlertDescription::CloseNotify)
    }

    /// Returns the sealed alert that an error is to be answered by; `None` if the peer has ended the connection itself.
    pub(super) fn answer_to(&mut self, error: &Error) -> Option<Vec<u8>> {
        let description = match error {
            Error::AlertReceived(_) => return None,
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
            Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => AlertDescription::IllegalParameter,
            Error::InvalidMessage(InvalidMessage::MissingData(_)) => AlertDescription::DecodeError,
            _ => AlertDescription::UnexpectedMessage,
        };
        Some(self.alert(FATAL, description))
    }

    fn alert(&mut self, level: u8, description: AlertDescription) -> Vec<u8> {
        let mut out = vec![0; 2 + Self::OVERHEAD_BYTES];
        let length = self.write.seal(ContentType::Alert, &[level, description.into()], &mut out);
        out.truncate(length);
        out
    }
}

/// Returns the description of an alert. Its level does not matter (section 6).
fn alert(plain: &[u8]) -> Result<AlertDescription, Error> {
    match plain {
        [_, description] => Ok((*description).into()),
        // Section 5.4.
        [] => Err(InvalidMessage::InvalidEmptyPayload.into()),
        _ => Err(InvalidMessage::MissingData("AlertMessagePayload").into()),
    }
}

#[cfg(test)]
mod tests;
