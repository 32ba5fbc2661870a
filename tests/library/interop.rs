//! TLS with a peer of another make: OpenSSL's `s_server`, set up well and badly. Tests that need `openssl` are skipped
//! without.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::common::needs::needs;
use crate::common::openssl::Server;
use crate::common::peer::{Peer, Step};
use certctl_bench::clock::Moment;
use certctl_bench::event_loop::{EventLoop, sleep};
use certctl_bench::provision::pki::{Authority, Identity, KeyType, Purpose};
use certctl_bench::system::base_url::BaseUrl;
use certctl_bench::wire::connection::{Idle, Stopwatch};
use certctl_bench::wire::handshake::{HandshakeFlow, Record};
use certctl_bench::wire::request::{Method, encode};
use certctl_bench::wire::tls::{KeyExchange, TlsOptions, TlsVersion, Trust, client_config, configure};
use certctl_bench::wire::{Dialer, Fault, FaultKind, Phases, Scratch};
use rustix::net::sockopt::set_socket_linger;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, NamedGroup, ServerConfig, ServerConnection, SupportedProtocolVersion};

/// Sends one request; returns the facts of the connection, and the status of the answer.
fn get(address: SocketAddr, name: &str, options: &TlsOptions) -> Result<(Record, u16), Fault> {
    get_after(Duration::ZERO, address, name, options)
}

/// Does the same as [`get`], so long after the handshake.
fn get_after(pause: Duration, address: SocketAddr, name: &str, options: &TlsOptions) -> Result<(Record, u16), Fault> {
    get_with(configure(options).unwrap(), pause, address, name)
}

fn get_with(
    config: Arc<ClientConfig>,
    pause: Duration,
    address: SocketAddr,
    name: &str,
) -> Result<(Record, u16), Fault> {
    let name = format!("https://{name}").parse::<BaseUrl>().unwrap().server_name().unwrap();
    let dialer = Dialer::new(address, name, config);
    EventLoop::new().unwrap().block_on(async {
        let start = Moment::now();
        let (mut watch, mut phases, mut scratch) = (Stopwatch::from(start), Phases::default(), Scratch::default());
        let opened = dialer.open(&mut watch, &mut phases).await;
        assert_eq!(phases.total_ns(), watch.last().ns_since(start), "{phases:?}");
        let mut connection = opened?;
        sleep(pause).await;
        scratch.request = encode(Method::Get, "/", "localhost", None, "");
        let answered = connection.exchange(Method::Get, &mut scratch, &mut watch, &mut phases).await;
        assert_eq!(phases.total_ns(), watch.last().ns_since(start), "{phases:?}");
        answered?;
        Ok((connection.record(), scratch.response().unwrap().status))
    })
}

struct Pki {
    root: Authority,
    identity: Identity,
}

impl Pki {
    fn new() -> Self {
        let root = Authority::root(KeyType::EcdsaP256).unwrap();
        let identity = root.issue(KeyType::EcdsaP256, Purpose::Server, &["localhost"]).unwrap();
        Self { root, identity }
    }

    fn options(&self) -> TlsOptions {
        TlsOptions::full(self.root.trust())
    }

    /// Returns the configuration of a server of this version.
    fn server(&self, version: &'static SupportedProtocolVersion) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(&[version]).unwrap().with_no_client_auth();
        builder.with_single_cert(self.identity.chain.clone(), self.identity.key.clone_key()).unwrap()
    }

    /// Returns the configuration of a client that leaves TLS to the library, and of one with our own record layer.
    fn clients(&self) -> [Arc<ClientConfig>; 2] {
        [configure(&self.options()).unwrap(), client_config(&self.root.trust()).unwrap()]
    }
}

