//! `certctl-bench doctor`: each of its checks, once passed and once failed.
//!
//! These tests need PostgreSQL 15 or newer with `pg_stat_statements`, and are skipped without.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::common::needs::needs;
use crate::common::peer::{Peer, Request, Step, TOKEN, answer, certctl, json};
use crate::common::reference::{Reference, VIEWER_TOKEN};
use certctl_bench::provision::postgres::{Cluster, find};
use certctl_bench::system::reference::{self, ReferenceStart, StoreChoice};
use postgres::{Client, NoTls};

const LIMITER_UNSEEN: &str =
    "the rate limiter could not be checked: too few right answers to /health came, or too slowly";

/// The output of the doctor.
struct DoctorOutput {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl DoctorOutput {
    /// Asserts that it reports this finding, and under it this hint.
    #[track_caller]
    fn assert_reports(&self, finding: &str, hint: &str) {
        assert!(self.stdout.contains(&format!("{finding}\n      hint: {hint}")), "{finding}\n{}", self.stdout);
    }

    /// Asserts that it reports this as ok.
    #[track_caller]
    fn likes(&self, what: &str) {
        assert!(self.stdout.contains(&format!("ok    {what}")), "{what}\n{}", self.stdout);
    }

    /// Asserts that it reports the rate limiter as off. A machine may be so slow that this cannot be seen.
    #[track_caller]
    fn sees_no_limiter(&self) {
        if !self.stdout.contains(&format!("warn  {LIMITER_UNSEEN}")) {
            self.likes("the rate limiter is off\n");
        }
    }

    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(!self.stdout.contains(TOKEN) && !self.stderr.contains(TOKEN), "it shows the token");
        self
    }
}

/// Checks the system at `base`, with these arguments besides.
fn doctor(base: &str, ca_file: &Path, arguments: &[&str]) -> DoctorOutput {
    run(&[&["--target", base, "--ca-file", ca_file.to_str().unwrap()], arguments].concat())
}

