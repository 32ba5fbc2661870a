use proptest::prelude::*;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384,
    TLS13_CHACHA20_POLY1305_SHA256,
};

use super::*;

const SUITES: [SupportedCipherSuite; 3] =
    [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The other side of a connection.
struct Server {
    algorithms: Algorithms,
    write: Direction,
    read: Direction,
}

impl Server {
    /// Returns both sides of a connection.
    fn and_client(suite: SupportedCipherSuite) -> (Self, Records) {
        let algorithms = Algorithms::of(suite).unwrap();
        let length = if suite == TLS13_AES_256_GCM_SHA384 { 48 } else { 32 };
        let [client, server] = [1, 2].map(|byte| Secret::of(&vec![byte; length]).unwrap());
        let [write, read] = [server, client].map(|secret| Direction::new(secret, algorithms));
        (Self { algorithms, write, read }, Records::of_client(&TrafficSecrets { client, server }, suite).unwrap())
    }

    fn seal(&mut self, kind: ContentType, plain: &[u8]) -> Vec<u8> {
        let mut out = vec![0; plain.len() + Records::OVERHEAD_BYTES];
        let length = self.write.seal(kind, plain, &mut out);
        out.truncate(length);
        out
    }

    /// Seals plaintext with so much padding.
    fn seal_padded(&mut self, plain: &[u8], padding: usize) -> Vec<u8> {
        let padded = [plain, &[ContentType::ApplicationData.into()], &vec![0; padding]].concat();
        // The byte behind that is one more of the padding.
        self.seal(ContentType::Unknown(0), &padded)
    }

    fn update(&mut self, requested: u8) -> Vec<u8> {
        let record = self.seal(ContentType::Handshake, &[24, 0, 0, 1, requested]);
        self.write.update(self.algorithms);
        record
    }

    /// Opens what the client has sealed, and returns its records; follows its updates.
    fn open(&mut self, mut bytes: &[u8]) -> Vec<(ContentType, Vec<u8>)> {
        let mut opened = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
            let (sealed, rest) = rest.split_at(usize::from(u16::from_be_bytes([header[3], header[4]])));
            let (kind, plain) = self.read.open(*header, &mut sealed.to_vec()).map(|(k, p)| (k, p.to_vec())).unwrap();
            if kind == ContentType::Handshake {
                self.read.update(self.algorithms);
            }
            opened.push((kind, plain));
            bytes = rest;
        }
        opened
    }
}

fn ticket(length: usize) -> Vec<u8> {
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    [&[4, high, middle, low], &vec![7; length][..]].concat()
}

fn seal(client: &mut Records, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; plain.len() + Records::OVERHEAD_BYTES];
    let length = client.seal(plain, &mut out);
    out.truncate(length);
    out
}

/// The client's application data of RFC 8448, section 3.
#[test]
fn a_record_is_that_of_rfc_8448() {
    let secret = bytes("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
    let secrets = TrafficSecrets { client: Secret::of(&secret).unwrap(), server: Secret::of(&[0; 32]).unwrap() };
    let mut client = Records::of_client(&secrets, TLS13_AES_128_GCM_SHA256).unwrap();
    let plain: Vec<u8> = (0..50).collect();
    let expected = bytes(concat!(
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a",
        "20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4"
    ));
    assert_eq!(seal(&mut client, &plain), expected);
}

#[test]
fn a_suite_of_tls_1_2_is_left_to_the_library() {
    let [client, server] = [1, 2].map(|byte| Secret::of(&[byte; 32]).unwrap());
    assert!(Records::of_client(&TrafficSecrets { client, server }, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256).is_none());
}

/// What a server sends.
#[derive(Clone, Debug)]
enum Sends {
    Data(Vec<u8>, usize),
    /// A ticket of this length, in records of at most so many bytes.
    Ticket(usize, usize),
    Update(bool),
}

fn sends() -> impl Strategy<Value = Sends> {
    prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..600), 0..40_usize).prop_map(|(data, pad)| Sends::Data(data, pad)),
        (0..900_usize, 1..600_usize).prop_map(|(length, part)| Sends::Ticket(length, part)),
        any::<bool>().prop_map(Sends::Update),
    ]
}

