//! The check of ACME's signed requests: each of its refusals, in certctl's order.

use serde_json::{Value, json};

use crate::acme::{expect, problem};
use crate::acme_client::{Acme, Key, PROFILE};
use crate::server::Server;

/// Sends a request for the account's own resource with a changed header.
fn changed(acme: &mut Acme, change: impl FnOnce(&mut Value)) -> crate::client::Answer {
    let url = acme.account.clone();
    let mut header = acme.header(&url);
    change(&mut header);
    let body = acme.key.jws(&header, "").to_string();
    acme.send(&url, &body)
}

#[test]
fn every_refusal_of_a_signed_request_is_certctls() {
    for server in Server::on_both(0, &[]) {
        let mut acme = Acme::registered(&server);
        let malformed = |detail: &str| expect(400, "malformed", detail);
        let url = acme.account.clone();

        // Before the nonce: it can be used afterwards.
        let nonce = acme.nonce();
        let large = format!("{{\"payload\":\"{}\"}}", "A".repeat(64 << 10));
        assert_eq!(problem(&acme.send(&url, &large)), malformed("request body too large"));
        for form in ["", "{}", "a.b", "null"] {
            assert_eq!(problem(&acme.send(&url, form)), malformed("malformed JWS"), "{form}");
        }
        acme.nonce = Some(nonce.clone());
        let with_nonce = |header: &mut Value, name: &str, value: Value| {
            header["nonce"] = nonce.as_str().into();
            header[name] = value;
        };
        let answer = changed(&mut acme, |header| with_nonce(header, "alg", json!("HS256")));
        assert_eq!(problem(&answer), malformed("malformed JWS"));
        let answer = changed(&mut acme, |header| with_nonce(header, "typ", json!("JWT")));
        assert_eq!(problem(&answer), malformed("protected header `typ` must be `application/jose+json`"));
        for wrong in [json!(null), json!(""), json!(url.replace("https", "http")), json!(format!("{url}?a"))] {
            let answer = changed(&mut acme, |header| with_nonce(header, "url", wrong));
            let detail = "protected header `url` mismatch or missing";
            assert_eq!(problem(&answer), expect(401, "unauthorized", detail));
        }
        let answer = changed(&mut acme, |header| with_nonce(header, "typ", json!("application/jose+json")));
        assert_eq!(answer.status, 200, "{}", answer.body);

        // The nonce itself.
        let used = "nonce missing, replayed, or expired";
        for unknown in [nonce.as_str(), "AAAA", &"A".repeat(43)] {
            let answer = changed(&mut acme, |header| header["nonce"] = unknown.into());
            assert_eq!(problem(&answer), expect(400, "badNonce", used), "{unknown}");
        }
        let answer = changed(&mut acme, |header| header["nonce"] = "".into());
        assert_eq!(problem(&answer), expect(400, "badNonce", "protected header `nonce` is required"));

        // After the nonce, which is used up by then.
        let spent = acme.nonce();
        acme.nonce = Some(spent.clone());
        let answer = changed(&mut acme, |header| _ = header.as_object_mut().map(|header| header.remove("kid")));
        let one_of = "protected header MUST contain exactly one of `kid` or `jwk`";
        assert_eq!(problem(&answer), malformed(one_of));
        let answer = changed(&mut acme, |header| header["nonce"] = spent.into());
        assert_eq!(problem(&answer), expect(400, "badNonce", used));
        let jwk = acme.key.jwk();
        let answer = changed(&mut acme, |header| header["jwk"] = jwk.clone());
        assert_eq!(problem(&answer), malformed(one_of));
        let answer = changed(&mut acme, |header| {
            *header = json!({"alg": "ES256", "nonce": header["nonce"], "url": header["url"], "jwk": jwk});
        });
        let detail = "this endpoint requires `kid` (registered account); got `jwk`";
        assert_eq!(problem(&answer), malformed(detail));
        let answer = acme.call("new-account", &json!({}));
        let detail = "this endpoint requires `jwk` (new-account flow); got `kid`";
        assert_eq!(problem(&answer), malformed(detail));
        for elsewhere in ["x", "https://localhost/acme/account/a", &format!("https://localhost{PROFILE}/account/")] {
            let answer = changed(&mut acme, |header| header["kid"] = elsewhere.into());
            assert_eq!(problem(&answer), malformed("malformed JWS"), "{elsewhere}");
        }
        let nobody = format!("https://localhost{PROFILE}/account/nobody");
        let answer = changed(&mut acme, |header| header["kid"] = nobody.into());
        assert_eq!(problem(&answer), expect(400, "accountDoesNotExist", "kid points at unknown account"));
        let own = std::mem::replace(&mut acme.key, Key::es256());
        let answer = changed(&mut acme, |_| {});
        assert_eq!(problem(&answer), expect(401, "unauthorized", "signature did not verify"));
        acme.key = own;
        let answer = changed(&mut acme, |header| header["crit"] = json!(["exp"]));
        assert_eq!(problem(&answer), expect(401, "unauthorized", "signature did not verify"));
        let answer = acme.post(&url, r#"{"status":"deactivated"}"#);
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("deactivated")));
        let answer = changed(&mut acme, |_| {});
        assert_eq!(problem(&answer), expect(401, "unauthorized", "account status is not `valid`"));
        server.until_work(&json!({"nonces_rejected": 4, "accounts_created": 1}));
    }
}

