//! `acme_enroll` from its front door: enrolments at the reference server, and at ACME servers that misbehave.
//!
//! The tests on PostgreSQL need version 15 or newer with `pg_stat_statements`, and are skipped without.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use certctl_bench::provision::postgres::{Cluster, find};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SignatureAlgorithm,
};
use serde_json::{Value, json};

use crate::common::acme::{acme, head_of, problem};
use crate::common::bench::{Bench, clean};
use crate::common::needs::needs;
use crate::common::peer::{Peer, Reply, Request, Step};
use crate::common::reference::Reference;
use crate::common::summary::{assert_schema, assert_work, assert_work_by, observed, outcome, outcome_of, results};

/// So many enrolments, however long they take.
const FORTY: &str = "--users 2 --keys-ahead 40 --duration 10m --warm-up 0s --max-requests 40";

fn enroll(arguments: &str) -> Bench {
    Bench::named("acme_enroll", arguments).measured()
}

fn count(summary: &Value, name: &str) -> u64 {
    observed(results(summary), name)["count"].as_u64().unwrap()
}

fn steps(summary: &Value) -> Vec<(&str, u64)> {
    let steps = results(summary)["steps"].as_array().unwrap().iter();
    steps.map(|step| (step["name"].as_str().unwrap(), outcome_of(step, "ok"))).collect()
}

// The reference server -------------------------------------------------------------------------------------------------

#[test]
fn finalized_enrolments_leave_their_rows_and_are_cleaned() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().unwrap(), &[]).unwrap();
    cluster.create_database("certctl").unwrap();
    let url = cluster.url("certctl");
    let rows = |table: &str| {
        let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
        client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).unwrap().get::<_, i64>(0)
    };
    // The second run finds the rows of the first, which are nobody else's.
    for runs in 1..=2 {
        let run = enroll(FORTY).arguments("--finalize --users 8").database(&url).run().worked();
        let summary = run.summary();
        assert_schema(&summary);
        assert_eq!(outcome(&summary, "ok"), 40, "{}", run.stdout);
        let accounts = count(&summary, "accounts made");
        assert!((8..=16).contains(&accounts), "{accounts}");
        assert_work(results(&summary), &[("ACME accounts", accounts), ("ACME orders", 40), ("ACME certificates", 40)]);
        assert_eq!(count(&summary, "certificates verified"), 40);
        let expected = [("new_account", accounts), ("new_order", 40), ("authz", 40), ("challenge", 0)];
        let expected: Vec<_> = expected.into_iter().chain([("finalize", 40), ("certificate", 40)]).collect();
        assert_eq!(steps(&summary), expected);
        assert_eq!(rows("acme_orders"), 40 * runs);
    }
    let mut seed = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    let output = seed.args(["seed", "--clean", "--database", &url]).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("acme_orders: 80 removed"), "{output:?}");
    for table in ["acme_accounts", "acme_orders", "acme_authorizations", "acme_challenges"] {
        assert_eq!(rows(table), 0, "{table}");
    }
    assert_eq!((rows("managed_certificates"), rows("certificate_versions")), (10_000, 0));
}

#[test]
fn an_open_workload_has_its_keys_made_ahead() {
    let arguments = "--in-memory --rate 20/s --arrivals poisson --users 8 --duration 2s --warm-up 500ms";
    let run = enroll(arguments).run().worked();
    let summary = run.summary();
    let arrivals = &results(&summary)["arrivals"];
    assert_eq!(outcome(&summary, "ok"), arrivals["scheduled"].as_u64().unwrap(), "{}", run.stdout);
    let all = arrivals["scheduled"].as_u64().unwrap() + arrivals["warm_up"].as_u64().unwrap();
    let made = [("ACME accounts", count(&summary, "accounts made")), ("ACME orders", all)];
    assert_work_by("the reference server's own count", results(&summary), &made);
    assert_eq!(count(&summary, "keys made under load"), 0);
    let names: Vec<&str> = steps(&summary).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["new_account", "new_order", "authz", "challenge"]);
}

#[test]
fn keys_beyond_those_made_ahead_are_counted() {
    // Ten enrolments at once, each with an account of its own, and keys for two.
    let arguments =
        "--in-memory --finalize --users 1 --orders-per-account 1 --keys-ahead 2 --duration 10m --warm-up 0s";
    let summary = enroll(arguments).arguments("--max-requests 10").run().summary();
    assert_eq!((outcome(&summary, "ok"), count(&summary, "accounts made")), (10, 10));
    // Two keys of certificates, and one more of an account than enrolments are under way at once.
    assert_eq!(count(&summary, "keys made under load"), (10 - 2) + (10 - 3));
}

