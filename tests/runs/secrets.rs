//! Passwords of a database and of an F5, and tokens that an F5 gives out: the suite's output shows none, however they
//! are given, and whoever repeats them.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certctl_bench::seed::{self, SeedOptions};
use postgres::{Client, NoTls};
use serde_json::{Value, json};

use crate::common::bench::{Bench, Finished, clean, program};
use crate::common::needs::needs;
use crate::common::peer::{Peer, Reply, Request, answer, certctl, json};
use crate::common::postgresql::{migrated, newest};
use crate::common::process::{copy_program, write_script};

const BRIEF: &str = "--rate 100/s --duration 500ms --warm-up 0s --agents 10 --connections 2";
/// A password with letters that have another use in a URL, and its form there.
const PASSWORD: &str = "Recognisable@p/ss?w#rd%";
const TYPED: &str = "Recognisable%40p%2Fss%3Fw%23rd%25";

/// Asserts that `texts` show no secret, plain or encoded, nor a longer part of one.
#[track_caller]
fn assert_hidden(secrets: &[&str], texts: &[&str]) {
    for secret in secrets {
        let encoded = [STANDARD.encode(secret), hexadecimal(secret)];
        for part in encoded.iter().map(String::as_str).chain([*secret, &secret[..12]]) {
            for text in texts {
                assert!(!text.to_lowercase().contains(&part.to_lowercase()), "{part} is shown:\n{text}");
            }
        }
    }
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a text that repeats a secret in many encodings.
fn echoed(secret: &str) -> String {
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let html = secret.replace('&', "&amp;");
    format!("no {secret}; {percent}; {html}; {}; {}", STANDARD.encode(secret), hexadecimal(secret))
}

/// Runs the suite's own program; returns its exit code, and all that it prints.
fn run_suite(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Returns the reports of a run, as text, Markdown and HTML, and its exports.
fn reports(finished: &Finished) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("summary.json"), finished.json.as_ref().unwrap()).unwrap();
    let (run, html) = (folder.path().to_str().unwrap(), folder.path().join("report.html"));
    let mut reports = Vec::new();
    let exports = ["hlog", "csv", "openmetrics", "k6-summary", "junit"].map(|format| ("export", format));
    for (verb, format) in [("report", "text"), ("report", "markdown")].into_iter().chain(exports) {
        let (code, text) = run_suite(&[verb, run, "--format", format], &[]);
        assert_eq!(code, Some(0), "{text}");
        reports.push(text);
    }
    let (code, text) = run_suite(&["report", run, "--format", "html", "--output", html.to_str().unwrap()], &[]);
    assert_eq!(code, Some(0), "{text}");
    reports.push(std::fs::read_to_string(html).unwrap());
    reports
}

// Databases -----------------------------------------------------------------------------------------------------------

/// Starts a PostgreSQL that requests a password in the clear, and repeats it in the error that refuses it.
fn parrot() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // A client that goes away is noticed by the test.
            std::thread::spawn(move || refuse(connection));
        }
    });
    address
}

fn refuse(mut tcp: TcpStream) -> std::io::Result<()> {
    const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();
    while message(&mut tcp)? == SSL_REQUEST {
        tcp.write_all(b"N")?;
    }
    // AuthenticationCleartextPassword.
    tcp.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3])?;
    tcp.read_exact(&mut [0])?;
    let given = message(&mut tcp)?;
    let given = String::from_utf8_lossy(given.strip_suffix(b"\0").unwrap()).into_owned();
    let mut fields = Vec::new();
    for (kind, text) in
        [('S', "FATAL"), ('V', "FATAL"), ('C', "28P01"), ('M', &*echoed(&given)), ('D', &format!("It was {given}."))]
    {
        fields.extend(format!("{kind}{text}\0").bytes());
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    tcp.write_all(&[&b"E"[..], &length, &fields].concat())
}

/// Reads a message, which follows its length.
fn message(tcp: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    tcp.read_exact(&mut length)?;
    let mut content = vec![0; u32::from_be_bytes(length) as usize - 4];
    tcp.read_exact(&mut content)?;
    Ok(content)
}

