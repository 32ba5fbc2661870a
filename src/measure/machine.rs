//! The machine and toolchain that a result comes from.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;

/// The folder in which the firmware describes the machine.
const DMI: &str = "/sys/class/dmi/id";
/// The value of a field that is not known.
pub const UNKNOWN: &str = "unknown";
/// Makers of virtual machines, as firmware names them: processors other than x86 have no flag for a hypervisor.
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

/// The conditions of a figure besides the suite and the system: the machine and the toolchain.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Machine {
    /// The processor's name; `unknown`, with the beginning of the boot's id, if the kernel reports none.
    pub cpu_model: String,
    /// Details that the processor's name leaves open, as the kernel numbers them: family, model and stepping, or
    /// implementer, part, variant and revision. Absent in older summaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_part: Option<String>,
    /// The revision of its microcode, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microcode: Option<String>,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in bytes: the machine's, or the part of it that the control group allows.
    pub memory_bytes: u64,
    /// The CPU quota of the control group, in processors, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<f64>,
    /// True if it is the control group that limits the memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_is_limited: bool,
    /// Kernel release.
    pub kernel: String,
    /// `none` on bare metal; `virtual machine`, with the maker's name if it is known; `unknown` in older summaries.
    #[serde(default = "unknown")]
    pub virtualisation: String,
    /// Compiler version.
    pub rustc: String,
    /// The suite's commit, with `-dirty` if there are uncommitted changes, or `no-commit` outside a git checkout; both
    /// with the time at which the program was built, since they do not identify the code. `unknown` if that time is not
    /// known.
    pub commit: String,
}

impl Machine {
    /// Reads the properties of this machine; one that it does not report is `unknown`.
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = field(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let read = |path: &Path| fs::read_to_string(path).ok();
        let limits = Cgroup::of_this_process(&read).limits(&read);
        let whole_bytes = memory_kib.unwrap_or(0) * 1024;
        let memory_bytes = limits.memory_bytes.unwrap_or(whole_bytes).min(whole_bytes);
        Self {
            cpu_model: cpu_model(&cpuinfo),
            cpu_part: cpu_part(&cpuinfo),
            microcode: field(&cpuinfo, "microcode").filter(|text| !text.is_empty()).map(str::to_owned),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes,
            cpu_quota: limits.cpu_quota,
            memory_is_limited: memory_bytes < whole_bytes,
            kernel: known(Some(kernel.trim())),
            virtualisation: virtualisation(&cpuinfo, &|name| fs::read_to_string(Path::new(DMI).join(name)).ok()),
            rustc: known(Some(env!("CERTCTL_BENCH_RUSTC"))),
            commit: commit(),
        }
    }
}

impl Machine {
    /// Returns the limits of the control group, as text to append to the properties of the machine; empty without a
    /// limit.
    pub fn limits(&self) -> String {
        let memory = if self.memory_is_limited { " (limit of the control group)" } else { "" };
        let quota = self.cpu_quota.map_or_else(String::new, |quota| format!(", CPU quota {quota:.2}"));
        format!("{memory}{quota}")
    }
}

/// Returns the processor's name, which has another key on each architecture.
fn cpu_model(cpuinfo: &str) -> String {
    let named = ["model name", "cpu model", "uarch", "cpu"].into_iter().find_map(|name| field(cpuinfo, name));
    if let Some(name) = named.filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    if let Some(part) = cpu_part(cpuinfo) {
        return format!("CPU {part}");
    }
    // Two machines that report nothing are not thereby the same; within a boot there is only one machine.
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(boot) => format!("{UNKNOWN} (boot {})", boot.trim().chars().take(8).collect::<String>()),
        Err(_) => UNKNOWN.to_owned(),
    }
}

/// Returns the numbers behind the name: x86's, or those of ARM's main identification register.
fn cpu_part(cpuinfo: &str) -> Option<String> {
    let fields = |names: &[(&str, &str)]| {
        let parts = names.iter().map(|(name, label)| Some(format!("{label} {}", field(cpuinfo, name)?)));
        parts.collect::<Option<Vec<_>>>().map(|parts| parts.join(" "))
    };
    fields(&[("cpu family", "family"), ("model", "model"), ("stepping", "stepping")]).or_else(|| {
        fields(&[
            ("CPU implementer", "implementer"),
            ("CPU part", "part"),
            ("CPU variant", "variant"),
            ("CPU revision", "revision"),
        ])
    })
}

/// Returns the commit of the sources, with the time of the build if the commit does not identify the code.
fn commit() -> String {
    // The program was built from that folder, whoever owns it: reading its history needs no further trust.
    let describe = ["-c", "safe.directory=*", "-C", env!("CARGO_MANIFEST_DIR")];
    let how = ["describe", "--always", "--dirty", "--abbrev=12"];
    let described = output("git", &[&describe[..], &how[..]].concat()).filter(|text| !text.is_empty());
    match described {
        Some(commit) if !commit.ends_with("-dirty") => commit,
        other => {
            let label = other.unwrap_or_else(|| "no-commit".to_owned());
            built().map_or_else(|| UNKNOWN.to_owned(), |built| format!("{label} (built {built})"))
        }
    }
}

/// Returns the time at which this program was linked.
fn built() -> Option<String> {
    let modified = fs::metadata("/proc/self/exe").and_then(|program| program.modified()).ok()?;
    Some(humantime::format_rfc3339_seconds(modified).to_string())
}

/// Reports whether the kernel runs on a hypervisor, by the processor's flag or the firmware's maker and product.
fn virtualisation(cpuinfo: &str, dmi: &dyn Fn(&str) -> Option<String>) -> String {
    let flagged = field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let dmi_text = |name| dmi(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let maker = [dmi_text("sys_vendor"), dmi_text("product_name")].into_iter().flatten().collect::<Vec<_>>().join(" ");
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
    text.filter(|text| !text.is_empty()).unwrap_or(UNKNOWN).to_owned()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nameless_processor_is_identified_by_its_numbers() {
        let arm = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU architecture: 8\n\
                   CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n";
        assert_eq!(cpu_model(arm), "CPU implementer 0x41 part 0xd0c variant 0x3 revision 1");
        let x86 = "cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nstepping\t: 1\n";
        assert_eq!(cpu_part(x86).as_deref(), Some("family 25 model 1 stepping 1"));
        assert_eq!(cpu_model(x86), "AMD EPYC");
        assert!(cpu_model("processor : 0\n").starts_with("unknown (boot "));
    }

    #[test]
    fn a_virtual_machine_is_detected_by_cpu_flag_or_firmware() {
        let detected = |flags: &str, maker: &'static str| {
            virtualisation(&format!("flags\t\t: {flags}\n"), &|name| (name == "sys_vendor").then(|| maker.to_owned()))
        };
        assert_eq!(detected("fpu hypervisor sse", ""), "virtual machine");
        assert_eq!(detected("fpu hypervisor sse", "Amazon EC2\n"), "virtual machine (Amazon EC2)");
        assert_eq!(detected("fpu", "QEMU"), "virtual machine (QEMU)");
        assert_eq!(detected("fpu sse", "Dell Inc."), "none");
    }
}
