//! `certctl-bench man`: a manual page for the program, for each verb, and for each bench target of `run`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use crate::error::{Context, Result};
use crate::files;
use crate::terminal::outln;

/// Flags of `certctl-bench man`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "To read one: man FOLDER/certctl-bench-run-agent_storm.1\n\
                        To install them: certctl-bench man ~/.local/share/man/man1\n\
                        Exit codes: 0 done, 1 could not write, 2 usage.")]
pub struct ManFlags {
    /// Folder of the pages, which is made where it is missing.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes the pages of `command`, the whole command line of this program.
///
/// # Errors
/// If one cannot be written.
pub fn run(flags: &ManFlags, command: Command) -> Result<()> {
    let folder = &flags.folder;
    fs::create_dir_all(folder).context(|| format!("making the folder {}", files::shown(folder)))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let count = write(folder, &command)?;
    outln!("{count} pages are written to {}", files::shown(folder));
    Ok(())
}

/// Writes the pages of a command and of those below it, and returns their number.
fn write(folder: &Path, command: &Command) -> Result<usize> {
    let page = Man::new(command.clone());
    let path = folder.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text).context(|| format!("rendering {}", files::shown(&path)))?;
    files::write(&path, text)?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set()).map(|below| write(folder, below));
    Ok(1 + below.sum::<Result<usize>>()?)
}
