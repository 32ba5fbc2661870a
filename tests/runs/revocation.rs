//! `revocation` from its front door: at a scripted authority, which does one thing wrong, and at the reference server.
//!
//! The tests at the reference server need PostgreSQL 15 or newer with `pg_stat_statements`, and are skipped without.

use std::sync::Arc;

use serde_json::Value;

use crate::common::authority::{Misconduct, ScriptedAuthority};
use crate::common::bench::{Bench, Finished};
use crate::common::needs::needs;
use crate::common::peer::Peer;
use crate::common::summary::{assert_schema, assert_work, measured, observed, outcome_of};

/// Six certificates, two of them with a leading zero, in two requests; 40 requests for a status of each kind.
const BRIEF: &str = "--batch 6 --per-request 3 --rate 80/s --arrivals constant --duration 2s --warm-up 0s";

/// The steps that request a status by OCSP.
const OCSP: [&str; 3] = ["ocsp_get", "ocsp_post", "ocsp_post_nonce"];

fn bench(arguments: &str) -> Bench {
    Bench::named("revocation", arguments).measured()
}

/// Runs at a scripted authority.
fn run_at(misconduct: Misconduct, arguments: &str) -> Finished {
    let authority = Arc::new(ScriptedAuthority::new(misconduct));
    let peer = Peer::start(move |request| authority.answer(request));
    bench(&format!("{BRIEF} {arguments}")).towards_peer(&peer).run()
}

/// Returns the results of the two workloads.
fn both(summary: &Value) -> [&Value; 2] {
    let [("status_herd", herd), ("bulk_revocation", order)] = measured(summary)[..] else { panic!("{summary:#}") };
    [herd, order]
}

/// Returns the number of arrivals of a step that had this outcome.
fn of_step(results: &Value, name: &str, outcome: &str) -> u64 {
    let step = results["steps"].as_array().unwrap().iter().find(|step| step["name"] == name).unwrap();
    let counts = step["outcomes"].as_array().unwrap();
    counts.iter().find(|one| one["outcome"] == outcome).map_or(0, |one| one["count"].as_u64().unwrap())
}

/// Asserts that these steps had wrong answers alone, with this flaw, and all others right ones.
fn assert_wrong(finished: Finished, wrong: &[&str], flaw: &str) {
    let finished = finished.exits(3);
    let summary = finished.summary();
    let [herd, _] = both(&summary);
    for step in ["ocsp_get", "ocsp_post", "ocsp_post_nonce", "crl"] {
        let counts = (of_step(herd, step, "ok"), of_step(herd, step, "wrong answer"));
        assert_eq!(counts, if wrong.contains(&step) { (0, 40) } else { (40, 0) }, "{step}: {summary:#}");
    }
    assert!(finished.stdout.contains(flaw), "{flaw}: {}", finished.stdout);
}

#[test]
fn revocations_are_awaited_in_every_kind_of_answer() {
    let finished = run_at(Misconduct::Nothing, "").worked();
    let summary = finished.summary();
    assert_schema(&summary);
    let [herd, order] = both(&summary);
    assert_eq!((outcome_of(herd, "ok"), outcome_of(order, "ok")), (160, 2));
    let confirmed = observed(order, "certificates whose revocation was confirmed");
    assert_eq!((&confirmed["count"], &confirmed["of"]), (&6.into(), &6.into()));
    for name in [
        "until every OCSP answer by GET says revoked",
        "until every OCSP answer by POST says revoked",
        "until every OCSP answer by POST with a nonce says revoked",
        "until every revocation list shows all",
    ] {
        assert!(observed(herd, name)["duration_s"].is_number(), "{name}: {herd:#}");
    }
    for name in ["OCSP answers by GET that say good after", "entries that revocation lists lack after"] {
        assert_eq!(observed(herd, name)["count"], 0, "{name}");
        assert!(observed(herd, name)["of"].as_u64().unwrap() > 0, "{name}");
    }
    // The list is whole at first, once for each request to revoke that it saw, and for whoever asked meanwhile.
    let unchanged = observed(herd, "revocation lists answered 304 Not Modified");
    assert_eq!(unchanged["of"], 40);
    assert!((1..=38).contains(&unchanged["count"].as_u64().unwrap()), "{unchanged}");
    assert_eq!(observed(herd, "nonces in the extensions of the certificate")["count"], 0);
    let unknown = observed(herd, "OCSP answers by POST that say unknown");
    assert_eq!((&unknown["count"], unknown["of"].as_u64() > Some(20)), (&0.into(), true), "{unknown}");
}

