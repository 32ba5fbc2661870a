//! A database that takes TLS alone, as hosted ones do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use certctl_bench::database::DatabaseClient;
use certctl_bench::evidence::DatabaseWitness;
use certctl_bench::provision::child::RunAs;
use certctl_bench::provision::postgres::{Cluster, PostgresInstallation};
use certctl_bench::seed::{self, SeedOptions};
use certctl_bench::system::reference::{self, ReferenceStart, StoreChoice};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use super::sessions::{free_port, output_of, program};
use crate::common::needs::needs;
use crate::common::postgresql::newest;

/// A PostgreSQL on TCP and TLS, and the files that go with it.
struct Secured {
    cluster: Cluster,
    folder: TempDir,
    port: u16,
}

impl Secured {
    /// Starts one; `hba` are the lines for TCP; `own_authority` makes the certificate its own authority.
    fn start(installation: &PostgresInstallation, ssl: &str, hba: &str, own_authority: bool) -> Self {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let user = RunAs::lesser(&["postgres", "nobody"]).unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            std::os::unix::fs::chown(&path, user.map(|user| user.uid), user.map(|user| user.gid)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let authority = CertifiedIssuer::self_signed(authority_parameters(), KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let (certificate, key) = match own_authority {
            true => (authority.pem(), authority.key().serialize_pem()),
            false => (leaf.pem(), key.serialize_pem()),
        };
        let ca = put("ca.pem", &authority.pem());
        // Certificates of clients, each with its key: of this authority, of a stranger, of one of the same name as this
        // one, and for another user.
        let namesake = CertifiedIssuer::self_signed(authority_parameters(), KeyPair::generate().unwrap()).unwrap();
        let mut stranger = authority_parameters();
        stranger.distinguished_name.push(DnType::CommonName, "stranger");
        let stranger = CertifiedIssuer::self_signed(stranger, KeyPair::generate().unwrap()).unwrap();
        for (name, user, issuer) in [
            ("guest", "guest", &authority),
            ("stranger", "guest", &stranger),
            ("namesake", "guest", &namesake),
            ("other", "other", &authority),
        ] {
            let (key, mut leaf) = (KeyPair::generate().unwrap(), CertificateParams::default());
            leaf.distinguished_name.push(DnType::CommonName, user);
            put(&format!("{name}.crt"), &leaf.signed_by(&key, issuer).unwrap().pem());
            put(&format!("{name}.key"), &key.serialize_pem());
        }
        let (certificate, key) = (put("server.crt", &certificate), put("server.key", &key));
        let hba = put("hba", &format!("local all postgres trust\n{hba}\n"));
        std::os::unix::fs::chown(folder.path(), user.map(|user| user.uid), user.map(|user| user.gid)).unwrap();
        let start = || {
            let port = free_port();
            let extra = [
                ("listen_addresses", "127.0.0.1"),
                ("port", &port.to_string()),
                ("ssl", ssl),
                ("ssl_cert_file", &certificate),
                ("ssl_key_file", &key),
                ("ssl_ca_file", &ca),
                ("hba_file", &hba),
                ("password_encryption", "scram-sha-256"),
            ];
            (port, Cluster::start(installation, &extra))
        };
        // Another process may have taken the port meanwhile.
        let taken = |error: &certctl_bench::Error| error.to_string().contains("could not create any TCP/IP sockets");
        let (port, cluster) =
            (0..20).map(|_| start()).find(|(_, cluster)| !cluster.as_ref().is_err_and(taken)).expect("a free port");
        let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));
        cluster.create_database("certctl").unwrap();
        let mut owner = DatabaseClient::open(&cluster.url("certctl"), "setup").unwrap();
        owner
            .batch_execute(
                "CREATE ROLE guest LOGIN PASSWORD 'recognisable'; GRANT ALL ON SCHEMA public TO guest; \
                 GRANT pg_read_all_stats TO guest",
            )
            .unwrap();
        Self { cluster, folder, port }
    }