fn run(arguments: &[&str]) -> DoctorOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-bench"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CERTCTL_")) {
        command.env_remove(name);
    }
    let output = command.arg("doctor").args(arguments).env("CERTCTL_TOKEN", TOKEN).stdin(Stdio::null()).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    DoctorOutput { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn at_peer(peer: &Peer, arguments: &[&str]) -> DoctorOutput {
    doctor(&peer.base(), &peer.ca_file(), arguments)
}

/// Answers as a certctl that is ready for every scenario.
fn ready(request: &Request) -> Vec<Step> {
    let permissions = [
        "agent.heartbeat",
        "agent.job.complete",
        "agent.job.poll",
        "agent.read",
        "cert.bulk_revoke",
        "cert.issue",
        "cert.read",
        "metrics.read",
    ];
    match request.path.as_str() {
        path if path.starts_with("/.well-known/pki/ocsp/") => answer(200, "application/ocsp-response", "a status"),
        _ if !request.path.starts_with("/api/v1/") && !request.path.starts_with("/acme/") => certctl(request),
        _ if request.token.is_none() => certctl(request),
        "/api/v1/auth/check" => {
            let list = permissions.map(|permission| format!("{{\"permission\":\"{permission}\"}}")).join(",");
            json(200, &format!("{{\"user\":\"loadtest\",\"effective_permissions\":[{list}]}}"))
        }
        "/api/v1/auth/runtime-config" => json(200, r#"{"runtime_config":{"CERTCTL_DEMO_MODE_ACK":"false"}}"#),
        "/api/v1/metrics/prometheus" => answer(200, "text/plain", "certctl_uptime_seconds 1800\n"),
        path if path.starts_with("/acme/") => directory(request),
        path if path.starts_with("/api/v1/agents/") || path.starts_with("/api/v1/certificates/") => {
            json(200, &format!("{{\"id\":\"{}\"}}", path.rsplit_once('/').unwrap().1))
        }
        _ => certctl(request),
    }
}

fn directory(request: &Request) -> Vec<Step> {
    directory_of(request, r#"{"newNonce":"BASE/n","newAccount":"BASE/a","newOrder":"BASE/o","renewalInfo":"BASE/r"}"#)
}

fn directory_of(request: &Request, fields: &str) -> Vec<Step> {
    let body = fields.replace("BASE", &format!("https://{}", request.host));
    let head = "HTTP/1.1 200 x\r\nContent-Type: application/json\r\nReplay-Nonce: abc\r\n";
    vec![Step::Send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into())]
}

/// Checks a certctl that is ready, but for one path.
fn ready_but(path: &'static str, reply: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> DoctorOutput {
    let peer = Peer::start(move |request| if request.path == path { reply(request) } else { ready(request) });
    at_peer(&peer, &[])
}

#[test]
fn a_ready_certctl_passes_every_check() {
    let peer = Peer::start(ready);
    let output = at_peer(&peer, &[]).exits(0);
    for what in [
        &format!("{} answers: full TLS1.3 ", peer.address()),
        "the server's certificate is valid for ",
        "healthy, and it reaches its database\n",
        "version 9.8.7 (abc1234)\n",
        "the token is known: \"loadtest\", with 8 permissions\n",
        "permission agent.heartbeat\n",
        "permission metrics.read\n",
        "keys of renewed certificates: job_drain can run with --keys agent only\n",
        "ACME answers only with the token, as certctl is built; profiles: prof-standard-tls\n",
        "the OCSP responder of iss-local answers\n",
        "agents 1 and 5000 of the fleet are seeded\n",
        "certificates 1 and 10000 of those to renew are seeded\n",
        "certificates that agents deploy are seeded; deploy_loop needs CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL=24h too\n",
        "certificates 1 and 1000 of a job drain are seeded\n",
        "file descriptors: ",
    ] {
        output.likes(what);
    }
    output.sees_no_limiter();
    output.assert_reports(
        "warn  PostgreSQL, background loops and side effects are not checked without its database",
        "give --database postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=disable\n",
    );
    assert!(output.stdout.ends_with(", 0 fail\n"), "{}", output.stdout);
}

#[test]
fn doctor_without_a_system_is_a_usage_error() {
    let output = run(&[]).exits(2);
    assert!(output.stderr.contains("none is named\nhint: give --target https://host:port, or set CERTCTL_BASE"));
    assert_eq!(output.stdout, "");
}

#[test]
fn doctor_reports_connection_faults() {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (peer, other) = (Peer::start(ready), Peer::start(ready));
    let output = doctor(&format!("https://{address}"), &peer.ca_file(), &[]).exits(1);
    output.assert_reports(
        &format!("{address}: Connection refused (os error 111)"),
        "start certctl there, or correct CERTCTL_BASE",
    );
    // It goes on with the checks that need no server.
    output.likes("file descriptors: ");
    let output = doctor(&peer.base(), &other.ca_file(), &[]).exits(1);
    assert!(output.stdout.contains(": the server's certificate is not trusted: "), "{}", output.stdout);
    let output = doctor("https://no-such-host.invalid", &peer.ca_file(), &[]).exits(1);
    assert!(output.stdout.contains("fail  looking up no-such-host.invalid: "), "{}", output.stdout);

    let in_days = |days: u64| SystemTime::now() + Duration::from_secs(days * 86_400 + 3_600);
    let peer = Peer::with_certificate(move |leaf| leaf.not_after = in_days(3).into(), ready);
    let hint = "give certctl a new one, and start it again\n";
    at_peer(&peer, &[]).exits(0).assert_reports("warn  the server's certificate expires in 3 days", hint);
    let peer = Peer::with_certificate(|leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1), ready);
    let output = run(&["--target", &peer.base(), "--insecure"]).exits(0);
    output.assert_reports("warn  the server's certificate has expired", hint);
    output.assert_reports(
        "warn  --insecure: the server's certificate is not verified, and may be that of an impostor",
        "give its authority's certificate with --ca-file FILE\n",
    );
    let peer = Peer::with_certificate(|leaf| leaf.not_before = rcgen::date_time_ymd(4_000, 1, 1), ready);
    let output = at_peer(&peer, &[]).exits(1);
    assert!(output.stdout.contains(": certificate not valid yet"), "{}", output.stdout);
    run(&["--target", &peer.base(), "--insecure"])
        .exits(0)
        .assert_reports("warn  the server's certificate is not valid yet", hint);
}

#[test]
fn doctor_reports_health_and_clock_faults() {
    let output = ready_but("/ready", |_| json(503, "{\"status\":\"db_unavailable\",\"error\":\"refused\"}")).exits(1);
    output.assert_reports(
        ": certctl does not reach its database: refused",
        "start PostgreSQL, or correct certctl's CERTCTL_DATABASE_URL\n",
    );
    output.likes("the token is known");
    let output = ready_but("/api/v1/version", |_| answer(200, "text/html", "<html></html>")).exits(1);
    assert!(output.stdout.contains("/api/v1/version answers 200 with HTML instead of JSON"), "{}", output.stdout);
    const HOUR: Duration = Duration::from_secs(3_600);
    for (which, time) in [("ahead of", SystemTime::now() + HOUR), ("behind", SystemTime::now() - HOUR)] {
        let date = httpdate::fmt_http_date(time);
        let output = ready_but("/health", move |_| {
            let body = "{\"status\":\"healthy\"}";
            let head = format!("HTTP/1.1 200 x\r\nDate: {date}\r\nContent-Type: application/json\r\n");
            vec![Step::Send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into())]
        });
        let output = output.exits(0);
        assert!(
            output.stdout.contains(&format!("s {which} this machine's\n      hint: synchronise both clocks by NTP")),
            "{}",
            output.stdout
        );
    }
}

