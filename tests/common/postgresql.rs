//! Clusters of each PostgreSQL that tests want: of those that `./test` installed, or the machine's own.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use certctl_bench::provision::postgres::{Cluster, PostgresInstallation, find};
use rustix::process::geteuid;

/// The versions that tests want.
pub const VERSIONS: [u32; 4] = [15, 16, 17, 18];

/// Returns the PostgreSQL of this version, or the reason for which there is none.
pub fn installation(version: u32) -> Result<PostgresInstallation, String> {
    let missing = format!("PostgreSQL {version} is not installed (./test install)");
    let of_machine = find().ok().filter(|found| found.version.starts_with(&format!("{version}.")));
    let tools = std::env::var_os("CERTCTL_BENCH_TEST_TOOLS").map_or_else(default_tools, PathBuf::from);
    let bin = tools.join("postgresql").join(version.to_string()).join("bin");
    if !bin.join("postgres").is_file() {
        return of_machine.filter(PostgresInstallation::has_statement_statistics).ok_or(missing);
    }
    // As root the server runs as another user.
    let is_root = geteuid().is_root();
    let is_passable = |folder: &Path| folder.metadata().is_ok_and(|meta| meta.mode() & 0o001 != 0);
    match !is_root || bin.ancestors().all(is_passable) {
        true => Ok(PostgresInstallation { version: format!("{version}"), bin }),
        false => Err(format!("no user but root gets to {}", bin.display())),
    }
}

fn default_tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools")
}

/// Returns the newest version that there is.
pub fn newest() -> Result<PostgresInstallation, String> {
    VERSIONS.into_iter().rev().map(installation).find(Result::is_ok).unwrap_or_else(|| installation(18))
}

/// Returns a cluster with a database `certctl` that has the reference server's tables.
pub fn migrated(installation: &PostgresInstallation, extra: &[(&str, &str)]) -> (Cluster, String) {
    let cluster = Cluster::start(installation, extra).unwrap_or_else(|error| panic!("{error}"));
    cluster.create_database("certctl").unwrap();
    let url = cluster.url("certctl");
    let mut owner = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    owner.batch_execute(include_str!("../../src/reference/schema.sql")).unwrap();
    (cluster, url)
}