    fn url(&self, host: &str, parameters: &str) -> String {
        format!("postgres://guest:recognisable@{host}:{}/certctl?{parameters}", self.port)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn authority_parameters() -> CertificateParams {
    let mut authority = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
}

/// Returns true if the session speaks TLS, or the reason for which there is none.
fn speaks_tls(url: &str) -> Result<bool, String> {
    let mut session = DatabaseClient::open(url, "doctor").map_err(|error| error.to_string())?;
    Ok(session.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).unwrap().get(0))
}

#[test]
fn a_database_that_requires_tls_is_reached_over_tls() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let secured = Secured::start(&installation, "on", "hostssl all all all scram-sha-256", false);
    let (ca, key) = (secured.file("ca.pem"), secured.file("server.key"));
    let root = format!("sslrootcert={}", ca.display());
    for (host, parameters) in [
        ("localhost", "".to_owned()),
        ("localhost", "sslmode=prefer".to_owned()),
        ("localhost", "sslmode=require".to_owned()),
        ("localhost", "sslmode=require&channel_binding=require".to_owned()),
        ("127.0.0.1", format!("sslmode=verify-ca&{root}")),
        ("localhost", format!("sslmode=verify-full&{root}")),
        ("localhost", format!("sslmode=verify-full&channel_binding=require&sslrootcert={}", percent(&ca))),
    ] {
        assert_eq!(speaks_tls(&secured.url(host, &parameters)), Ok(true), "{host} {parameters}");
    }
    for (host, parameters, message) in [
        ("localhost", "sslmode=disable".to_owned(), "put sslmode=require into the URL"),
        ("localhost", "sslmode=verify-full".to_owned(), "put sslrootcert=FILE into the URL"),
        ("127.0.0.1", format!("sslmode=verify-full&{root}"), "write the host as the certificate names it"),
        ("localhost", "sslmode=verify-ca&sslrootcert=/nowhere".to_owned(), "sslrootcert /nowhere: "),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={}", key.display()), "it holds no certificate"),
        ("localhost", "sslmode=require&sslcert=/nowhere".to_owned(), "one of sslcert and sslkey without the other"),
    ] {
        let error = speaks_tls(&secured.url(host, &parameters)).unwrap_err();
        assert!(error.contains(message) && !error.contains("recognisable"), "{host} {parameters}: {error}");
    }
    // The reference server speaks it too, and so does all that the suite does with a database.
    let url = secured.url("localhost", &format!("sslmode=verify-full&{root}"));
    let binary = Path::new(env!("CARGO_BIN_EXE_certctl-reference"));
    let store = StoreChoice::Database(url.clone());
    let target = reference::start(&ReferenceStart::new(binary, store), &mut |_| {}).unwrap();
    let witness = DatabaseWitness::start(&url, Arc::default()).unwrap();
    assert_eq!(seed::reset(&mut seed::open(&url, false).unwrap()).unwrap().restored(), 15_000);
    seed::apply(&url, &SeedOptions::default(), &mut Vec::new()).unwrap();
    drop(target);
    assert!(witness.finish(1).wal_bytes.is_some());
    drop(secured.cluster);
}

