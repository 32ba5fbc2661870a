//! Parsers of the kernel's tables, given as text: proc(5). Nothing here opens a file.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A set of processors by number.
pub type CpuSet = BTreeSet<u32>;

/// The longest name of a process: the kernel keeps 15 bytes.
const LONGEST_NAME: usize = 15;
/// The column of `/proc/net/tcp` with a socket's state, and the state of one that listens.
const STATE: usize = 3;
const LISTEN: &str = "0A";

/// The time of some processors since boot, in clock ticks, all together. Time that is in none of these was used by
/// processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processors {
    /// The number of processors.
    pub count: u32,
    /// Idle, or idle while a task waited for a disk.
    pub idle: u64,
    /// In interrupts and the work that they defer.
    pub interrupts: u64,
    /// Taken by the hypervisor for others.
    pub steal: u64,
}

/// Parses `/proc/stat`, for the processors in `used` only.
pub fn processors(stat: &str, used: &CpuSet) -> Processors {
    let mut all = Processors::default();
    for line in stat.lines() {
        let mut words = line.split_ascii_whitespace();
        let number = words.next().and_then(|word| word.strip_prefix("cpu")?.parse::<u32>().ok());
        if !number.is_some_and(|number| used.contains(&number)) {
            continue;
        }
        // user nice system idle iowait irq softirq steal …; old kernels end earlier.
        let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let tick = |at: usize| ticks.get(at).copied().unwrap_or(0);
        all.count += 1;
        all.idle += tick(3) + tick(4);
        all.interrupts += tick(5) + tick(6);
        all.steal += tick(7);
    }
    all
}

/// Parses a list of processors, such as `0-3,8`.
pub fn cpu_list(text: &str) -> CpuSet {
    let mut all = CpuSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            // A longer range than any kernel has is damaged, and is cut.
            all.extend(first..=last.min(first.saturating_add(1 << 13)));
        }
    }
    all
}

/// A process, as `/proc/PID/stat` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// The moment of its start, in ticks since boot: process ids are reused.
    pub started: u64,
    /// Its parent's process id.
    pub parent: u32,
    /// Its name, without special characters: a process may choose any name.
    pub name: String,
    /// CPU time of its own, in ticks.
    pub own: u64,
    /// CPU time of its children that have ended and were waited for, in ticks.
    pub reaped: u64,
    /// The processor that it ran on last.
    pub processor: u32,
}

/// Parses `/proc/PID/stat`.
pub fn process(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    // The name may hold anything, brackets included.
    let (name, rest) = rest.rsplit_once(") ")?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| words.get(at)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.trim().parse().ok()?,
        parent: u32::try_from(number(1)?).ok()?,
        own: number(11)? + number(12)?,
        reaped: number(13)? + number(14)?,
        started: number(19)?,
        processor: number(36).and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
        name: harmless(name),
    })
}

/// Returns the name as one plain word that is safe to print anywhere.
fn harmless(name: &str) -> String {
    name.chars().take(LONGEST_NAME).map(|letter| if letter.is_ascii_graphic() { letter } else { '?' }).collect()
}

/// Returns true for a row of `/proc/net/tcp` with a socket that listens.
pub fn is_listening(row: &str) -> bool {
    row.split_ascii_whitespace().nth(STATE) == Some(LISTEN)
}

/// Returns the inodes of the sockets that listen at `address`, from `/proc/net/tcp` or `/proc/net/tcp6`: those of that
/// very address, else those of the wildcard address.
pub fn listening(table: &str, address: SocketAddr) -> Vec<u64> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (host, port) = words.get(1)?.split_once(':')?;
        let is_ours = *words.get(STATE)? == LISTEN && u16::from_str_radix(port, 16).ok()? == address.port();
        if !is_ours {
            return None;
        }
        Some((host_of(host)?, words.get(9)?.parse::<u64>().ok()?))
    });
    let rows: Vec<(IpAddr, u64)> = rows.collect();
    let of = |wanted: &dyn Fn(IpAddr) -> bool| {
        rows.iter().filter(|(host, _)| wanted(*host)).map(|(_, inode)| *inode).collect::<Vec<_>>()
    };
    let exact = of(&|host| host == address.ip());
    if exact.is_empty() { of(&|host| host.is_unspecified()) } else { exact }
}

/// Parses an address in the kernel's hexadecimal words, which are in the machine's byte order.
fn host_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).to_canonical())
        }
        _ => None,
    }
}

