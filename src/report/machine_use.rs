//! The use of the machine as text: the rows that belong beside the latencies.

use std::fmt::Write as _;

use crate::measure::machine_use::{CpuUse, MachineUse, named};

/// Returns the owners of CPU time, in the order in which they are shown, each with the processors that it used.
pub fn owners(cpu: &CpuUse) -> [(&'static str, Option<f64>); 6] {
    [
        ("generator", Some(cpu.generator)),
        ("system under test", cpu.system),
        ("PostgreSQL", cpu.postgresql),
        ("others", Some(cpu.others)),
        ("interrupts", Some(cpu.interrupts)),
        ("steal", Some(cpu.steal)),
    ]
}

/// Renders the use of the machine in rows like the summary's.
pub fn lines(used: &MachineUse) -> String {
    let mut text = String::new();
    let mut key = "machine use";
    for line in statements(used) {
        let _ = writeln!(text, "{key:<12} {line}");
        key = "";
    }
    text
}

/// Describes the use of the machine in a few statements.
pub fn statements(used: &MachineUse) -> Vec<String> {
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |cpus| format!("{cpus:.2}"));
    let each = owners(&used.mean).map(|(name, value)| match name {
        "generator" => format!("{name} {} (its measuring thread {:.2})", shown(value), used.measuring_thread),
        _ => format!("{name} {}", shown(value)),
    });
    let quota = used.cpu_quota.map_or_else(String::new, |quota| format!(", quota {quota:.2}"));
    let mut all = vec![format!("of {} CPUs{quota}: {}, idle {:.2}", used.cpus, each.join(", "), used.mean.idle)];
    let pressure = used
        .pressure
        .map_or_else(String::new, |share| format!("; something waited for a CPU {:.0}% of the time", share * 100.0));
    all.push(match used.taken_share {
        Some(share) => format!(
            "others and steal took {:.0}% of what the run left free, nearly all of it in {} of {} samples{pressure}",
            share * 100.0,
            used.starved_seconds,
            used.measured_samples().count()
        ),
        None => format!("not judged: {}; PostgreSQL: {}{pressure}", used.system_is, used.postgresql_is),
    });
    if !used.top_others.is_empty() {
        all.push(format!("others that used most: {}", named(&used.top_others)));
    }
    if used.throttled > 0 {
        all.push(format!("a CPU quota stopped the run {} times, for {:.2} s of CPU", used.throttled, used.stopped_s));
    }
    all
}