#[test]
fn doctor_reports_token_and_permission_faults() {
    let reference = Reference::start(&[]);
    let output = doctor(&reference.base(), &reference.ca_file(), &["--token", "another"]).exits(1);
    output.assert_reports(
        ": the token is not known: Invalid API key",
        "set CERTCTL_TOKEN to a key of certctl's CERTCTL_API_KEYS_NAMED (name:key:admin)\n",
    );
    output.sees_no_limiter();
    let output = doctor(&reference.base(), &reference.ca_file(), &["--token", VIEWER_TOKEN]).exits(1);
    let admin = "use an admin key: CERTCTL_API_KEYS_NAMED=name:key:admin (any other key is read-only), or grant ";
    for (permission, without, role) in [
        ("agent.heartbeat", "agent_storm and job_drain cannot run", "r-agent\n"),
        ("agent.job.complete", "deploy_loop and job_drain cannot run", "r-agent\n"),
        ("agent.job.poll", "agent_storm cannot poll for work, and deploy_loop and job_drain cannot run", "r-agent\n"),
        ("cert.issue", "issuance_acceptance, bulk_renewal, deploy_loop and job_drain cannot run", "r-operator\n"),
    ] {
        let finding = format!("the token of \"viewer\" lacks the permission {permission}: {without}");
        output.assert_reports(&finding, &format!("{admin}{role}"));
    }
    output.likes("permission cert.read");
    output.assert_reports(
        "warn  version certctl-reference 0.1.0: a reference server, not certctl",
        "do not take its figures for certctl's\n",
    );
    // The further findings for a token without any permission.
    let output =
        ready_but("/api/v1/auth/check", |_| json(200, "{\"user\":\"u\",\"effective_permissions\":[]}")).exits(1);
    assert!(
        output.stdout.contains("fail  https://")
            && output
                .stdout
                .contains("cert.read: list_certificates, bulk_renewal, deploy_loop and job_drain cannot run")
    );
    assert!(
        output.stdout.contains("agent.read: the seeds of the fleet are not checked\n      hint: use an admin key"),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.contains("warn  https://") && output.stdout.contains("metrics.read: results lack certctl's own")
    );
}

