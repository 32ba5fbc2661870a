use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::provision::pki::{Authority, KeyType, Purpose};
use crate::scenario::journey::{Next, StepProgress};
use crate::wire::http1::Parser;

const BASE: &str = "https://h.example:8443/acme";

fn scenario(finalize: bool, orders_per_account: u32) -> AcmeEnroll {
    let paths = Paths {
        directory: "/acme/directory".to_owned(),
        new_nonce: "/acme/new-nonce".to_owned(),
        renewal_info: None,
        new_account: format!("{BASE}/new-account"),
        new_order: format!("{BASE}/new-order"),
    };
    let options = Options {
        finalize,
        orders_per_account,
        domain: "example.test".to_owned(),
        authorities: Vec::new(),
        enrolments: 2,
        at_once: 1,
    };
    AcmeEnroll::new(&paths, "h.example:8443", Some("t0k"), &options).unwrap()
}

fn begin(scenario: &AcmeEnroll) -> Box<dyn Journey> {
    scenario.begin(PlannedRequest { seq: 0, client: 0, step: 0 }, Moment::now())
}

/// A request as a server sees it.
struct Seen {
    method: Method,
    path: String,
    head: String,
    protected: Value,
    payload: Vec<u8>,
}

/// Returns the next request; fails if it is anything else.
fn sent(journey: &mut dyn Journey) -> Seen {
    let mut request = Vec::new();
    let Next::Send(0, method) = journey.next(&mut request) else { panic!("it sends nothing") };
    let text = String::from_utf8(request).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let decoded = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(body[name].as_str().unwrap_or_default()).unwrap();
    assert!(head.contains("\r\nAuthorization: Bearer t0k") && head.contains("\r\nHost: h.example:8443"), "{head}");
    Seen {
        method,
        path: head.split(' ').nth(1).unwrap().to_owned(),
        head: head.to_owned(),
        protected: serde_json::from_slice(&decoded("protected")).unwrap_or_default(),
        payload: decoded("payload"),
    }
}

fn answer(journey: &mut dyn Journey, method: Method, status: u16, fields: &str, body: &str) -> StepProgress {
    let mut parser = Parser::default();
    parser.start(method);
    let head = format!("HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    let body = if method == Method::Head { "" } else { body };
    parser.feed((head + body).as_bytes()).unwrap();
    let now = Moment::now();
    journey.answered(now, now, &parser.response().unwrap())
}

/// Answers a signed request with JSON and a nonce.
fn reply(journey: &mut dyn Journey, status: u16, fields: &str, body: &Value) -> StepProgress {
    let fields = format!("Content-Type: application/json\r\nReplay-Nonce: next\r\n{fields}");
    answer(journey, Method::Post, status, &fields, &body.to_string())
}

fn problem(journey: &mut dyn Journey, status: u16, kind: &str, fields: &str) -> StepProgress {
    let body = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "status": status});
    let fields = format!("Content-Type: application/problem+json\r\n{fields}");
    answer(journey, Method::Post, status, &fields, &body.to_string())
}

/// Fetches a nonce.
fn fetch(journey: &mut dyn Journey, nonce: &str) {
    let seen = sent(journey);
    assert_eq!((seen.method, seen.path.as_str()), (Method::Head, "/acme/new-nonce"));
    let fields = format!("Replay-Nonce: {nonce}\r\n");
    assert_eq!(answer(journey, Method::Head, 200, &fields, ""), StepProgress::Continues);
}

fn make_account(journey: &mut dyn Journey) {
    assert_eq!(journey.step(), NEW_ACCOUNT);
    let seen = fetch_if_needed(journey);
    assert_eq!(seen.protected["url"], format!("{BASE}/new-account"));
    let location = format!("Location: {BASE}/account/1\r\n");
    assert_eq!(reply(journey, 201, &location, &json!({"status": "valid"})), StepProgress::Done);
}

/// Returns an order of the name that the request asks for.
fn order(status: &str, name: &str) -> Value {
    json!({
        "status": status,
        "identifiers": [{"type": "dns", "value": name}],
        "authorizations": [format!("{BASE}/authz/1")],
        "finalize": format!("{BASE}/order/1/finalize"),
    })
}

