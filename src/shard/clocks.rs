//! The clocks of the machines of a run: by how much they may differ.
//!
//! Each machine measures times by its own monotonic clock, so that no response time depends on another's. Wall clocks
//! matter for the common start alone: shards whose clocks differ begin apart by that difference.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::WallTime;
use crate::error::{Context, Error, Result};
use crate::load::limits::spawn;
use crate::summary::shards::{ClockBasis, ClockFacts};

/// The exchanges with a peer: the one with the shortest way there and back counts.
const EXCHANGES: usize = 32;
/// The most exchanges that a peer answers on a connection.
const MOST_EXCHANGES: usize = 64;
/// The longest wait for an answer of a peer, or for its next question.
const SILENCE: Duration = Duration::from_secs(2);
/// The pause between two attempts to reach a peer, and between two looks of the peer for a connection.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The bytes of an answer: the times of receipt and of sending, in nanoseconds since 1970.
const ANSWER_BYTES: usize = 16;

/// The wall clock of a shard's machine.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ShardClock {
    /// The id of the machine's boot: shards with the same have the same clock.
    pub boot: String,
    /// The kernel's estimate of its own error, where it gives one.
    pub kernel: Option<KernelClock>,
    /// The difference to the clock of a peer, if it was measured.
    pub measured: Option<MeasuredOffset>,
}

/// The state of a clock as the kernel keeps it for NTP (`adjtimex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct KernelClock {
    /// True if a time service keeps the clock.
    pub synchronised: bool,
    /// The bound on its error, in microseconds.
    pub max_error_us: u64,
    /// The estimate of its error, in microseconds.
    pub estimated_error_us: u64,
}

/// A difference between two clocks, by an exchange of timestamps (RFC 5905, section 8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct MeasuredOffset {
    /// The peer's clock minus this one, in nanoseconds.
    pub offset_ns: i64,
    /// The bound on the error of that: half of the way there and back, in nanoseconds.
    pub uncertainty_ns: u64,
}

impl ShardClock {
    /// Reads the state of this machine's clock.
    pub fn of_this_machine() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { boot: boot.trim().to_owned(), kernel: KernelClock::read(), measured: None }
    }
}

impl KernelClock {
    fn read() -> Option<Self> {
        // SAFETY: an all-zero `timex` is a valid value, whose modes change nothing.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        // SAFETY: `timex` is valid for the call.
        let state = unsafe { libc::adjtimex(&raw mut timex) };
        let positive = |us: libc::c_long| u64::try_from(us).ok();
        (state >= 0).then_some(())?;
        Some(Self {
            synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
            max_error_us: positive(timex.maxerror)?,
            estimated_error_us: positive(timex.esterror)?,
        })
    }
}

impl MeasuredOffset {
    /// Computes it from the times of an exchange: sent here, received there, answered there, received here.
    fn of(times: [WallTime; 4]) -> Self {
        let [sent, received, answered, back] = times.map(|time| i128::from(time.as_ns()));
        let way = (back - sent) - (answered - received);
        let offset = ((received - sent) + (answered - back)) / 2;
        Self {
            offset_ns: offset.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
            // A clock that was set meanwhile may make it negative: then nothing is known.
            uncertainty_ns: u64::try_from(way).map_or(u64::MAX, |way| way.div_ceil(2)),
        }
    }

    fn exchange(stream: &mut TcpStream) -> io::Result<Self> {
        let sent = WallTime::now();
        stream.write_all(&[0])?;
        let mut answer = [0; ANSWER_BYTES];
        stream.read_exact(&mut answer)?;
        let back = WallTime::now();
        let (received, answered) = answer.split_at(ANSWER_BYTES / 2);
        let time = |bytes: &[u8]| WallTime::from_ns(bytes.iter().fold(0, |ns, byte| ns << 8 | u64::from(*byte)));
        Ok(Self::of([sent, time(received), time(answered), back]))
    }

