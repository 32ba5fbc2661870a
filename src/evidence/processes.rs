//! The processes of the system under test and of its database, if they run on this machine: those that hold the sockets
//! that they listen at.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use tokio_postgres::config::Host;

use crate::database::Address;
use crate::measure::machine_use::account::{Owner, Roots};
use crate::measure::machine_use::procfs::{self, Process};
use crate::system::{Addresses, Rows, hex};

/// Docker's proxy, which holds the port of a container on the host. Its command line names the container's address.
const STAND_IN: &str = "docker-proxy";
/// The name of PostgreSQL's processes.
const POSTGRES: &str = "postgres";
/// PostgreSQL's default port.
const POSTGRES_PORT: u16 = 5432;
/// The most proxies that are followed, one behind another.
const MOST_HOPS: usize = 4;

/// The processes of the run's parties on this machine.
#[derive(Clone, Debug, Default)]
pub struct Occupants {
    /// The root processes of the parties, whose descendants belong to the same party.
    pub roots: Roots,
    /// The processes of the system under test, as text.
    pub system: String,
    /// The processes of PostgreSQL, as text.
    pub postgresql: String,
}

/// The result of the search for one listener.
enum Holder {
    /// Held by these processes.
    Here(Vec<u32>),
    /// On another machine.
    Elsewhere,
    /// On this machine, but not visible to this user.
    Unseen,
}

impl Occupants {
    /// Finds the processes.
    pub fn find(addresses: &Addresses) -> Self {
        let processes = processes();
        let names: HashMap<u32, &Process> = processes.iter().map(|process| (process.pid, process)).collect();
        let mut roots = Roots { owners: HashMap::new(), is_complete: true };
        roots.owners.insert(std::process::id(), Owner::Generator);
        let (mut here, mut away) = (Vec::new(), Vec::new());
        for address in &addresses.system {
            match owner(*address, &names, 0) {
                Holder::Here(pids) => here.extend(pids),
                Holder::Elsewhere => away.push(format!("{address} is on another machine")),
                Holder::Unseen => {
                    roots.is_complete = false;
                    away.push(format!(
                        "the process that listens at {address} is not visible (run as root, or as the same user)"
                    ));
                }
            }
        }
        let is_local = !here.is_empty();
        roots.owners.extend(here.iter().map(|pid| (*pid, Owner::System)));
        let of_database = match &addresses.rows {
            Rows::Database(url) => database(url, &names),
            // Every PostgreSQL on this machine is taken for it.
            Rows::Unnamed if is_local => by_name(&names),
            Rows::Unnamed | Rows::Nowhere => Holder::Elsewhere,
        };
        let postgresql = match of_database {
            Holder::Here(pids) => {
                roots.owners.extend(pids.iter().map(|pid| (*pid, Owner::Postgresql)));
                format_processes(&pids, &names)
            }
            Holder::Elsewhere => "none seen on this machine".to_owned(),
            Holder::Unseen => {
                roots.is_complete = false;
                "not visible".to_owned()
            }
        };
        let system = [vec![format_processes(&here, &names)], away].concat().into_iter().filter(|text| !text.is_empty());
        let system = system.collect::<Vec<_>>().join("; ");
        Self { roots, system, postgresql }
    }
}