#[test]
fn doctor_reports_an_active_rate_limiter() {
    // It lets a hundred requests pass.
    let requests = AtomicU64::new(0);
    let peer = Peer::start(move |request| match requests.fetch_add(1, Ordering::SeqCst) {
        0..100 => ready(request),
        _ => answer(429, "text/plain", "{\"error\":\"Rate limit exceeded\"}\n"),
    });
    at_peer(&peer, &[]).exits(1).assert_reports(
        ": certctl's rate limiter is on and would answer most requests with 429",
        "start certctl with CERTCTL_RATE_LIMIT_ENABLED=false\n",
    );
    let limited = |output: &DoctorOutput| {
        let on = ": certctl's rate limiter is on and would answer most requests with 429\n";
        assert_eq!(output.stdout.matches(on).count(), 1, "{}", output.stdout);
        assert!(!output.stdout.contains("rate limiter is off"), "{}", output.stdout);
        assert!(!output.stdout.contains("rate limiter could not be checked"), "{}", output.stdout);
    };
    // A limiter of the API alone, as a proxy may have.
    let peer = Peer::start(|request| match request.path.starts_with("/api/v1/") {
        true => answer(429, "text/plain", "{\"error\":\"Rate limit exceeded\"}\n"),
        false => ready(request),
    });
    limited(&at_peer(&peer, &[]).exits(1));
    let reference = Reference::start(&["--rate-limit"]);
    // The limiter refills: a machine that sends slowly never meets it, and must not report it as off.
    let output = doctor(&reference.base(), &reference.ca_file(), &[]);
    if !output.stdout.contains(LIMITER_UNSEEN) {
        limited(&output.exits(1));
    }
}

#[test]
fn a_failing_server_gets_no_address_hint() {
    let failing = |_: &Request| answer(500, "text/plain", &format!("panic: {TOKEN} is no key\n"));
    let peer = Peer::start(failing);
    let output = at_peer(&peer, &[]).exits(1);
    for path in ["/health", "/api/v1/version", "/api/v1/auth/check"] {
        let finding = format!("{}{path} answers 500: panic: [token] is no key", peer.base());
        output.assert_reports(&finding, "check certctl's log, or that of the proxy in front of it\n");
    }
    output.assert_reports(
        &format!("warn  {LIMITER_UNSEEN}"),
        "fix what keeps it from answering, then run doctor again\n",
    );
    assert!(!output.stdout.contains("ok    the rate limiter"), "{}", output.stdout);
    let output = ready_but("/api/v1/version", |_| json(500, "{\"error\":\"no\"}")).exits(1);
    assert!(output.stdout.contains("/api/v1/version answers 500: {\"error\":\"no\"}\n"), "{}", output.stdout);
    output.sees_no_limiter();
}

