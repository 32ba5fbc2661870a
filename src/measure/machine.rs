//! The machine and toolchain that a result comes from.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What the firmware tells of the machine.
const DMI: &str = "/sys/class/dmi/id";
/// Makers of virtual machines, as firmware names them: processors other than x86 have no flag that says so.
const VIRTUAL_MAKERS: [&str; 9] = [
    "qemu",
    "kvm",
    "vmware",
    "virtualbox",
    "innotek",
    "xen",
    "openstack",
    "google compute",
    "microsoft corporation virtual",
];

/// What a figure depends on besides the suite and the target.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu_model: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// `none` on bare metal; `virtual machine`, with the maker's name where it is told; `unknown` in older summaries.
    #[serde(default = "unknown")]
    pub virtualisation: String,
    /// Compiler version.
    pub rustc: String,
    /// The suite's commit, `-dirty` with uncommitted changes, or `unknown` outside a git checkout.
    pub commit: String,
}

impl Machine {
    /// Asks this machine; what it does not tell reads `unknown`.
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = field(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu_model: known(field(&cpuinfo, "model name")),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory_kib.unwrap_or(0) * 1024,
            kernel: known(Some(kernel.trim())),
            virtualisation: virtualisation(&cpuinfo, &|name| fs::read_to_string(Path::new(DMI).join(name)).ok()),
            rustc: known(output("rustc", &["--version"]).as_deref()),
            commit: known(
                output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
                    .as_deref(),
            ),
        }
    }
}

/// Whether the kernel runs on a hypervisor: the processor says so, or the firmware's maker and product do.
fn virtualisation(cpuinfo: &str, dmi: &dyn Fn(&str) -> Option<String>) -> String {
    let flagged = field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let told = |name| dmi(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let maker = [told("sys_vendor"), told("product_name")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let lower = maker.to_ascii_lowercase();
    if !flagged && !VIRTUAL_MAKERS.iter().any(|known| lower.contains(known)) {
        return "none".to_owned();
    }
    if maker.is_empty() { "virtual machine".to_owned() } else { format!("virtual machine ({maker})") }
}

fn unknown() -> String {
    known(None)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn known(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("unknown").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_machine_is_known_by_its_processor_or_its_firmware() {
        let told = |flags: &str, maker: &'static str| {
            virtualisation(&format!("flags\t\t: {flags}\n"), &|name| (name == "sys_vendor").then(|| maker.to_owned()))
        };
        assert_eq!(told("fpu hypervisor sse", ""), "virtual machine");
        assert_eq!(told("fpu hypervisor sse", "Amazon EC2\n"), "virtual machine (Amazon EC2)");
        assert_eq!(told("fpu", "QEMU"), "virtual machine (QEMU)");
        assert_eq!(told("fpu sse", "Dell Inc."), "none");
    }
}
