//! `--certctl`: a certctl is started from its binary, in a network of its own, and nothing of it is left. A stand-in
//! takes the binary's place.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use certctl_bench::provision::child::RunAs;
use certctl_bench::provision::postgres::{Cluster, find};
use certctl_bench::seed::Sizes;
use certctl_bench::system::certctl_binary::{BinaryChoice, ChosenSettings, FlagNames, PreparedCertctl};
use postgres::{Client, NoTls};
use rustix::process::{Signal, geteuid};
use serde_json::Value;

use crate::common::bench::{Bench, Finished, Running};
use crate::common::needs::needs;
use crate::common::process::{copy_program, descendants, forbid_unshare, send, until, write_script};
use crate::common::stand_in::{REPORT, StandIn, certctl};
use crate::common::summary::outcome;

const BRIEF: &str = "--rate 50/s --duration 500ms --agents 10";
/// A load that lasts until it is stopped.
const LONG: &str = "--rate 20/s --duration 10m --agents 2";

/// Returns a measured run of `agent_storm` at a stand-in.
fn at(stand_in: &StandIn, arguments: &str) -> Bench {
    let mut bench = Bench::new(arguments).measured();
    bench.command.args(certctl(&stand_in.program()));
    bench
}

/// Returns the choice of a stand-in in this process's network.
fn choice(stand_in: &StandIn) -> BinaryChoice {
    let flags = FlagNames::CERTCTL;
    let settings = ChosenSettings::new(&[], flags).unwrap();
    BinaryChoice {
        flags,
        program: stand_in.program(),
        migrations: None,
        settings,
        shares_network: true,
        patches: Vec::new(),
    }
}

/// Returns the temporary folders of a run.
fn folders_of(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir()).unwrap().flatten().map(|entry| entry.path());
    let is_of_run = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("certctl-bench-") && name.contains(&format!("-{pid}-"))
    };
    entries.filter(is_of_run).collect()
}

/// Returns the identifier of a process's network namespace.
fn network_of(pid: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/net")).unwrap().to_str().unwrap().to_owned()
}

/// The tunnels that kernels add to each network namespace, which are down.
const FALLBACK_TUNNELS: [&str; 9] =
    ["erspan0", "gre0", "gretap0", "ip6_vti0", "ip6gre0", "ip6tnl0", "ip_vti0", "sit0", "tunl0"];

/// Asserts that a stand-in's report shows a network with no way out; returns the network's identifier.
#[track_caller]
fn assert_closed(report: &str) -> &str {
    let (network, rest) = report.split_once('\n').unwrap();
    // Two lines of headings, and no route: those over loopback are in no table of /proc.
    let (interfaces, rest) = rest.split_once("Iface\tDestination").unwrap_or((rest, ""));
    let names = interfaces.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let real: Vec<&str> = names.filter(|name| !FALLBACK_TUNNELS.contains(name)).collect();
    assert_eq!(real, ["lo"], "{report}");
    assert_ne!(network, network_of("self"));
    let routes = rest.lines().skip(1).take_while(|line| line.split('\t').count() > 2).count();
    assert_eq!(routes, 0, "{report}");
    network
}

/// Returns the doctor at this program.
fn doctor(program: &Path) -> Bench {
    let mut bench = Bench::of(Path::new(env!("CARGO_BIN_EXE_certctl-bench")), "doctor");
    bench.command.args(certctl(program));
    bench
}

fn output(doctor: Bench) -> Finished {
    doctor.start_without_load().finish()
}

#[test]
fn a_started_certctl_is_patched_for_finalization() {
    needs!(Postgresql, Namespace);
    // As built: without the patch it answers 500.
    let stand_in = StandIn::new();
    let load = "--finalize --users 2 --keys-ahead 10 --duration 10m --warm-up 0s --max-requests 10";
    let mut bench = Bench::named("acme_enroll", load).measured();
    bench.command.args(certctl(&stand_in.program()));
    let run = bench.run();
    let summary = run.summary();
    assert_eq!(outcome(&summary, "ok"), 10, "{}", run.stdout);
    let how = "rows for empty references, no unique fingerprints: stock certctl cannot finalize ACME orders";
    assert_eq!(summary["system"]["settings"]["patched_database"], how);
    for text in [&run.stdout, run.text.as_ref().unwrap()] {
        assert!(text.contains(&format!("patched database ({how})")), "{text}");
    }
}

