//! `certctl-bench completions`: the script with which a shell completes verbs, bench targets and flags.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::terminal;

/// Flags of `certctl-bench completions`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "bash: certctl-bench completions bash > ~/.local/share/bash-completion/completions/certctl-bench\n\
                        zsh:  certctl-bench completions zsh > _certctl-bench, in a folder of $fpath\n\
                        fish: certctl-bench completions fish > ~/.config/fish/completions/certctl-bench.fish\n\
                        Exit codes: 0 done, 1 could not write, 2 usage."
)]
pub struct CompletionFlags {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script for `command`, the whole command line of this program.
pub fn run(flags: &CompletionFlags, mut command: Command) {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut command, name, &mut script);
    // clap_complete 4.6.12 writes a name with a hyphen in two ways, so that bash completes nothing below it.
    let script = String::from_utf8_lossy(&script).replace("certctl__subcmd__bench", "certctl__bench");
    terminal::print_bytes(script.as_bytes());
}
