//! What a full handshake costs our client and `openssl s_time -new`, turn by turn, at one server.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::keyring::Keyring;
use super::listener::Listener;
use super::loopback::{Peer, Visitor};
use super::matrix::Offer;
use crate::clock::thread_cpu_ns;
use crate::error::{Context, Error, Result};

/// How often each of both gets its turn.
pub const PAIRS: u32 = 5;
/// How long a turn is, in seconds.
pub const TURN_S: u64 = 4;

/// CPU time of the client, user and system, in milliseconds for 1,000 handshakes.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Ours.
    pub ours_ms: f64,
    /// That of `openssl s_time`.
    pub openssl_ms: f64,
}

/// Lets both take turns at a server of our own: TLS 1.3, ECDSA P-256, X25519, the chain verified against its root, a
/// new TCP connection each. `told` hears of each pair.
///
/// # Errors
/// If there is no openssl, or a handshake fails.
pub fn openssl(keyring: &mut Keyring, pairs: u32, turn_s: u64, told: &mut dyn FnMut(Pair)) -> Result<Vec<Pair>> {
    let listener = Listener::start(keyring, &[Offer::BASE.group()])?;
    let peer = listener.peer(keyring)?;
    let authority = AuthorityFile::new(&keyring.pem())?;
    let visitor = Visitor::new(&peer, Offer::BASE)?;
    // Neither is to pay for the server's first handshake.
    visitor.visit()?;
    let mut done = Vec::new();
    for _ in 0..pairs {
        let openssl_ms = s_time(&peer, &authority, turn_s)?;
        let pair = Pair { openssl_ms, ours_ms: ours(&visitor, turn_s)? };
        told(pair);
        done.push(pair);
    }
    Ok(done)
}

/// The median pair by the ratio of ours to theirs, which is less a matter of the moment than either.
pub fn median(pairs: &[Pair]) -> Option<f64> {
    let mut ratios: Vec<f64> = pairs.iter().map(|pair| pair.ours_ms / pair.openssl_ms).collect();
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

fn s_time(peer: &Peer, authority: &AuthorityFile, turn_s: u64) -> Result<f64> {
    let before = children_cpu_ms()?;
    let mut command = Command::new("openssl");
    command.args(["s_time", "-new", "-tls1_3", "-verify", "2", "-connect", &peer.address.to_string()]);
    command.args(["-time", &turn_s.to_string(), "-CAfile"]).arg(&authority.0).stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        Error::new(format!("starting openssl: {error}")).mend("install OpenSSL's command line program")
    })?;
    let cpu_ms = children_cpu_ms()? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let handshakes = connections(&text).filter(|count| output.status.success() && *count > 0);
    let handshakes = handshakes.ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        Error::new(format!("openssl s_time: {}, said {}", output.status, said.lines().next_back().unwrap_or("nothing")))
    })?;
    Ok(cpu_ms * 1e3 / f64::from(handshakes))
}

/// Of `3287 connections in 5 real seconds, 0 bytes read per connection`.
fn connections(text: &str) -> Option<u32> {
    let line = text.lines().find(|line| line.contains("real seconds"))?;
    line.split(' ').next()?.parse().ok()
}

/// CPU time of all children that have ended.
fn children_cpu_ms() -> Result<f64> {
    // SAFETY: an all-zero `rusage` is a valid value (integers only); getrusage overwrites it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for the call.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) } != 0 {
        return Err(std::io::Error::last_os_error()).context(|| "reading the CPU time of openssl".to_owned());
    }
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok(ms(usage.ru_utime) + ms(usage.ru_stime))
}

/// A file with the authority's certificate, which goes when this is dropped.
struct AuthorityFile(std::path::PathBuf);

impl AuthorityFile {
    fn new(pem: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("certctl-bench-{}-root.pem", std::process::id()));
        std::fs::write(&path, pem).context(|| format!("writing {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for AuthorityFile {
    fn drop(&mut self) {
        // One that is left holds no secret.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_as_openssl_writes_them() {
        let text = "Collecting connection statistics for 1 seconds\n\n\n\
                    877 connections in 0.79s; 1110.13 connections/user sec, bytes read 0\n\
                    878 connections in 2 real seconds, 0 bytes read per connection\n";
        assert_eq!((connections(text), connections("nothing")), (Some(878), None));
    }

    #[test]
    fn the_median_is_that_of_ratios() {
        let pair = |ours_ms, openssl_ms| Pair { ours_ms, openssl_ms };
        assert_eq!(median(&[pair(4.0, 8.0), pair(1.0, 10.0), pair(9.0, 10.0)]), Some(0.5));
        assert_eq!(median(&[]), None);
    }
}