#[test]
fn doctor_checks_acme_seeds_and_metrics() {
    let path = "/acme/profile/prof-standard-tls/directory";
    let output = ready_but(path, |_| answer(200, "text/html", "<!DOCTYPE html><title>certctl</title>")).exits(1);
    output.assert_reports(
        &format!("{path} is a page of certctl's dashboard, which hides its ACME server"),
        "run certctl from a folder without web/, so that it serves only its API\n",
    );
    ready_but(path, directory).exits(0).likes("ACME answers with and without the token; profiles: prof-standard-tls\n");

    let output = ready_but(path, |request| {
        directory_of(request, r#"{"newNonce":"BASE/n","newAccount":"BASE/a","newOrder":"BASE/o"}"#)
    });
    output.exits(1).assert_reports(
        ": the ACME server has no renewalInfo",
        "start certctl with CERTCTL_ACME_SERVER_ARI_ENABLED=true\n",
    );

    let missing = |_: &Request| json(404, "{\"message\":\"not found\"}");
    ready_but("/api/v1/agents/ag-loadtest-05000", missing)
        .exits(1)
        .assert_reports(": agent 5000 of the fleet is not seeded (404: not found)", SEED);
    ready_but("/api/v1/certificates/cert-loadtest-bulk-10000", missing)
        .exits(1)
        .assert_reports(": certificate 10000 of those to renew is not seeded (404: not found)", SEED);
    ready_but("/api/v1/certificates/cert-loadtest-deploy-00001", missing).exits(0).assert_reports(
        ": certificate 1 of those that agents deploy is not seeded (404: not found): deploy_loop cannot run",
        "run `certctl-bench seed --deployments 20 --database URL` with the URL of certctl's own database\n",
    );
    ready_but("/api/v1/certificates/cert-loadtest-drain-01000", missing).exits(0).assert_reports(
        ": certificate 1000 of the drain is not seeded (404: not found): job_drain cannot run with its defaults",
        "run `certctl-bench seed --agents 5000 --drain 1000 --database URL` with the URL of certctl's own database\n",
    );
    let output = ready_but("/api/v1/metrics/prometheus", missing).exits(0);
    assert!(
        output.stdout.contains("/api/v1/metrics/prometheus: answers 404 instead of metrics\n"),
        "{}",
        output.stdout
    );
}

const SEED: &str = "run `certctl-bench seed --database URL` with the URL of certctl's own database\n";

/// As much of certctl's schema as the doctor reads, with a row of each kind that disturbs a run.
const DISTURBED: &str = "
    CREATE TABLE agents (id text, status text, last_heartbeat_at timestamptz, retired_at timestamptz);
    INSERT INTO agents VALUES ('ag-loadtest-00001', 'Online', now(), NULL), ('ag-loadtest-00002', 'Offline', now(), now()),
        ('ag-web-prod', 'Online', now() - interval '3 minutes', NULL);
    CREATE TABLE managed_certificates (id text, status text, expires_at timestamptz);
    INSERT INTO managed_certificates VALUES ('cert-loadtest-bulk-00001', 'RenewalInProgress', now() + interval '1 day'),
        ('cert-loadtest-bulk-00002', 'Active', now() + interval '30 days'), ('mc-far', 'Active', now() + interval '32 days'),
        ('mc-revoked', 'Revoked', now() + interval '1 day'),
        ('cert-loadtest-drain-00001', 'Active', now() + interval '40 days'),
        ('cert-loadtest-drain-00002', 'Active', now() + interval '40 days');
    CREATE TABLE deployment_targets (id text, agent_id text);
    INSERT INTO deployment_targets VALUES ('t-1', 'ag-loadtest-00001'), ('t-2', 'ag-web-prod');
    CREATE TABLE certificate_target_mappings (certificate_id text, target_id text);
    INSERT INTO certificate_target_mappings VALUES ('cert-loadtest-drain-00001', 't-1'),
        ('cert-loadtest-drain-00002', 't-2');
    INSERT INTO managed_certificates SELECT 'mc-' || n, 'Expired', now() - interval '1 day' FROM generate_series(1, 1001) n;
    CREATE TABLE jobs (id text, status text);
    INSERT INTO jobs VALUES ('j-1', 'Pending'), ('j-2', 'Pending'), ('j-3', 'Completed');
    CREATE TABLE network_scan_targets (id text, enabled bool);
    INSERT INTO network_scan_targets VALUES ('nst-1', true), ('nst-2', false);
    CREATE TABLE issuers (id text, enabled bool);
    INSERT INTO issuers VALUES ('iss-local', true), ('iss-vault', true), ('iss-off', false);
    CREATE TABLE certificate_profiles (id text);
    INSERT INTO certificate_profiles VALUES ('prof-b'), ('prof-a');
    CREATE TABLE audit_events (resource_type text, resource_id text);";

#[test]
fn doctor_reports_background_loops() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().unwrap(), &[]).unwrap();
    cluster.create_database("disturbed").unwrap();
    let url = cluster.url("disturbed");
    Client::connect(&url, NoTls).unwrap().batch_execute(DISTURBED).unwrap();
    let peer = Peer::start(ready);
    let output = at_peer(&peer, &["--database", &url]).exits(1);
    output.likes("ACME answers only with the token, as certctl is built; profiles: prof-a, prof-b\n");
    for (finding, hint) in [
        ("fail  seeded rows of agents: 2 of the 5000 that scenarios need", SEED),
        ("fail  seeded rows of managed_certificates: 2 of the 10000 that scenarios need", SEED),
        ("fail  seeded agents that are retired: 1", "UPDATE agents SET retired_at = NULL"),
        (
            "warn  seeded certificates that are in renewal, so that it cannot be started: 1",
            "run `certctl-bench seed --reset --database URL` to put them back\n",
        ),
        (
            "warn  certificates of a job drain that map to no agent of the fleet, so that none renews them: 1",
            "run `certctl-bench seed --reset --database URL`, or job_drain with that database: it maps them\n",
        ),
        (
            "warn  renewal scan (hourly, next in about 30 min unless its interval was changed): it processes 1 \
             certificates, ten statements or more each, and leaves them in renewal",
            "start certctl with CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL=24h",
        ),
        (
            "warn  short-lived expiry: every 30 s it reads the 1001 certificates that expired",
            "start certctl with CERTCTL_SHORT_LIVED_EXPIRY_CHECK_INTERVAL=24h",
        ),
        ("warn  job processor: within 30 s it works on 2 pending jobs", "let it finish"),
        ("warn  agent health sweep: within 2 min it puts 1 silent agents Offline, one by one", "wait for it"),
        (
            "fail  network scan: certctl dials the networks of 1 enabled targets",
            "UPDATE network_scan_targets SET enabled = false",
        ),
        ("warn  issuers besides iss-local that certctl may call: 1", "UPDATE issuers SET enabled = false"),
        (
            "fail  it is not this certctl's database: its audit log does not show this suite's request",
            "give --database the URL in certctl's CERTCTL_DATABASE_URL",
        ),
    ] {
        output.assert_reports(finding, hint);
    }
    let seeded =
        "INSERT INTO agents SELECT 'ag-loadtest-' || n, 'Online', now(), NULL FROM generate_series(10003, 15000) n;
        INSERT INTO managed_certificates
        SELECT 'cert-loadtest-bulk-' || n, 'Active', now() FROM generate_series(10003, 20000) n";
    Client::connect(&url, NoTls).unwrap().batch_execute(seeded).unwrap();
    let output = at_peer(&peer, &["--database", &url]);
    output.likes("seeded rows of agents: 5000, 4999 of them Online\n");
    output.likes("seeded rows of managed_certificates: 10000, 9999 of them not in renewal\n");
    let calm = "TRUNCATE agents, managed_certificates, jobs, network_scan_targets, issuers, certificate_profiles";
    Client::connect(&url, NoTls).unwrap().batch_execute(calm).unwrap();
    let output = at_peer(&peer, &["--database", &url]).exits(1);
    output.assert_reports(
        "fail  certificate_profiles is empty: the ACME scenarios cannot run",
        "start certctl with CERTCTL_DEMO_SEED",
    );
    for what in [
        "no seeded agent is retired\n",
        "no seeded certificate is in renewal\n",
        "every certificate of a job drain maps to an agent of the fleet\n",
        "renewal scan: no certificate is due\n",
        "short-lived expiry: it reads few rows\n",
        "job processor: nothing is pending\n",
        "agent health sweep: no agent is silent\n",
        "network scan: no target is enabled\n",
        "no issuer but iss-local is enabled\n",
    ] {
        output.likes(what);
    }
}

