//! `certctl-bench run`: plays a bench target as `cargo bench` does, without a checkout.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Subcommand, value_parser};

use super::invocation::Invocation;
use super::registry::{Playable, playable};
use crate::exit_code;

/// The flags of a bench target, which it parses itself: with variables that a smoke run ignores.
const FLAGS: &str = "flags";

/// Flags of `certctl-bench run`.
#[derive(Args, Clone, Debug)]
#[command(
    disable_help_subcommand = true,
    subcommand_value_name = "TARGET",
    subcommand_help_heading = "Bench targets",
    after_help = format!(
        "`certctl-bench run TARGET --help` lists the flags of a bench target: those of `cargo bench`. It measures, \
         unless --test is given.\n\
         The reference server and the mock of an F5 are started from the folder of this program. `generator` is no \
         part of it: it measures parts of the suite itself, and needs a checkout.\n{}",
        exit_code::HELP
    )
)]
pub struct RunFlags {
    #[command(subcommand)]
    chosen: ChosenBench,
}

/// A bench target, and its flags as they were given.
#[derive(Clone, Debug)]
struct ChosenBench {
    target: Playable,
    flags: Vec<OsString>,
}

impl FromArgMatches for ChosenBench {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let found = matches.subcommand().and_then(|(name, given)| {
            let target = playable().find(|target| target.name == name)?;
            let flags = given.get_many(FLAGS).unwrap_or_default().cloned().collect();
            Some(Self { target, flags })
        });
        found.ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for ChosenBench {
    fn augment_subcommands(command: Command) -> Command {
        let flags = || {
            let flags = Arg::new(FLAGS).value_name("FLAGS").help("Flags of the bench target; --help lists them");
            flags.num_args(0..).trailing_var_arg(true).allow_hyphen_values(true).value_parser(value_parser!(OsString))
        };
        let each =
            |target: Playable| Command::new(target.name).about(target.about).disable_help_flag(true).arg(flags());
        command.subcommands(playable().map(each))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        playable().any(|target| target.name == name)
    }
}

impl RunFlags {
    /// Plays the bench target in this process, and returns its exit code.
    pub fn play(self) -> ExitCode {
        let ChosenBench { target, flags } = self.chosen;
        (target.play)(Invocation::of_verb(target.name, flags))
    }
}

/// Returns the command line of `certctl-bench` with that of every bench target below `run`, for documents: a parser of
/// it would not know what a smoke run ignores.
pub fn in_full(command: Command) -> Command {
    command.mut_subcommand("run", |run| {
        playable().fold(run, |run, target| run.mut_subcommand(target.name, |_| (target.command)()))
    })
}