#[test]
fn each_tls_version_works_alone() {
    needs!(Openssl);
    let pki = Pki::new();
    for (argument, version, group) in [("-tls1_2", "TLS1.2", "X25519"), ("-tls1_3", "TLS1.3", "X25519")] {
        let server = Server::start(&pki.identity, &[argument]);
        let (record, status) = get(server.address, "localhost", &pki.options()).unwrap();
        let handshake = record.handshake;
        assert_eq!((status, handshake.kind, handshake.version), (200, HandshakeFlow::Full, version));
        assert_eq!((handshake.group, handshake.key, handshake.chain_length), (group, "ecdsa-p256", 1));
        assert!(record.read_bytes > 400 && record.written_bytes > 200, "{record:?}");
    }
}

#[test]
fn each_suite_of_tls_1_3_works_with_our_own_record_layer() {
    needs!(Openssl);
    let pki = Pki::new();
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        let server = Server::start(&pki.identity, &["-tls1_3", "-ciphersuites", suite]);
        let config = client_config(&pki.root.trust()).unwrap();
        let (record, status) = get_with(config, Duration::ZERO, server.address, "localhost").unwrap();
        assert_eq!((status, record.handshake.suite), (200, suite.replacen("TLS_", "TLS13_", 1).as_str()));
    }
    // TLS 1.2 remains with the library.
    let server = Server::start(&pki.identity, &["-tls1_2"]);
    let config = client_config(&pki.root.trust()).unwrap();
    assert_eq!(get_with(config, Duration::ZERO, server.address, "localhost").unwrap().1, 200);
}

/// Answers one request. Its ticket comes in several records: the first before the request, the others with the answer.
fn answer_amid_a_ticket(listener: &TcpListener, config: Arc<ServerConfig>, first_part_is_out: &Sender<()>) {
    let (mut tcp, _) = listener.accept().unwrap();
    let mut tls = ServerConnection::new(config).unwrap();
    let sealed = |tls: &mut ServerConnection| {
        let mut wire = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut wire).unwrap();
        }
        wire
    };
    while tls.is_handshaking() {
        tcp.write_all(&sealed(&mut tls)).unwrap();
        tls.read_tls(&mut tcp).unwrap();
        tls.process_new_packets().unwrap();
    }
    let tickets = sealed(&mut tls);
    let (first, others) = tickets.split_at(5 + usize::from(u16::from_be_bytes([tickets[3], tickets[4]])));
    tcp.write_all(first).unwrap();
    first_part_is_out.send(()).unwrap();
    while tls.process_new_packets().unwrap().plaintext_bytes_to_read() == 0 {
        assert!(tls.read_tls(&mut tcp).unwrap() > 0, "no request");
    }
    tls.writer().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    tcp.write_all(&[others, &sealed(&mut tls)].concat()).unwrap();
}

#[test]
fn a_request_passes_between_the_parts_of_a_ticket() {
    let pki = Pki::new();
    let mut config = pki.server(&TLS13);
    config.max_fragment_size = Some(64);
    let config = Arc::new(config);
    for ours in pki.clients() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let dialer = Dialer::new(listener.local_addr().unwrap(), "localhost".try_into().unwrap(), ours);
        let (config, (is_out, first_part)) = (config.clone(), channel());
        let server = thread::spawn(move || answer_amid_a_ticket(&listener, config, &is_out));
        EventLoop::new().unwrap().block_on(async {
            let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
            let mut connection = dialer.open(&mut watch, &mut phases).await.unwrap();
            first_part.recv().unwrap();
            assert!(matches!(connection.idle(), Idle::Quiet));
            let mut scratch = Scratch::default();
            scratch.request = encode(Method::Get, "/", "localhost", None, "");
            connection.exchange(Method::Get, &mut scratch, &mut watch, &mut phases).await.unwrap();
            assert_eq!(scratch.response().unwrap().status, 200);
        });
        server.join().unwrap();
    }
}