    /// Measures the difference to the clock of the peer at `address`, which has to answer before `last`.
    ///
    /// # Errors
    /// If it does not, or is no such peer.
    pub fn measure(address: SocketAddr, last: Instant, stop: &AtomicBool) -> Result<Self> {
        let what = || format!("measuring the clock's offset to the peer at {address}");
        loop {
            // A peer answers one shard after another: one that has waited too long asks again.
            match Self::measure_once(address) {
                Ok(Some(measured)) => return Ok(measured),
                Ok(None) => return Err(Error::new(format!("{}: a clock was set meanwhile", what()))),
                Err(_) if Instant::now() < last && !stop.load(Ordering::Relaxed) => thread::sleep(LOOK_EVERY),
                Err(error) => {
                    return Err(error).context(what).map_err(|error| {
                        error.with_hint("let shard 0 start before the others, and let its port be reached")
                    });
                }
            }
        }
    }

    /// Measures it by exchanges on one connection; `None` if a clock was set during all of them.
    fn measure_once(address: SocketAddr) -> io::Result<Option<Self>> {
        let mut stream = TcpStream::connect_timeout(&address, SILENCE)?;
        prepare(&stream)?;
        let mut best: Option<Self> = None;
        for _ in 0..EXCHANGES {
            let one = Self::exchange(&mut stream)?;
            best = Some(best.filter(|best| best.uncertainty_ns <= one.uncertainty_ns).unwrap_or(one));
        }
        Ok(best.filter(|best| best.uncertainty_ns < u64::MAX))
    }
}

/// The peer whose clock counts: it answers with its time until it is dropped.
pub struct ClockPeer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ClockPeer {
    /// Starts to answer at `address`.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn start(address: SocketAddr) -> Result<Self> {
        let what = || format!("listening at {address} for the other shards' clocks");
        let listener = TcpListener::bind(address).context(what)?;
        // A blocking wait could not be ended.
        listener.set_nonblocking(true).context(what)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = spawn("clock", move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A peer that fails measures nothing, and says so itself.
                    Ok((stream, _)) => drop(answer(stream)),
                    Err(_) => thread::sleep(LOOK_EVERY),
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for ClockPeer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It returns nothing.
            let _ = thread.join();
        }
    }
}

/// Lets small writes go out at once, and bounds each read.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    prepare(&stream)?;
    for _ in 0..MOST_EXCHANGES {
        match stream.read(&mut [0]) {
            Ok(1..) => {}
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let received = WallTime::now().as_ns().to_be_bytes();
        let answered = WallTime::now().as_ns().to_be_bytes();
        stream.write_all(&[received, answered].concat())?;
    }
    Ok(())
}

/// Returns by how much the starts of shards with these clocks may lie apart. The first is the peer of those that
/// measured an offset, which they have corrected their start by.
pub fn agreement<'c>(clocks: impl Iterator<Item = &'c ShardClock> + Clone) -> ClockFacts {
    let ms = |ns: u64| ns as f64 / 1e6;
    let mut boots: Vec<&str> = clocks.clone().map(|clock| clock.boot.as_str()).collect();
    boots.sort_unstable();
    boots.dedup();
    if boots.len() <= 1 && boots.first().is_none_or(|boot| !boot.is_empty()) {
        return ClockFacts { basis: ClockBasis::OneClock, offset_ms: Some(0.0), apart_ms: Some(0.0) };
    }
    let offsets: Option<Vec<MeasuredOffset>> = clocks.clone().skip(1).map(|clock| clock.measured).collect();
    if let Some(offsets) = offsets {
        let offset_ns = offsets.iter().map(|one| one.offset_ns.unsigned_abs()).max().unwrap_or_default();
        let uncertain = largest_two(offsets.iter().map(|one| one.uncertainty_ns));
        return ClockFacts {
            basis: ClockBasis::Measured,
            offset_ms: Some(ms(offset_ns)),
            apart_ms: Some(ms(uncertain)),
        };
    }
    let kernels: Option<Vec<KernelClock>> =
        clocks.map(|clock| clock.kernel.filter(|kernel| kernel.synchronised)).collect();
    if let Some(kernels) = kernels {
        let apart_us = largest_two(kernels.iter().map(|kernel| kernel.max_error_us));
        return ClockFacts {
            basis: ClockBasis::Kernel,
            offset_ms: None,
            apart_ms: Some(ms(apart_us.saturating_mul(1_000))),
        };
    }
    ClockFacts { basis: ClockBasis::Unknown, offset_ms: None, apart_ms: None }
}