/// Makes an order, and returns its name.
fn make_order(journey: &mut dyn Journey, status: &str) -> String {
    assert_eq!(journey.step(), NEW_ORDER);
    let seen = sent(journey);
    assert_eq!((&seen.protected["kid"], seen.path.as_str()), (&format!("{BASE}/account/1").into(), "/acme/new-order"));
    let payload: Value = serde_json::from_slice(&seen.payload).unwrap();
    let name = payload["identifiers"][0]["value"].as_str().unwrap().to_owned();
    let location = format!("Location: {BASE}/order/1\r\n");
    assert_eq!(reply(journey, 201, &location, &order(status, &name)), StepProgress::Done);
    name
}

fn authorization(status: &str, name: &str) -> Value {
    json!({
        "status": status,
        "identifier": {"type": "dns", "value": name},
        "challenges": [
            {"type": "dns-01", "url": format!("{BASE}/challenge/0"), "status": status, "token": "t"},
            {"type": "http-01", "url": format!("{BASE}/challenge/1"), "status": status, "token": "t"},
        ],
    })
}

fn is_over(journey: &mut dyn Journey) -> bool {
    matches!(journey.next(&mut Vec::new()), Next::End)
}

fn paused(journey: &mut dyn Journey) -> Duration {
    match journey.next(&mut Vec::new()) {
        Next::Pause(span) => span,
        _ => panic!("it does not pause"),
    }
}

fn claims(scenario: &AcmeEnroll) -> Vec<u64> {
    scenario.claims().iter().map(|claim| claim.claimed).collect()
}

fn observed(scenario: &AcmeEnroll, name: &str) -> String {
    let all = scenario.observations(&Measurement::default());
    let found = all.iter().find(|one| one.name == name).unwrap();
    found.to_string().rsplit(": ").next().unwrap().to_owned()
}

#[test]
fn an_enrolment_ends_after_a_valid_authorization() {
    let scenario = scenario(false, 5);
    let mut journey = begin(&scenario);
    make_account(&mut *journey);
    let name = make_order(&mut *journey, "ready");
    assert_eq!(journey.step(), AUTHORIZATION);
    let seen = sent(&mut *journey);
    // POST-as-GET (RFC 8555, section 6.3).
    assert_eq!((seen.path.as_str(), seen.payload.as_slice()), ("/acme/authz/1", &b""[..]));
    assert!(seen.head.contains("\r\nContent-Type: application/jose+json"), "{}", seen.head);
    assert_eq!(seen.protected["nonce"], "next");
    assert_eq!(reply(&mut *journey, 200, "", &authorization("valid", &name)), StepProgress::Done);
    assert!(is_over(&mut *journey));
    assert_eq!((claims(&scenario), observed(&scenario, "new-nonce requests")), (vec![1, 1], "1".to_owned()));
}

#[test]
fn an_account_makes_its_orders_and_is_used_no_more() {
    let scenario = scenario(false, 2);
    let mut keys = Vec::new();
    for accounts in [1, 1, 2, 2, 3] {
        let mut journey = begin(&scenario);
        if journey.step() == NEW_ACCOUNT {
            // The nonce that the enrolment before has left is used.
            let seen = fetch_if_needed(&mut *journey);
            assert!(!keys.contains(&seen.protected["jwk"]));
            keys.push(seen.protected["jwk"].clone());
            let location = format!("Location: {BASE}/account/1\r\n");
            assert_eq!(reply(&mut *journey, 201, &location, &json!({"status": "valid"})), StepProgress::Done);
        }
        make_order(&mut *journey, "ready");
        assert_eq!(claims(&scenario)[0], accounts);
    }
    assert_eq!((claims(&scenario), observed(&scenario, "new-nonce requests")), (vec![3, 5], "1".to_owned()));
}

#[test]
fn enrolments_at_once_never_share_an_account() {
    let scenario = scenario(false, 5);
    let mut first = begin(&scenario);
    make_account(&mut *first);
    let mut second = begin(&scenario);
    assert_eq!(second.step(), NEW_ACCOUNT);
    make_account(&mut *second);
    drop(first);
    assert_eq!(begin(&scenario).step(), NEW_ORDER);
    // An account that the server has not made is no account.
    let mut broken = begin(&scenario);
    assert_eq!(broken.step(), NEW_ORDER);
    drop(second);
    let failed = begin(&scenario);
    drop(failed);
    sent(&mut *broken);
    assert_eq!(
        problem(&mut *broken, 500, "serverInternal", ""),
        StepProgress::Failed(Outcome::Failed(500), "201 was due".to_owned())
    );
}