#[test]
fn doctor_checks_the_postgresql_settings() {
    needs!(Postgresql);
    let poor = [
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("max_connections", "20"),
        ("shared_buffers", "16MB"),
        ("autovacuum", "off"),
        ("shared_preload_libraries", ""),
    ];
    let cluster = Cluster::start(&find().unwrap(), &poor).unwrap();
    cluster.create_database("poor").unwrap();
    let peer = Peer::start(ready);
    let output = at_peer(&peer, &["--database", &cluster.url("poor")]).exits(1);
    for (finding, hint) in [
        (
            "fail  17 connections allowed, 0 of them used by other databases; certctl's pool opens up to 50, and this suite \
             5",
            "raise max_connections to 100",
        ),
        ("warn  fsync off, synchronous_commit off: writes are faster than a durable database's", "set both to on"),
        ("warn  shared_buffers 16MB, less than PostgreSQL's default", "set shared_buffers to 128MB or more"),
        ("warn  autovacuum is off: tables bloat from run to run", "set autovacuum to on"),
        ("warn  the database does not have the extension pg_stat_statements", "start PostgreSQL with"),
        (
            "fail  the database lacks tables of certctl: agents, certificate_target_mappings, issuers, jobs, \
             managed_certificates, network_scan_targets",
            "give --database the URL of certctl's own database",
        ),
    ] {
        output.assert_reports(finding, hint);
    }
    output.likes("PostgreSQL ");
    // The database's clock is this machine's.
    const HOUR: Duration = Duration::from_secs(3_600);
    for (which, time) in [("ahead of", SystemTime::now() + HOUR), ("behind", SystemTime::now() - HOUR)] {
        let date = httpdate::fmt_http_date(time);
        let early_or_late = Peer::start(move |request| match request.path.as_str() {
            "/health" => {
                let body = "{\"status\":\"healthy\"}";
                let head = format!("HTTP/1.1 200 x\r\nDate: {date}\r\nContent-Type: application/json\r\n");
                vec![Step::Send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into())]
            }
            _ => ready(request),
        });
        let output = at_peer(&early_or_late, &["--database", &cluster.url("poor")]).exits(1);
        output.assert_reports(
            &format!("s {which} its database's: agent_storm would not find its heartbeats"),
            "synchronise both clocks by NTP",
        );
        assert!(output.stdout.contains("fail  certctl's clock is 3"), "{}", output.stdout);
    }
    output.likes("no table that grows from run to run\n");

    let output = at_peer(&peer, &["--database", "postgres://u:recognisable-password@127.0.0.1:1/d"]).exits(1);
    assert!(output.stdout.contains("fail  connecting to postgres://u:***@127.0.0.1:1/d"), "{}", output.stdout);
    assert!(!output.stdout.contains("recognisable-password") && !output.stderr.contains("recognisable-password"));
}

