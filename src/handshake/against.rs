//! CPU time of full handshakes with the suite's client and with others, turn by turn, at one server.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::keyring::Keyring;
use super::listener::Listener;
use super::loopback::{RunningServer, Visitor};
use super::matrix::HandshakeId;
use crate::clock::thread_cpu_ns;
use crate::error::{Context, Error, Result};

/// The number of turns of each client.
pub const ROUNDS: u32 = 5;
/// The length of a turn, in seconds.
pub const TURN_S: u64 = 4;

/// Another client, a program in PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    /// `openssl s_time -new`, which verifies the server's chain as ours does.
    Openssl,
    /// `tls-perf`, which verifies nothing (<https://github.com/tempesta-tech/tls-perf>).
    TlsPerf,
}

/// CPU time of each client in one round, user and system, in milliseconds for 1,000 handshakes.
#[derive(Clone, Debug)]
pub struct Round {
    /// That of the suite's client.
    pub ours_ms: f64,
    /// Those of the other clients, in the order in which they were named.
    pub theirs_ms: Vec<f64>,
}

/// Lets all clients take turns at a server of the suite: TLS 1.3, ECDSA P-256, X25519, a new TCP connection each; the
/// suite's client verifies the chain against its root. `on_round` receives each round.
///
/// # Errors
/// If a rival's program is missing, or a handshake fails.
pub fn take_turns(
    keyring: &mut Keyring,
    rivals: &[Rival],
    rounds: u32,
    turn_s: u64,
    on_round: &mut dyn FnMut(&Round),
) -> Result<Vec<Round>> {
    let listener = Listener::start(keyring, &[HandshakeId::BASE.group()])?;
    let peer = listener.peer(keyring)?;
    let authority = AuthorityFile::new(&keyring.pem())?;
    let visitor = Visitor::new(&peer, HandshakeId::BASE)?;
    // No client is to bear the cost of the server's first handshake.
    visitor.visit()?;
    let mut done = Vec::new();
    for _ in 0..rounds {
        let theirs_ms = rivals.iter().map(|rival| rival.turn(&peer, &authority, turn_s)).collect::<Result<_>>()?;
        let round = Round { ours_ms: ours(&visitor, turn_s)?, theirs_ms };
        on_round(&round);
        done.push(round);
    }
    Ok(done)
}

/// Returns the median over rounds of the ratio of the suite's client to that rival: it depends less on the moment than
/// either does.
pub fn median(rounds: &[Round], rival: usize) -> Option<f64> {
    let ratio = |round: &Round| round.theirs_ms.get(rival).map(|theirs| round.ours_ms / theirs);
    let mut ratios: Vec<f64> = rounds.iter().filter_map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}

fn ours(visitor: &Visitor, turn_s: u64) -> Result<f64> {
    let (start, cpu, mut handshakes) = (Instant::now(), thread_cpu_ns(), 0_u32);
    while start.elapsed() < Duration::from_secs(turn_s) {
        visitor.visit()?;
        handshakes += 1;
    }
    Ok((thread_cpu_ns() - cpu) as f64 / 1e3 / f64::from(handshakes))
}

impl Rival {
    /// Returns its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Openssl => "openssl s_time",
            Self::TlsPerf => "tls-perf",
        }
    }

    fn turn(self, peer: &RunningServer, authority: &AuthorityFile, turn_s: u64) -> Result<f64> {
        let before = children_cpu_ms()?;
        let mut command = self.command(peer, authority, turn_s);
        let output = command.stdin(Stdio::null()).output().map_err(|error| {
            let program = command.get_program().to_string_lossy();
            Error::new(format!("starting {program}: {error}"))
                .with_hint(format!("install {program}, so that it is in PATH"))
        })?;
        let cpu_ms = children_cpu_ms()? - before;
        let handshakes = self.made(&output)?;
        Ok(cpu_ms * 1e3 / f64::from(handshakes))
    }

    /// Returns the number of handshakes that it made. Some releases of `openssl s_time` end with 1 after a good run, so
    /// the exit status is ignored: the number counts that it prints at the end of its time, and that it does not print
    /// if a failed handshake cut the run short.
    fn made(self, output: &Output) -> Result<u32> {
        let made = self.handshakes(&String::from_utf8_lossy(&output.stdout)).filter(|count| *count > 0);
        made.ok_or_else(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let last_line = stderr.lines().next_back().unwrap_or("nothing");
            Error::new(format!("{}: {}, last line of stderr: {last_line}", self.label(), output.status))
        })
    }

    fn command(self, peer: &RunningServer, authority: &AuthorityFile, turn_s: u64) -> Command {
        match self {
            Self::Openssl => {
                let mut command = Command::new("openssl");
                command.args(["s_time", "-new", "-tls1_3", "-verify", "2", "-connect", &peer.address.to_string()]);
                command.args(["-time", &turn_s.to_string(), "-CAfile"]).arg(&authority.path);
                command
            }
            Self::TlsPerf => {
                let mut command = Command::new("tls-perf");
                command.args(["-q", "-l", "1", "-t", "1", "-T", &turn_s.to_string(), "--tls", "1.3", "-C", "X25519"]);
                command.args([peer.address.ip().to_string(), peer.address.port().to_string()]);
                command
            }
        }
    }

    /// Parses the number of handshakes that it reports.
    fn handshakes(self, text: &str) -> Option<u32> {
        match self {
            // 3287 connections in 5 real seconds, 0 bytes read per connection
            Self::Openssl => text.lines().find(|line| line.contains("real seconds"))?.split(' ').next()?.parse().ok(),
            // TOTAL:                  SECONDS 7; HANDSHAKES 5443
            Self::TlsPerf => {
                let line = text.lines().find(|line| line.trim_start().starts_with("TOTAL:"))?;
                line.rsplit_once("HANDSHAKES ")?.1.trim().parse().ok()
            }
        }
    }
}

