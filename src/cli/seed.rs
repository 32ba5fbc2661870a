//! `certctl-bench seed`: applies the seeds to a load-test database.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::target::seed;

/// Flags of `certctl-bench seed`.
#[derive(Args, Clone, Debug)]
pub struct SeedFlags {
    /// The database of a load-test certctl: postgres://user:password@host:port/name
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_DATABASE", hide_env_values = true)]
    database: String,
    /// Take the *.sql files of this folder instead of the built-in seeds.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Seed a database although it holds agents or certificates that are neither ours nor certctl's demo ones.
    #[arg(long)]
    allow_foreign_rows: bool,
}

/// Applies the seeds and prints rows before and after.
///
/// # Errors
/// If the database cannot be reached, is no load-test one, or refuses a seed.
pub fn run(flags: SeedFlags) -> Result<()> {
    let source = flags.dir.map_or(seed::Source::Embedded, seed::Source::Folder);
    let options = seed::Options { source, allow_foreign: flags.allow_foreign_rows };
    seed::apply(&flags.database, &options, &mut io::stdout())?;
    Ok(())
}
