//! `certctl-bench seed`: applies the seeds to a load-test database, puts them back, and cleans up after runs.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::remote;
use crate::error::{Context, Error, Result};
use crate::seed::{self, Sizes};

/// Flags of `certctl-bench seed`.
#[derive(Args, Clone, Debug)]
pub struct SeedFlags {
    /// The database of a load-test certctl: postgres://user:password@host:port/name
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_DATABASE", hide_env_values = true)]
    database: String,
    /// Take the *.sql files of this folder instead of the built-in seeds.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Number of agents to have. Missing ones are added; none is removed.
    #[arg(long, default_value_t = Sizes::default().agents, value_parser = clap::value_parser!(u64).range(1..=Sizes::MOST))]
    agents: u64,
    /// Number of certificates to have for renewal, likewise.
    #[arg(long, default_value_t = Sizes::default().certificates,
          value_parser = clap::value_parser!(u64).range(1..=Sizes::MOST))]
    certificates: u64,
    /// Number of certificates that agents deploy to have, each with its target, for deploy_loop; no more than --agents.
    #[arg(long, default_value_t = Sizes::default().deployments,
          value_parser = clap::value_parser!(u64).range(0..=Sizes::MOST))]
    deployments: u64,
    /// Number of certificates of job_drain to have, each mapped to a target of an agent.
    #[arg(long, default_value_t = Sizes::default().drain, value_parser = clap::value_parser!(u64).range(0..=Sizes::MOST))]
    drain: u64,
    /// Do not seed, but put the seeded certificates and agents back to their first state and delete the certificates'
    /// jobs.
    #[arg(long, conflicts_with = "dir")]
    reset: bool,
    /// Do not seed, but remove what runs have created, such as the certificates that they posted, and do what --reset
    /// does. The seeds stay, and so does every other row.
    #[arg(long, conflicts_with_all = ["dir", "reset"])]
    clean: bool,
    /// Write to a database although it holds agents or certificates that are neither this suite's nor certctl's demo
    /// ones.
    #[arg(long)]
    allow_foreign_rows: bool,
    /// Write to a database that is not on this machine's loopback: others may depend on it, so that the command
    /// announces its changes for five seconds.
    #[arg(long, env = "CERTCTL_BENCH_ALLOW_REMOTE")]
    allow_remote: bool,
}

/// Applies the seeds and prints rows before and after; or resets or cleans, and prints what that did.
///
/// # Errors
/// If the database cannot be reached, is not one for load tests, or refuses a seed; or if there is nothing to reset.
pub fn run(flags: SeedFlags) -> Result<()> {
    let doing = match (flags.reset, flags.clean) {
        (true, _) => "seed --reset: seeded rows are put back, and their jobs deleted",
        (_, true) => "seed --clean: rows of runs are deleted, and seeded rows put back",
        _ => "seed: some 15,000 agents and certificates are inserted",
    };
    remote::clear_database(&flags.database, flags.allow_remote, doing)?;
    if flags.reset || flags.clean {
        return tidy(&flags, &mut io::stdout());
    }
    let source = flags.dir.map_or(seed::SeedSource::Embedded, seed::SeedSource::Folder);
    let sizes = Sizes {
        agents: flags.agents,
        certificates: flags.certificates,
        deployments: flags.deployments,
        drain: flags.drain,
        drain_agents: flags.agents,
    };
    if sizes.deployments > sizes.agents {
        return Err(Error::usage(format!(
            "--deployments {} exceeds --agents {}: each belongs to an agent of its own",
            sizes.deployments, sizes.agents
        ))
        .with_hint(format!("give --agents {} too", sizes.deployments)));
    }
    let options = seed::SeedOptions { source, sizes, allow_foreign: flags.allow_foreign_rows };
    seed::apply(&flags.database, &options, &mut io::stdout()).map(drop)
}

fn tidy(flags: &SeedFlags, out: &mut dyn Write) -> Result<()> {
    let printing = || "printing the result".to_owned();
    let mut client = seed::open(&flags.database, flags.allow_foreign_rows)?;
    let shown = seed::redact_url(&flags.database);
    let cleaned = if flags.clean { seed::clean(&mut client)? } else { seed::reset(&mut client)? };
    if flags.reset && cleaned.restored() == 0 {
        return Err(Error::new(format!("resetting {shown}: it holds no seeded rows"))
            .with_hint("run `certctl-bench seed` on this database first"));
    }
    writeln!(out, "{} {shown}", if flags.clean { "cleaned" } else { "reset" }).context(printing)?;
    for table in &cleaned.tables {
        writeln!(out, "  {table}").context(printing)?;
    }
    for warning in client.take_warnings() {
        writeln!(out, "  warning: {warning}").context(printing)?;
    }
    Ok(())
}
