//! The only way to write a file.
//!
//! A regular file is replaced by an atomic write: the content goes to an unnamed file in the same folder, which then
//! takes the name. Neither a full disk nor a kill leaves half a file, or loses the old one. Where the folder takes no
//! new file, the old file is overwritten, after space for everything is reserved if the file system can do that; a kill
//! during the write may then lose the content. Links are followed. A device, pipe or socket is written to, not
//! replaced.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FallocateFlags, OFlags, fallocate, linkat};
use rustix::io::Errno;

use super::shown;
use crate::error::{Error, Result};
use crate::terminal::{self, NEVER_WAIT};

/// The longest wait for a reader.
const PATIENCE: Duration = Duration::from_secs(10);
/// The interval of the attempts to open a pipe that has no reader.
const LOOK: Duration = Duration::from_millis(20);
/// The most links that are followed, as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Writes `content` to the file `path`.
///
/// # Errors
/// If it cannot be written; of the kind `Usage`, if no such file can exist.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    put(path, content.as_ref()).map_err(|error| unwritable(path, &error))
}

/// Checks that the file `path` can be written, without a change to it. A device or pipe is not opened before there is
/// something to write.
///
/// # Errors
/// As [`write()`].
pub fn check(path: &Path) -> Result<()> {
    let look = || match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(found) if found.is_file() && terminal::descriptor_of(&found).is_none() => {
            OpenOptions::new().write(true).open(path).map(drop)
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let path = followed(path)?;
            if path.file_name().is_none() {
                return Err(ErrorKind::InvalidInput.into());
            }
            UnnamedFile::new(folder_of(&path)).map(drop)
        }
        Err(error) => Err(error),
    };
    look().map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    let what = format!("writing {}: {error}", shown(path));
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Error::usage(what).with_hint("name a file in a folder that exists")
        }
        ErrorKind::IsADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            Error::usage(what).with_hint("name a file")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Error::new(what).with_hint("free space there, or name a file elsewhere")
        }
        ErrorKind::TimedOut => Error::new(what).with_hint("start the reader first, or name a regular file"),
        _ => Error::new(what).with_hint("name a file that this user can write"),
    }
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    survive_size_limits();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(found) if found.file_type().is_block_device() => {
            Err(io::Error::new(ErrorKind::InvalidInput, "it is a block device, which would lose its file system"))
        }
        Ok(found) => match terminal::descriptor_of(&found) {
            // `/dev/stdout`, or the file to which standard output is redirected.
            Some(descriptor) => terminal::write_all(descriptor, content),
            None if found.is_file() => replace(path, Some(&found), content),
            None => pour(path, &found, content),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => replace(path, None, content),
        Err(error) => Err(error),
    }
}

/// Ignores SIGXFSZ, so that a file that exceeds `ulimit -f` is an error, like a full disk, and not the end of the
/// process.
pub(super) fn survive_size_limits() {
    static ONCE: Once = Once::new();
    // SAFETY: a plain system call; nothing else in this process handles that signal.
    ONCE.call_once(|| unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    });
}

/// Replaces the regular file at `path`, or creates it.
fn replace(path: &Path, found: Option<&Metadata>, content: &[u8]) -> io::Result<()> {
    let path = followed(path)?;
    if path.file_name().is_none() {
        return Err(ErrorKind::InvalidInput.into());
    }
    if found.is_some() {
        // A writable folder would permit to replace a file that is itself read-only.
        OpenOptions::new().write(true).open(&path)?;
    }
    let made = UnnamedFile::new(folder_of(&path)).and_then(|part| fill(part, &path, found, content));
    match made {
        // Where the folder takes no new file, or the file is a mount, the file itself may still be writable.
        Err(error) if found.is_some() && is_in_the_way(&error) => overwrite(&path, content),
        made => made,
    }
}

/// Overwrites a file in place, after space for the whole content is reserved: until then it stays as it was.
fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let before = file.metadata()?.len();
    if let Err(error) = reserve(&file, content.len()) {
        // A part of the space may have been reserved. If it cannot be given back, the first error is still the one to
        // report.
        let _ = file.set_len(before);
        return Err(error);
    }
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    synced(&file)
}

