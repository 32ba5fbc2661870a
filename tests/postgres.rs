//! A private PostgreSQL, and its child processes: started, used, stopped, and gone however this process ends.
//!
//! These tests need PostgreSQL 15 or newer and are skipped without.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use certctl_bench::provision::child::{Child, RunAs, Spec};
use certctl_bench::provision::postgres::{BIN_VARIABLE, Cluster, PostgresInstallation, find};
use common::needs::needs;
use common::process::{PATIENCE, Process, copy_program, descendants, until, write_script};
use postgres::{Client, NoTls};
use rustix::process::{Signal, geteuid};

const ROLE: &str = "CERTCTL_BENCH_TEST_ROLE";

// The cluster ---------------------------------------------------------------------------------------------------------

#[test]
fn a_cluster_answers_and_leaves_nothing_behind() {
    needs!(Postgresql);
    let mut cluster = cluster();
    let (pid, folder) = (cluster.pid().unwrap(), cluster.folder().to_owned());
    assert!(alive(pid));
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700, "others could enter");

    cluster.create_database("odd \"name\" %41").unwrap();
    let again = cluster.create_database("odd \"name\" %41").unwrap_err().to_string();
    assert!(again.contains("odd") && again.contains("exists"), "{again}");
    let mut client = Client::connect(&cluster.url("odd \"name\" %41"), NoTls).unwrap();
    let name: String = client.query_one("SELECT current_database()::text", &[]).unwrap().get(0);
    assert_eq!(name, "odd \"name\" %41");
    let by_tcp: String = client.query_one("SHOW listen_addresses", &[]).unwrap().get(0);
    assert_eq!(by_tcp, "", "it must not listen on TCP");
    if installation().has_statement_statistics() {
        client.query_one("SELECT FROM pg_stat_statements WHERE query LIKE 'SELECT current_database%'", &[]).unwrap();
    }

    assert_eq!(cluster.settings()["fsync"], "on");
    assert_eq!(cluster.settings()["synchronous_commit"], "on");
    assert_eq!(cluster.settings()["max_connections"], "100");
    assert!(cluster.version().starts_with(cluster.settings()["server_version"].split(' ').next().unwrap()));

    cluster.stop().unwrap();
    cluster.stop().unwrap();
    assert!(!alive(pid));
    assert!(!folder.exists());
    assert_eq!(users_of(&folder), Vec::<String>::new());
}

#[test]
fn a_restarted_cluster_keeps_its_data_and_ends_sessions() {
    needs!(Postgresql);
    let mut cluster = cluster();
    let (pid, folder) = (cluster.pid().unwrap(), cluster.folder().to_owned());
    let mut before = Client::connect(&cluster.url("postgres"), NoTls).unwrap();
    before.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").unwrap();
    for _ in 0..2 {
        cluster.restart().unwrap();
    }
    assert!(!alive(pid) && before.batch_execute("SELECT 1").is_err());
    let mut client = Client::connect(&cluster.url("postgres"), NoTls).unwrap();
    assert_eq!(client.query_one("SELECT n FROM kept", &[]).unwrap().get::<_, i32>(0), 7);
    let now = cluster.pid().unwrap();
    assert!(now != pid && alive(now));
    drop(cluster);
    assert!(!alive(now) && !folder.exists());
}

#[test]
fn the_url_works_for_the_async_client() {
    needs!(Postgresql);
    let cluster = cluster();
    let url = cluster.url("postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let one: i32 = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one("SELECT 1", &[]).await.unwrap().get(0)
    });
    assert_eq!(one, 1);
    // Stopping needs no client, so it is safe inside a runtime.
    runtime.block_on(async { drop(cluster) });
}

