//! Standard output and standard error. A write to either never panics, and all writes to standard error together wait
//! at most a second for a reader that does not read.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest wait of all messages together for a reader of standard error.
const PATIENCE: Duration = Duration::from_secs(1);
/// The narrowest terminal that has room for a line that is drawn over.
const NARROWEST: usize = 20;
/// The bytes that a ready pipe takes at once: PIPE_BUF of POSIX, with its value on Linux.
const CHUNK_BYTES: usize = 4_096;

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
    print_bytes(text.to_string().as_bytes());
}

/// Writes `bytes` to standard output, as [`print()`] does.
pub fn print_bytes(bytes: &[u8]) {
    if OUTPUT_ERROR.load(Ordering::Relaxed) != 0 {
        return;
    }
    if let Err(error) = write_all(libc::STDOUT_FILENO, bytes) {
        fail(&error);
    }
}

/// Records that standard output has failed with `error`.
pub fn fail(error: &io::Error) {
    OUTPUT_ERROR.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Relaxed);
}

/// Returns the error that kept standard output from taking everything. A reader that has closed its end has read what
/// it wanted: that is no failure.
pub fn failure() -> Option<io::Error> {
    match OUTPUT_ERROR.load(Ordering::Relaxed) {
        0 | libc::EPIPE => None,
        number => Some(io::Error::from_raw_os_error(number)),
    }
}

/// Writes to standard error. Text that is not read within a second, counted over the whole process, is dropped.
pub fn message(text: fmt::Arguments<'_>) {
    static WAITED_US: AtomicU64 = AtomicU64::new(0);
    let left = PATIENCE.saturating_sub(Duration::from_micros(WAITED_US.load(Ordering::Relaxed)));
    let started = Instant::now();
    if write_error(text.to_string().as_bytes(), left).is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
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
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes the structure, which outlives the call.
    let known = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    let columns = usize::from(size.ws_col);
    // The last column is left free: some terminals begin a new line once it is written.
    (known && columns >= NARROWEST).then(|| columns - 1)
}

/// Returns the descriptor, standard output or error, that has `file` open.
pub fn descriptor_of(file: &Metadata) -> Option<RawFd> {
    [libc::STDOUT_FILENO, libc::STDERR_FILENO].into_iter().find(|descriptor| {
        let ours = borrowed(*descriptor).metadata();
        // A character device proves nothing: standard output and the file may both be `/dev/null` by chance.
        ours.is_ok_and(|ours| (ours.dev(), ours.ino()) == (file.dev(), file.ino()))
            && !file.file_type().is_char_device()
    })
}

/// Writes everything, for as long as the other end takes.
///
/// # Errors
/// If the other end is closed or fails.
pub fn write_all(descriptor: RawFd, bytes: &[u8]) -> io::Result<()> {
    write_within(descriptor, bytes, Duration::MAX)
}

/// Writes everything, unless the other end takes nothing for `patience`.
///
/// # Errors
/// If the other end is closed or fails, or, of the kind `TimedOut`, takes nothing for `patience`.
pub fn write_within(descriptor: RawFd, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_some(descriptor, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !ready(descriptor, libc::POLLOUT, patience)? {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until a descriptor is ready, or at its end; returns `false` if it is not within `patience`.
///
/// # Errors
/// If the kernel refuses to wait.
pub fn ready(descriptor: RawFd, events: libc::c_short, patience: Duration) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        let left = patience.saturating_sub(started.elapsed()).as_millis().min(60_000) as libc::c_int;
        let mut poll = libc::pollfd { fd: descriptor, events, revents: 0 };
        // SAFETY: one structure, which outlives the call.
        let count = unsafe { libc::poll(&raw mut poll, 1, left) };
        match count {
            1.. => return Ok(true),
            0 if started.elapsed() >= patience => return Ok(false),
            0 => {}
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

fn write_some(descriptor: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes outlive the call.
    let written = unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Writes to standard error, and waits for it for at most `patience`.
fn write_error(bytes: &[u8], patience: Duration) -> io::Result<()> {
    static AGAIN: OnceLock<Option<File>> = OnceLock::new();
    if let Some(again) = AGAIN.get_or_init(reopened) {
        return write_within(again.as_raw_fd(), bytes, patience);
    }
    let descriptor = libc::STDERR_FILENO;
    for chunk in bytes.chunks(CHUNK_BYTES) {
        if !ready(descriptor, libc::POLLOUT, patience)? {
            return Err(ErrorKind::TimedOut.into());
        }
        write_within(descriptor, chunk, patience)?;
    }
    Ok(())
}

/// Opens standard error once more, for writes that do not block: `O_NONBLOCK` on the existing descriptor would apply to
/// the other processes that share it, too. Returns `None` where that cannot be done, or is not needed, as for a file.
fn reopened() -> Option<File> {
    let kind = borrowed(libc::STDERR_FILENO).metadata().ok()?.file_type();
    if !kind.is_fifo() && !io::stderr().is_terminal() {
        return None;
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().write(true).custom_flags(flags).open("/proc/self/fd/2").ok()
}

fn borrowed(descriptor: RawFd) -> ManuallyDrop<File> {
    // SAFETY: the standard library keeps the descriptors of standard output and error open for as long as the process
    // runs, and `ManuallyDrop` does not close this one.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) })
}
