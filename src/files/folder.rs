//! The folder of the results: checked before anything is measured, and written by one run at a time.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use super::shown;
use super::write::{UnnamedFile, survive_size_limits};
use crate::error::{Error, Result};

/// The space that a run needs: more than the results of an hour.
const ROOM_BYTES: u64 = 8 << 20;

/// The sole right of this process to write to a folder, until it is dropped.
#[derive(Debug)]
pub struct FolderLock {
    lock: File,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // A process that another thread is starting has the file as well, until its exec: closing it is not enough.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Creates `folder` if it is missing, checks that it takes 8 MiB, and locks it against other runs. The check leaves
/// nothing in it.
///
/// # Errors
/// If it cannot be created or written, has no room, or another run writes to it.
pub fn claim(folder: &Path) -> Result<FolderLock> {
    probe(folder)?;
    let lock = File::open(folder).map_err(|error| unfit(folder, &error))?;
    // On a file system without locks, it is left to the user to keep runs apart.
    if flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Err(Error::new(format!("another run writes its results to {}", shown(folder)))
            .with_hint("wait for its end, or name another folder with --output"));
    }
    Ok(FolderLock { lock })
}

/// Creates `folder` if it is missing, and checks that it takes 8 MiB. The check leaves nothing in it.
///
/// # Errors
/// If it cannot be created or written, or has no room.
pub fn probe(folder: &Path) -> Result<()> {
    survive_size_limits();
    // For a file of that name, `create_dir_all` would report only that something exists.
    if folder.exists() && !folder.is_dir() {
        return Err(unfit(folder, &Errno::NOTDIR.into()));
    }
    let fill = |mut part: UnnamedFile| match fallocate(&part.file, FallocateFlags::empty(), 0, ROOM_BYTES) {
        // Some file systems can only be written to.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => io::copy(&mut io::repeat(0).take(ROOM_BYTES), &mut part.file).map(drop),
        allocated => allocated.map_err(io::Error::from),
    };
    fs::create_dir_all(folder)
        .and_then(|()| UnnamedFile::new(folder))
        .and_then(fill)
        .map_err(|error| unfit(folder, &error))
}

fn unfit(folder: &Path, error: &io::Error) -> Error {
    use io::ErrorKind as Kind;
    let hint = match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => "free 8 MiB there, or name another folder",
        Kind::AlreadyExists | Kind::NotADirectory => "name a folder: there is a file of that name",
        Kind::InvalidFilename => "name a folder with a shorter name",
        _ => "name a folder that this user can write",
    };
    Error::new(format!("results cannot be written to the folder {}: {error}", shown(folder))).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_though_a_process_being_started_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let held = claim(folder.path()).unwrap();
        let _inherited = held.lock.try_clone().unwrap();
        drop(held);
        claim(folder.path()).unwrap();
    }
}
