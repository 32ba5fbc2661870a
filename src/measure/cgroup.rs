//! Limits that a control group sets on this process: CPU quota, memory, number of processes; cgroups(7), both versions.

use std::path::{Path, PathBuf};

/// A function that reads a small file; returns `None` if there is none.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The least value at which a limit of version 1 means no limit: the maximum is rounded down to a page.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// The folders of the control groups that a process is in, its own first, then those around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    cpu: Vec<PathBuf>,
    memory: Vec<PathBuf>,
    pids: Vec<PathBuf>,
}

/// The stops of a group's processes by a quota, since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which the quota was used up.
    pub times: u64,
    /// The time for which processes were stopped, over all processors, in nanoseconds.
    pub stopped_ns: u64,
}

/// The limits of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CgroupLimits {
    /// The CPU quota, in processors, if there is one.
    pub cpu_quota: Option<f64>,
    /// The limit of memory, in bytes, if there is one.
    pub memory_bytes: Option<u64>,
    /// The limit of processes and threads, if there is one.
    pub processes: Option<u64>,
}

impl Cgroup {
    /// Returns the groups of the calling process.
    pub fn of_this_process(read: ReadFile<'_>) -> Self {
        let text = |path: &str| read(Path::new(path)).unwrap_or_default();
        Self::of(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"))
    }

    /// Returns the groups of a process with these `/proc/PID/mountinfo` and `/proc/PID/cgroup`.
    pub fn of(mountinfo: &str, cgroup: &str) -> Self {
        let folders = |controller: &str| {
            let of_one = folders(mountinfo, cgroup, Some(controller));
            // A controller that version 1 does not have belongs to version 2.
            if of_one.is_empty() { folders(mountinfo, cgroup, None) } else { of_one }
        };
        Self { cpu: folders("cpu"), memory: folders("memory"), pids: folders("pids") }
    }

    /// Returns the limits of these groups: the narrowest of each.
    pub fn limits(&self, read: ReadFile<'_>) -> CgroupLimits {
        let quotas = self.cpu.iter().filter_map(|folder| {
            let number = |name: &str| read(&folder.join(name))?.trim().parse::<f64>().ok();
            let of_2 = read(&folder.join("cpu.max")).and_then(|text| {
                let (quota, period) = text.trim().split_once(' ')?;
                Some((quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?))
            });
            let (quota, period) = of_2.or_else(|| Some((number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)))?;
            (quota > 0.0 && period > 0.0).then_some(quota / period)
        });
        let least = |folders: &[PathBuf], names: &[&str], bound: u64| {
            let files = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
            let limits = files.filter_map(|file| read(&file)?.trim().parse::<u64>().ok());
            limits.filter(|limit| *limit < bound).min()
        };
        CgroupLimits {
            cpu_quota: quotas
                .fold(None, |least: Option<f64>, quota| Some(least.map_or(quota, |least| least.min(quota)))),
            memory_bytes: least(&self.memory, &["memory.max", "memory.limit_in_bytes"], UNLIMITED_BYTES),
            processes: least(&self.pids, &["pids.max"], u64::MAX),
        }
    }

    /// Returns the stops of these groups by quotas so far.
    pub fn throttling(&self, read: ReadFile<'_>) -> Throttling {
        let each = self.cpu.iter().filter_map(|folder| Some(throttling(&read(&folder.join("cpu.stat"))?)));
        each.fold(Throttling::default(), |all, one| Throttling {
            times: all.times + one.times,
            stopped_ns: all.stopped_ns + one.stopped_ns,
        })
    }

    /// Returns the path of the innermost group's pressure file, which not every kernel has.
    pub fn pressure_file(&self) -> Option<PathBuf> {
        Some(self.cpu.first()?.join("cpu.pressure"))
    }
}

impl Throttling {
    /// Returns the stops since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            times: self.times.saturating_sub(earlier.times),
            stopped_ns: self.stopped_ns.saturating_sub(earlier.stopped_ns),
        }
    }
}

/// Parses `cpu.stat`. Version 1 counts in nanoseconds, version 2 in microseconds.
fn throttling(cpu_stat: &str) -> Throttling {
    let field = |wanted: &str| {
        let lines = cpu_stat.lines().filter_map(|line| line.split_once(' '));
        lines.filter(|(name, _)| *name == wanted).find_map(|(_, value)| value.trim().parse::<u64>().ok())
    };
    let of_2 = field("throttled_usec").map(|us| us.saturating_mul(1_000));
    Throttling {
        times: field("nr_throttled").unwrap_or(0),
        stopped_ns: of_2.or_else(|| field("throttled_time")).unwrap_or(0),
    }
}