/// The certificate is the only proof of identity (`cert`), or stands beside a password (`clientcert=verify-ca`).
#[test]
fn a_required_client_certificate_is_sent() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    for (method, place) in [("cert", "guest@"), ("scram-sha-256 clientcert=verify-ca", "guest:recognisable@")] {
        let secured = Secured::start(&installation, "on", &format!("hostssl all all all {method}"), false);
        let url = |parameters: &str| secured.url("localhost", parameters).replace("guest:recognisable@", place);
        let file = |name: &str| secured.file(name).display().to_string();
        let pair = |certificate: &str, key: &str| format!("sslcert={}&sslkey={}", file(certificate), file(key));
        let root = format!("sslmode=verify-full&sslrootcert={}", file("ca.pem"));
        let good = pair("guest.crt", "guest.key");
        for mode in ["sslmode=prefer", "sslmode=require", &root] {
            assert_eq!(speaks_tls(&url(&format!("{mode}&{good}"))), Ok(true), "{method} {mode}");
        }
        let wanted = "the server requires a client certificate: put sslcert=FILE&sslkey=FILE into the URL";
        let locked =
            std::fs::read_to_string(file("guest.key")).unwrap().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        std::fs::write(file("locked.key"), locked).unwrap();
        for (parameters, message) in [
            (root.clone(), wanted.to_owned()),
            ("sslmode=prefer".to_owned(), wanted.to_owned()),
            (
                format!("{root}&{}", pair("stranger.crt", "stranger.key")),
                "rejects the certificate in sslcert".to_owned(),
            ),
            (
                format!("{root}&{}", pair("namesake.crt", "namesake.key")),
                "rejects the certificate in sslcert".to_owned(),
            ),
            (
                format!("{root}&sslcert={}", file("guest.crt")),
                "has one of sslcert and sslkey without the other".to_owned(),
            ),
            (
                format!("{root}&{}", pair("guest.crt", "other.key")),
                format!("sslkey {} is not the key of", file("other.key")),
            ),
            (format!("{root}&{}", pair("guest.crt", "none.key")), format!("sslkey {}: ", file("none.key"))),
            (format!("{root}&{}", pair("none.crt", "guest.key")), format!("sslcert {}: ", file("none.crt"))),
            (format!("{root}&{}", pair("guest.crt", "locked.key")), "that has no passphrase".to_owned()),
            (format!("{root}&{}", pair("guest.key", "guest.key")), "it holds no certificate".to_owned()),
        ] {
            let error = speaks_tls(&url(&parameters)).unwrap_err();
            assert!(error.contains(&message) && !error.contains("recognisable"), "{method} {parameters}: {error}");
        }
        // Only as the proof of identity it has to name the user.
        let other = speaks_tls(&url(&format!("{root}&{}", pair("other.crt", "other.key"))));
        match method {
            "cert" => {
                assert!(other.unwrap_err().contains("give an sslcert whose common name is the user, guest"), "{method}")
            }
            _ => assert_eq!(other, Ok(true)),
        }
        // All programs of the suite are let in.
        let url = url(&format!("{root}&{good}"));
        let binary = Path::new(env!("CARGO_BIN_EXE_certctl-reference"));
        let store = StoreChoice::Database(url.clone());
        let target = reference::start(&ReferenceStart::new(binary, store), &mut |_| {}).unwrap();
        drop(target);
        let (code, text) = output_of(&mut program(&["seed", "--reset", "--database", &url]));
        assert!(code == Some(0) && text.contains("10000 put back"), "{text}");
    }
}

#[test]
fn a_self_signed_certificate_is_verified() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let secured = Secured::start(&installation, "on", "hostssl all all all scram-sha-256", true);
    let full = format!("sslmode=verify-full&sslrootcert={}", secured.file("server.crt").display());
    assert_eq!(speaks_tls(&secured.url("localhost", &full)), Ok(true));
    assert!(speaks_tls(&secured.url("127.0.0.1", &full)).unwrap_err().contains("as the certificate names it"));
}

#[test]
fn a_database_without_tls_is_reached_unless_tls_is_required() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let secured = Secured::start(&installation, "off", "host all all all scram-sha-256", false);
    assert_eq!(speaks_tls(&secured.url("localhost", "sslmode=prefer")), Ok(false));
    let error = speaks_tls(&secured.url("localhost", "sslmode=require")).unwrap_err();
    assert!(error.contains("ssl=off"), "{error}");
    // A server that has TLS, but takes this user only without it.
    let secured = Secured::start(&installation, "on", "hostnossl all all all scram-sha-256", false);
    assert_eq!(speaks_tls(&secured.url("localhost", "sslmode=prefer")), Ok(false));
}

fn percent(path: &Path) -> String {
    path.to_str().unwrap().replace('/', "%2F")
}