#[test]
fn an_unsupported_tls_version_is_a_fault() {
    needs!(Openssl);
    let pki = Pki::new();
    for (argument, version) in [("-tls1_2", TlsVersion::Tls13), ("-tls1_3", TlsVersion::Tls12)] {
        let server = Server::start(&pki.identity, &[argument]);
        let fault =
            get(server.address, "localhost", &TlsOptions { version: Some(version), ..pki.options() }).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Tls, "{fault}");
        assert!(fault.detail.contains("ProtocolVersion") || fault.detail.contains("protocol version"), "{fault}");
    }
}

#[test]
fn another_group_causes_a_hello_retry_request() {
    needs!(Openssl);
    let pki = Pki::new();
    let server = Server::start(&pki.identity, &["-tls1_3", "-groups", "P-256"]);
    let (record, _) = get(server.address, "localhost", &pki.options()).unwrap();
    assert_eq!((record.handshake.kind, record.handshake.group), (HandshakeFlow::HelloRetry, "secp256r1"));
    assert!(record.as_declared, "a handshake with a retry is a full one");
    // A group that is offered alone is taken at once.
    let (record, _) =
        get(server.address, "localhost", &TlsOptions { group: Some(KeyExchange::P256), ..pki.options() }).unwrap();
    assert_eq!((record.handshake.kind, record.handshake.group), (HandshakeFlow::Full, "secp256r1"));
}

#[test]
fn a_chain_with_an_intermediate_is_verified_to_its_root() {
    needs!(Openssl);
    let root = Authority::root(KeyType::Rsa2048).unwrap();
    let intermediate = root.intermediate(KeyType::Rsa2048).unwrap();
    let identity = intermediate.issue(KeyType::Rsa2048, Purpose::Server, &["localhost"]).unwrap();
    let server = Server::start(&identity, &[]);
    let (record, status) = get(server.address, "localhost", &TlsOptions::full(root.trust())).unwrap();
    assert_eq!((status, record.handshake.key, record.handshake.chain_length), (200, "rsa-2048", 2));
}

#[test]
fn a_demanded_client_certificate_is_reported() {
    needs!(Openssl);
    let pki = Pki::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let server = Server::start(&pki.identity, &[version, "-Verify", "1"]);
        let fault = get(server.address, "localhost", &pki.options()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::ClientCertificate, "{version}: {fault}");
    }
    // A peer that refuses the whole offer does not request a certificate.
    let server = Server::start(&pki.identity, &["-tls1_2", "-cipher", "AES128-SHA256"]);
    let fault = get(server.address, "localhost", &pki.options()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
}

#[test]
fn a_ca_certificate_given_as_trust_is_accepted() {
    let key = rcgen::KeyPair::generate().unwrap();
    let own = |name: &str, last_year: i32, usages: &[rcgen::ExtendedKeyUsagePurpose]| {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        params.extended_key_usages = usages.to_vec();
        let certificate = params.self_signed(&key).unwrap();
        let (chain, key) = (vec![certificate.der().clone()], certificate.pem());
        (chain, key)
    };
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key.pem");
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let serve = |pem: &str| {
        let chain_file = folder.path().join("own.pem");
        std::fs::write(&chain_file, pem).unwrap();
        let (chain, key) = (chain_file.display().to_string(), key_file.display().to_string());
        Server::start(&Pki::new().identity, &["-cert", &chain, "-key", &key])
    };
    let verdict = |(chain, pem): (Vec<_>, String)| {
        let server = serve(&pem);
        let trust = Trust::Authorities(chain);
        get(server.address, "localhost", &TlsOptions::full(trust)).map(|(_, status)| status).map_err(|fault| fault.kind)
    };
    assert_eq!(verdict(own("localhost", 4_000, &[])), Ok(200));
    assert_eq!(verdict(own("localhost", 4_000, &[ClientAuth, ServerAuth])), Ok(200));
    assert_eq!(verdict(own("localhost", 4_000, &[ClientAuth])), Err(FaultKind::NotForServers));
    assert_eq!(verdict(own("localhost", 2_020, &[])), Err(FaultKind::Expired));
    assert_eq!(verdict(own("elsewhere.example.test", 4_000, &[])), Err(FaultKind::WrongName));
    // A certificate of the same name and key is not the given one.
    let (_, served) = own("localhost", 4_000, &[]);
    let (given, _) = own("localhost", 4_001, &[]);
    let server = serve(&served);
    let fault = get(server.address, "localhost", &TlsOptions::full(Trust::Authorities(given))).unwrap_err();
    assert_eq!(fault.kind, FaultKind::AuthorityAsServer, "{fault}");
    assert!(fault.detail.contains("an authority's own (CA:TRUE)"), "{fault}");
}