/// Returns the folders of a controller's groups, of version 1 or of version 2 (`None`), the process's own first.
fn folders(mountinfo: &str, cgroup: &str, controller: Option<&str>) -> Vec<PathBuf> {
    let is_wanted = |controllers: &str| match controller {
        Some(wanted) => controllers.split(',').any(|one| one == wanted),
        None => controllers.is_empty(),
    };
    let path = cgroup.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        is_wanted(controllers).then_some(path)
    });
    let mount = mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1).unwrap_or(""));
        let fits = match controller {
            Some(_) => kind == "cgroup" && is_wanted(options),
            None => kind == "cgroup2",
        };
        let mut left = left.split(' ').skip(3);
        fits.then_some((left.next()?, left.next()?))
    });
    let (Some(path), Some((root, point))) = (path, mount) else { return Vec::new() };
    // In a container the mount shows a part of the tree, and the path may be that of the whole.
    let within = Path::new(path).strip_prefix(root).unwrap_or(Path::new("")).to_owned();
    let within: PathBuf = within.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
    within.ancestors().map(|part| Path::new(point).join(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn files(all: &'static [(&str, &str)]) -> impl Fn(&Path) -> Option<String> {
        |path| all.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn control_groups_of_both_versions_are_found() {
        let paths = |found: &[PathBuf]| found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let v1 = Cgroup::of(V1, "4:memory:/a/b\n1:cpu:/q\n0::/x\n");
        assert_eq!(paths(&v1.cpu), ["/sys/fs/cgroup/cpu/q", "/sys/fs/cgroup/cpu/"]);
        assert_eq!(
            paths(&v1.memory),
            ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory/"]
        );
        assert_eq!(paths(&v1.pids), ["/sys/fs/cgroup/unified/x", "/sys/fs/cgroup/unified/"]);
        let v2 = Cgroup::of(V2, "0::/user.slice/s.scope\n");
        assert_eq!(
            paths(&v2.cpu),
            ["/sys/fs/cgroup/user.slice/s.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup/"]
        );
        // Docker: the container's own group is mounted, and its path is the one outside the container, or the root.
        let docker = "31 23 0:28 /docker/1f /sys/fs/cgroup ro - cgroup2 cgroup ro\n";
        for cgroup in ["0::/docker/1f\n", "0::/\n", "0::/../../x\n"] {
            assert_eq!(paths(&Cgroup::of(docker, cgroup).cpu).last().unwrap(), "/sys/fs/cgroup/", "{cgroup}");
        }
        assert_eq!(Cgroup::of("", ""), Cgroup::default());
    }

    #[test]
    fn the_narrowest_limit_applies() {
        let read = files(&[
            ("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/a/cpu.max", "20000 100000\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "1073741824\n"),
            ("/sys/fs/cgroup/a/b/pids.max", "64\n"),
        ]);
        let limits = Cgroup::of(V2, "0::/a/b\n").limits(&read);
        assert_eq!(limits, CgroupLimits { cpu_quota: Some(0.2), memory_bytes: Some(1 << 30), processes: Some(64) });
        let read = files(&[
            ("/sys/fs/cgroup/cpu/q/cpu.cfs_quota_us", "150000\n"),
            ("/sys/fs/cgroup/cpu/q/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let limits = Cgroup::of(V1, "4:memory:/\n1:cpu:/q\n").limits(&read);
        assert_eq!(limits, CgroupLimits { cpu_quota: Some(1.5), memory_bytes: None, processes: None });
    }

    #[test]
    fn throttling_of_both_versions_has_one_unit() {
        let read = files(&[
            ("/sys/fs/cgroup/a/cpu.stat", "usage_usec 9\nnr_periods 30\nnr_throttled 22\nthrottled_usec 1600000\n"),
            ("/sys/fs/cgroup/cpu.stat", "usage_usec 9\n"),
            ("/sys/fs/cgroup/cpu/cpu.stat", "nr_periods 3\nnr_throttled 2\nthrottled_time 1500\n"),
        ]);
        let second = Cgroup::of(V2, "0::/a\n").throttling(&read);
        assert_eq!(second, Throttling { times: 22, stopped_ns: 1_600_000_000 });
        let first = Cgroup::of(V1, "1:cpu:/\n").throttling(&read);
        assert_eq!(first, Throttling { times: 2, stopped_ns: 1_500 });
        assert_eq!(second.since(first), Throttling { times: 20, stopped_ns: 1_599_998_500 });
    }
}