/// Returns the inodes of the sockets at a path, from `/proc/net/unix`.
pub fn listening_at_path(table: &str, path: &str) -> Vec<u64> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let inode = words.nth(6)?.parse().ok()?;
        // A path may hold spaces.
        line.ends_with(&format!(" {path}")).then_some(inode)
    });
    rows.collect()
}

/// Returns the inode that a descriptor's link names: `socket:[123]`.
pub fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Returns the total of the line `some` of a pressure file, in microseconds.
pub fn pressure_us(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.rsplit_once("total=")?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  96547 5 26524 169199 3013 7 461 1823 0 0\n\
                        cpu0 46659 0 12611 87568 1019 3 66 817 0 0\n\
                        cpu1 49888 5 13913 81631 1994 4 395 1006 0 0\n\
                        cpu12 1 1 1 1 1\nintr 1 2\n";

    #[test]
    fn the_allowed_processors_are_summed() {
        let of = |list: &str| processors(STAT, &cpu_list(list));
        assert_eq!(of("0-1"), Processors { count: 2, idle: 172_212, interrupts: 468, steal: 1_823 });
        assert_eq!(of("1"), Processors { count: 1, idle: 83_625, interrupts: 399, steal: 1_006 });
        assert_eq!(of("12"), Processors { count: 1, idle: 2, interrupts: 0, steal: 0 });
        assert_eq!(of(""), Processors::default());
        assert_eq!(Vec::from_iter(cpu_list("0-2,7, 9-9\n")), [0, 1, 2, 7, 9]);
    }

    #[test]
    fn a_process_with_any_name_is_parsed() {
        let line = |name: &str| {
            format!(
                "412 ({name}) S 17 412 412 0 -1 4194560 1 2 3 4 50 60 700 800 20 0 1 0 12345 9 9 9 1 1 1 1 1 0 0 0 0 0 0 \
                 0 17 3 0 0 0 0 0\n"
            )
        };
        let read = process(&line("cc1")).unwrap();
        let (own, reaped) = (110, 1_500);
        let cc1 = Process { pid: 412, started: 12_345, parent: 17, name: "cc1".to_owned(), own, reaped, processor: 3 };
        assert_eq!(read, cc1);
        let odd = process(&line("a) R 1 (\u{1b}[2J\u{202e}\n")).unwrap();
        assert_eq!((odd.parent, odd.name.as_str()), (17, "a)?R?1?(?[2J??"));
        assert_eq!(process("412 (x) S"), None);
        assert_eq!(process(""), None);
    }

    #[test]
    fn listeners_are_found_by_address() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let row = |local: &str, state: &str, inode: u64| {
            format!("   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  0 0 {inode} 1 0 0\n")
        };
        let hex = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let table = format!(
            "{head}{}{}{}{}",
            row(&format!("{}:20FB", hex([127, 0, 0, 1])), "0A", 1),
            row(&format!("{}:20FB", hex([0, 0, 0, 0])), "0A", 2),
            row(&format!("{}:20FB", hex([127, 0, 0, 1])), "01", 3),
            row(&format!("{}:20FC", hex([127, 0, 0, 1])), "0A", 4)
        );
        let of = |text: &str| listening(&table, text.parse().unwrap());
        assert_eq!([of("127.0.0.1:8443"), of("127.0.0.2:8443"), of("127.0.0.1:8445")], [vec![1], vec![2], vec![]]);
        let loopback = format!("{0}{0}{0}{1}", "00000000", hex([0, 0, 0, 1]));
        let table = format!("{head}{}", row(&format!("{loopback}:20FB"), "0A", 5));
        assert_eq!(listening(&table, "[::1]:8443".parse().unwrap()), [5]);
        assert!(listening("", "[::1]:8443".parse().unwrap()).is_empty());
    }

    #[test]
    fn a_socket_is_found_by_path_and_by_link() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000: 00000002 00000000 00010000 0001 01 4711 /tmp/a b/.s.PGSQL.5432\n\
                     0000: 00000003 00000000 00000000 0001 03 4712\n";
        assert_eq!(listening_at_path(table, "/tmp/a b/.s.PGSQL.5432"), [4711]);
        assert!(listening_at_path(table, "/tmp/.s.PGSQL.5432").is_empty());
        assert_eq!([socket_inode("socket:[4711]"), socket_inode("pipe:[1]")], [Some(4711), None]);
    }

    #[test]
    fn pressure_is_parsed() {
        let text = "some avg10=87.44 avg60=56.79 avg300=22.78 total=133158587\nfull avg10=0.00 total=0\n";
        assert_eq!([pressure_us(text), pressure_us("")], [Some(133_158_587), None]);
    }
}
