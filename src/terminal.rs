//! Standard output and standard error. A write to either never panics, and all writes to standard error together wait
//! at most a second for a reader that does not read. In a job of GitHub Actions errors and warnings are annotations.

pub mod github;

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdout};

/// The longest wait of all messages together for a reader of standard error.
const PATIENCE: Duration = Duration::from_secs(1);
/// The narrowest terminal that has room for a line that is drawn over.
const NARROWEST: usize = 20;
/// The bytes that a ready pipe takes at once: PIPE_BUF of POSIX, with its value on Linux.
const CHUNK_BYTES: usize = 4_096;
/// The longest single wait for a descriptor.
const LOOK: Duration = Duration::from_secs(60);

/// Flags to open a file that may be a pipe or a terminal: neither opening it nor its use waits, and it does not become
/// this process's terminal.
pub const NEVER_WAIT: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();

/// Prints to standard output.
macro_rules! out {
    ($($part:tt)*) => { $crate::terminal::print(format_args!($($part)*)) };
}
/// Prints a line to standard output.
macro_rules! outln {
    () => { $crate::terminal::print(format_args!("\n")) };
    ($($part:tt)*) => { $crate::terminal::print(format_args!("{}\n", format_args!($($part)*))) };
}
/// Prints to standard error.
macro_rules! err {
    ($($part:tt)*) => { $crate::terminal::message(format_args!($($part)*)) };
}
/// Prints a line to standard error.
macro_rules! errln {
    ($($part:tt)*) => { $crate::terminal::message(format_args!("{}\n", format_args!($($part)*))) };
}
pub(crate) use {err, errln, out, outln};

/// The number of the error with which standard output failed; 0 as long as it has not failed.
static OUTPUT_ERROR: AtomicI32 = AtomicI32::new(0);

/// Writes to standard output. Text that it does not take is dropped, and [`failure`] returns the error at the end.
pub fn print(text: fmt::Arguments<'_>) {
    let text = text.to_string();
    print_bytes(if github::is_job() { github::harmless(&text) } else { text.as_str().into() }.as_bytes());
}

/// Writes `bytes` to standard output, as [`print()`] does.
pub fn print_bytes(bytes: &[u8]) {
    if OUTPUT_ERROR.load(Ordering::Relaxed) != 0 {
        return;
    }
    if let Err(error) = write_all(stdout(), bytes) {
        fail(&error);
    }
}

/// Records that standard output has failed with `error`.
pub fn fail(error: &io::Error) {
    OUTPUT_ERROR.store(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()), Ordering::Relaxed);
}

/// Returns the error that kept standard output from taking everything. A reader that has closed its end has read what
/// it wanted: that is no failure.
pub fn failure() -> Option<io::Error> {
    let number = OUTPUT_ERROR.load(Ordering::Relaxed);
    (number != 0 && number != Errno::PIPE.raw_os_error()).then(|| io::Error::from_raw_os_error(number))
}

/// Writes to standard error. Text that is not read within a second, counted over the whole process, is dropped.
pub fn message(text: fmt::Arguments<'_>) {
    let text = text.to_string();
    write_message(&if github::is_job() { github::message(&text) } else { text.as_str().into() });
}

/// Adds an annotation to those of a job of GitHub Actions, and does nothing anywhere else: for what the output says
/// already.
pub fn annotate(kind: github::Annotation, title: &str, text: &str) {
    if github::is_job() {
        write_message(&github::annotation(kind, title, text));
    }
}

fn write_message(text: &str) {
    static WAITED_US: AtomicU64 = AtomicU64::new(0);
    let left = PATIENCE.saturating_sub(Duration::from_micros(WAITED_US.load(Ordering::Relaxed)));
    let started = Instant::now();
    if write_error(text.as_bytes(), left).is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
        WAITED_US.fetch_add(started.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

/// Writes a progress line to standard error, or drops it: it is soon out of date, so it never waits for a reader.
pub fn progress(text: &str) {
    let _ = write_error(text.as_bytes(), Duration::ZERO);
}

/// Returns the most characters of a line that is drawn over; `None` where lines follow one another, as in a log.
pub fn line_width() -> Option<usize> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if is_dumb || !io::stderr().is_terminal() {
        return None;
    }
    let columns = usize::from(rustix::termios::tcgetwinsize(stderr()).ok()?.ws_col);
    // The last column is left free: some terminals begin a new line once it is written.
    (columns >= NARROWEST).then(|| columns - 1)
}

/// Returns the descriptor, standard output or error, that has `file` open.
pub fn descriptor_of(file: &Metadata) -> Option<BorrowedFd<'static>> {
    [stdout(), stderr()].into_iter().find(|descriptor| {
        // A character device proves nothing: standard output and the file may both be `/dev/null` by chance.
        fstat(descriptor).is_ok_and(|ours| (ours.st_dev, ours.st_ino) == (file.dev(), file.ino()))
            && !file.file_type().is_char_device()
    })
}

/// Writes everything, for as long as the other end takes.
///
/// # Errors
/// If the other end is closed or fails.
pub fn write_all(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    write_within(descriptor, bytes, Duration::MAX)
}

/// Writes everything, unless the other end takes nothing for `patience`.
///
/// # Errors
/// If the other end is closed or fails, or, of the kind `TimedOut`, takes nothing for `patience`.
pub fn write_within(descriptor: BorrowedFd<'_>, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(descriptor, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => {
                if !ready(descriptor, PollFlags::OUT, patience)? {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until a descriptor is ready, or at its end; returns `false` if it is not within `patience`.
///
/// # Errors
/// If the kernel refuses to wait.
pub fn ready(descriptor: BorrowedFd<'_>, events: PollFlags, patience: Duration) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        let left = patience.saturating_sub(started.elapsed()).min(LOOK);
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(descriptor, events)], Some(&left)) {
            Ok(1..) => return Ok(true),
            Ok(0) if started.elapsed() >= patience => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes to standard error, and waits for it for at most `patience`.
fn write_error(bytes: &[u8], patience: Duration) -> io::Result<()> {
    static AGAIN: OnceLock<Option<File>> = OnceLock::new();
    if let Some(again) = AGAIN.get_or_init(reopened) {
        return write_within(again.as_fd(), bytes, patience);
    }
    let descriptor = stderr();
    for chunk in bytes.chunks(CHUNK_BYTES) {
        if !ready(descriptor, PollFlags::OUT, patience)? {
            return Err(ErrorKind::TimedOut.into());
        }
        write_within(descriptor, chunk, patience)?;
    }
    Ok(())
}

/// Opens standard error once more, for writes that do not block: `O_NONBLOCK` on the existing descriptor would apply to
/// the other processes that share it, too. Returns `None` where that cannot be done, or is not needed, as for a file.
fn reopened() -> Option<File> {
    let kind = FileType::from_raw_mode(fstat(stderr()).ok()?.st_mode);
    if !kind.is_fifo() && !io::stderr().is_terminal() {
        return None;
    }
    OpenOptions::new().write(true).custom_flags(NEVER_WAIT).open("/proc/self/fd/2").ok()
}