#[test]
fn stock_behaviour_cannot_finalize() {
    let reference = Reference::start(&[]);
    let run = enroll(FORTY).arguments("--finalize").towards_reference(&reference).run().exits(3);
    let summary = run.summary();
    assert_eq!((outcome(&summary, "ok"), outcome(&summary, "failed (500)")), (0, 40), "{}", run.stdout);
    assert_eq!(steps(&summary)[2..5], [("authz", 40), ("challenge", 0), ("finalize", 0)]);
}

// Servers that misbehave -----------------------------------------------------------------------------------------------

/// The key of a signing request, as an authority sees it.
struct PublicKey([u8; 65]);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// An ACME server that finalizes orders, each with an id that is the number in its name.
struct Server {
    root: CertifiedIssuer<'static, KeyPair>,
    made: AtomicU64,
    names: Mutex<HashMap<u64, String>>,
    chains: Mutex<HashMap<u64, String>>,
    /// The enrolments that met their misbehaviour already.
    met: Mutex<HashSet<u64>>,
}

/// The signed requests of an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    NewAccount,
    NewOrder,
    Authorization,
    Finalize,
    Certificate,
}

/// A signed request, and the number of its enrolment.
struct Signed {
    call: Call,
    number: u64,
    payload: Value,
}

impl Server {
    fn new() -> Self {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            root: CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap(),
            made: AtomicU64::new(0),
            names: Mutex::default(),
            chains: Mutex::default(),
            met: Mutex::default(),
        }
    }

    /// Starts one that answers some signed requests otherwise.
    fn start(other: impl Fn(&Self, &Signed) -> Option<Reply> + Send + Sync + 'static) -> Peer {
        let server = Self::new();
        Peer::start(move |request| match server.read(request) {
            Some(signed) => other(&server, &signed).unwrap_or_else(|| server.answer(request, &signed, true)),
            None if request.method == "HEAD" => head_of(acme(request)),
            None => acme(request),
        })
    }

    /// Reports whether an enrolment meets its misbehaviour for the first time.
    fn is_first(&self, number: u64) -> bool {
        self.met.lock().unwrap().insert(number)
    }

    fn read(&self, request: &Request) -> Option<Signed> {
        let body: Value = serde_json::from_str(&request.body).ok()?;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(body["payload"].as_str()?).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap_or_default();
        let path = request.path.strip_prefix("/acme/profile/prof-standard-tls/")?;
        let (call, number) = match path.split('/').collect::<Vec<_>>()[..] {
            ["new-account"] => (Call::NewAccount, 0),
            ["new-order"] => {
                let name = payload["identifiers"][0]["value"].as_str().unwrap();
                let number = name.strip_prefix('e').unwrap().split('-').next().unwrap().parse().unwrap();
                self.names.lock().unwrap().insert(number, name.to_owned());
                (Call::NewOrder, number)
            }
            ["authz", number] => (Call::Authorization, number.parse().unwrap()),
            ["order", number, "finalize"] => (Call::Finalize, number.parse().unwrap()),
            ["cert", number] => (Call::Certificate, number.parse().unwrap()),
            _ => panic!("{path}"),
        };
        Some(Signed { call, number, payload })
    }

    /// Returns the right answer, with a nonce or without.
    fn answer(&self, request: &Request, signed: &Signed, has_nonce: bool) -> Reply {
        let base = format!("https://{}/acme/profile/prof-standard-tls", request.host);
        let (number, made) = (signed.number, self.made.fetch_add(1, Ordering::SeqCst));
        let name = self.names.lock().unwrap().get(&number).cloned().unwrap_or_default();
        let identifier = json!({"type": "dns", "value": name});
        let order = |status: &str| {
            let certificate = (status == "valid").then(|| format!("{base}/cert/{number}"));
            json!({
                "status": status,
                "identifiers": [identifier],
                "authorizations": [format!("{base}/authz/{number}")],
                "finalize": format!("{base}/order/{number}/finalize"),
                "certificate": certificate,
            })
        };
        let (status, kind, location, body) = match signed.call {
            Call::NewAccount => (201, "json", format!("{base}/account/{made}"), json!({"status": "valid"}).to_string()),
            Call::NewOrder => (201, "json", format!("{base}/order/{number}"), order("ready").to_string()),
            Call::Authorization => {
                let body = json!({"status": "valid", "identifier": identifier, "challenges": []});
                (200, "json", String::new(), body.to_string())
            }
            Call::Finalize => {
                let csr = BASE64_URL_SAFE_NO_PAD.decode(signed.payload["csr"].as_str().unwrap()).unwrap();
                // A bit string of 66 bytes: no unused bits, and the point (RFC 5480, section 2.2).
                let at = csr.windows(4).position(|bytes| bytes == [0x03, 0x42, 0x00, 0x04]).unwrap() + 3;
                self.issue(number, &name, &PublicKey(csr[at..at + 65].try_into().unwrap()));
                (200, "json", String::new(), order("valid").to_string())
            }
            Call::Certificate => {
                let chain = self.chains.lock().unwrap()[&number].clone();
                (200, "pem-certificate-chain", String::new(), chain)
            }
        };
        let nonce = if has_nonce { format!("Replay-Nonce: signed-{made}\r\n") } else { String::new() };
        let location = if location.is_empty() { location } else { format!("Location: {location}\r\n") };
        let head = format!("HTTP/1.1 {status} x\r\nContent-Type: application/{kind}\r\n{nonce}{location}");
        vec![Step::Send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into())]
    }

    fn issue(&self, number: u64, name: &str, key: &impl PublicKeyData) {
        let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(key, &self.root).unwrap();
        self.chains.lock().unwrap().insert(number, leaf.pem() + &self.root.pem());
    }
}