#[test]
fn a_refused_nonce_is_retried_once() {
    let scenario = scenario(false, 5);
    let mut journey = begin(&scenario);
    fetch(&mut *journey, "stale");
    assert_eq!(sent(&mut *journey).protected["nonce"], "stale");
    // With the fresh nonce of the error.
    assert_eq!(problem(&mut *journey, 400, "badNonce", "Replay-Nonce: fresh\r\n"), StepProgress::Continues);
    assert_eq!(journey.step(), NEW_ACCOUNT);
    assert_eq!(sent(&mut *journey).protected["nonce"], "fresh");
    let location = format!("Location: {BASE}/account/1\r\n");
    assert_eq!(reply(&mut *journey, 201, &location, &json!({"status": "valid"})), StepProgress::Done);
    // certctl's errors have none.
    sent(&mut *journey);
    assert_eq!(problem(&mut *journey, 400, "badNonce", ""), StepProgress::Continues);
    fetch(&mut *journey, "another");
    assert_eq!(sent(&mut *journey).protected["nonce"], "another");
    let twice = StepProgress::Failed(Outcome::Failed(400), "badNonce, twice in a row".to_owned());
    assert_eq!(problem(&mut *journey, 400, "badNonce", ""), twice);
    assert_eq!(observed(&scenario, "badNonce, retried"), "2");
}