#[test]
fn keys_of_each_kind_sign_in_each_form() {
    for server in Server::on_both(0, &[]) {
        for key in [Key::es256(), Key::ed_dsa(), Key::rs256()] {
            let mut acme = Acme::at(&server, PROFILE);
            acme.key = key;
            let answer = acme.register(&json!({"contact": ["mailto:a@example.test"]}));
            let algorithm = acme.key.algorithm();
            assert_eq!(answer.status, 201, "{algorithm}: {}", answer.body);
            let location = format!("https://localhost{PROFILE}/account/acme-acc-{}", acme.key.thumbprint());
            assert_eq!(acme.account, location);
            let header = acme.header(&location);
            let jws = acme.key.jws(&header, "{}");
            let part = |name: &str| jws[name].as_str().unwrap().to_owned();
            let compact = [part("protected"), part("payload"), part("signature")].join(".");
            assert_eq!(acme.send(&location, &compact).status, 200, "{algorithm}");
            let header = acme.header(&location);
            let jws = acme.key.jws(&header, "");
            let signature = json!({"protected": jws["protected"], "signature": jws["signature"]});
            let one = json!({"payload": jws["payload"], "signatures": [signature]}).to_string();
            assert_eq!(acme.send(&location, &one).status, 200, "{algorithm}");
            let two = json!({"payload": jws["payload"], "signatures": [signature, signature]}).to_string();
            assert_eq!(problem(&acme.send(&location, &two)), expect(400, "malformed", "malformed JWS"));
        }
    }
}

#[test]
fn signed_requests_need_their_methods_and_as_built_a_token() {
    for server in Server::on_both(0, &[]) {
        let post = |path: &str| server.exchange("POST", &format!("{PROFILE}/{path}"), None, "{}").status;
        assert_eq!([post("new-account"), post("order/x")], [401, 401]);
        let acme = Acme::registered(&server);
        let path = acme.account.strip_prefix("https://localhost").unwrap();
        let answer = server.exchange("GET", path, Some(crate::server::ADMIN), "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
        // The account names this list.
        let answer = server.exchange("POST", &format!("{path}/orders"), Some(crate::server::ADMIN), "{}");
        assert_eq!(answer.status, 404);
    }
}

#[test]
fn as_documented_an_error_brings_the_next_nonce() {
    for server in Server::on_both(0, &["--behaviour", "as-documented"]) {
        let mut acme = Acme::registered(&server);
        let answer = changed(&mut acme, |header| header["nonce"] = "AAAA".into());
        assert_eq!((answer.status, answer.json()["type"].as_str()), (400, Some("urn:ietf:params:acme:error:badNonce")));
        let nonce = acme.nonce.clone().expect("a nonce with the error");
        let answer = changed(&mut acme, |header| assert_eq!(header["nonce"], nonce));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}
