//! The only way to read a file that a user names: within a limit of bytes, and within a time limit where it is not a
//! regular file.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::terminal::{NEVER_WAIT, ready};

/// The longest wait for a writer to open a named pipe.
const WRITER_PATIENCE: Duration = Duration::from_secs(5);
/// The longest wait for a writer's next bytes.
const SILENCE: Duration = Duration::from_secs(60);
/// The time in which a device, or a file of `/proc`, has to yield [`PROGRESS_BYTES`] or end: it may block for ever,
/// even when it is opened.
const PATIENCE: Duration = Duration::from_secs(10);
const PROGRESS_BYTES: u64 = 1 << 20;
/// The interval of the reads from a pipe that has no writer yet.
const LOOK: Duration = Duration::from_millis(20);
/// The bytes that are read at a time. Memory grows with the bytes read, not with the size that a file reports.
const CHUNK_BYTES: usize = 64 << 10;

/// Reads the file `path`, which holds at most `limit` bytes.
///
/// # Errors
/// If it cannot be read, holds more, or is a pipe without a writer or a device that sends nothing.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let found = fs::metadata(path)?;
    // A file of `/proc` reports a size of 0.
    if found.file_type().is_fifo() || (found.is_file() && found.len() > 0) {
        return read_through(path, limit, &AtomicU64::new(0));
    }
    let (path, held) = (path.to_owned(), Arc::new(AtomicU64::new(0)));
    let (done, outcome) = mpsc::channel();
    let count = Arc::clone(&held);
    // The thread cannot be ended while it waits for a device, and ends with the process.
    thread::Builder::new().spawn(move || done.send(read_through(&path, limit, &count)))?;
    loop {
        let before = held.load(Ordering::Relaxed);
        match outcome.recv_timeout(PATIENCE) {
            Ok(read) => return read,
            Err(_) if held.load(Ordering::Relaxed) >= before + PROGRESS_BYTES => {}
            Err(_) => {
                let why = format!("it sent neither data nor an end of file for {} s", PATIENCE.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, why));
            }
        }
    }
}

/// Reads the file, and keeps in `held` the number of bytes that were read.
fn read_through(path: &Path, limit: u64, held: &AtomicU64) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(NEVER_WAIT).open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if found.is_file() && found.len() > limit {
        return Err(too_large(limit));
    }
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK_BYTES]);
    let mut awaits_writer = found.file_type().is_fifo();
    let deadline = Instant::now() + WRITER_PATIENCE;
    loop {
        match file.read(&mut chunk) {
            Ok(0) if awaits_writer => {
                if Instant::now() >= deadline {
                    let why = format!("no process opened it for writing within {} s", WRITER_PATIENCE.as_secs());
                    return Err(io::Error::new(ErrorKind::TimedOut, why));
                }
                thread::sleep(LOOK);
            }
            Ok(0) => return Ok(bytes),
            Ok(count) => {
                awaits_writer = false;
                if (bytes.len() + count) as u64 > limit {
                    return Err(too_large(limit));
                }
                bytes.extend_from_slice(&chunk[..count]);
                held.store(bytes.len() as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                awaits_writer = false;
                if !ready(file.as_fd(), PollFlags::IN, SILENCE)? {
                    let why = format!("its writer sent no data for {} s", SILENCE.as_secs());
                    return Err(io::Error::new(ErrorKind::TimedOut, why));
                }
                if !found.file_type().is_fifo() {
                    // A terminal whose other end is closed is always ready, and sends nothing.
                    thread::sleep(LOOK);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads the file `path`, which holds at most `limit` bytes of UTF-8; a byte order mark is removed.
///
/// # Errors
/// As [`read`], or if it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let text = String::from_utf8(read(path, limit)?)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("it is not UTF-8: {}", error.utf8_error())))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("it holds more than {limit} bytes"))
}