#[test]
fn a_missing_nonce_is_fetched_and_breaks_a_rule() {
    let scenario = scenario(false, 5);
    let mut journey = begin(&scenario);
    fetch(&mut *journey, "first");
    sent(&mut *journey);
    let fields = format!("Content-Type: application/json\r\nLocation: {BASE}/account/1\r\n");
    assert_eq!(answer(&mut *journey, Method::Post, 201, &fields, r#"{"status":"valid"}"#), StepProgress::Done);
    assert_eq!(journey.step(), NEW_ORDER);
    fetch(&mut *journey, "second");
    make_order(&mut *journey, "ready");
    let rules = scenario.broken_rules();
    let what = "successful answers to signed requests have no Replay-Nonce";
    assert_eq!(rules, [Breach::Rule { what, count: 1, of: 2 }]);
    // A nonce that is none, or two.
    for fields in ["Replay-Nonce: a+b\r\n", "Replay-Nonce: a\r\nReplay-Nonce: b\r\n"] {
        sent(&mut *journey);
        assert!(matches!(
            answer(&mut *journey, Method::Post, 200, fields, "{}"),
            StepProgress::Failed(Outcome::Wrong, _)
        ));
        journey = begin(&scenario);
    }
}

#[test]
fn a_429_counts_as_refused_in_acme_form_alone() {
    let scenario = scenario(false, 5);
    let mut limited = begin(&scenario);
    make_account(&mut *limited);
    sent(&mut *limited);
    assert!(matches!(problem(&mut *limited, 429, "rateLimited", ""), StepProgress::Failed(Outcome::Refused, _)));
    for kind in ["malformed", "badNonce"] {
        let mut wrong = begin(&scenario);
        fetch_if_needed(&mut *wrong);
        assert!(matches!(problem(&mut *wrong, 429, kind, ""), StepProgress::Failed(Outcome::Wrong, _)), "{kind}");
    }
    // To a request for a nonce, whose answer has no body.
    let mut nonce = begin(&scenario);
    sent(&mut *nonce);
    let plain = "Content-Type: text/plain\r\n";
    assert!(matches!(answer(&mut *nonce, Method::Head, 429, plain, ""), StepProgress::Failed(Outcome::Wrong, _)));
    assert_eq!(observed(&scenario, "429s of the right shape"), "1 of 4");
    let what = "429s are not as ACME shapes them";
    assert_eq!(scenario.broken_rules(), [Breach::Rule { what, count: 3, of: 4 }]);
}

/// Returns the next signed request, which an earlier enrolment may have left a nonce for.
fn fetch_if_needed(journey: &mut dyn Journey) -> Seen {
    let seen = sent(journey);
    if seen.method != Method::Head {
        return seen;
    }
    assert_eq!(answer(journey, Method::Head, 204, "Replay-Nonce: n\r\n", ""), StepProgress::Continues);
    sent(journey)
}

#[test]
fn only_the_right_resources_are_right_answers() {
    let scenario = scenario(false, 5);
    let location = format!("Location: {BASE}/account/1\r\n");
    let elsewhere = "Location: https://elsewhere.example/account/1\r\n";
    let wrong = [
        (200, location.as_str(), json!({"status": "valid"}), Outcome::Failed(200)),
        (201, &location, json!({"status": "deactivated"}), Outcome::Wrong),
        (201, &location, json!([]), Outcome::Wrong),
        (201, "", json!({"status": "valid"}), Outcome::Wrong),
        (201, elsewhere, json!({"status": "valid"}), Outcome::Wrong),
    ];
    for (status, fields, body, outcome) in wrong {
        let mut journey = begin(&scenario);
        fetch_if_needed(&mut *journey);
        let progress = reply(&mut *journey, status, fields, &body);
        assert!(matches!(&progress, StepProgress::Failed(found, _) if *found == outcome), "{body}: {progress:?}");
    }
    let mut first = begin(&scenario);
    fetch_if_needed(&mut *first);
    assert_eq!(reply(&mut *first, 201, &location, &json!({"status": "valid"})), StepProgress::Done);
    drop(first);
    let change = |name: &str, value: Value| {
        let mut changed = order("ready", "x");
        changed[name] = value;
        changed
    };
    for body in [
        order("ready", "another.example.test"),
        change("status", "invalid".into()),
        change("authorizations", json!([])),
        change("authorizations", json!(["https://elsewhere.example/authz/1"])),
        change("finalize", "https://h.example:8444/f".into()),
        change("identifiers", json!([])),
    ] {
        let mut journey = begin(&scenario);
        let payload: Value = serde_json::from_slice(&sent(&mut *journey).payload).unwrap();
        let name = payload["identifiers"][0]["value"].as_str().unwrap();
        let body = body.to_string().replace("\"x\"", &format!("\"{name}\""));
        let progress = reply(&mut *journey, 201, &location, &serde_json::from_str(&body).unwrap());
        assert!(matches!(progress, StepProgress::Failed(Outcome::Wrong, _)), "{body}: {progress:?}");
        // The order may be there all the same.
        drop(journey);
        let mut account = begin(&scenario);
        if account.step() == NEW_ACCOUNT {
            fetch_if_needed(&mut *account);
            assert_eq!(reply(&mut *account, 201, &location, &json!({"status": "valid"})), StepProgress::Done);
        }
    }
    assert_eq!(claims(&scenario)[1], 6);
}

#[test]
fn a_pending_authorization_is_validated_by_its_challenge() {
    let scenario = scenario(false, 5);
    let mut journey = begin(&scenario);
    make_account(&mut *journey);
    let name = make_order(&mut *journey, "pending");
    sent(&mut *journey);
    assert_eq!(reply(&mut *journey, 200, "", &authorization("pending", &name)), StepProgress::Done);
    assert_eq!(journey.step(), CHALLENGE);
    let seen = sent(&mut *journey);
    assert_eq!((seen.path.as_str(), seen.payload.as_slice()), ("/acme/challenge/1", &b"{}"[..]));
    let challenge = json!({"type": "http-01", "url": format!("{BASE}/challenge/1"), "status": "processing"});
    assert_eq!(reply(&mut *journey, 200, "", &challenge), StepProgress::Continues);
    let mut pauses = Vec::new();
    for fields in ["", "", "Retry-After: 3\r\n", "Retry-After: 0\r\n"] {
        assert_eq!(sent(&mut *journey).path, "/acme/authz/1");
        assert_eq!(reply(&mut *journey, 200, fields, &authorization("pending", &name)), StepProgress::Continues);
        assert_eq!(journey.step(), CHALLENGE);
        pauses.push(paused(&mut *journey).as_millis());
    }
    assert_eq!(pauses, [100, 200, 3_000, 50]);
    sent(&mut *journey);
    assert_eq!(reply(&mut *journey, 200, "", &authorization("valid", &name)), StepProgress::Done);
    assert!(is_over(&mut *journey));
    assert_eq!(observed(&scenario, "challenges answered"), "1");
}

#[test]
fn a_failed_validation_is_a_wrong_answer() {
    let scenario = scenario(false, 5);
    let mut journey = begin(&scenario);
    make_account(&mut *journey);
    let name = make_order(&mut *journey, "pending");
    sent(&mut *journey);
    assert_eq!(reply(&mut *journey, 200, "", &authorization("pending", &name)), StepProgress::Done);
    sent(&mut *journey);
    let challenge = json!({"type": "http-01", "url": format!("{BASE}/challenge/1"), "status": "pending"});
    assert_eq!(reply(&mut *journey, 200, "", &challenge), StepProgress::Continues);
    sent(&mut *journey);
    let failed = StepProgress::Failed(Outcome::Wrong, "the authorization failed".to_owned());
    assert_eq!(reply(&mut *journey, 200, "", &authorization("invalid", &name)), failed);
}

/// The key of a signing request.
struct PublicKey([u8; 65]);

impl PublicKey {
    fn of(csr: &[u8]) -> Self {
        // A bit string of 66 bytes: no unused bits, and the point in uncompressed form (RFC 5480, section 2.2).
        let at = csr.windows(4).position(|bytes| bytes == [0x03, 0x42, 0x00, 0x04]).unwrap() + 3;
        Self(csr[at..at + 65].try_into().unwrap())
    }
}

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// Goes on to the certificate, and returns the progress with this chain, which is made from the order's name and CSR.
fn finalized(scenario: &AcmeEnroll, chain: impl FnOnce(&str, &[u8]) -> String) -> StepProgress {
    let mut journey = begin(scenario);
    make_account(&mut *journey);
    let name = make_order(&mut *journey, "ready");
    sent(&mut *journey);
    assert_eq!(reply(&mut *journey, 200, "", &authorization("valid", &name)), StepProgress::Done);
    assert_eq!(journey.step(), FINALIZE);
    let seen = sent(&mut *journey);
    assert_eq!(seen.path, "/acme/order/1/finalize");
    let payload: Value = serde_json::from_slice(&seen.payload).unwrap();
    let csr = BASE64_URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:39 GMT\r\n";
    assert_eq!(reply(&mut *journey, 200, date, &order("processing", &name)), StepProgress::Continues);
    assert_eq!(paused(&mut *journey), Duration::from_secs(2));
    assert_eq!(sent(&mut *journey).path, "/acme/order/1");
    let mut valid = order("valid", &name);
    valid["certificate"] = format!("{BASE}/cert/1").into();
    assert_eq!(reply(&mut *journey, 200, "", &valid), StepProgress::Done);
    assert_eq!(journey.step(), CERTIFICATE);
    let seen = sent(&mut *journey);
    assert!(seen.head.contains("\r\nAccept: application/pem-certificate-chain"), "{}", seen.head);
    let fields = "Content-Type: application/pem-certificate-chain\r\nReplay-Nonce: last\r\n";
    let progress = answer(&mut *journey, Method::Post, 200, fields, &chain(&name, &csr));
    assert_eq!(is_over(&mut *journey), progress == StepProgress::Done);
    progress
}

#[test]
fn a_finalized_order_ends_with_a_verified_certificate() {
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
    let scenario = scenario(true, 1);
    let signed = |name: &str, csr: &[u8]| {
        let mut root = CertificateParams::default();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap();
        leaf.signed_by(&PublicKey::of(csr), &root).unwrap().pem() + &root.pem()
    };
    assert_eq!(finalized(&scenario, signed), StepProgress::Done);
    assert_eq!((claims(&scenario), observed(&scenario, "certificates verified")), (vec![1, 1, 1], "1 of 1".to_owned()));
    // The name is right, and the key is another's.
    let other = |name: &str, _: &[u8]| {
        let root = Authority::root(KeyType::EcdsaP256).unwrap();
        root.issue(KeyType::EcdsaP256, Purpose::Server, &[name]).unwrap().chain_pem + &root.pem()
    };
    let StepProgress::Failed(Outcome::Wrong, flaw) = finalized(&scenario, other) else { panic!("it is right") };
    assert!(flaw.contains("another key"), "{flaw}");
    assert_eq!(observed(&scenario, "certificates verified"), "1 of 2");
    assert_eq!(scenario.broken_rules(), [Breach::Rule { what: "certificates do not verify", count: 1, of: 2 }]);
}

#[test]
fn spare_nonces_are_bounded_and_the_youngest_is_used() {
    let at = |seconds: u64| Moment::from_ns(seconds * 1_000_000_000);
    let mut spare = SpareNonces::default();
    for number in 0..2_000 {
        spare.put(number.to_string(), at(number % 100));
    }
    assert_eq!(spare.0.len(), MOST_NONCES);
    assert_eq!(spare.take(at(100)).unwrap().1, at(99));
    assert!(spare.take(at(99 + 241)).is_none() && spare.0.is_empty());
}