/// Returns the CPU time of all children that have ended.
fn children_cpu_ms() -> Result<f64> {
    // SAFETY: an all-zero `rusage` is a valid value (integers only); getrusage overwrites it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for the call.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) } != 0 {
        return Err(std::io::Error::last_os_error()).context(|| "reading the CPU time of another client".to_owned());
    }
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok(ms(usage.ru_utime) + ms(usage.ru_stime))
}

/// A file with the authority's certificate, in a private folder; both are removed when this is dropped.
struct AuthorityFile {
    folder: PathBuf,
    path: PathBuf,
}

impl AuthorityFile {
    fn new(pem: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}-{}", std::process::id(), crate::clock::Moment::now().as_ns());
        let folder = std::env::temp_dir().join(format!("certctl-bench-against-{id}"));
        // This fails on a folder or link that exists already, so that no other program has put anything into this one.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.context(|| format!("making the folder {}", folder.display()))?;
        let file = Self { path: folder.join("root.pem"), folder };
        std::fs::write(&file.path, pem).context(|| format!("writing {}", file.path.display()))?;
        Ok(file)
    }
}

impl Drop for AuthorityFile {
    fn drop(&mut self) {
        // A folder that is left behind holds no secret.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_counts_of_each_rival_are_parsed() {
        let openssl = "Collecting connection statistics for 1 seconds\n\n\n\
                       877 connections in 0.79s; 1110.13 connections/user sec, bytes read 0\n\
                       878 connections in 2 real seconds, 0 bytes read per connection\n";
        let tls_perf = "( All peers are active, start to gather statistics )\n\
                        ========================================\n \
                        TOTAL:                  SECONDS 7; HANDSHAKES 5443\n \
                        MEASURES (seconds):     MAX h/s 618; AVG h/s 561; 95P h/s 448; MIN h/s 448\n";
        for (rival, text, count) in [(Rival::Openssl, openssl, 878), (Rival::TlsPerf, tls_perf, 5_443)] {
            assert_eq!((rival.handshakes(text), rival.handshakes("nothing")), (Some(count), None));
        }
    }

    #[test]
    fn exit_code_1_with_a_count_is_accepted() {
        use std::os::unix::process::ExitStatusExt as _;
        let ended = |stdout: &str| Output {
            status: std::process::ExitStatus::from_raw(1 << 8),
            stdout: stdout.into(),
            stderr: b"first\nlast words".to_vec(),
        };
        assert_eq!(Rival::Openssl.made(&ended("878 connections in 2 real seconds, 0 bytes\n")).unwrap(), 878);
        for none in ["", "Collecting connection statistics for 1 seconds\n", "0 connections in 2 real seconds\n"] {
            let error = Rival::Openssl.made(&ended(none)).unwrap_err().to_string();
            assert!(error.contains("exit status: 1") && error.contains("last words"), "{error}");
        }
    }

    #[test]
    fn the_authority_file_is_private_and_removed_on_drop() {
        use std::os::unix::fs::MetadataExt as _;
        let [one, other] = [(); 2].map(|()| AuthorityFile::new("PEM").unwrap());
        assert_ne!(one.folder, other.folder);
        assert_eq!(std::fs::metadata(&one.folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_to_string(&one.path).unwrap(), "PEM");
        let folder = one.folder.clone();
        drop(one);
        assert!(!folder.exists() && other.path.exists());
    }

    #[test]
    fn the_median_is_taken_over_ratios() {
        let round = |ours_ms, theirs_ms| Round { ours_ms, theirs_ms: vec![1.0, theirs_ms] };
        assert_eq!(median(&[round(4.0, 8.0), round(1.0, 10.0), round(9.0, 10.0)], 1), Some(0.5));
        assert_eq!(median(&[], 0), None);
    }
}
