//! The ephemeral ports that connections need, and the rate of connections that they allow.

use std::fmt;
use std::fs;
use std::time::Duration;

use super::rate::Rate;

/// The time for which Linux keeps the port of a connection that was closed on this side first.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// This machine's ephemeral ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub low: u64,
    /// The last.
    pub high: u64,
    /// The number of ports in TIME_WAIT now.
    pub waiting: u64,
    /// The reuse of a port that has been in TIME_WAIT for a second (tcp_tw_reuse 1; 2, the default, allows it for
    /// loopback only).
    pub reused: Reuse,
}

/// The rule by which ports in TIME_WAIT are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Not before TIME_WAIT ends.
    Never,
    /// After a second, to loopback only.
    Loopback,
    /// After a second, to any peer.
    Always,
}

/// The ports of a machine beside the rate of new connections that they must serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Headroom {
    ports: Ports,
    per_peer: Rate,
    loopback: bool,
}

impl Ports {
    /// Reads the ports from the kernel; returns `None` if it does not report them.
    pub fn of_this_machine() -> Option<Self> {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let (low, high) = range.trim().split_once(char::is_whitespace)?;
        let reuse = fs::read_to_string("/proc/sys/net/ipv4/tcp_tw_reuse").unwrap_or_default();
        let reused = match reuse.trim() {
            "1" => Reuse::Always,
            "2" => Reuse::Loopback,
            _ => Reuse::Never,
        };
        let sockets = fs::read_to_string("/proc/net/sockstat").ok()?;
        let words = sockets.lines().find_map(|line| line.strip_prefix("TCP: "))?;
        let waiting = words.split(' ').skip_while(|word| *word != "tw").nth(1)?.parse().ok()?;
        Some(Self { low: low.parse().ok()?, high: high.trim().parse().ok()?, waiting, reused })
    }

    /// Returns the number of ports.
    pub fn count(&self) -> u64 {
        (self.high + 1).saturating_sub(self.low)
    }

    /// Returns the headroom for new connections at this rate to each of several peers. A port can serve each peer once
    /// at a time.
    pub fn headroom(self, per_peer: Rate, loopback: bool) -> Headroom {
        Headroom { ports: self, per_peer, loopback }
    }
}

impl Headroom {
    /// Returns true if the ports suffice for any length of time, even if this side closes first.
    pub fn lasts(&self) -> bool {
        self.per_peer.per_second_f64() <= self.most_per_s()
    }

    /// Returns the number of connections per second to one peer that this side can open and close indefinitely.
    fn most_per_s(&self) -> f64 {
        let held = match (self.ports.reused, self.loopback) {
            (Reuse::Always, _) | (Reuse::Loopback, true) => Duration::from_secs(1),
            _ => TIME_WAIT,
        };
        self.ports.count() as f64 / held.as_secs_f64()
    }
}

impl fmt::Display for Headroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ports { low, high, waiting, .. } = self.ports;
        let (rate, most) = (self.per_peer.per_second_f64(), self.most_per_s());
        write!(f, "ports {low} to {high}, {waiting} in TIME_WAIT: {most:.0} new connections/s to each peer")?;
        if self.lasts() {
            write!(f, ", {rate:.1}/s wanted")
        } else {
            let seconds = self.ports.count() as f64 / rate;
            write!(
                f,
                "; {rate:.1}/s wanted, which exhausts the ports within {seconds:.0} s unless peers close first (sysctl \
                 net.ipv4.ip_local_port_range='10000 65535', or net.ipv4.tcp_tw_reuse=1)"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_limit_is_reported() {
        let ports = Ports { low: 32_768, high: 60_999, waiting: 3, reused: Reuse::Loopback };
        let headroom = |rate, loopback| ports.headroom(Rate::per_second(rate), loopback);
        assert!(headroom(2_000, true).lasts() && headroom(470, false).lasts() && !headroom(471, false).lasts());
        assert_eq!(
            headroom(2_000, false).to_string().split(';').next().unwrap(),
            "ports 32768 to 60999, 3 in TIME_WAIT: 471 new connections/s to each peer"
        );
    }

    #[test]
    fn the_port_range_of_this_machine_is_read() {
        assert!(Ports::of_this_machine().is_some_and(|ports| ports.count() > 0));
    }
}