#[test]
fn a_password_echoed_by_a_database_is_not_shown() {
    let (place, peer) = (format!("{}/certctl?sslmode=disable", parrot()), Peer::start(certctl));
    let (ca_file, base) = (peer.ca_file(), peer.base());
    let (in_url, without) = (format!("postgres://u:{TYPED}@{place}"), format!("postgres://u@{place}"));
    let as_parameter = format!("{without}&password={TYPED}");
    for (url, password) in [(&in_url, None), (&as_parameter, None), (&without, Some(("PGPASSWORD", PASSWORD)))] {
        let doctor = ["doctor", "--target", &base, "--ca-file", ca_file.to_str().unwrap(), "--database", url];
        for (arguments, variables) in [
            (&["seed", "--database", url][..], vec![]),
            (&doctor, vec![]),
            (&doctor[..5], vec![("CERTCTL_BENCH_DATABASE", &**url)]),
        ] {
            let (code, text) = run_suite(arguments, &[&variables[..], password.as_slice()].concat());
            assert!(code == Some(1) && text.contains("FATAL: no [password]; [password]; "), "{arguments:?}: {text}");
            assert_hidden(&[PASSWORD, TYPED], &[&text]);
        }
        let mut bench = Bench::at(&peer, BRIEF).env("CERTCTL_BENCH_DATABASE", url);
        bench.command.envs(password);
        let finished = bench.refused(1);
        assert!(finished.stderr.contains("FATAL: no [password]"), "{}", finished.stderr);
        assert_hidden(&[PASSWORD, TYPED], &finished.everything());
        // The reference server is given the URL, too.
        let mut bench = Bench::new("").smoke().database(url);
        bench.command.envs(password);
        let finished = bench.refused(1);
        assert_hidden(&[PASSWORD, TYPED], &finished.everything());
        let mut server = clean(Command::new(env!("CARGO_BIN_EXE_certctl-reference")));
        server.args(["--database", url]).env("CERTCTL_REFERENCE_TOKEN", "t0k").envs(password);
        let output = server.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success() && text.contains("no [password]"), "{text}");
        assert_hidden(&[PASSWORD, TYPED], &[&text]);
    }
}

#[test]
fn a_password_echoed_during_a_run_is_not_shown() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let (_cluster, url) = migrated(&installation, &[]);
    seed::apply(&url, &SeedOptions::default(), &mut Vec::new()).unwrap();
    let mut owner = Client::connect(&url, NoTls).unwrap();
    let raise = |level: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION parrot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE {level} 'so it is %', '{}'; RETURN NULL; END $$; \
             CREATE OR REPLACE TRIGGER parrot AFTER UPDATE ON agents FOR EACH STATEMENT EXECUTE FUNCTION parrot()",
            echoed(PASSWORD)
        )
    };
    owner.batch_execute(&raise("WARNING")).unwrap();
    let url = url.replace("postgres@", &format!("postgres:{TYPED}@"));
    let peer = Peer::start(|request: &Request| match request.is_heartbeat() {
        true => answer(500, "text/plain", &echoed(PASSWORD)),
        false => certctl(request),
    });
    let finished = Bench::at(&peer, BRIEF).database(&url).run();
    let summary = finished.summary();
    assert!(finished.stdout.contains("500: no [password]"), "{}", finished.stdout);
    assert!(finished.stderr.contains("warning: so it is no [password]"), "{}", finished.stderr);
    let problems = summary["evidence"][0]["problems"].to_string();
    assert!(problems.contains("so it is no [password]"), "{problems}");
    assert_hidden(&[PASSWORD, TYPED], &finished.everything());
    let reports = reports(&finished);
    assert_hidden(&[PASSWORD, TYPED], &reports.iter().map(String::as_str).collect::<Vec<_>>());
    // The same, where the run cannot go on.
    let (code, text) = run_suite(&["seed", "--reset", "--database", &url], &[]);
    assert!(code == Some(0) && text.contains("warning: so it is no [password]"), "{text}");
    assert_hidden(&[PASSWORD, TYPED], &[&text]);
    owner.batch_execute(&raise("EXCEPTION")).unwrap();
    let refused = Bench::at(&peer, BRIEF).database(&url).run().exits(1);
    assert!(refused.stderr.contains("ERROR: so it is no [password]"), "{}", refused.stderr);
    assert_hidden(&[PASSWORD, TYPED], &refused.everything());
}