/// Reserves space for `bytes` bytes from the beginning of a file; its content stays.
fn reserve(file: &File, bytes: usize) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
        // Not every file system supports this.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn fill(mut part: UnnamedFile, path: &Path, found: Option<&Metadata>, content: &[u8]) -> io::Result<()> {
    part.file.write_all(content)?;
    if let Some(found) = found {
        // Only root can give a file to another owner; for everyone else the mode is kept.
        let _ = fchown(&part.file, Some(found.uid()), Some(found.gid()));
        part.file.set_permissions(Permissions::from_mode(found.mode() & 0o7777))?;
    }
    synced(&part.file)?;
    part.place(path)?;
    if let Ok(folder) = File::open(folder_of(path)) {
        // Not every file system can sync a folder.
        let _ = folder.sync_all();
    }
    Ok(())
}

fn is_in_the_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
    )
}

/// Waits until the content is on disk. A file system without such a call counts as done.
fn synced(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if is_one_of(&error, &[Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]) => Ok(()),
        done => done,
    }
}

fn is_one_of(error: &io::Error, numbers: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|number| numbers.contains(&number))
}

/// Returns the path to which the links at `path` lead, even if nothing exists there.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = folder_of(&path).join(next),
            Err(_) => return Ok(path),
        }
    }
    Err(Errno::LOOP.into())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that is not in its place yet. It has no name where the file system supports that, so that nothing is left of
/// it however this process ends.
pub(super) struct UnnamedFile {
    pub file: File,
    folder: PathBuf,
    name: OnceLock<PathBuf>,
}

impl UnnamedFile {
    pub fn new(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE.bits().cast_signed();
        let unnamed = OpenOptions::new().write(true).custom_flags(flags).mode(0o666).open(folder);
        match unnamed {
            Ok(file) => Ok(Self { file, folder: folder.to_owned(), name: OnceLock::new() }),
            Err(error) if is_one_of(&error, &[Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL]) => {
                let path = part_name(folder);
                let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path)?;
                Ok(Self { file, folder: folder.to_owned(), name: OnceLock::from(path) })
            }
            Err(error) => Err(error),
        }
    }

    /// Gives it the name `path`, and replaces a file that has that name.
    fn place(self, path: &Path) -> io::Result<()> {
        if self.name.get().is_none() {
            match self.link(path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let name = part_name(&self.folder);
                    self.link(&name)?;
                    // It had no name, as checked above.
                    let _ = self.name.set(name);
                }
                linked => return linked,
            }
        }
        match self.name.get() {
            Some(name) => fs::rename(name, path),
            None => Ok(()),
        }
    }

    fn link(&self, path: &Path) -> io::Result<()> {
        linkat(CWD, format!("/proc/self/fd/{}", self.file.as_raw_fd()), CWD, path, AtFlags::SYMLINK_FOLLOW)?;
        Ok(())
    }
}

impl Drop for UnnamedFile {
    fn drop(&mut self) {
        if let Some(name) = self.name.get() {
            // A file that is in its place no longer has this name.
            let _ = fs::remove_file(name);
        }
    }
}

/// Returns a name that no other process uses, nor another file of this one; it is short, however long the final name
/// is.
fn part_name(folder: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!(".certctl-bench-{}-{count}.part", std::process::id()))
}

/// Writes to an existing device, named pipe or socket.
fn pour(path: &Path, found: &Metadata, content: &[u8]) -> io::Result<()> {
    if found.file_type().is_socket() {
        let mut socket = UnixStream::connect(path)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        return socket.write_all(content);
    }
    let file = open_for_writing(path)?;
    terminal::write_within(file.as_fd(), content, PATIENCE).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => unread(),
        _ => error,
    })
}

fn open_for_writing(path: &Path) -> io::Result<File> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match OpenOptions::new().write(true).custom_flags(NEVER_WAIT).open(path) {
            // A pipe without a reader.
            Err(error) if is_one_of(&error, &[Errno::NXIO]) => {
                if Instant::now() >= deadline {
                    return Err(unread());
                }
                thread::sleep(LOOK);
            }
            opened => return opened,
        }
    }
}

fn unread() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("no process opened it for reading within {} s", PATIENCE.as_secs()))
}