#[test]
fn a_certctl_is_started_loaded_and_removed() {
    needs!(Postgresql, Namespace);
    let stand_in = StandIn::new();
    let report = stand_in.report();
    let running = at(&stand_in, BRIEF).arguments(&format!("--certctl-env {REPORT}={}", report.display())).start();
    let pid = running.pid();
    let finished = running.finish().worked();
    assert_eq!(folders_of(pid), [] as [PathBuf; 0]);
    let summary = finished.summary();
    let system = &summary["system"];
    assert_eq!(system["binary_sha256"], stand_in.sha256().as_str());
    assert_eq!(system["migrations_sha256"], stand_in.migrations_sha256().as_str());
    let store = &system["store"];
    assert!(store.to_string().contains("\"private\":true"), "{store}");
    let settings = &system["settings"];
    assert_eq!(settings["network"], "loopback alone");
    assert_eq!(settings["patched_database"], Value::Null);
    assert!(settings["server_version"].is_string() && settings["fsync"] == "on", "{settings}");
    let given = &settings["certctl"];
    assert_eq!(given["CERTCTL_RATE_LIMIT_ENABLED"], "false");
    assert_eq!(given["CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL"], "24h");
    assert_eq!(given[REPORT], report.to_str().unwrap());
    // What differs in every run would make all runs incomparable.
    for name in ["CERTCTL_SERVER_PORT", "CERTCTL_DATABASE_URL", "CERTCTL_API_KEYS_NAMED"] {
        assert_eq!(given[name], Value::Null);
    }
    for text in [&finished.stdout, finished.text.as_ref().unwrap()] {
        assert!(text.contains(&format!("binary of SHA-256 {}\n", stand_in.sha256())), "{text}");
        assert!(text.contains(&format!("migrations of SHA-256 {}\n", stand_in.migrations_sha256())), "{text}");
        assert!(text.contains("network: loopback alone; settings: CERTCTL_ACME_SERVER_ENABLED=true\n"), "{text}");
    }
    assert_closed(&fs::read_to_string(&report).unwrap());
}

#[test]
fn the_run_and_its_certctl_share_a_network_of_loopback() {
    needs!(Postgresql, Namespace);
    let stand_in = StandIn::new();
    let report = stand_in.report();
    let mut running = at(&stand_in, LONG).arguments(&format!("--certctl-env {REPORT}={}", report.display())).start();
    running.wait_until_measuring();
    let report = fs::read_to_string(&report).unwrap();
    assert_eq!(assert_closed(&report), network_of(&running.pid().to_string()));
    // The rows that would have certctl call others are off in the database that the server has.
    let folders = folders_of(running.pid());
    let socket = folders.iter().find(|folder| folder.to_str().unwrap().contains("-pg-")).unwrap();
    let url = format!("host={} user=postgres dbname=certctl_1", socket.display());
    let mut client = Client::connect(&url, NoTls).unwrap();
    let count = |client: &mut Client, from: &str| -> i64 {
        client.query_one(&format!("SELECT count(*) FROM {from}"), &[]).unwrap().get(0)
    };
    assert_eq!(count(&mut client, "network_scan_targets WHERE enabled"), 0);
    assert_eq!(count(&mut client, "network_scan_targets"), 1);
    assert_eq!(count(&mut client, "issuers WHERE enabled"), 1);
    assert_eq!(count(&mut client, "issuers"), 2);
}

/// Asserts that a signal ends a run in this stage with nothing left of it.
#[track_caller]
fn leaves_nothing(start: impl Fn() -> Running, signal: Signal, stage: &str, reached: impl Fn(&Running) -> bool) {
    let mut running = start();
    until(stage, || {
        assert!(running.ended().is_none(), "{stage}: ended early: {}", running.stderr());
        reached(&running)
    });
    let (pid, started) = (running.pid(), descendants(running.pid()));
    assert!(!started.is_empty() && !folders_of(pid).is_empty(), "{stage}: nothing was started");
    running.signal(signal);
    until(&format!("{stage}: {signal:?} ends the run"), || running.ended().is_some());
    until(&format!("{stage}: all that was started is gone"), || !started.iter().any(|process| process.runs()));
    until(&format!("{stage}: folders are gone"), || folders_of(pid).is_empty());
}