#[test]
fn a_wrong_command_line_does_not_show_its_password() {
    const WORD: &str = "recognisable-word";
    for (url, message) in [
        // Unescaped, a password would end at its first `@`, and its rest would be a host's name.
        (format!("postgres://u:p@{WORD}@localhost:1/d"), "before the host as %40"),
        (format!("postgres://u:p@{WORD}:x@localhost:1/d"), "before the host as %40"),
        (format!("postgres://u:p@{WORD}/x@localhost:1/d"), "before the host as %40"),
        (format!("postgres://u:p@x?{WORD}@localhost:1/d"), "before the host as %40"),
        (format!("postgres://u:{WORD}/x?y#z@localhost:1/d"), "Connection refused"),
        // In the value of a parameter it is harmless.
        (format!("postgres://u:{WORD}@localhost:1/d?application_name=me@home"), "Connection refused"),
        (format!("postgres://u:{WORD}%zz%ff@localhost:1/d"), "Connection refused"),
        (format!("postgres://u@localhost:1/d?{WORD}"), "is not valid"),
        (format!("postgres://u:{WORD}"), "is not valid"),
        (format!("postgres:/u:{WORD}@localhost/d"), "is not valid"),
        (format!("host=localhost port=1 user=u password={WORD}"), "Connection refused"),
        (format!("host=localhost port=1 user=u password='{WORD}"), "is not valid"),
    ] {
        let (code, text) = run_suite(&["seed", "--database", &url], &[]);
        assert!(matches!(code, Some(1 | 2)) && text.contains(message), "{url}: {text}");
        assert_hidden(&[WORD], &[&text]);
    }
    // A port has at most five digits.
    let (_, text) = run_suite(&["seed", "--database", "postgres://u:4815162342"], &[]);
    assert!(!text.contains("4815162342"), "{text}");
    // Without its flag, or beside one that does not exist.
    let url = format!("postgres://u:{WORD}@localhost:1/d");
    let (other_form, no_host) = (format!("host=localhost user=u password={WORD}"), format!("postgres://u:{WORD}"));
    for arguments in [
        &["doctor", &url][..],
        &["seed", &url],
        &["doctor", "--no-such-flag", &url],
        &["doctor", &other_form],
        &["doctor", &no_host],
        &["doctor", "postgres://u:4815162342"],
    ] {
        let (code, text) = run_suite(arguments, &[]);
        assert!(code == Some(2) && !text.contains("4815162342"), "{text}");
        assert_hidden(&[WORD], &[&text]);
    }
    let output = Command::new(env!("CARGO_BIN_EXE_certctl-reference")).arg(&url).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_hidden(&[WORD], &[&String::from_utf8(output.stderr).unwrap()]);
    let finished = Bench::new("--bench").arguments(&format!("filter {url}")).refused(2);
    assert_hidden(&[WORD], &finished.everything());
    // The value of a flag's variable is not shown by --help.
    let (code, text) = run_suite(&["doctor", "--help"], &[("CERTCTL_BENCH_DATABASE", &url)]);
    assert_eq!(code, Some(0), "{text}");
    assert_hidden(&[WORD], &[&text]);
    for base in [format!("https://admin:{WORD}@localhost"), format!("https://localhost/?password={WORD}")] {
        let finished = Bench::named("connector_tier", "").measured().env("F5_TARGET_URL", &base).refused(2);
        assert!(finished.stderr.contains("URL of f5"), "{}", finished.stderr);
        assert_hidden(&[WORD], &finished.everything());
    }
}

// The F5 --------------------------------------------------------------------------------------------------------------

/// Returns the program of `connector_tier` with another one in the place of the mock of an F5: a script that announces
/// the address of `peer`.
fn with_f5(folder: &Path, peer: &Peer) -> PathBuf {
    let mock = env!("CARGO_BIN_EXE_f5-mock");
    // A path of the same length.
    let room = mock.len().checked_sub(folder.as_os_str().len() + "f5".len()).expect("a longer path of the mock");
    let path = format!("{}{}f5", folder.display(), "/".repeat(room));
    let mut bytes = std::fs::read(program("connector_tier")).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - mock.len()).filter(|at| bytes[*at..].starts_with(mock.as_bytes())).collect();
    assert!(!places.is_empty(), "the program does not name {mock}");
    for at in places {
        bytes[at..at + mock.len()].copy_from_slice(path.as_bytes());
    }
    let ca_pem = std::fs::read_to_string(peer.ca_file()).unwrap();
    let ready = json!({"address": peer.address().to_string(), "ca_pem": ca_pem, "version": "0"});
    write_script(&folder.join("f5"), &format!("cat <<'END'\n{ready}\nEND\nexec cat > /dev/null"));
    std::fs::write(folder.join("bytes"), bytes).unwrap();
    copy_program(folder.join("bytes"), &folder.join("bench"));
    folder.join("bench")
}

/// The state of an F5.
#[derive(Default)]
struct Device {
    password: String,
    /// The token that was given out last.
    token: String,
    logins: u64,
    /// Certificate and key of a profile, by its path.
    profiles: HashMap<String, Value>,
}