#[test]
fn two_clusters_run_at_once_and_stop_on_drop() {
    needs!(Postgresql);
    let folders: Vec<PathBuf> = thread::scope(|scope| {
        let starts: Vec<_> = (0..2).map(|_| scope.spawn(cluster)).collect();
        let clusters: Vec<Cluster> = starts.into_iter().map(|start| start.join().unwrap()).collect();
        // The threads that started them have ended; no death signal must have followed.
        for cluster in &clusters {
            Client::connect(&cluster.url("postgres"), NoTls).unwrap();
        }
        clusters.iter().map(|cluster| cluster.folder().to_owned()).collect()
    });
    assert_ne!(folders[0], folders[1]);
    for folder in folders {
        assert!(!folder.exists());
        assert_eq!(users_of(&folder), Vec::<String>::new());
    }
}

#[test]
fn extra_settings_override_the_defaults() {
    needs!(Postgresql);
    let cluster = Cluster::start(&installation(), &[("fsync", "off"), ("max_connections", "20")]).unwrap();
    assert_eq!(cluster.settings()["fsync"], "off");
    assert_eq!(cluster.settings()["max_connections"], "20");
}

#[test]
fn a_killed_parent_leaves_nothing_behind() {
    needs!(Postgresql);
    for end in ["killed", "exit"] {
        let (mut parent, report) = helper(if end == "exit" { "cluster, then exit" } else { "cluster" }, None, &[]);
        let (pid, folder) =
            report.split_once(' ').map(|(pid, folder)| (pid.parse().unwrap(), PathBuf::from(folder))).unwrap();
        let mut keepers = descendants(parent.id());
        keepers.retain(|process| process.name == "sh");
        // The death signal ends the postmaster, not the removal of its folder some time later.
        let pauses: Vec<_> = keepers.iter().map(Process::pause).collect();
        if end == "killed" {
            assert!(alive(pid) && folder.exists() && !keepers.is_empty());
            parent.kill().unwrap();
        }
        parent.wait().unwrap();
        until(&format!("{end}: the postmaster, pid {pid}, is gone"), || !alive(pid));
        drop(pauses);
        until(&format!("{end}: {} is gone", folder.display()), || !folder.exists() && users_of(&folder).is_empty());
    }
}

#[test]
fn a_parent_killed_during_initdb_leaves_nothing_behind() {
    needs!(Postgresql);
    let mut parent = helper_command(&std::env::current_exe().unwrap(), "cluster").spawn().unwrap();
    let prefix = format!("certctl-bench-pg-{}-", parent.id());
    until("initdb is at work", || folders(&prefix).iter().any(|folder| folder.join("data/PG_VERSION").exists()));
    let folder = folders(&prefix).remove(0);
    parent.kill().unwrap();
    parent.wait().unwrap();
    until(&format!("{} is gone", folder.display()), || !folder.exists() && users_of(&folder).is_empty());
}

#[test]
fn a_cluster_starts_for_every_user() {
    needs!(Postgresql);
    if !geteuid().is_root() {
        // The other tests have shown it for this user then, and no other is available.
        return;
    }
    let users: Vec<RunAs> = ["postgres", "nobody"].iter().filter_map(|name| RunAs::named(name).unwrap()).collect();
    assert!(!users.is_empty());
    for user in users {
        let (mut parent, report) = helper("cluster", Some(user), &[]);
        let (pid, folder) = report.split_once(' ').unwrap();
        assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), user.uid);
        // The end of its stdin makes the helper stop the cluster and end.
        drop(parent.stdin.take());
        assert!(parent.wait().unwrap().success());
        assert!(!Path::new(folder).exists());
    }
    // And as root the server is not root.
    let cluster = cluster();
    assert_ne!(fs::metadata(format!("/proc/{}", cluster.pid().unwrap())).unwrap().uid(), 0);
}

#[test]
fn an_unfit_temporary_folder_is_skipped() {
    needs!(Postgresql);
    let long = tempfile::Builder::new().prefix(&"long".repeat(30)).tempdir().unwrap();
    let (mut parent, report) = helper("cluster", None, &[("TMPDIR", long.path().to_str().unwrap())]);
    assert!(report.contains(" /tmp/certctl-bench-pg-"), "{report}");
    drop(parent.stdin.take());
    assert!(parent.wait().unwrap().success());
}