/// Returns the sum of the largest two.
fn largest_two(errors: impl Iterator<Item = u64>) -> u64 {
    let mut errors: Vec<u64> = errors.collect();
    errors.sort_unstable();
    errors.iter().rev().take(2).fold(0, |sum, error| sum.saturating_add(*error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(boot: &str, kernel: Option<(bool, u64)>, measured: Option<(i64, u64)>) -> ShardClock {
        let kernel = kernel.map(|(synchronised, max_error_us)| KernelClock {
            synchronised,
            max_error_us,
            estimated_error_us: max_error_us / 10,
        });
        let measured = measured.map(|(offset_ns, uncertainty_ns)| MeasuredOffset { offset_ns, uncertainty_ns });
        ShardClock { boot: boot.to_owned(), kernel, measured }
    }

    fn apart(clocks: &[ShardClock]) -> (ClockBasis, Option<f64>, Option<f64>) {
        let ClockFacts { basis, offset_ms, apart_ms } = agreement(clocks.iter());
        (basis, offset_ms, apart_ms)
    }

    #[test]
    fn the_offset_of_an_exchange_is_that_of_rfc_5905() {
        // The peer is 500 ms ahead, the way there takes 3 ms and the way back 5 ms, and it needs 2 ms to answer.
        let times = [1_000, 1_503, 1_505, 1_010].map(|ms| WallTime::from_ns(ms * 1_000_000));
        assert_eq!(MeasuredOffset::of(times), MeasuredOffset { offset_ns: 499_000_000, uncertainty_ns: 4_000_000 });
        // The clock here was set back meanwhile.
        let times = [1_000, 1_503, 1_505, 900].map(|ms| WallTime::from_ns(ms * 1_000_000));
        assert_eq!(MeasuredOffset::of(times).uncertainty_ns, u64::MAX);
    }

    #[test]
    fn clocks_are_compared_by_the_best_evidence_of_all() {
        let one = clock("a", None, None);
        assert_eq!(apart(&[one.clone(), one.clone()]), (ClockBasis::OneClock, Some(0.0), Some(0.0)));
        // The first is the peer, which has measured nothing.
        let far = clock("b", None, Some((-70_000_000, 2_000_000)));
        let near = clock("c", Some((true, 9_000)), Some((4_000_000, 1_000_000)));
        assert_eq!(apart(&[one.clone(), near.clone(), far.clone()]), (ClockBasis::Measured, Some(70.0), Some(3.0)));
        let kept = clock("d", Some((true, 4_000)), None);
        assert_eq!(apart(&[kept.clone(), near, kept.clone()]), (ClockBasis::Kernel, None, Some(13.0)));
        assert_eq!(apart(&[kept.clone(), clock("e", Some((false, 1)), None)]).0, ClockBasis::Unknown);
        assert_eq!(apart(&[clock("", None, None), clock("", None, None)]).0, ClockBasis::Unknown);
    }

    #[test]
    fn the_offset_to_a_peer_on_this_machine_is_within_its_bound() {
        let address = {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap()
        };
        let peer = ClockPeer::start(address).unwrap();
        let never = AtomicBool::new(false);
        let MeasuredOffset { offset_ns, uncertainty_ns } =
            MeasuredOffset::measure(address, Instant::now() + Duration::from_secs(60), &never).unwrap();
        // Both read the same clock.
        assert!(offset_ns.unsigned_abs() <= uncertainty_ns, "{offset_ns} ns, to within {uncertainty_ns} ns");
        drop(peer);
        let gone = MeasuredOffset::measure(address, Instant::now(), &never).unwrap_err().to_string();
        assert!(gone.contains(&address.to_string()) && gone.contains("hint: let shard 0 start"), "{gone}");
    }
}