/// Returns the right answers of an F5 to the steps of a deployment.
fn deploy(device: &mut Device, request: &Request) -> Reply {
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let last = request.path.rsplit('/').next().unwrap();
    let answer = match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/mgmt/shared/authn/login") => {
            device.logins += 1;
            device.password = body["password"].as_str().unwrap().to_owned();
            device.token = format!("RECOGNISABLE{:014}", device.logins);
            json!({"token": {"token": device.token, "name": device.token}})
        }
        ("POST", path) if path.contains("/uploads/") => json!({"localFilePath": "/var/config/rest/downloads/x"}),
        ("POST", "/mgmt/tm/transaction") => json!({"transId": 7, "state": "STARTED"}),
        ("POST", _) => json!({"name": body["name"]}),
        ("PATCH", path) if path.starts_with("/mgmt/tm/transaction/") => json!({"state": "COMPLETED"}),
        ("PATCH", path) => {
            device.profiles.insert(path.to_owned(), body);
            json!({})
        }
        ("DELETE", _) => json!({"token": last}),
        ("GET", path) => device.profiles.get(path).cloned().unwrap_or(json!({})),
        _ => unreachable!("{} {}", request.method, request.path),
    };
    json(200, &answer.to_string())
}

/// Runs `f5-deploy` at an F5 that answers the requests of a step otherwise, from its login `from` on, given its
/// password and its token; asserts the exit code, and that its answer is shown without either.
#[track_caller]
fn assert_f5_hidden(step: &'static str, from: u64, code: &[i32], shows: &str, otherwise: fn(&str, &str) -> Reply) {
    let device = Arc::new(Mutex::new(Device::default()));
    let seen = device.clone();
    let name = |leaf: &mut rcgen::CertificateParams| {
        leaf.subject_alt_names.push(rcgen::SanType::DnsName("management.localhost".try_into().unwrap()));
    };
    let peer = Peer::with_certificate(name, move |request: &Request| {
        let mut device = seen.lock().unwrap();
        let right = deploy(&mut device, request);
        match request.path.contains(step) && device.logins >= from {
            true => otherwise(&device.password, &device.token),
            false => right,
        }
    });
    let folder = tempfile::Builder::new().prefix("").tempdir_in("/tmp").unwrap();
    let bench = Bench::of(&with_f5(folder.path(), &peer), "--workload f5-deploy --duration 3s --warm-up 0s");
    let finished = bench.measured().run();
    let device = device.lock().unwrap();
    assert!(finished.code.is_some_and(|found| code.contains(&found)), "{}{}", finished.stderr, finished.stdout);
    let texts = finished.everything();
    assert!(texts.iter().any(|text| text.contains(shows)), "{shows}: {}{}", finished.stderr, finished.stdout);
    assert!(!device.password.is_empty());
    assert_hidden(&[&device.password], &texts);
    assert!(!texts.concat().to_lowercase().contains("recognisable"), "{texts:?}");
    if finished.json.is_some() {
        let reports = reports(&finished).concat();
        assert_hidden(&[&device.password], &[&reports]);
        assert!(!reports.to_lowercase().contains("recognisable"), "{reports}");
    }
}

/// Returns an error of iControl's that repeats both.
fn back(status: u16, password: &str, token: &str) -> Reply {
    let message = format!("{} and {}", echoed(password), echoed(token));
    json(status, &json!({"code": status, "message": message, "token": {"token": token}}).to_string())
}

#[test]
fn the_password_and_tokens_of_an_f5_are_not_shown() {
    const LOGIN: &str = "/authn/login";
    // At the deployment of the first certificate, before anything is measured.
    assert_f5_hidden(LOGIN, 1, &[1], "login: failed (401): no [token]; ", |password, token| back(401, password, token));
    assert_f5_hidden("/uploads/", 1, &[1], "upload_cert: failed (500): no [token]; ", |password, token| {
        back(500, password, token)
    });
    // In the load.
    assert_f5_hidden(LOGIN, 2, &[3, 5], "401: {\"code\":401,\"message\":\"no [token]; ", |password, token| {
        back(401, password, token)
    });
    assert_f5_hidden("/transaction", 2, &[3, 5], "503: no [token]; ", |password, token| {
        answer(503, "text/plain", &format!("{} {}", echoed(token), echoed(password)))
    });
    // A token in an answer that is not valid JSON.
    assert_f5_hidden(LOGIN, 2, &[3, 5], "{\"token\": {\"token\" : \"[token]", |_, token| {
        answer(200, "application/json", &format!("{{\"token\": {{\"token\" : \"{token}"))
    });
    assert_f5_hidden("/authz/tokens/", 2, &[3, 5], "\"token\":\"[token]", |_, token| {
        json(200, &json!({"kind": "shared", "token": format!("{token}-not")}).to_string())
    });
}