#[test]
fn a_run_ended_by_a_signal_leaves_nothing_of_its_certctl() {
    needs!(Postgresql, Namespace);
    let stand_in = StandIn::new();
    let migrating = StandIn::with_script("exec sleep 1000");
    let silent = StandIn::that_then("exec sleep 1000");
    for signal in [Signal::KILL, Signal::TERM] {
        leaves_nothing(
            || at(&stand_in, LONG).start(),
            signal,
            "under load",
            |running| running.stderr().contains("measuring"),
        );
        for (stand_in, stage) in [(&migrating, "certctl migrates"), (&silent, "certctl is silent")] {
            leaves_nothing(
                || at(stand_in, LONG).start_without_load(),
                signal,
                stage,
                |running| descendants(running.pid()).iter().any(|process| process.name == "sleep"),
            );
        }
    }
}

#[test]
fn the_end_of_a_started_certctl_is_reported_with_its_log() {
    needs!(Postgresql, Namespace);
    const WHY: &str = "certctl: it ended after its start; it ended with signal: 9 (SIGKILL); it last wrote:";
    let stand_in = StandIn::that_serves_after("echo 'recognisable last words' >&2");
    let mut running = at(&stand_in, LONG).arguments("--abort-on-errors 50%/1s").start();
    running.wait_until_measuring();
    let started = running.started(&["certctl-referen"]);
    let server = started.iter().find(|process| process.name.starts_with("certctl-referen")).unwrap();
    send(server.pid, Signal::KILL);
    let finished = running.finish().invalid_or_breached();
    let why = format!("{WHY}; recognisable last words; ");
    let invalid = finished.summary()["invalid"].clone();
    assert!(invalid.as_array().unwrap().iter().any(|one| one.as_str().unwrap().starts_with(&why)), "{invalid}");
    assert!(finished.stdout.contains(&why), "{}", finished.stdout);

    // It ends before the preflight: its database kills it while agents are seeded.
    let report = stand_in.report();
    stand_in.add_to_demo_seed(&format!(
        "CREATE FUNCTION end_server() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
             COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; pid=$(sed -n s/^SERVER_PID=//p {}); kill -KILL $pid;
                 while [ -e /proc/$pid/exe ]; do sleep 0.01; done';
             RETURN NULL;
         END $body$;
         CREATE TRIGGER end_server AFTER INSERT ON agents EXECUTE FUNCTION end_server();",
        report.display()
    ));
    let ended = at(&stand_in, BRIEF).arguments(&format!("--certctl-env {REPORT}={}", report.display())).refused(1);
    assert!(ended.stderr.contains(&format!("error: {WHY}\nrecognisable last words\n")), "{}", ended.stderr);
}

#[test]
fn doctor_checks_a_certctl_that_it_starts() {
    needs!(Postgresql, Namespace);
    let stand_in = StandIn::new();
    for stand_in in [&stand_in, &StandIn::old()] {
        let checked = output(doctor(&stand_in.program())).exits(0);
        for line in ["ok    it is this certctl's database: ", "ok    agents 1 and 5000 of the fleet are seeded\n"] {
            assert!(checked.stdout.contains(line), "{}{}", checked.stdout, checked.stderr);
        }
        assert!(checked.stdout.ends_with(" 0 fail\n"), "{}", checked.stdout);
    }
    // An ordinary user makes the network within a user namespace.
    if geteuid().is_root()
        && let Some(nobody) = RunAs::named("nobody").unwrap()
    {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let program = folder.path().join("certctl-bench");
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        copy_program(env!("CARGO_BIN_EXE_certctl-bench"), &program);
        let report = stand_in.report();
        let mut copied = Bench::of(&program, "doctor");
        copied.command.args(certctl(&stand_in.program())).current_dir("/");
        let given = format!("{REPORT}={}", report.display());
        copied.command.args(["--certctl-env", &given]).uid(nobody.uid).gid(nobody.gid);
        let checked = output(copied);
        if checked.stderr.contains("making a network namespace") {
            needs!(else "this kernel forbids ordinary users to make namespaces");
        }
        assert!(checked.exits(0).stdout.ends_with(" 0 fail\n"));
        assert_closed(&fs::read_to_string(&report).unwrap());
    }
}

#[test]
fn without_a_network_of_its_own_certctl_is_not_started() {
    needs!(Postgresql);
    let stand_in = StandIn::new();
    let mut confined = doctor(&stand_in.program());
    forbid_unshare(&mut confined.command);
    let refused = confined.refused(1);
    let what = "error: making a network namespace with nothing but loopback, for certctl: Operation not permitted";
    assert!(refused.stderr.starts_with(what), "{}", refused.stderr);
    assert!(refused.stderr.contains("\nhint: run as "), "{}", refused.stderr);
    assert!(refused.stderr.ends_with(", or let certctl reach this machine's networks: --share-network\n"));
    assert_eq!(refused.stdout, "");
    let mut bench = at(&stand_in, BRIEF);
    forbid_unshare(&mut bench.command);
    let refused = bench.refused(1);
    assert!(refused.stderr.starts_with(what), "{}", refused.stderr);

    let report = stand_in.report();
    let mut sharing = doctor(&stand_in.program());
    forbid_unshare(&mut sharing.command);
    sharing.command.args(["--share-network", "--certctl-env", &format!("{REPORT}={}", report.display())]);
    let shared = output(sharing).exits(0);
    assert!(shared.stderr.contains("WARNING: --share-network: "), "{}", shared.stderr);
    assert_eq!(fs::read_to_string(&report).unwrap().lines().next(), Some(network_of("self").as_str()));
}

#[test]
fn a_setting_reaches_certctl_and_its_secrets_stay_hidden() {
    needs!(Postgresql, Namespace);
    const SECRET: &str = "recognisable-secret-0042";
    let stand_in = StandIn::new();
    let report = stand_in.report();
    let given = [
        format!("{REPORT}={}", report.display()),
        "CERTCTL_LOG_LEVEL=info".to_owned(),
        format!("CERTCTL_VAULT_TOKEN={SECRET}"),
        format!("CERTCTL_PROXY_URL=http://user:{SECRET}@proxy.example.test"),
        "GOMAXPROCS=1".to_owned(),
    ];
    let mut bench = at(&stand_in, BRIEF).env("CERTCTL_LOG_LEVEL", "debug");
    bench.command.args(given.iter().flat_map(|setting| ["--certctl-env", setting]));
    let finished = bench.run().worked();
    let seen = fs::read_to_string(&report).unwrap();
    for setting in &given {
        assert!(seen.lines().any(|line| line == setting), "{setting}: {seen}");
    }
    let settings = finished.summary()["system"]["settings"]["certctl"].clone();
    assert_eq!([&settings["CERTCTL_LOG_LEVEL"], &settings["GOMAXPROCS"]], ["info", "1"]);
    assert_eq!(settings["CERTCTL_VAULT_TOKEN"], "[secret]");
    let key = seen.lines().find_map(|line| line.strip_prefix("CERTCTL_CONFIG_ENCRYPTION_KEY=")).unwrap();
    for text in finished.everything() {
        assert!(!text.contains(SECRET) && !text.contains(key), "{text}");
    }

    // A server that prints all that it was given, and ends.
    let teller = StandIn::that_then("env >&2; exit 7");
    let mut at_teller = doctor(&teller.program());
    at_teller.command.args(["--certctl-env", &given[2]]);
    let failed = at_teller.refused(1);
    assert!(failed.stderr.contains("error: certctl: it ended before it answered; it ended with exit status: 7; "));
    assert!(failed.stderr.contains("CERTCTL_API_KEYS_NAMED=loadtest:[token]:admin"), "{}", failed.stderr);
    assert!(failed.stderr.contains("CERTCTL_VAULT_TOKEN=[secret]"), "{}", failed.stderr);
    assert!(failed.stderr.contains("CERTCTL_CONFIG_ENCRYPTION_KEY=[token]"), "{}", failed.stderr);
}

#[test]
fn what_is_no_certctl_is_one_clear_error() {
    needs!(Postgresql, Namespace);
    let fails = |program: &Path, code: i32, what: &str, hint: &str| {
        let failed = doctor(program).refused(code);
        assert!(failed.stderr.contains(what) && failed.stderr.contains(hint), "{}", failed.stderr);
        assert_eq!((failed.stdout.as_str(), failed.stderr.matches("error: ").count()), ("", 1), "{}", failed.stderr);
    };
    let hint = "\nhint: give the path of a certctl-server ";
    let dying = StandIn::with_script("echo 'no such database' >&2; exit 3");
    fails(&dying.program(), 1, "certctl's migrations: they failed; it ended with exit status: 3; ", "no such database");
    fails(&StandIn::with_script("exit 0").program(), 1, "made no table managed_certificates", hint);
    let settings = "\nhint: check its settings (--certctl-env), and that the migrations are of the binary's own commit";
    let stranger = StandIn::that_serves_after("CERTCTL_REFERENCE_TOKEN=another");
    fails(&stranger.program(), 1, "it is ready, but /api/v1/auth/check answers 401, and no permissions; ", settings);
    // As certctl, it goes on without its port.
    let deaf = StandIn::that_then("echo 'bind: address already in use' >&2; exec sleep 1000");
    fails(&deaf.program(), 1, "error: certctl: its port is taken; ", "\nhint: start again");
    let stand_in = StandIn::new();
    let missing = stand_in.program().with_file_name("nothing");
    fails(&missing, 2, "nothing: No such file or directory", hint);
    fails(missing.parent().unwrap(), 2, "it is not a program", hint);
    fails(&stand_in.demo_seed(), 2, "it is not a program", hint);
    // A program for another machine.
    let mut head = fs::read(env!("CARGO_BIN_EXE_certctl-bench")).unwrap()[..20].to_owned();
    head[18] ^= 1;
    write_script(&missing, "");
    fs::write(&missing, head).unwrap();
    fails(&missing, 2, "it is not a program for this machine", hint);
    write_script(&missing, "");
    fs::set_permissions(&missing, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fails(&missing, 2, "nothing: it may not be executed\nhint: run chmod +x ", "/nothing\n");

    // Its migrations are looked for around it alone.
    fs::rename(stand_in.demo_seed(), stand_in.demo_seed().with_extension("old")).unwrap();
    fails(&stand_in.program(), 2, "no migrations/seed_demo.sql in its folder", ": --certctl-migrations FOLDER\n");
    let nowhere = doctor(&stand_in.program()).arguments("--certctl-migrations /nonexistent").refused(2);
    assert!(nowhere.stderr.contains("--certctl-migrations /nonexistent: it has no seed_demo.sql"));
    let elsewhere = StandIn::new();
    let mut with_others = doctor(&stand_in.program());
    with_others.command.arg("--certctl-migrations").arg(elsewhere.demo_seed().parent().unwrap());
    output(with_others).exits(0);
    fs::write(elsewhere.demo_seed(), "INSERT INTO no_such_table VALUES (1)").unwrap();
    fails(&elsewhere.program(), 1, "seed_demo.sql: ERROR: relation \"no_such_table\" does not exist", "commit with");
}

#[test]
fn each_start_has_a_fresh_copy_of_one_database() {
    needs!(Postgresql);
    let stand_in = StandIn::new();
    let mut prepared = PreparedCertctl::new(choice(&stand_in), &mut |_| {}).unwrap();
    for agents in [20, 30] {
        let server = prepared.start(Sizes { agents, certificates: 40, ..Sizes::default() }, 0, &mut |_| {}).unwrap();
        let mut client = Client::connect(server.database.as_ref().unwrap(), NoTls).unwrap();
        let mut count = |sql: &str| -> i64 { client.query_one(sql, &[]).unwrap().get(0) };
        assert_eq!(count("SELECT count(*) FROM agents"), i64::try_from(agents).unwrap());
        assert_eq!(count("SELECT count(*) FROM managed_certificates"), 40);
        assert_eq!(count("SELECT count(*) FROM pg_database WHERE datname LIKE 'certctl_%'"), 2);
        let counts_statements = find().unwrap().has_statement_statistics();
        let extensions = count("SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'");
        assert_eq!(extensions, i64::from(counts_statements));
        client.batch_execute("INSERT INTO teams (id, name) VALUES ('t-first', 'first')").unwrap();
    }
}

#[test]
fn seeds_come_after_the_work_of_the_start() {
    needs!(Postgresql);
    let psql = find().unwrap().bin.join("psql");
    if !psql.is_file() {
        needs!(else "psql not found beside PostgreSQL's server programs (install postgresql-client)");
    }
    // A turn that has begun before the server answers, and ends long after that.
    let turn = r#"
        psql="PSQL -XAtq -d $CERTCTL_DATABASE_URL"
        $psql -c 'INSERT INTO turns SELECT 1 FROM pg_sleep(3)' </dev/null >&2 &
        began="SELECT (SELECT count(*) FROM turns) +
            (SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO turns%' AND state = 'active')"
        until [ "$($psql -c "$began")" = 1 ]; do sleep 0.05; done
    "#;
    let stand_in = StandIn::that_serves_after(&turn.replace("PSQL", psql.to_str().unwrap()));
    stand_in.add_to_demo_seed(
        "CREATE TABLE turns (number integer);
         CREATE TABLE turns_before_seeds (count bigint);
         CREATE FUNCTION count_turns() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
             INSERT INTO turns_before_seeds SELECT count(*) FROM turns;
             RETURN NULL;
         END $body$;
         CREATE TRIGGER count_turns AFTER INSERT ON agents EXECUTE FUNCTION count_turns();",
    );
    let mut prepared = PreparedCertctl::new(choice(&stand_in), &mut |_| {}).unwrap();
    let server = prepared.start(Sizes { agents: 20, certificates: 40, ..Sizes::default() }, 0, &mut |_| {}).unwrap();
    let mut client = Client::connect(server.database.as_ref().unwrap(), NoTls).unwrap();
    let turns: i64 = client.query_one("SELECT count FROM turns_before_seeds", &[]).unwrap().get(0);
    assert_eq!(turns, 1);
}

#[test]
fn rows_of_a_newer_demo_seed_are_not_foreign() {
    needs!(Postgresql, Namespace);
    let stand_in = StandIn::new();
    stand_in.add_to_demo_seed(
        "INSERT INTO agents (id, name, hostname, api_key_hash) VALUES ('ag-new', 'new', 'new.example.test', '');
         INSERT INTO managed_certificates (id, name, common_name, environment, owner_id, team_id, issuer_id,
             renewal_policy_id, status, expires_at)
         VALUES ('mc-new', 'new', 'new.example.test', 'demo', 'o-alice', 't-platform', 'iss-local', 'rp-standard',
             'Active', now());",
    );
    at(&stand_in, BRIEF).run().worked();
    let mut rescan = Bench::named("bulk_renewal", "--workload rescan --rate 20/s --duration 500ms").measured();
    rescan.command.args(certctl(&stand_in.program()));
    rescan.run().worked();
}

#[test]
fn flags_that_do_not_go_with_a_binary_are_refused() {
    let refused = |arguments: &str, what: &str| {
        let refused = Bench::new(arguments).measured().refused(2);
        assert!(refused.stderr.contains(what), "{arguments}: {}", refused.stderr);
    };
    for flag in
        ["--target https://localhost:1", "--database postgres://h/d", "--in-memory", "--behaviour as-documented"]
    {
        refused(&format!("--certctl /x {flag}"), "cannot be used with");
    }
    for flag in ["--share-network", "--certctl-env CERTCTL_X=1", "--certctl-migrations /x"] {
        refused(flag, " applies only to --certctl, which starts a certctl: leave it out");
    }
    refused(
        "--share-network --certctl /x --certctl-env CERTCTL_SERVER_PORT=1",
        "the suite itself sets it, to reach the certctl that it starts\nhint: leave it out, or ",
    );
    let both = Bench::new("--share-network --certctl /x").measured().env("CERTCTL_BASE", "https://localhost:1");
    let both = both.refused(2);
    assert!(both.stderr.contains("but CERTCTL_BASE names a running one"), "{}", both.stderr);
}

#[test]
fn flags_size_the_seeds_of_any_bench_target() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().unwrap(), &[]).unwrap();
    cluster.create_database("sized").unwrap();
    let arguments = "--agents 5001 --certificates 10002";
    Bench::named("api_tier", arguments).smoke().database(&cluster.url("sized")).run().exits(0);
    let mut client = Client::connect(&cluster.url("sized"), NoTls).unwrap();
    let mut count = |sql: &str| -> i64 { client.query_one(sql, &[]).unwrap().get(0) };
    assert_eq!(count("SELECT count(*) FROM agents WHERE id LIKE 'ag-loadtest-%'"), 5_001);
    assert_eq!(count("SELECT count(*) FROM managed_certificates WHERE id LIKE 'cert-loadtest-bulk-%'"), 10_002);
}