#[test]
fn a_cluster_that_cannot_start_leaves_nothing_behind() {
    needs!(Postgresql);
    let (mut parent, report) = helper("bad setting", None, &[]);
    assert!(report.contains("the private PostgreSQL") && report.contains("exit status: 1"), "{report}");
    assert!(report.contains("no_such_setting"), "the server's own words are missing: {report}");
    parent.wait().unwrap();
    assert_eq!(folders(&format!("certctl-bench-pg-{}-", parent.id())), Vec::<PathBuf>::new());
}

#[test]
fn a_wrong_or_old_bin_folder_is_an_error() {
    let old = tempfile::tempdir().unwrap();
    for program in ["postgres", "initdb"] {
        write_script(&old.path().join(program), "echo 'postgres (PostgreSQL) 14.9'");
    }
    for (bin, why) in [("/nonexistent", "no `postgres` in it"), (old.path().to_str().unwrap(), "14.9 is older than 15")]
    {
        let (_parent, report) = helper("find", None, &[(BIN_VARIABLE, bin)]);
        assert!(report.starts_with("Usage") && report.contains(BIN_VARIABLE), "{report}");
        assert!(report.contains(bin) && report.contains(why) && report.contains("hint:"), "{report}");
    }
}

// Children ------------------------------------------------------------------------------------------------------------

#[test]
fn a_child_reports_readiness() {
    let mut child = shell("echo '{\"ready\":true}'; echo more; exec cat", Spec::default());
    assert_eq!(child.wait_for_line(PATIENCE).unwrap(), "{\"ready\":true}");
    assert!(child.exited().unwrap().is_none());
    // The closed stdin is enough for `cat`.
    assert!(child.stop(PATIENCE).unwrap().success());
    assert!(child.stop(PATIENCE).unwrap().success());
}

#[test]
fn a_child_that_ends_early_is_reported_with_its_stderr() {
    let error = shell("echo 'no port' >&2; exit 3", Spec::default()).wait_for_line(PATIENCE).unwrap_err().to_string();
    assert!(error.contains("a shell") && error.contains("exit status: 3") && error.contains("no port"), "{error}");
    // Even when a grandchild keeps stdout open.
    let error =
        shell("sleep 60 2>/dev/null & exit 4", Spec::default()).wait_for_line(PATIENCE).unwrap_err().to_string();
    assert!(error.contains("exit status: 4") && error.contains("nothing to stderr"), "{error}");
}

#[test]
fn a_silent_child_times_out() {
    let mut child = shell("exec cat", Spec::default());
    let error = child.wait_for_line(Duration::from_millis(50)).unwrap_err().to_string();
    assert!(error.contains("50ms") && error.contains("still running"), "{error}");
}

#[test]
fn a_missing_program_is_named() {
    let error = Child::spawn("a ghost", Command::new("/nonexistent/ghost"), Spec::default()).unwrap_err().to_string();
    assert!(error.contains("a ghost") && error.contains("/nonexistent/ghost"), "{error}");
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_with_its_group() {
    let spec = Spec { stop_signal: Some(Signal::TERM), ..Spec::default() };
    let mut child = shell("trap '' TERM; sleep 600 & echo $!; wait; sleep 600", spec);
    let grandchild = child.wait_for_line(PATIENCE).unwrap().parse().unwrap();
    let began = Instant::now();
    let status = child.stop(Duration::from_millis(50)).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::KILL.as_raw()));
    assert!(began.elapsed() < PATIENCE / 2);
    until("the grandchild is gone", || !alive(grandchild));
}

#[test]
fn a_verbose_child_does_not_block_and_its_tail_is_kept() {
    let mut child = shell("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1", Spec::default());
    assert!(child.wait(PATIENCE).unwrap().is_some());
    until("all of it was read", || child.stderr_tail().ends_with("the end\n"));
    assert!(child.stderr_tail().len() <= 8 * 1024);
}