#[test]
fn a_version_1_certificate_is_accepted_as_insecure() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (key, request, pem) = (path("key.pem"), path("request.pem"), path("v1.pem"));
    // OpenSSL signs a request without extensions as a certificate of version 1 (up to 3.3), or if requested.
    for arguments in [
        format!("req -new -newkey rsa:2048 -nodes -keyout {key} -subj /CN=localhost -out {request}"),
        format!("x509 -req -in {request} -signkey {key} -days 30 -out {pem}"),
    ] {
        let made = std::process::Command::new("openssl").args(arguments.split(' ')).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let trust = Trust::from_file(pem.as_ref()).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let server = Server::start(&Pki::new().identity, &[version, "-cert", &pem, "-key", &key]);
        assert_eq!(get(server.address, "localhost", &TlsOptions::full(Trust::Insecure)).unwrap().1, 200, "{version}");
        let fault = get(server.address, "localhost", &TlsOptions::full(trust.clone())).unwrap_err();
        assert_eq!(fault.kind, FaultKind::BadCertificate, "{fault}");
        assert!(fault.detail.contains("X.509 version 1"), "{fault}");
    }
}

#[test]
fn the_default_offer_has_no_post_quantum_group() {
    // A server that prefers the post-quantum group sends a HelloRetryRequest where it is offered without a key share.
    let config = configure(&TlsOptions::full(Trust::Insecure)).unwrap();
    let groups = config.crypto_provider().kx_groups.iter().map(|group| group.name());
    assert!(groups.clone().eq([NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1]), "{groups:?}");
}

#[test]
fn openssl_3_5_accepts_the_default_offer_without_retry() {
    needs!(Openssl35);
    let pki = Pki::new();
    let server = Server::start_3_5(&pki.identity);
    let (record, status) = get(server.address, "localhost", &pki.options()).unwrap();
    assert_eq!((status, record.handshake.kind, record.handshake.group), (200, HandshakeFlow::Full, "X25519"));
    // This server prefers another group.
    let group = Some(KeyExchange::X25519MlKem768);
    let (record, _) = get(server.address, "localhost", &TlsOptions { group, ..pki.options() }).unwrap();
    assert_eq!((record.handshake.kind, record.handshake.group), (HandshakeFlow::Full, "X25519MLKEM768"));
}

#[test]
fn an_alert_before_a_reset_is_reported() {
    needs!(Openssl);
    let pki = Pki::new();
    let server = Server::start(&pki.identity, &["-tls1_3", "-Verify", "1"]);
    let relay = relay_and_reset(server.address);
    let fault = get_after(Duration::from_millis(500), relay, "localhost", &pki.options()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::ClientCertificate, "{fault}");
}

/// Passes one connection's bytes on to `behind`, and resets it once that side closes.
fn relay_and_reset(behind: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, mut server) = (listener.accept().unwrap().0, TcpStream::connect(behind).unwrap());
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let upwards = thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
        let mut bytes = [0; 16_384];
        while let Ok(length @ 1..) = server.read(&mut bytes) {
            client.write_all(&bytes[..length]).unwrap();
        }
        // So that its clone is closed as well, and the last one to be closed resets.
        client.shutdown(Shutdown::Read).unwrap();
        let _ = upwards.join();
        set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    });
    address
}

