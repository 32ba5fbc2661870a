//! ACME as documented with clients that nobody of this project wrote: certbot, and lego's library.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::acme_client::PROFILE;
use crate::common::needs::{needs, tools};
use crate::server::Server;

const NAME: &str = "a.example.test";

/// Writes the authority of the server's own certificate to a file.
fn ca_file(server: &Server, folder: &TempDir) -> PathBuf {
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, server.announced["ca_pem"].as_str().unwrap()).unwrap();
    file
}

fn directory(server: &Server, profile: &str) -> String {
    let port = server.announced["address"].as_str().unwrap().rsplit_once(':').unwrap().1;
    format!("https://localhost:{port}{profile}/directory")
}

/// Removes the settings by which a client would go elsewhere.
fn direct(command: &mut Command) -> &mut Command {
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
}

fn succeeded(output: &Output) -> &Output {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", shown(&output.stdout), shown(&output.stderr));
    output
}

/// Checks that a chain's leaf is of the name, and was signed by the authority that comes with it.
fn assert_chain(pem: &[u8]) {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap();
    let [leaf, authority] = chain.as_slice() else { panic!("{} certificates", chain.len()) };
    let anchor = webpki::anchor_from_trusted_cert(authority).unwrap();
    let leaf = webpki::EndEntityCert::try_from(leaf).unwrap();
    let (algorithms, usage) = (webpki::ALL_VERIFICATION_ALGS, webpki::KeyUsage::server_auth());
    leaf.verify_for_usage(algorithms, &[anchor], &[], UnixTime::now(), usage, None, None).unwrap();
    leaf.verify_is_valid_for_subject_name(&NAME.try_into().unwrap()).unwrap();
}

/// Runs certbot with its files in this folder.
fn certbot(server: &Server, folder: &TempDir, arguments: &[&str]) {
    let mut command = Command::new(tools().join("certbot/bin/certbot"));
    command.args(arguments).arg("--non-interactive");
    for kind in ["config", "work", "logs"] {
        command.arg(format!("--{kind}-dir")).arg(folder.path().join(kind));
    }
    command.env("REQUESTS_CA_BUNDLE", ca_file(server, folder)).env("NO_PROXY", "localhost");
    succeeded(&direct(&mut command).output().unwrap());
}

/// Returns the chain that certbot has installed.
fn installed(folder: &TempDir) -> Vec<u8> {
    std::fs::read(folder.path().join(format!("config/live/{NAME}/fullchain.pem"))).unwrap()
}

const REGISTER: [&str; 2] = ["--agree-tos", "--register-unsafely-without-email"];

#[test]
fn certbot_enrols_renews_and_revokes() {
    needs!(Certbot);
    for server in Server::on_both(0, &["--behaviour", "as-documented"]) {
        let (folder, directory) = (tempfile::tempdir().unwrap(), directory(&server, PROFILE));
        let enrol = ["certonly", "--standalone", "--server", &directory, "-d", NAME];
        certbot(&server, &folder, &[enrol.as_slice(), &REGISTER].concat());
        let first = installed(&folder);
        assert_chain(&first);
        certbot(&server, &folder, &["renew", "--force-renewal", "--no-random-sleep-on-renew"]);
        let second = installed(&folder);
        assert_chain(&second);
        assert_ne!(first, second);
        let revoke = ["revoke", "--cert-name", NAME, "--server", &directory, "--reason", "superseded"];
        certbot(&server, &folder, &[revoke.as_slice(), &["--no-delete-after-revoke"]].concat());
        server.until_work(&json!({
            "accounts_created": 1, "orders_created": 2, "orders_finalized": 2, "certificates_downloaded": 2,
            "nonces_rejected": 0,
        }));
        let list = server.exchange("GET", "/api/v1/certificates?status=Revoked", Some(crate::server::ADMIN), "").json();
        let revoked: Vec<&Value> =
            list["data"].as_array().unwrap().iter().map(|row| &row["revocation_reason"]).collect();
        assert_eq!(revoked, ["superseded"]);
    }
}

/// Answers each request with the file of its path in a folder.
fn serve(listener: &TcpListener, root: &Path) {
    for stream in listener.incoming() {
        // A client that is gone has what it wanted.
        let _ = stream.and_then(|stream| answer(stream, root));
    }
}

fn answer(mut stream: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut request = [0; 1_024];
    let length = stream.read(&mut request)?;
    let head = String::from_utf8_lossy(&request[..length]).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    match std::fs::read(root.join(path)) {
        Ok(content) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len())?;
            stream.write_all(&content)
        }
        Err(_) => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}

#[test]
fn certbot_proves_its_control_by_http_01() {
    needs!(Certbot);
    let webroot = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let root = webroot.path().to_owned();
    // It ends with the process: nothing stops an accept.
    std::thread::spawn(move || serve(&listener, &root));
    let server = Server::in_memory(&["--behaviour", "as-documented", "--acme-http01-port", &port]);
    let (folder, directory) = (tempfile::tempdir().unwrap(), directory(&server, "/acme/profile/prof-challenge"));
    let webroot = webroot.path().to_str().unwrap();
    let enrol = ["certonly", "--webroot", "--webroot-path", webroot, "--server", &directory, "-d", NAME];
    certbot(&server, &folder, &[enrol.as_slice(), &REGISTER].concat());
    assert_chain(&installed(&folder));
}

#[test]
fn lego_enrols_changes_its_key_and_revokes() {
    needs!(Lego);
    for server in Server::on_both(0, &["--behaviour", "as-documented"]) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(tools().join("lego/lego-enroll"));
        command.args([&directory(&server, PROFILE), NAME]).env("LEGO_CA_CERTIFICATES", ca_file(&server, &folder));
        let output = direct(&mut command).output().unwrap();
        // lego's library writes what it does to standard output too.
        let printed = String::from_utf8(succeeded(&output).stdout.clone()).unwrap();
        let seen: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        assert_chain(seen["certificate"].as_str().unwrap().as_bytes());
        assert_eq!((&seen["status"], &seen["window"]), (&json!("valid"), &json!(true)));
        assert!(seen["account"].as_str().unwrap().contains("/account/acme-acc-"), "{seen}");
        assert!(seen["revoked_again"].as_str().unwrap().contains("alreadyRevoked"), "{seen}");
        server.until_work(&json!({
            "accounts_created": 1, "orders_created": 1, "orders_finalized": 1, "certificates_downloaded": 1,
        }));
    }
}