#[test]
fn a_child_outlives_the_thread_that_spawned_it() {
    let mut child = thread::spawn(|| shell("exec cat", Spec::default())).join().unwrap();
    assert!(child.wait(Duration::from_millis(100)).unwrap().is_none());
}

#[test]
fn a_child_drops_supplementary_groups_with_its_user() {
    if !geteuid().is_root() {
        return;
    }
    let user = RunAs::named("nobody").unwrap().expect("the user nobody");
    let spec = Spec { run_as: Some(user), ..Spec::default() };
    let mut child = shell("echo $(id -u) $(id -g) $(grep Groups /proc/self/status)", spec);
    assert_eq!(child.wait_for_line(PATIENCE).unwrap(), format!("{} {} Groups:", user.uid, user.gid));
    assert_eq!(RunAs::named("no such user").unwrap(), None);
}

// Helpers -------------------------------------------------------------------------------------------------------------

/// Not a test: the work of a re-executed copy of this program, in a process that may be killed.
#[test]
#[ignore = "run by the other tests"]
fn helper_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let report = match role.as_str() {
        "find" => find().map_or_else(|error| format!("{:?} {error}", error.kind()), |found| format!("{found:?}")),
        "bad setting" => Cluster::start(&installation(), &[("no_such_setting", "1")]).unwrap_err().to_string(),
        "cluster" | "cluster, then exit" => {
            let cluster = cluster();
            println!("REPORT {} {}", cluster.pid().unwrap(), cluster.folder().display());
            if role == "cluster, then exit" {
                std::process::exit(0);
            }
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            return;
        }
        role => panic!("no such role: {role}"),
    };
    println!("REPORT {}", report.replace('\n', " "));
}

fn helper_command(program: &Path, role: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", "helper_process", "--ignored", "--nocapture"]).env(ROLE, role);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
    command
}

/// Runs this program again in a role, and waits for its report. Its stdin closes with the process that is returned.
fn helper(role: &str, user: Option<RunAs>, variables: &[(&str, &str)]) -> (std::process::Child, String) {
    let mut program = std::env::current_exe().unwrap();
    // Another user may have no access to the target folder; a running program stays when its folder is removed.
    let room = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    if user.is_some() {
        let copy = room.path().join("helper");
        copy_program(program, &copy);
        program = copy;
    }
    let mut command = helper_command(&program, role);
    if let Some(user) = user {
        command.gid(user.gid).uid(user.uid);
    }
    let mut process = command.envs(variables.iter().copied()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let report = lines.find_map(|line| Some(line.split_once("REPORT ")?.1.to_owned()));
    // The test harness in the helper prints more.
    thread::spawn(move || lines.for_each(drop));
    (process, report.expect("the helper reported nothing"))
}

fn installation() -> PostgresInstallation {
    find().unwrap_or_else(|error| panic!("these tests need PostgreSQL: {error}"))
}

fn cluster() -> Cluster {
    Cluster::start(&installation(), &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn shell(script: &str, spec: Spec) -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    Child::spawn("a shell", command, spec).unwrap()
}

/// Returns true if a process runs; one that has ended but was not reaped does not.
fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Returns the command lines of all processes that name `folder` or work in it.
fn users_of(folder: &Path) -> Vec<String> {
    let uses = |process: &Path| {
        let line = String::from_utf8_lossy(&fs::read(process.join("cmdline")).unwrap_or_default()).replace('\0', " ");
        let works_in = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        (works_in || line.contains(folder.to_str().unwrap())).then_some(line)
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.filter(|path| path.join("stat").exists()).filter_map(|process| uses(&process)).collect()
}

/// Returns the folders of clusters whose names begin so.
fn folders(prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).map(|entry| entry.path()).collect()
}