proptest! {
    #[test]
    fn what_a_server_sends_arrives_however_it_is_cut(
        sent in proptest::collection::vec(sends(), 0..12),
        cuts in proptest::collection::vec(1..700_usize, 1..20),
        suite in proptest::sample::select(&SUITES[..]),
    ) {
        let (mut server, mut client) = Server::and_client(suite);
        let (mut wire, mut expected, mut owed) = (Vec::new(), Vec::new(), false);
        for one in sent {
            match one {
                Sends::Data(data, padding) => {
                    wire.extend(server.seal_padded(&data, padding));
                    expected.extend(data);
                }
                Sends::Ticket(length, part) => {
                    ticket(length).chunks(part).for_each(|part| wire.extend(server.seal(ContentType::Handshake, part)));
                }
                Sends::Update(requested) => {
                    wire.extend(server.update(requested.into()));
                    owed |= requested;
                }
            }
        }
        let (mut held, mut got, mut wire) = (Vec::new(), Vec::new(), &wire[..]);
        for cut in cuts.into_iter().cycle() {
            if wire.is_empty() {
                break;
            }
            let (part, rest) = wire.split_at(cut.min(wire.len()));
            held.extend_from_slice(part);
            let opened = client.open(&mut held, &mut |plain| got.extend_from_slice(plain)).unwrap();
            prop_assert!(!opened.ended);
            held.drain(..opened.used);
            wire = rest;
        }
        prop_assert_eq!(got, expected);
        prop_assert!(held.is_empty() && client.message.is_empty());
        // However many updates were requested, one is owed, and before the next data.
        let records = server.open(&seal(&mut client, b"hello"));
        let kinds: Vec<ContentType> = records.iter().map(|(kind, _)| *kind).collect();
        let update = owed.then_some(ContentType::Handshake);
        prop_assert_eq!(kinds, update.into_iter().chain([ContentType::ApplicationData]).collect::<Vec<_>>());
        prop_assert_eq!(server.open(&seal(&mut client, b"again")), [(ContentType::ApplicationData, b"again".to_vec())]);
    }

    #[test]
    fn bytes_of_anyone_else_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 5..100)) {
        let (_, mut client) = Server::and_client(TLS13_AES_128_GCM_SHA256);
        // A whole record, of the type that is sealed.
        bytes[0] = 23;
        let length = (bytes.len() - HEADER_BYTES) as u16;
        bytes[3..5].copy_from_slice(&length.to_be_bytes());
        let opened = client.open(&mut bytes, &mut |_| panic!("plaintext"));
        prop_assert_eq!(opened.unwrap_err(), Error::DecryptError);
    }
}

#[test]
fn a_key_is_replaced_before_its_limit() {
    let (mut server, mut client) = Server::and_client(TLS13_AES_128_GCM_SHA256);
    client.algorithms.limit = 3;
    let sealed: Vec<u8> = (0..7).flat_map(|number| seal(&mut client, &[number])).collect();
    let kinds: Vec<u8> = server.open(&sealed).iter().map(|(kind, _)| u8::from(*kind)).collect();
    assert_eq!(kinds, [23, 23, 23, 22, 23, 23, 23, 22, 23]);
}

#[test]
fn the_end_is_announced_and_heard() {
    let (mut server, mut client) = Server::and_client(TLS13_AES_128_GCM_SHA256);
    assert_eq!(server.open(&client.close_notify()), [(ContentType::Alert, vec![1, 0])]);
    let canceled = server.seal(ContentType::Alert, &[1, 90]);
    let mut wire = [canceled, server.seal(ContentType::Alert, &[1, 0]), b"anything".to_vec()].concat();
    let opened = client.open(&mut wire, &mut |_| panic!("plaintext")).unwrap();
    assert_eq!(opened, Opened { used: wire.len(), ended: true });
}

#[test]
fn records_without_data_do_not_go_on_for_ever() {
    type Record = fn(&mut Server) -> Vec<u8>;
    let kinds: [Record; 4] = [
        |server| server.seal(ContentType::ApplicationData, &[]),
        |server| server.seal(ContentType::Alert, &[1, 90]),
        |server| server.seal(ContentType::Handshake, &ticket(9_000)),
        |server| server.update(1),
    ];
    for record in kinds {
        let (mut server, mut client) = Server::and_client(TLS13_AES_128_GCM_SHA256);
        let flood = |server: &mut Server, bytes: u32| {
            let mut wire = Vec::new();
            while wire.len() <= bytes as usize {
                wire.extend(record(server));
            }
            wire
        };
        // With data now and then they may.
        for _ in 0..2 {
            let mut wire = [flood(&mut server, MOST_WITHOUT_DATA / 4 * 3), server.seal_padded(b"x", 0)].concat();
            client.open(&mut wire, &mut |plain| assert_eq!(plain, b"x")).unwrap();
        }
        let opened = client.open(&mut flood(&mut server, MOST_WITHOUT_DATA), &mut |_| panic!("plaintext"));
        assert_eq!(opened, Err(InvalidMessage::UnexpectedMessage("records without data, without end").into()));
    }
}

