//! A private folder that vanishes when we do, and with it whatever server still works in it.
//!
//! The keeper is a shell that makes the folder and waits for the end of a pipe from us, which comes however we end,
//! `kill -9` included. It gives the server time to end by itself, kills what then still works in the folder (a worker
//! process whose master died beside us has nobody else to tell it), and removes the folder. It is the one place that
//! makes and deletes it, on the normal path too.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::child::{Child, RunAs, Spec};
use crate::error::{Context, Error, Result};

/// The longest path of a unix socket on Linux, in bytes, without its closing zero.
const SOCKET_PATH_BYTES: usize = 107;
const START_WAIT: Duration = Duration::from_secs(30);
/// One turn of the script's loops.
const TURN: Duration = Duration::from_millis(50);
/// What the script may take beside its patience: 100 turns of killing, 200 of removing.
const REMOVAL_WAIT: Duration = Duration::from_secs(25);

/// Makes the folder `$1` and waits for the end of stdin. What then works in `$1/$2` has `$3` turns to end; after that
/// it is killed. Removes the folder, more than once, since what could not be killed may still write into it.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
mkdir -m 700 -- "$1" || exit 1
echo made
cat >/dev/null
at_work() {
    found=
    for process in /proc/[0-9]*; do
        if [ "$process/cwd" -ef "$1" ]; then found="$found ${process#/proc/}"; fi
    done
    [ -n "$found" ]
}
turns=0
while at_work "$1/$2" && [ "$turns" -lt "$(($3 + 100))" ]; do
    if [ "$turns" -ge "$3" ]; then kill -KILL $found; fi
    sleep 0.05
    turns=$((turns + 1))
done
turns=0
rm -rf -- "$1"
while [ -e "$1" ] && [ "$turns" -lt 200 ]; do sleep 0.05; rm -rf -- "$1"; turns=$((turns + 1)); done
[ ! -e "$1" ]
"#;

/// What a folder is for.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The server, as errors call it.
    pub what: &'static str,
    /// Its part of the folder's name: `certctl-bench-NAME-PID-NUMBER`.
    pub name: &'static str,
    /// The longest path of a unix socket in the folder, relative to it: the folder's own path is short enough for it.
    pub socket: &'static str,
    /// The folder in it that is every server process's working directory, and nobody else's.
    pub work: &'static str,
    /// How long the server has to end by itself.
    pub patience: Duration,
}

/// The keeper of a folder. Dropping it removes the folder, so the server has to be stopped first.
#[derive(Debug)]
pub struct Keeper {
    folder: PathBuf,
    patience: Duration,
    script: Child,
}

impl Keeper {
    /// Makes a folder of mode 0700, which belongs to `user`, or to us if there is none.
    ///
    /// # Errors
    /// If no folder for temporary files will do, or the shell cannot be started.
    pub fn start(lease: &Lease, user: Option<RunAs>) -> Result<Keeper> {
        let keeper = make(lease, &room(lease, user)?)?;
        if let Some(user) = user {
            let folder = &keeper.folder;
            chown(folder, Some(user.uid), Some(user.gid)).context(|| format!("giving away {}", folder.display()))?;
        }
        Ok(keeper)
    }

    /// The folder; gone once stopped.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder. Calling it again does nothing.
    ///
    /// # Errors
    /// If the folder could not be removed.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.script.stop(self.patience + REMOVAL_WAIT)?;
        if status.success() {
            return Ok(());
        }
        let why = format!("could not remove {}", self.folder.display());
        Err(self.script.failure(&why).mend("remove the folder by hand"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.stop();
    }
}

/// A folder for temporary folders in which the server's user can get to its own, by a path short enough for a socket.
fn room(lease: &Lease, user: Option<RunAs>) -> Result<PathBuf> {
    let fits = |room: &Path| {
        let socket = folder_name(lease, room, u32::MAX).join(lease.socket);
        let passable = |dir: &Path| match (user, fs::metadata(dir)) {
            (None, Ok(_)) => true,
            (Some(user), Ok(meta)) => meta.mode() & 0o001 != 0 || (meta.uid() == user.uid && meta.mode() & 0o100 != 0),
            (_, Err(_)) => false,
        };
        socket.as_os_str().len() <= SOCKET_PATH_BYTES && room.ancestors().all(passable)
    };
    let wanted = env::temp_dir();
    let choices = [wanted.clone(), PathBuf::from("/tmp")];
    choices.iter().filter_map(|room| room.canonicalize().ok()).find(|room| fits(room)).ok_or_else(|| {
        Error::new(format!("making a folder for {}: neither {} nor /tmp will do", lease.what, wanted.display()))
            .mend("set TMPDIR to a folder with a short path that every user can pass through")
    })
}

fn folder_name(lease: &Lease, room: &Path, number: u32) -> PathBuf {
    room.join(format!("certctl-bench-{}-{}-{number}", lease.name, std::process::id()))
}

/// Starts the script, which makes the folder. The name is new: `mkdir` fails on one that exists.
fn make(lease: &Lease, room: &Path) -> Result<Keeper> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut left_over = 0;
    loop {
        let folder = folder_name(lease, room, NUMBER.fetch_add(1, Ordering::Relaxed));
        let turns = lease.patience.as_millis() / TURN.as_millis();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "certctl-bench-keeper"]).arg(&folder).args([lease.work, &turns.to_string()]);
        command.current_dir("/");
        let spec = Spec { death_signal: None, ..Spec::default() };
        let mut script = Child::spawn(&format!("the keeper of {}", lease.what), command, spec)?;
        match script.wait_for_line(START_WAIT) {
            Ok(_) => return Ok(Keeper { folder, patience: lease.patience, script }),
            // Left by a machine that lost power, when process ids began anew.
            Err(_) if folder.symlink_metadata().is_ok() && left_over < 100 => left_over += 1,
            Err(error) => return Err(error),
        }
    }
}
