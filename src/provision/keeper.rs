//! A private folder that is removed when this process ends, together with any server that still works in it.
//!
//! The keeper is a shell that creates the folder and waits for the end of a pipe from this process, which comes however
//! the process ends, `kill -9` included. It gives the server time to end by itself, kills the processes that still work
//! in the folder (a worker whose master died has nothing else to stop it), and removes the folder. Only the keeper
//! creates and removes it, on the normal path too.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::child::{Child, RunAs, Spec};
use crate::error::{Error, Result};

/// The longest path of a unix socket on Linux, in bytes, without the NUL at its end.
const SOCKET_PATH_BYTES: usize = 107;
const START_WAIT: Duration = Duration::from_secs(30);
/// One turn of the script's loops.
const TURN: Duration = Duration::from_millis(50);
/// The longest time of the script beside the lease's patience: 100 turns of killing, 200 of removing.
const REMOVAL_WAIT: Duration = Duration::from_secs(25);

/// Creates the folder `$1` and waits for the end of stdin. Processes that then work in `$1/$2` have `$3` turns to end;
/// after that they are killed. Removes the folder, repeatedly, since a process that could not be killed may still write
/// into it.
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

/// The purpose and limits of a folder.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The server, as errors name it.
    pub what: &'static str,
    /// Its part of the folder's name: `certctl-bench-NAME-PID-NUMBER`.
    pub name: &'static str,
    /// The longest path of a unix socket in the folder, relative to it; the folder's own path is chosen short enough
    /// for it.
    pub socket: &'static str,
    /// The subfolder that is the working directory of every process of the server, and of no other process.
    pub work: &'static str,
    /// The time that the server has to end by itself.
    pub patience: Duration,
}

/// The keeper of a folder. Dropping it removes the folder, so stop the server first.
#[derive(Debug)]
pub struct Keeper {
    folder: PathBuf,
    patience: Duration,
    script: Child,
}

impl Keeper {
    /// Creates a folder of mode 0700, which belongs to `user`, or to the current user if there is none.
    ///
    /// # Errors
    /// If no folder for temporary files is suitable, or the shell cannot be started.
    pub fn start(lease: &Lease, user: Option<RunAs>) -> Result<Keeper> {
        let keeper = Self::reserve(lease, user)?;
        user.map_or(Ok(()), |user| user.take(&keeper.folder))?;
        Ok(keeper)
    }

    /// Creates a folder of mode 0700 that belongs to the current user, until everything in it is made and `user`
    /// [takes](RunAs::take) it: in a folder of another user, a path may lead anywhere.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn reserve(lease: &Lease, user: Option<RunAs>) -> Result<Keeper> {
        make(lease, &room(lease, user)?)
    }

    /// Returns the folder, which no longer exists after [`stop`](Self::stop).
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder. Another call does nothing.
    ///
    /// # Errors
    /// If the folder could not be removed.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.script.stop(self.patience + REMOVAL_WAIT)?;
        if status.success() {
            return Ok(());
        }
        let why = format!("could not remove {}", self.folder.display());
        Err(self.script.failure(&why).with_hint("remove the folder by hand"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // An error cannot be returned from here.
        let _ = self.stop();
    }
}

/// Finds a folder for temporary files in which the server's user can reach its own, with a path short enough for a
/// socket.
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
        Error::new(format!("making a folder for {}: neither {} nor /tmp is usable", lease.what, wanted.display()))
            .with_hint("set TMPDIR to a folder with a short path that every user can pass through")
    })
}

fn folder_name(lease: &Lease, room: &Path, number: u32) -> PathBuf {
    room.join(format!("certctl-bench-{}-{}-{number}", lease.name, std::process::id()))
}

/// Starts the script, which creates the folder. The name must be new: `mkdir` fails on one that exists.
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
            // Left by a machine that lost power, since process ids start again after a boot.
            Err(_) if folder.symlink_metadata().is_ok() && left_over < 100 => left_over += 1,
            Err(error) => return Err(error),
        }
    }
}