/// Returns the sentences of the rules that were broken.
fn broken(summary: &Value) -> String {
    summary["breaches"].to_string()
}

#[test]
fn a_nonce_that_is_refused_is_retried_once() {
    let peer = Server::start(|server, signed| {
        let refused = signed.call == Call::NewOrder
            && match signed.number % 5 {
                0 => true,
                1 => server.is_first(signed.number),
                _ => false,
            };
        // As certctl does it, without a fresh nonce.
        refused.then(|| problem(400, "badNonce"))
    });
    let summary = enroll(FORTY).towards_peer(&peer).run().exits(3).summary();
    assert_eq!((outcome(&summary, "ok"), outcome(&summary, "failed (400)")), (32, 8), "{summary:#}");
    // Both the eight that were refused again, and the eight that were not.
    assert_eq!(count(&summary, "badNonce, retried"), 16);
    assert_eq!(broken(&summary), "[]");
    let examples = results(&summary).to_string();
    assert!(examples.contains("badNonce"), "{examples}");
}

#[test]
fn success_without_a_nonce_breaks_a_rule() {
    let peer = Peer::start({
        let server = Server::new();
        move |request| match server.read(request) {
            Some(signed) => {
                let has_nonce = signed.call != Call::NewOrder || signed.number % 4 != 0;
                server.answer(request, &signed, has_nonce)
            }
            None if request.method == "HEAD" => head_of(acme(request)),
            None => acme(request),
        }
    });
    let summary = enroll(FORTY).towards_peer(&peer).run().exits(3).summary();
    assert_eq!(outcome(&summary, "ok"), 40, "{summary:#}");
    let rule = "successful answers to signed requests have no Replay-Nonce";
    assert!(broken(&summary).contains(&format!("10 of {}", count(&summary, "accounts made") + 80)), "{summary:#}");
    assert!(broken(&summary).contains(rule), "{}", broken(&summary));
    // One for each of these, and one for each user.
    assert_eq!(count(&summary, "new-nonce requests"), 12);
}

#[test]
fn a_429_of_another_shape_is_a_wrong_answer() {
    let peer = Server::start(|_, signed| match (signed.call, signed.number % 4) {
        (Call::NewOrder, 0) => {
            Some(crate::common::peer::answer(429, "text/plain", "{\"error\":\"Rate limit exceeded\"}"))
        }
        (Call::NewOrder, 1) => Some(problem(429, "rateLimited")),
        _ => None,
    });
    let summary = enroll(FORTY).towards_peer(&peer).run().exits(3).summary();
    let found = ["ok", "refused (429)", "wrong answer"].map(|name| outcome(&summary, name));
    assert_eq!(found, [20, 10, 10], "{summary:#}");
    let shaped = observed(results(&summary), "429s of the right shape");
    assert_eq!((&shaped["count"], &shaped["of"]), (&10.into(), &20.into()));
    assert!(broken(&summary).contains("10 of 20 429s are not as ACME shapes them"), "{}", broken(&summary));
}

#[test]
fn a_certificate_for_another_key_is_a_wrong_answer() {
    let peer = Server::start(|server, signed| {
        if signed.call == Call::Certificate && signed.number % 4 == 0 {
            let name = server.names.lock().unwrap()[&signed.number].clone();
            server.issue(signed.number, &name, &KeyPair::generate().unwrap());
        }
        None
    });
    let run = enroll(FORTY).arguments("--finalize").towards_peer(&peer).run().exits(3);
    let summary = run.summary();
    assert_eq!((outcome(&summary, "ok"), outcome(&summary, "wrong answer")), (30, 10), "{}", run.stdout);
    assert!(run.stdout.contains("the certificate is for another key"), "{}", run.stdout);
    let verified = observed(results(&summary), "certificates verified");
    assert_eq!((&verified["count"], &verified["of"]), (&30.into(), &40.into()));
    assert!(broken(&summary).contains("10 of 40 certificates do not verify"), "{}", broken(&summary));
    // A server that is believed to be a certctl with a patched database.
    assert!(run.stdout.contains("patched database"), "{}", run.stdout);
}