#[test]
fn each_violation_has_its_error_and_its_alert() {
    let unexpected = |what| Error::from(InvalidMessage::UnexpectedMessage(what));
    type Wire = fn(&mut Server) -> Vec<u8>;
    let cases: [(Wire, Error, u8); 17] = [
        (|_| b"HTTP/1.1 400 Bad Request".to_vec(), InvalidMessage::InvalidContentType.into(), 10),
        (|_| vec![21, 3, 3, 0, 2, 2, 40], unexpected("a record that is not sealed"), 10),
        (|_| vec![23, 3, 3, 0x41, 1], Error::PeerSentOversizedRecord, 22),
        (|_| vec![23, 3, 3, 0, 0], Error::DecryptError, 20),
        (|server| server.seal_padded(&[1; MOST_PLAIN + 1], 0), Error::PeerSentOversizedRecord, 22),
        (|server| server.seal_padded(&[1; MOST_PLAIN - 1], 1), Error::PeerSentOversizedRecord, 22),
        (|server| server.seal(ContentType::Unknown(0), &[]), PeerMisbehaved::IllegalTlsInnerPlaintext.into(), 10),
        (|server| server.seal(ContentType::ChangeCipherSpec, &[1]), unexpected("a record of this type"), 10),
        (|server| server.seal(ContentType::Alert, &[2]), InvalidMessage::MissingData("AlertMessagePayload").into(), 50),
        (|server| server.seal(ContentType::Handshake, &[]), InvalidMessage::InvalidEmptyPayload.into(), 10),
        (|server| server.seal(ContentType::Alert, &[]), InvalidMessage::InvalidEmptyPayload.into(), 10),
        (|server| server.update(2), InvalidMessage::InvalidKeyUpdate.into(), 47),
        (
            |server| server.seal(ContentType::Handshake, &[24, 0, 0, 1, 0, 4, 0]),
            PeerMisbehaved::KeyEpochWithPendingFragment.into(),
            10,
        ),
        (
            |server| server.seal(ContentType::Handshake, &[4, 0xff, 0, 0]),
            InvalidMessage::HandshakePayloadTooLarge.into(),
            10,
        ),
        (
            |server| [server.seal(ContentType::Handshake, &[4, 0]), server.seal_padded(b"x", 0)].concat(),
            PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into(),
            10,
        ),
        (
            |server| server.seal(ContentType::Handshake, &[1, 0, 0, 0]),
            Error::InappropriateHandshakeMessage {
                expect_types: vec![HandshakeType::NewSessionTicket, HandshakeType::KeyUpdate],
                got_type: HandshakeType::ClientHello,
            },
            10,
        ),
        (
            |server| {
                let mut record = server.seal(ContentType::ApplicationData, b"x");
                *record.last_mut().unwrap() ^= 1;
                record
            },
            Error::DecryptError,
            20,
        ),
    ];
    for (wire, error, alert) in cases {
        let (mut server, mut client) = Server::and_client(TLS13_AES_128_GCM_SHA256);
        let before = server.seal(ContentType::ApplicationData, b"before");
        let mut got = Vec::new();
        let mut wire = [before, wire(&mut server)].concat();
        let opened = client.open(&mut wire, &mut |plain| got.extend_from_slice(plain));
        assert_eq!(opened, Err(error.clone()));
        assert_eq!(got, b"before", "{error}");
        let answer = client.answer_to(&error).unwrap();
        assert_eq!(server.open(&answer), [(ContentType::Alert, vec![2, alert])], "{error}");
    }
    let (mut server, mut client) = Server::and_client(TLS13_AES_128_GCM_SHA256);
    let received = client.open(&mut server.seal(ContentType::Alert, &[2, 80]), &mut |_| ()).unwrap_err();
    assert_eq!(received, Error::AlertReceived(AlertDescription::InternalError));
    assert_eq!(client.answer_to(&received), None);
}