/// Returns processes as text: `certctl (pid 12)`.
fn format_processes(pids: &[u32], names: &HashMap<u32, &Process>) -> String {
    let each = pids.iter().map(|pid| match names.get(pid) {
        Some(process) => format!("{} (pid {pid})", process.name),
        None => format!("pid {pid}"),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Returns all visible processes.
pub fn processes() -> Vec<Process> {
    // A line has at most some 400 bytes. One read returns all of it, which halves the cost.
    let mut line = [0; 1024];
    let stat = |pid: u32| {
        let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut line));
        // The process may have ended meanwhile.
        procfs::process(&String::from_utf8_lossy(&line[..read.ok()?]))
    };
    pids().filter_map(stat).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Finds the processes that hold the socket that listens at `address`.
fn owner(address: SocketAddr, names: &HashMap<u32, &Process>, hops: usize) -> Holder {
    let in_ours = is_ours(address.ip());
    let Some(view) = (if in_ours { Some(PathBuf::from("/proc/self")) } else { namespace_of(address.ip()) }) else {
        return Holder::Elsewhere;
    };
    let inodes =
        ["net/tcp", "net/tcp6"].map(|table| procfs::listening(&listeners(&view.join(table)), address)).concat();
    let mut holders = holders(&inodes);
    if holders.is_empty() {
        return Holder::Unseen;
    }
    // The CPU use of a proxy counts as the system's, but the system itself is behind it.
    for pid in holders.clone() {
        if names.get(&pid).is_some_and(|process| process.name == STAND_IN)
            && hops < MOST_HOPS
            && let Some(behind) = behind(pid)
        {
            match owner(behind, names, hops + 1) {
                Holder::Here(pids) => holders.extend(pids),
                Holder::Elsewhere | Holder::Unseen => return Holder::Unseen,
            }
        }
    }
    Holder::Here(holders)
}

/// Reads the listening sockets of a table of TCP sockets. The kernel lists them first; to list the connections behind
/// them takes it a time that grows with the square of their number, half a minute with 50,000 on both sides.
fn listeners(table: &Path) -> String {
    let mut rows = String::new();
    let Ok(file) = File::open(table) else { return rows };
    for (at, line) in BufReader::new(file).lines().map_while(Result::ok).enumerate() {
        // The first line has the names of the columns.
        if at > 0 && !procfs::is_listening(&line) {
            break;
        }
        rows += &line;
        rows.push('\n');
    }
    rows
}

/// Reports whether this machine has this address in its own network namespace.
fn is_ours(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Finds a process in another network namespace of this machine that has this address, such as a container's.
fn namespace_of(ip: IpAddr) -> Option<PathBuf> {
    let mut namespaces = BTreeMap::new();
    for pid in pids() {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        if let Ok(namespace) = fs::read_link(folder.join("ns/net")) {
            namespaces.entry(namespace).or_insert(folder);
        }
    }
    let has = |folder: &PathBuf| match ip {
        IpAddr::V4(ip) => {
            let wanted = format!("-- {ip}");
            let table = fs::read_to_string(folder.join("net/fib_trie")).unwrap_or_default();
            table.lines().any(|line| line.trim_end().ends_with(&wanted))
        }
        IpAddr::V6(ip) => {
            let wanted = hex(&ip.octets());
            fs::read_to_string(folder.join("net/if_inet6")).unwrap_or_default().contains(&wanted)
        }
    };
    // Every namespace has a loopback address, but the own one was checked before.
    namespaces.into_values().find(|folder| !ip.is_loopback() && has(folder))
}

/// Returns the processes that hold one of these sockets.
fn holders(inodes: &[u64]) -> Vec<u32> {
    if inodes.is_empty() {
        return Vec::new();
    }
    let holds = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|link| link.to_str().and_then(procfs::socket_inode).is_some_and(|inode| inodes.contains(&inode)))
    };
    pids().filter(holds).collect()
}

/// Returns the address to which a proxy forwards.
fn behind(pid: u32) -> Option<SocketAddr> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
    let after = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1));
    Some(SocketAddr::new(after("-container-ip")?.parse().ok()?, after("-container-port")?.parse().ok()?))
}

/// Finds the PostgreSQL of a URL.
fn database(url: &str, names: &HashMap<u32, &Process>) -> Holder {
    let Ok(address) = Address::parse(url) else { return Holder::Elsewhere };
    let config = address.config();
    let port = config.get_ports().first().copied().unwrap_or(POSTGRES_PORT);
    match config.get_hosts().first() {
        Some(Host::Unix(folder)) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
            match holders(&procfs::listening_at_path(&table, &path.to_string_lossy())) {
                pids if pids.is_empty() => Holder::Unseen,
                pids => Holder::Here(pids),
            }
        }
        Some(Host::Tcp(host)) => {
            let addresses = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port));
            let mut found = addresses.into_iter().flatten().map(|address| owner(address, names, 0));
            let mut first = found.next().unwrap_or(Holder::Elsewhere);
            // A name may have an address at which nothing listens.
            for next in found {
                if !matches!(first, Holder::Here(_)) {
                    first = next;
                }
            }
            match first {
                // The descriptors of another user's processes are not visible, but their names are.
                Holder::Unseen => by_name(names),
                found => found,
            }
        }
        None => Holder::Elsewhere,
    }
}

/// Finds every PostgreSQL on this machine.
fn by_name(names: &HashMap<u32, &Process>) -> Holder {
    let is_one = |pid: &u32| names.get(pid).is_some_and(|process| process.name == POSTGRES);
    let masters = names.values().filter(|process| is_one(&process.pid) && !is_one(&process.parent));
    let mut masters: Vec<_> = masters.map(|process| process.pid).collect();
    masters.sort_unstable();
    if masters.is_empty() { Holder::Elsewhere } else { Holder::Here(masters) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_local_listener_is_found_by_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let system = vec![listener.local_addr().unwrap()];
        let found = Occupants::find(&Addresses { system, rows: Rows::Unnamed });
        assert_eq!(found.roots.owners[&std::process::id()], Owner::System);
        assert!(found.roots.is_complete && found.system.ends_with(&format!("(pid {})", std::process::id())));
    }

    #[test]
    fn no_connection_is_listed_to_find_a_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _connections = [(); 3].map(|()| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let table = listeners(Path::new("/proc/self/net/tcp"));
        assert!(table.lines().count() > 1 && table.lines().skip(1).all(procfs::is_listening), "{table}");
        assert_eq!(procfs::listening(&table, listener.local_addr().unwrap()).len(), 1);
    }

    #[test]
    fn a_system_on_another_machine_owns_no_local_process() {
        // An address for documentation only (RFC 5737): no machine has it.
        let system = vec!["192.0.2.1:8443".parse().unwrap()];
        let found = Occupants::find(&Addresses { system, rows: Rows::Unnamed });
        assert!(found.roots.is_complete, "{found:?}");
        assert_eq!(found.system, "192.0.2.1:8443 is on another machine");
    }

    #[test]
    fn a_port_without_a_visible_owner_leaves_others_unjudged() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let found = Occupants::find(&Addresses { system: vec![address], rows: Rows::Unnamed });
        assert!(!found.roots.is_complete, "{found:?}");
    }
}
