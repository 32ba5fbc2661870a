//! Load that leaves this machine: refused unless it is allowed, and announced before it starts.
//!
//! Names are looked up once, and only the addresses found then are dialled: a name that resolves to another machine a
//! moment later changes nothing.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::load::plan::Model;
use crate::run::Workload;
use crate::seed;
use crate::system::base_url::BaseUrl;
use crate::terminal::errln;

/// The time between an announcement and the start of the load.
const NOTICE: Duration = Duration::from_secs(5);

/// A server to which requests or statements of a run go.
pub struct Destination {
    /// Its name, without secrets.
    name: String,
    addresses: Vec<SocketAddr>,
}

impl Destination {
    /// Returns the addresses beyond loopback.
    fn remote(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(SocketAddr::ip).filter(|ip| !is_loopback(*ip))
    }
}

/// Returns true for this machine's loopback: 127.0.0.0/8, ::1, or one of the former written as IPv6.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Returns true if a destination is beyond this machine's loopback.
pub fn leaves(destinations: &[Destination]) -> bool {
    destinations.iter().any(|one| one.remote().next().is_some())
}

/// Ensures that the load of `workloads` at `destinations` stays on this machine, or may leave it. A load that leaves it
/// is announced for five seconds.
///
/// # Errors
/// If it would leave this machine and may not (kind `Usage`).
pub fn clear<'w>(
    destinations: &[Destination],
    allowed: bool,
    bench: &str,
    workloads: impl Iterator<Item = &'w Workload>,
) -> Result<()> {
    let mut load = String::new();
    for workload in workloads {
        // Writing to a String cannot fail.
        let _ = write!(load, "\n  {}", describe(bench, workload));
    }
    permit(destinations, allowed, &load)
}

/// Does the same as [`clear`] for statements to a database, which `doing` describes.
///
/// # Errors
/// If they would leave this machine and may not (kind `Usage`), or a name cannot be resolved.
pub fn clear_database(url: &str, allowed: bool, doing: &str) -> Result<()> {
    permit(&[database(url)?], allowed, &format!("\n  {doing}"))
}

fn permit(destinations: &[Destination], allowed: bool, load: &str) -> Result<()> {
    let remote: Vec<_> = destinations.iter().filter(|one| one.remote().next().is_some()).collect();
    let Some(first) = remote.first() else { return Ok(()) };
    if !allowed {
        let name = &first.name;
        let address = first.remote().next().map_or_else(String::new, |ip| ip.to_string());
        let at = if name.contains(&address) { String::new() } else { format!(" ({address})") };
        return Err(Error::usage(format!("{name}{at} is not on this machine's loopback, and others may depend on it"))
            .with_hint("add --allow-remote if you are allowed to load it (CERTCTL_BENCH_ALLOW_REMOTE=true)"));
    }
    let mut notice =
        format!("--allow-remote: load for another machine starts in {} s; press Ctrl-C to cancel:", NOTICE.as_secs());
    for one in remote {
        let addresses: Vec<String> = one.addresses.iter().map(|address| address.ip().to_string()).collect();
        // Writing to a String cannot fail.
        let _ = write!(notice, "\n  to {} at {}", one.name, addresses.join(" or "));
    }
    errln!("{notice}{load}");
    thread::sleep(NOTICE);
    Ok(())
}

/// Describes the load of a workload in a line.
fn describe(bench: &str, workload: &Workload) -> String {
    let plan = &workload.plan;
    let pace = match &plan.model {
        Model::Open { pattern, clients, .. } => {
            let most = if pattern.curve().is_some() { "at most " } else { "" };
            format!("{most}{:.1} arrivals/s", pattern.peak_per_second(*clients))
        }
        Model::Closed { .. } => "as many requests as it answers".to_owned(),
    };
    let span = (plan.starts_after + plan.warm_up + plan.window).as_secs_f64();
    let name = workload.name;
    let name = if name == bench { name.to_owned() } else { format!("{bench}, {name}") };
    format!("{name}: {pace} for up to {span:.0} s over {} connections", plan.connections)
}

/// Returns a server that runs already, and fixes the addresses that are dialled.
///
/// # Errors
/// If its name cannot be resolved.
pub fn server(base: &mut BaseUrl) -> Result<Destination> {
    Ok(Destination { addresses: base.fix_addresses()?.to_vec(), name: base.to_string() })
}

/// Returns a database that runs already.
///
/// # Errors
/// If its name cannot be resolved.
pub fn database(url: &str) -> Result<Destination> {
    Ok(Destination { name: format!("the database {}", seed::redact_url(url)), addresses: seed::addresses(url)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(addresses: &[&str]) -> Destination {
        let addresses = addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 8443)).collect();
        Destination { name: "https://certctl.example:8443".to_owned(), addresses }
    }

    #[test]
    fn only_loopback_needs_no_permission() {
        for here in ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"] {
            permit(&[destination(&[here])], false, "").unwrap();
        }
        for there in
            ["128.0.0.1", "10.0.0.1", "192.0.2.7", "0.0.0.0", "::", "::2", "::ffff:192.0.2.7", "fe80::1", "::127.0.0.1"]
        {
            let refused = permit(&[destination(&["127.0.0.1"]), destination(&[there])], false, "").unwrap_err();
            assert_eq!(refused.kind(), crate::error::ErrorKind::Usage, "{there}");
            assert!(refused.what().starts_with("https://certctl.example:8443 ("), "{refused}");
        }
    }

    /// The next address is tried where one does not answer: each of them has to be on this machine.
    #[test]
    fn a_name_with_one_remote_address_needs_permission() {
        permit(&[destination(&["127.0.0.1", "192.0.2.7"])], false, "").unwrap_err();
    }
}
