//! The checks of this machine, which the generator runs on.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::{Finding, Report};
use crate::load::limits::SPARE;
use crate::load::ports::Ports;
use crate::scenario::agent_storm::SEEDED_AGENTS;

/// Checks file descriptors, ports and the load of the processors.
pub fn examine(report: Report<'_>) {
    report(descriptors(hard_limit()));
    if let Some(found) = Ports::of_this_machine() {
        report(ports(found));
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if let Some(load) = load_average() {
        report(load_of(load, cpus));
    }
}

fn descriptors(hard: u64) -> Finding {
    let needed = SEEDED_AGENTS + SPARE;
    Finding::unless(
        hard >= needed,
        || {
            Finding::fail(
                format!("{SEEDED_AGENTS} agents need {needed} file descriptors; the hard limit is {hard}"),
                format!(
                    "run ulimit -Hn {needed} as root before the run, or give --connections {}",
                    hard.min(needed) / 2
                ),
            )
        },
        format!("file descriptors: {hard} at most, for {SEEDED_AGENTS} connections"),
    )
}

fn ports(ports: Ports) -> Finding {
    let Ports { low, high, waiting, .. } = ports;
    let free = ports.count().saturating_sub(waiting);
    let what = format!("ports {low} to {high}, {waiting} of them in TIME_WAIT, for {SEEDED_AGENTS} connections");
    let hint = "run sysctl net.ipv4.ip_local_port_range='10000 65535', or wait a minute for TIME_WAIT to end";
    match free {
        _ if free < SEEDED_AGENTS => Finding::fail(what, hint),
        _ if free < 2 * SEEDED_AGENTS => Finding::warn(what, hint),
        _ => Finding::ok(what),
    }
}

fn load_of(load: f64, cpus: usize) -> Finding {
    let what = format!("{cpus} CPUs, load average {load:.2}");
    Finding::unless(
        load < cpus as f64 / 2.0,
        || {
            Finding::warn(
                what.clone(),
                "end other processes here: generator and system are measured together with them",
            )
        },
        what.clone(),
    )
}

fn hard_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;
    use crate::load::ports::Reuse;

    #[test]
    fn scarce_resources_of_the_machine_are_reported() {
        let level = |finding: Finding| finding.level;
        assert_eq!([level(descriptors(5_063)), level(descriptors(5_064))], [Severity::Fail, Severity::Ok]);
        let ports = |waiting| level(ports(Ports { low: 32_768, high: 60_999, waiting, reused: Reuse::Loopback }));
        assert_eq!([ports(23_300), ports(20_000), ports(0)], [Severity::Fail, Severity::Warn, Severity::Ok]);
        assert_eq!([level(load_of(1.0, 2)), level(load_of(0.9, 2))], [Severity::Warn, Severity::Ok]);
    }

    #[test]
    fn limits_and_load_of_this_machine_are_read() {
        assert!(hard_limit() > 0 && load_average().is_some());
    }
}
