//! Worker processes of a daemon, as `/proc` shows them.

use std::fs;

use crate::error::{Context, Result};

/// A worker process, identified by its pid and start time, since a later process may have the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    pid: u32,
    started_ticks: u64,
}

impl Worker {
    /// Returns the children of a master process.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn of(master: u32) -> Result<Vec<Self>> {
        let entries = fs::read_dir("/proc").context(|| "looking for a daemon's workers in /proc".to_owned())?;
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let children = pids.filter_map(|pid| look(pid).filter(|(parent, _)| *parent == master).map(|(_, one)| one));
        Ok(children.collect())
    }

    /// Reports whether it is still running.
    pub fn runs(&self) -> bool {
        look(self.pid).is_some_and(|(_, now)| now == *self)
    }
}

/// Returns the parent of a process, and the process, if it runs; one that has ended but was not reaped does not count.
fn look(pid: u32) -> Option<(u32, Worker)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let runs = !matches!(*fields.first()?, "Z" | "X");
    let (parent, started_ticks) = (fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?);
    runs.then_some((parent, Worker { pid, started_ticks }))
}