#[test]
fn each_flaw_of_a_certificate_has_its_own_outcome() {
    needs!(Openssl);
    let pki = Pki::new();
    let issue_with = |names: &[&str], change: &dyn Fn(&mut rcgen::CertificateParams)| {
        pki.root.issue_with(KeyType::EcdsaP256, Purpose::Server, names, change).unwrap()
    };
    let issue = |names: &[&str], last_year: i32| {
        issue_with(names, &|params| params.not_after = rcgen::date_time_ymd(last_year, 1, 1))
    };
    let stranger = Pki::new();
    for (identity, kind) in [
        (issue(&["localhost"], 2020), FaultKind::Expired),
        (
            issue_with(&["localhost"], &|params| {
                params.not_before = rcgen::date_time_ymd(4_000, 1, 1);
                params.not_after = rcgen::date_time_ymd(4_001, 1, 1);
            }),
            FaultKind::NotValidYet,
        ),
        (issue(&["elsewhere.example.test"], 4_000), FaultKind::WrongName),
        (stranger.identity, FaultKind::UnknownAuthority),
    ] {
        let server = Server::start(&identity, &[]);
        let fault = get(server.address, "localhost", &pki.options()).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.detail.starts_with("invalid peer certificate"), "{fault}");
        // Unless nothing is verified.
        assert_eq!(get(server.address, "localhost", &TlsOptions::full(Trust::Insecure)).unwrap().1, 200);
    }
}

#[test]
fn alpn_negotiates_only_http_1_1() {
    needs!(Openssl);
    let pki = Pki::new();
    let both = Server::start(&pki.identity, &["-alpn", "h2,http/1.1"]);
    assert_eq!(get(both.address, "localhost", &pki.options()).unwrap().0.handshake.alpn, "http/1.1");
    let none = Server::start(&pki.identity, &[]);
    assert_eq!(get(none.address, "localhost", &pki.options()).unwrap().0.handshake.alpn, "-");
    let h2_alone = Server::start(&pki.identity, &["-alpn", "h2"]);
    let fault = get(h2_alone.address, "localhost", &pki.options()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::NoHttp11, "{fault}");
}

#[test]
fn a_close_around_the_handshake_is_reported() {
    let pki = Pki::new();
    // Before: it reads the ClientHello and closes.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || listener.accept().unwrap().0.read(&mut [0; 4_096]).unwrap());
    let fault = get(address, "localhost", &pki.options()).unwrap_err();
    assert!(peer.join().unwrap() > 0);
    assert_eq!(fault.kind, FaultKind::Closed, "{fault}");
    assert!(fault.detail.starts_with("amid the TLS handshake"), "{fault}");
    // After: it shakes hands and closes at the first request.
    let peer = Peer::start(|_| vec![Step::Close]);
    let options = TlsOptions::full(Trust::from_file(&peer.ca_file()).unwrap());
    let fault = get(peer.address(), "localhost", &options).unwrap_err();
    assert_eq!((fault.kind, peer.connections()), (FaultKind::Closed, 1), "{fault}");
}

/// Starts a peer that answers a ClientHello with a ServerHello of this version, which selects `protocol` by ALPN.
fn hello_of(version: [u8; 2], protocol: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let list = [&[length(protocol)], protocol].concat();
    // RFC 7301, section 3.1: the extension, its length, that of the list, and the one name in it.
    let alpn = [&[0, 16, 0, length(&list) + 2, 0, length(&list)], &list[..]].concat();
    // RFC 5246, section 7.4.1.3: version, random, no session, ECDHE-ECDSA-AES128-GCM-SHA256, no compression.
    let body = [&version[..], &[7; 32], &[0, 0xc0, 0x2b, 0, 0, length(&alpn)], &alpn].concat();
    let message = [&[2, 0, 0, length(&body)], &body[..]].concat();
    let record = [&[22], &version[..], &[0, length(&message)], &message].concat();
    thread::spawn(move || {
        let mut client = listener.accept().unwrap().0;
        let mut hello = [0; 4_096];
        let _ = client.read(&mut hello).unwrap();
        client.write_all(&record).unwrap();
        // Until the client closes.
        while matches!(client.read(&mut hello), Ok(1..)) {}
    });
    address
}

