//! ACME's accounts, orders, authorizations and challenges, from new-account until an order is ready.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::acme::{expect, problem};
use crate::acme_client::{Acme, Key, PROFILE, identifiers};
use crate::common::needs::needs;
use crate::common::process::PATIENCE;
use crate::server::Server;

const CHALLENGE_PROFILE: &str = "/acme/profile/prof-challenge";

#[test]
fn an_account_is_created_found_changed_and_closed() {
    for server in Server::on_both(0, &[]) {
        let mut acme = Acme::at(&server, PROFILE);
        let absent = acme.register(&json!({"onlyReturnExisting": true}));
        let detail = "no account exists for this JWK; submit a new-account request without onlyReturnExisting";
        assert_eq!(problem(&absent), expect(400, "accountDoesNotExist", detail));
        let answer = acme.register(&json!({"termsOfServiceAgreed": true, "contact": ["mailto:a@example.test"]}));
        let orders = format!("{}/orders", acme.account);
        let shown = |status: &str, contact: &str| {
            format!(
                "{{\"status\":\"{status}\",\"contact\":[\"mailto:{contact}@example.test\"],\"orders\":\"{orders}\"}}\n"
            )
        };
        assert_eq!(answer.shape(), (201, "application/json", shown("valid", "a").as_str()));
        assert_eq!(answer.header("replay-nonce").map(str::len), Some(43));
        for again in [json!({"contact": ["mailto:other@example.test"]}), json!({"onlyReturnExisting": true})] {
            let answer = acme.register(&again);
            assert_eq!((answer.status, answer.body.as_str()), (200, shown("valid", "a").as_str()));
        }
        let url = acme.account.clone();
        for read in ["", " {} \n", r#"{"status":""}"#] {
            assert_eq!(acme.post(&url, read).body, shown("valid", "a"), "{read}");
        }
        let answer = acme.post(&url, r#"{"contact":["mailto:b@example.test"]}"#);
        assert_eq!(answer.shape(), (200, "application/json", shown("valid", "b").as_str()));
        for (payload, detail) in [
            ("[", "could not parse account update payload"),
            (r#"{"status":"valid"}"#, "only `deactivated` is a valid status for account update; got valid"),
        ] {
            assert_eq!(problem(&acme.post(&url, payload)), expect(400, "malformed", detail));
        }
        let other = format!("{url}x");
        let detail = "kid does not match URL account id";
        assert_eq!(problem(&acme.get(&other)), expect(401, "unauthorized", detail));
        let body = acme.post(&url, r#"{"status":"deactivated"}"#).body;
        assert_eq!(body, shown("deactivated", "b"));
        // As in certctl, the account's key still finds it.
        let again = acme.register(&json!({}));
        assert_eq!((again.status, again.body.as_str()), (200, shown("deactivated", "b").as_str()));
        server.until_work(&json!({"accounts_created": 1}));
    }
}

#[test]
fn a_key_has_one_account_whatever_the_profile() {
    for server in Server::on_both(0, &[]) {
        let mut acme = Acme::registered(&server);
        acme.base = format!("https://localhost{CHALLENGE_PROFILE}");
        // The id follows from the key alone.
        assert_eq!(problem(&acme.register(&json!({}))), expect(500, "serverInternal", "ACME server error"));
        acme.base = "https://localhost/acme".to_owned();
        let (status, kind, _) = problem(&acme.register(&json!({})));
        assert_eq!((status, kind.as_str()), (403, "userActionRequired"));
        acme.base = "https://localhost/acme/profile/prof-nope".to_owned();
        assert_eq!(problem(&acme.register(&json!({}))), expect(500, "serverInternal", "ACME server error"));
    }
}

#[test]
fn an_order_of_a_trusted_account_is_ready_at_once() {
    for server in Server::on_both(0, &[]) {
        let mut acme = Acme::registered(&server);
        let names = ["a.example.test", "*.b.example.test"];
        let payload = json!({"identifiers": identifiers(&names), "notAfter": "2035-01-01T00:00:00Z"});
        let answer = acme.call("new-order", &payload);
        let (order, url) = (answer.json(), answer.header("location").expect("a location").to_owned());
        let id = url.strip_prefix(&acme.url("order/acme-ord-")).expect("an id");
        assert_eq!((answer.status, id.len()), (201, 16));
        assert_eq!(
            (&order["status"], &order["notAfter"], &order["finalize"]),
            (&json!("ready"), &json!("2035-01-01T00:00:00Z"), &json!(format!("{url}/finalize")))
        );
        assert_eq!((&order["identifiers"], &order["certificate"]), (&json!(identifiers(&names)), &Value::Null));
        let again = acme.get(&url);
        assert_eq!((again.status, again.json()), (200, order.clone()));
        let authorizations: Vec<&str> =
            order["authorizations"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
        for (name, authorization) in names.iter().zip(&authorizations) {
            let shown = acme.get(authorization).json();
            assert_eq!((&shown["status"], &shown["identifier"]["value"]), (&json!("valid"), &json!(name)));
            assert_eq!(shown["wildcard"], if name.starts_with('*') { json!(true) } else { Value::Null });
            let [challenge] = shown["challenges"].as_array().unwrap().as_slice() else { panic!("{shown}") };
            assert_eq!((&challenge["type"], &challenge["status"]), (&json!("http-01"), &json!("valid")));
            assert_eq!(challenge["token"].as_str().map(str::len), Some(16));
            let url = challenge["url"].as_str().unwrap();
            assert_eq!(acme.post(url, "{}").json(), *challenge);
        }
        server.until_work(&json!({"orders_created": 1, "authorizations_read": 2}));

        // Another account sees authorizations and challenges that are settled, and no order.
        let mut other = Acme::registered(&server);
        let detail = "account does not own this resource";
        assert_eq!(problem(&other.get(&url)), expect(401, "unauthorized", detail));
        assert_eq!(other.get(authorizations[0]).status, 200);
        let missing = |what: &str| expect(404, "malformed", &format!("{what} not found"));
        assert_eq!(problem(&acme.get(&acme.url("order/x"))), missing("resource"));
        assert_eq!(problem(&acme.get(&acme.url("authz/x"))), missing("resource"));
        assert_eq!(problem(&acme.get(&acme.url("challenge/x"))), missing("challenge"));
    }
}

#[test]
fn names_that_cannot_be_ordered_are_each_refused() {
    for server in Server::on_both(0, &[]) {
        let mut acme = Acme::registered(&server);
        let detail = "one or more identifiers were rejected";
        let rejected = |acme: &mut Acme, identifiers: Value| {
            let answer = acme.call("new-order", &json!({"identifiers": identifiers}));
            assert_eq!(problem(&answer), expect(400, "rejectedIdentifier", detail));
            answer.json()["subproblems"].clone()
        };
        let none = rejected(&mut acme, json!([]));
        assert_eq!(none[0]["type"], "urn:ietf:params:acme:error:malformed");
        let (address, empty) = (json!({"type": "ip", "value": "127.0.0.1"}), json!({"type": "dns", "value": ""}));
        let problems = rejected(&mut acme, json!([address, {"type": "DNS", "value": "a.example.test"}, empty]));
        let identifiers: Vec<&Value> = problems.as_array().unwrap().iter().map(|one| &one["identifier"]).collect();
        assert_eq!(identifiers, [&address, &empty]);
        let answer = acme.post(&acme.url("new-order"), "[");
        assert_eq!(problem(&answer), expect(400, "malformed", "could not parse new-order payload"));
        acme.base = "https://localhost/acme/profile/prof-nope".to_owned();
        let account = acme.account.rsplit_once('/').unwrap().1.to_owned();
        acme.account = acme.url(&format!("account/{account}"));
        let answer = acme.call("new-order", &json!({"identifiers": [{"type": "dns", "value": "a.example.test"}]}));
        assert_eq!(problem(&answer), expect(500, "serverInternal", "ACME server error"));
    }
}

#[test]
fn an_account_has_five_open_orders_and_a_hundred_an_hour() {
    let payload = json!({"identifiers": identifiers(&["a.example.test"])});
    for server in Server::on_both(0, &[]) {
        let mut acme = Acme::registered(&server);
        for _ in 0..5 {
            acme.order(&["a.example.test"]);
        }
        let answer = acme.call("new-order", &payload);
        let detail =
            "too many concurrent orders for this account; finish or cancel pending orders before submitting more";
        assert_eq!(problem(&answer), expect(429, "rateLimited", detail));
        Acme::registered(&server).order(&["a.example.test"]);
        server.until_work(&json!({"orders_created": 6}));
        assert!(server.announced["settings"].get("acme_concurrent_orders").is_none());
    }
    let hourly = ["--acme-concurrent-orders", "0", "--acme-orders-per-hour", "7"];
    for server in Server::on_both(0, &hourly) {
        let mut acme = Acme::registered(&server);
        for _ in 0..7 {
            acme.order(&["a.example.test"]);
        }
        let detail = "request rate limit exceeded; retry later";
        assert_eq!(problem(&acme.call("new-order", &payload)), expect(429, "rateLimited", detail));
        let settings = &server.announced["settings"];
        assert_eq!((&settings["acme_concurrent_orders"], &settings["acme_orders_per_hour"]), (&json!(0), &json!(7)));
    }
}

/// Waits until an order is pending no longer, and returns it.
fn settled(acme: &mut Acme, url: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let order = acme.get(url).json();
        if order["status"] != "pending" {
            return order;
        }
        assert!(Instant::now() < deadline, "{order}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the challenge of the order's authorization.
fn challenge(acme: &mut Acme, order: &Value) -> (Value, String) {
    let authorization = acme.get(order["authorizations"][0].as_str().unwrap()).json();
    let challenge = authorization["challenges"][0].clone();
    let url = challenge["url"].as_str().unwrap().to_owned();
    (challenge, url)
}

#[test]
fn a_challenge_on_loopback_fails_as_in_certctl() {
    for server in Server::on_both(0, &[]) {
        let mut acme = Acme::registered_at(&server, CHALLENGE_PROFILE);
        let (order_url, order) = acme.order(&["localhost"]);
        let (challenge, url) = challenge(&mut acme, &order);
        assert_eq!((&order["status"], &challenge["status"]), (&json!("pending"), &json!("pending")));
        let early = acme.finalize(&order, &["localhost"]);
        let detail = "order is not in the `ready` state; complete authorizations first";
        assert_eq!(problem(&early), expect(403, "orderNotReady", detail));
        let mut other = Acme::registered_at(&server, CHALLENGE_PROFILE);
        let detail = "account does not own this resource";
        assert_eq!(problem(&other.post(&url, "{}")), expect(401, "unauthorized", detail));
        assert_eq!(acme.post(&url, "{}").json()["status"], "processing");
        let order = settled(&mut acme, &order_url);
        assert_eq!((&order["status"], &order["error"]["status"]), (&json!("invalid"), &json!(403)));
        let challenge = acme.post(&url, "{}").json();
        assert_eq!(challenge["status"], "invalid");
        assert_eq!(challenge["error"]["type"], "urn:ietf:params:acme:error:incorrectResponse");
        // Three of sixty responses in an hour are used up.
        let refused = (0..58).map(|_| acme.post(&url, "{}")).find(|answer| answer.status != 200).expect("a refusal");
        assert_eq!(problem(&refused), expect(429, "rateLimited", "request rate limit exceeded; retry later"));
    }
}

#[test]
fn a_challenge_is_checked_at_the_given_port() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for server in Server::on_both(0, &["--acme-http01-port", &port]) {
        let mut acme = Acme::registered_at(&server, CHALLENGE_PROFILE);
        let (order_url, order) = acme.order(&["a.example.test"]);
        let (challenge, url) = challenge(&mut acme, &order);
        let token = challenge["token"].as_str().unwrap();
        acme.post(&url, "{}");
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1_024];
        let length = stream.read(&mut request).unwrap();
        let line = format!("GET /.well-known/acme-challenge/{token} HTTP/1.1\r\n");
        assert!(request[..length].starts_with(line.as_bytes()));
        let proof = format!("{token}.{}", acme.key.thumbprint());
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{proof}", proof.len()).unwrap();
        drop(stream);
        assert_eq!(settled(&mut acme, &order_url)["status"], "ready");
        let challenge = acme.post(&url, "{}").json();
        assert_eq!((&challenge["status"], challenge["validated"].is_string()), (&json!("valid"), true));
    }
}

/// Returns the payload of a change of keys: the new key's statement.
fn rollover(acme: &Acme, new: &Key, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let mut header = json!({"alg": new.algorithm(), "jwk": new.jwk(), "url": acme.url("key-change")});
    let mut payload = json!({"account": acme.account, "oldKey": acme.key.jwk()});
    change(&mut header, &mut payload);
    new.jws(&header, &payload.to_string()).to_string()
}

#[test]
fn an_account_gets_another_key_by_both_signatures() {
    for server in Server::on_both(0, &[]) {
        let (mut acme, other) = (Acme::registered(&server), Acme::registered(&server));
        let (url, new) = (acme.url("key-change"), Key::ed_dsa());
        let malformed = |detail: &str| expect(400, "malformed", &format!("key rollover inner {detail}"));
        let refused = |acme: &mut Acme, inner: String| problem(&acme.post(&url, &inner));
        assert_eq!(refused(&mut acme, "{}".to_owned()), malformed("JWS malformed"));
        let inner = rollover(&acme, &new, |header, _| header["kid"] = "x".into());
        assert_eq!(refused(&mut acme, inner), malformed("JWS MUST use `jwk`, not `kid`"));
        let inner = rollover(&acme, &new, |header, _| _ = header.as_object_mut().unwrap().remove("jwk"));
        assert_eq!(refused(&mut acme, inner), malformed("JWS missing or invalid `jwk`"));
        let inner = rollover(&acme, &new, |_, payload| payload["account"] = "x".into());
        assert_eq!(refused(&mut acme, inner), malformed("`account` does not match outer kid"));
        let inner = rollover(&acme, &new, |_, payload| _ = payload.as_object_mut().unwrap().remove("oldKey"));
        assert_eq!(refused(&mut acme, inner), malformed("missing `oldKey`"));
        let inner = rollover(&acme, &new, |_, payload| *payload = json!("x"));
        assert_eq!(refused(&mut acme, inner), malformed("payload is not valid JSON"));
        for inner in [
            rollover(&acme, &new, |header, _| header["url"] = "x".into()),
            rollover(&acme, &new, |header, _| header["jwk"] = Key::ed_dsa().jwk()),
            rollover(&acme, &new, |_, payload| payload["oldKey"] = new.jwk()),
        ] {
            let (status, kind, _) = refused(&mut acme, inner);
            assert_eq!((status, kind.as_str()), (401, "unauthorized"));
        }
        let inner = rollover(&acme, &other.key, |_, _| {});
        let (status, kind, _) = refused(&mut acme, inner);
        assert_eq!((status, kind.as_str()), (409, "unauthorized"));

        let inner = rollover(&acme, &new, |_, _| {});
        let answer = acme.post(&url, &inner);
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("valid")), "{}", answer.body);
        let account = acme.account.clone();
        let detail = "signature did not verify";
        assert_eq!(problem(&acme.get(&account)), expect(401, "unauthorized", detail));
        let old = std::mem::replace(&mut acme.key, new);
        assert_eq!(acme.get(&account).status, 200);
        // The old key's id is taken, though the key has no account any more.
        let new = std::mem::replace(&mut acme.key, old);
        assert_eq!(problem(&acme.register(&json!({}))), expect(500, "serverInternal", "ACME server error"));
        (acme.key, acme.account) = (new, account);
        // Two of five changes in an hour are used up: those that got as far as the limit.
        let statuses: Vec<u16> = (0..4)
            .map(|_| {
                let inner = rollover(&acme, &other.key, |_, _| {});
                acme.post(&url, &inner).status
            })
            .collect();
        assert_eq!(statuses, [409, 409, 409, 429]);
    }
}

#[test]
fn signed_acme_costs_the_same_statements_as_in_certctl() {
    needs!(Postgresql);
    let server = Server::on_postgres(0, &[]);
    let mut acme = Acme::registered(&server);
    let (order_url, order) = acme.order(&["a.example.test"]);
    let cost = |acme: &mut Acme, url: &str, payload: &Value| {
        let header = acme.header(url);
        let text = if payload.is_null() { String::new() } else { payload.to_string() };
        let body = acme.key.jws(&header, &text).to_string();
        let path = url.strip_prefix("https://localhost").unwrap();
        acme.nonce = None;
        server.statements(|client| _ = client.exchange("POST", path, Some(crate::server::ADMIN), &body))
    };
    let (used, nonce) = ("UPDATE acme_nonces", "INSERT acme_nonces");
    let (account, profile) = ("SELECT acme_accounts", "SELECT certificate_profiles");
    let (audit, begin, commit) = ("INSERT audit_events", "START", "COMMIT");
    let mut new = Acme::at(&server, PROFILE);
    let url = new.url("new-account");
    let expected = [used, profile, account, begin, "INSERT acme_accounts", audit, commit, nonce, audit];
    assert_eq!(cost(&mut new, &url, &json!({})), expected);
    let url = acme.url("new-order");
    let payload = json!({"identifiers": identifiers(&["b.example.test"])});
    let (rows, authorizations) = ("INSERT acme_orders", "SELECT acme_authorizations");
    let (authorization, challenge) = ("INSERT acme_authorizations", "INSERT acme_challenges");
    let expected = [
        used,
        account,
        "SELECT acme_orders",
        profile,
        profile,
        begin,
        rows,
        authorization,
        challenge,
        audit,
        commit,
        nonce,
        authorizations,
        audit,
    ];
    assert_eq!(cost(&mut acme, &url, &payload), expected);
    let expected = [used, account, "SELECT acme_orders", nonce, authorizations, audit];
    assert_eq!(cost(&mut acme, &order_url, &Value::Null), expected);
    let url = order["authorizations"][0].as_str().unwrap();
    let expected = [used, account, authorizations, "SELECT acme_challenges", nonce, audit];
    assert_eq!(cost(&mut acme, url, &Value::Null), expected);
    let url = order["finalize"].as_str().unwrap();
    let expected = [
        used,
        account,
        "SELECT acme_orders",
        profile,
        profile,
        begin,
        "UPDATE acme_orders",
        audit,
        commit,
        begin,
        "INSERT managed_certificates",
        "ROLLBACK",
        audit,
    ];
    assert_eq!(cost(&mut acme, url, &crate::acme_client::csr_payload(&["a.example.test"])), expected);
}