#[test]
fn a_wrong_signature_is_a_wrong_answer() {
    let all = ["ocsp_get", "ocsp_post", "ocsp_post_nonce", "crl"];
    let finished = run_at(Misconduct::Signature, "");
    let breach = "160 of 160 answers are such as a relying party rejects: none is allowed";
    assert!(finished.stdout.contains(breach), "{}", finished.stdout);
    assert_wrong(finished, &all, "its signature does not verify");
}

#[test]
fn an_answer_about_another_certificate_is_wrong() {
    assert_wrong(run_at(Misconduct::OtherSerial, ""), &OCSP, "it is about another serial number");
}

#[test]
fn an_answer_of_an_expired_responder_is_wrong() {
    let finished = run_at(Misconduct::ResponderExpired, "");
    let breach = "120 of 160 answers are such as a relying party rejects: none is allowed";
    assert!(finished.stdout.contains(breach), "{}", finished.stdout);
    assert_wrong(finished, &OCSP, "the certificate of its responder is not valid now");
}

#[test]
fn an_answer_whose_time_has_passed_is_wrong() {
    let all = ["ocsp_get", "ocsp_post", "ocsp_post_nonce", "crl"];
    assert_wrong(run_at(Misconduct::Stale, ""), &all, "its nextUpdate passed 3600 s ago");
}

#[test]
fn a_nonce_that_is_not_repeated_is_a_wrong_answer() {
    let flaw = "it does not repeat the nonce of the request";
    assert_wrong(run_at(Misconduct::NoNonce, ""), &["ocsp_post_nonce"], flaw);
}

#[test]
fn revoked_before_the_order_is_a_wrong_answer() {
    // From the order on it is right.
    let finished = run_at(Misconduct::RevokedBefore, "").exits(3);
    let summary = finished.summary();
    let [herd, _] = both(&summary);
    for step in ["ocsp_get", "ocsp_post", "ocsp_post_nonce", "crl"] {
        let (ok, wrong) = (of_step(herd, step, "ok"), of_step(herd, step, "wrong answer"));
        assert!(ok >= 15 && wrong >= 15 && ok + wrong == 40, "{step}: {ok} right, {wrong} wrong");
    }
    let flaw = "it says revoked before that was ordered";
    assert!(finished.stdout.contains(flaw), "{}", finished.stdout);
}

#[test]
fn a_304_to_no_condition_is_a_wrong_answer() {
    let flaw = "it is a 304 to a request without a condition";
    assert_wrong(run_at(Misconduct::Unchanged, ""), &["crl"], flaw);
}

#[test]
fn good_long_after_the_confirmation_is_a_breach() {
    let finished = run_at(Misconduct::GoodForever, "--stale-within 100ms").exits(3);
    let summary = finished.summary();
    let [herd, _] = both(&summary);
    // Each answer is right in itself.
    assert_eq!(outcome_of(herd, "ok"), 160);
    assert!(observed(herd, "until every OCSP answer by GET says revoked")["not_within_s"].as_f64() > Some(0.0));
    assert!(observed(herd, "until every OCSP answer by POST says revoked")["duration_s"].is_number());
    let stale = observed(herd, "OCSP answers by GET that say good after");
    assert!(stale["count"] == stale["of"] && stale["count"].as_u64() > Some(0), "{stale}");
    let breach =
        "OCSP answers by GET say good long after the revocation was confirmed (--stale-within): none is allowed";
    assert!(finished.stdout.contains(breach), "{}", finished.stdout);
    // Within the bound it is counted, no more.
    let summary = run_at(Misconduct::GoodForever, "--stale-within 1h").worked().summary();
    assert!(observed(both(&summary)[0], "OCSP answers by GET that say good after")["count"].as_u64() > Some(0));
}