#[test]
fn an_unoffered_protocol_has_its_own_outcome() {
    let fault = get(hello_of([3, 3], b"h2"), "localhost", &TlsOptions::full(Trust::Insecure)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::UnofferedAlpn, "{fault}");
    assert!(fault.detail.contains("http/1.1, the only one offered"), "{fault}");
}

#[test]
fn a_peer_of_tls_1_1_has_its_own_outcome() {
    let fault = get(hello_of([3, 2], b"http/1.1"), "localhost", &TlsOptions::full(Trust::Insecure)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::OldTls, "{fault}");
}

/// Sends an answer of `length` bytes, of which two come, in one segment with what TLS has to send before it and a record
/// that has no place behind it; waits until the client has closed.
fn answer_with_a_stray_record(mut tls: ServerConnection, mut tcp: TcpStream, length: usize) {
    write!(tls.writer(), "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok").unwrap();
    let mut wire = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut wire).unwrap();
    }
    // A change_cipher_spec.
    wire.extend([20, 3, 3, 0, 1, 1]);
    tcp.write_all(&wire).unwrap();
    while matches!(tcp.read(&mut [0; 64]), Ok(1..)) {}
}

/// Answers one request with the half of an answer, and a record that has no place behind it.
fn answer_by_half(listener: &TcpListener, config: Arc<ServerConfig>) {
    let (mut tcp, _) = listener.accept().unwrap();
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.process_new_packets().unwrap().plaintext_bytes_to_read() == 0 {
        while tls.wants_write() {
            tls.write_tls(&mut tcp).unwrap();
        }
        assert!(tls.read_tls(&mut tcp).unwrap() > 0, "no request");
    }
    answer_with_a_stray_record(tls, tcp, 4);
}

#[test]
fn a_connection_whose_tls_has_failed_can_be_closed() {
    let pki = Pki::new();
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(pki.server(version));
        for ours in pki.clients() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let dialer = Dialer::new(listener.local_addr().unwrap(), "localhost".try_into().unwrap(), ours);
            let config = config.clone();
            let server = thread::spawn(move || answer_by_half(&listener, config));
            EventLoop::new().unwrap().block_on(async {
                let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
                let mut connection = dialer.open(&mut watch, &mut phases).await.unwrap();
                let mut scratch = Scratch::default();
                scratch.request = encode(Method::Get, "/", "localhost", None, "");
                let exchanged = connection.exchange(Method::Get, &mut scratch, &mut watch, &mut phases).await;
                assert_eq!(exchanged.unwrap_err().kind, FaultKind::Tls);
                assert!(matches!(connection.idle(), Idle::Closed));
                connection.close(Duration::from_secs(60)).await;
            });
            server.join().unwrap();
        }
    }
}

/// Answers before the request, in one segment with the last message of its handshake and a record that has no place.
fn answer_along_with_the_handshake(listener: &TcpListener, config: Arc<ServerConfig>) {
    let (mut tcp, _) = listener.accept().unwrap();
    let mut tls = ServerConnection::new(config).unwrap();
    while !tls.wants_write() {
        tls.read_tls(&mut tcp).unwrap();
        tls.process_new_packets().unwrap();
    }
    answer_with_a_stray_record(tls, tcp, 2);
}

#[test]
fn a_request_after_tls_has_failed_reports_that_of_tls() {
    let pki = Pki::new();
    let mut config = pki.server(&TLS13);
    config.send_half_rtt_data = true;
    let config = Arc::new(config);
    for ours in pki.clients() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, config) = (listener.local_addr().unwrap(), config.clone());
        let server = thread::spawn(move || answer_along_with_the_handshake(&listener, config));
        let fault = get_with(ours, Duration::ZERO, address, "localhost").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Tls, "{fault}");
        server.join().unwrap();
    }
}