#[test]
fn doctor_recognises_a_reference_server_and_its_database() {
    needs!(Postgresql);
    let binary = Path::new(env!("CARGO_BIN_EXE_certctl-reference"));
    let target = reference::start(&ReferenceStart::new(binary, StoreChoice::Auto), &mut |_| {}).unwrap();
    let url = target.database.as_ref().unwrap();
    let base = target.base.to_string();
    let arguments = ["--target", &base, "--insecure", "--token", target.token.reveal(), "--database", url];
    let output = run(&arguments);
    assert!(!output.stdout.contains(target.token.reveal()));
    for what in [
        "it is this certctl's database: its audit log shows this suite's request\n",
        "agents 1 and 5000 of the fleet are seeded\n",
        "no background loops: a reference server has none\n",
        "fsync on, synchronous_commit on\n",
        "certctl's clock and its database's agree within 2 s\n",
        "97 connections allowed, 0 of them used by other databases\n",
        "shared_buffers 128MB\n",
        "autovacuum is on\n",
        "pg_stat_statements can be read\n",
        "audit_events about ",
    ] {
        output.likes(what);
    }
    let mut owner = Client::connect(url, NoTls).unwrap();
    owner.batch_execute("CREATE ROLE guest LOGIN").unwrap();
    let guest = url.replace("postgres@", "guest@");
    let output = run(&[&arguments[..6], &[&guest]].concat()).exits(1);
    output.assert_reports(
        "warn  pg_stat_statements hides statements of other roles",
        "GRANT pg_read_all_stats to the database URL's",
    );
    assert!(output.stdout.contains("fail  looking for certctl's audit rows: "), "{}", output.stdout);
}