#[test]
fn a_list_that_never_shows_a_revocation_is_a_result() {
    let finished = run_at(Misconduct::OldList, "--sources crl").worked();
    let summary = finished.summary();
    let [herd, _] = both(&summary);
    assert_eq!(outcome_of(herd, "ok"), 160);
    assert!(observed(herd, "until every revocation list shows all")["not_within_s"].as_f64() > Some(0.5), "{herd:#}");
    assert!(finished.stdout.contains("until every revocation list shows all: not within "), "{}", finished.stdout);
}

#[test]
fn a_limiter_of_ocsp_requests_is_named_before_the_load() {
    let refused = run_at(Misconduct::Limited, "").exits(1);
    assert!(refused.stderr.contains("certctl's limiter of OCSP requests is on"), "{}", refused.stderr);
    assert!(refused.stderr.contains("CERTCTL_OCSP_RATE_LIMIT_PER_IP_MIN=0"), "{}", refused.stderr);
}

#[test]
fn a_certificate_that_is_left_out_is_a_wrong_answer() {
    // Two wrong answers of 162 may be chance.
    let summary = run_at(Misconduct::LeftOut, "").invalid_or_breached().summary();
    let [herd, order] = both(&summary);
    assert_eq!((outcome_of(order, "wrong answer"), outcome_of(herd, "ok")), (2, 160));
    assert_eq!(observed(order, "certificates whose revocation was confirmed")["count"], 0);
}

#[test]
fn an_order_outside_of_the_window_is_a_usage_error() {
    for (arguments, message) in [
        ("--duration 10s --revoke-at 10s", "--revoke-at 10s must be below --duration 10s"),
        (
            "--duration 10s --rate 40/s",
            "at 40/s each kind of request comes to all 200 certificates within 20.0 s, but only 5s are left after the \
             order to revoke",
        ),
    ] {
        let refused = bench(arguments).refused(2);
        assert!(refused.messages().starts_with(&format!("error: {message}\nhint: ")), "{}", refused.messages());
    }
}

#[test]
fn a_smoke_run_revokes_certificates_in_memory() {
    let summary = Bench::named("revocation", "--in-memory").smoke().run().exits(0).summary();
    let [herd, order] = both(&summary);
    assert_eq!(outcome_of(order, "ok"), 2);
    let [work] = &order["work"].as_array().unwrap()[..] else { panic!("{order:#}") };
    assert_eq!(
        (&work["name"], &work["claimed"], &work["found"]),
        (&"certificates revoked".into(), &10.into(), &10.into())
    );
    assert_eq!(herd["work"].as_array().unwrap().len(), 2, "{herd:#}");
    assert_schema(&summary);
}

#[test]
fn revocations_are_found_in_the_database() {
    needs!(Postgresql);
    // However slow the machine is, some answers come in the eleven seconds after.
    let arguments = "--batch 12 --per-request 5 --rate 80/s --revoke-at 1s --duration 12s";
    let finished = bench(arguments).run().worked();
    let summary = finished.summary();
    let [herd, order] = both(&summary);
    assert_work(herd, &[("certificates signed for the run", 12)]);
    assert_work(order, &[("audit rows of revocations", 3), ("certificates revoked", 12), ("revocations recorded", 12)]);
    assert!(observed(herd, "until every OCSP answer by GET says revoked")["duration_s"].is_number(), "{herd:#}");
    // Its cache lives an hour, and no revocation clears it.
    assert!(observed(herd, "until every revocation list shows all")["not_within_s"].is_number(), "{herd:#}");
}
