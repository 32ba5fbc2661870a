//! The environment of a run. A difference in kind makes latencies incomparable; a difference in version is reported.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::measure::MeasureKind;
use super::workload::short_hash;
use crate::evidence::Evidence;
use crate::measure::machine::UNKNOWN;
use crate::summary::Summary;
use crate::system::{Behaviour, SystemKind};

/// The environment in which a run's figures were measured.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Processors that the generator could use.
    pub cores: usize,
    /// Settings of the system's PostgreSQL on which its counts alone depend, where they are known.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub counting_settings: Map<String, Value>,
    /// The processor's name.
    pub cpu_model: String,
    /// The numbers behind the name; absent in older baselines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_part: Option<String>,
    /// The CPU quota of the generator's control group, in processors, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<f64>,
    /// The kernel's scheduling of the generator's thread, on which the lag of arrivals depends.
    pub generator_scheduling: String,
    /// The number of the generator's threads; absent where it is one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub generator_threads: u64,
    /// Kernel release.
    pub kernel: String,
    /// Memory in GiB, rounded.
    pub memory_gib: u64,
    /// The revision of the processor's microcode; absent in older baselines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microcode: Option<String>,
    /// The version of the system's PostgreSQL, where it is known.
    pub postgresql: String,
    /// The suite's commit.
    pub suite_commit: String,
    /// The suite's version.
    pub suite_version: String,
    /// The SHA-256 of the binary that the system was started from; absent where it ran already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_binary_sha256: Option<String>,
    /// `as-built` or `as-documented`.
    pub system_behaviour: Behaviour,
    /// `certctl`, `reference` or `connectors`.
    pub system_kind: SystemKind,
    /// The SHA-256 of what `sha256sum *.sql` prints in the folder of its migrations; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_migrations_sha256: Option<String>,
    /// Settings on which the system's speed depends, its database's included, where they are known.
    pub system_settings: Map<String, Value>,
    /// The store that keeps the system's rows.
    pub system_store: String,
    /// The verification of the system's certificate: against what, or none.
    pub system_trust: String,
    /// The system's version, as it reports it.
    pub system_version: String,
    /// The compiler's version.
    pub toolchain: String,
    /// `none`, or the kind of virtual machine.
    pub virtualisation: String,
}

fn one() -> u64 {
    1
}

fn is_one(count: &u64) -> bool {
    *count == 1
}

/// Settings that decide how much WAL the same work makes.
const WAL_SETTINGS: [&str; 9] = [
    "block_size",
    "data_checksums",
    "full_page_writes",
    "track_commit_timestamp",
    "wal_compression",
    "wal_consistency_checking",
    "wal_level",
    "wal_log_hints",
    "wal_segment_size",
];
/// The setting that decides which statements are counted. Statements within others are not, whatever `track` says.
const SQL_SETTING: &str = "pg_stat_statements.track_utility";
/// Settings that are evidence, but do not affect a comparison.
const NO_PLACE: [&str; 4] =
    ["compute_query_id", "pg_stat_statements.max", "pg_stat_statements.track", "pg_stat_statements.track_planning"];
/// A setting of counts that stays among those of the system: it was there before the others of its kind.
const PLACE_TOO: &str = "wal_level";

/// The name of the processor among the properties.
const PROCESSOR: &str = "processor";
/// The names of those that are settings, of which only the differing ones are described.
const SETTINGS: &str = "system's settings";
const DAEMONS: &str = "daemons";
/// The setting that becomes `postgresql`.
const VERSION_SETTING: &str = "server_version";

/// The consequence of a difference between two environments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Nothing can be compared: another kind of system, or other certificates.
    Nothing,
    /// Counts alone can be compared: another machine, store or setting.
    CountsAlone,
    /// WAL cannot be compared: the same work makes more or less of it. A setting that only one side states is no
    /// difference.
    NoWal,
    /// Statements cannot be compared, likewise.
    NoStatements,
    /// It is noted: it may be the subject of the comparison, or explain a change.
    Noted,
}

impl Consequence {
    /// The consequences that keep some measure from being compared.
    pub const GRAVE: [Self; 4] = [Self::Nothing, Self::CountsAlone, Self::NoWal, Self::NoStatements];

    /// Reports whether a difference with this consequence keeps the measure `name`, of this kind, from being compared.
    pub fn bars(self, name: &str, kind: MeasureKind) -> bool {
        match self {
            Self::Nothing => true,
            Self::CountsAlone => matches!(kind, MeasureKind::Timed | MeasureKind::Share),
            Self::NoWal => name.contains("/wal_"),
            Self::NoStatements => name.contains("/sql_"),
            Self::Noted => false,
        }
    }
}

impl Environment {
    /// Returns the environment of the figures in `summary`.
    pub fn of(summary: &Summary) -> Self {
        let (machine, system) = (&summary.about.machine, &summary.about.system);
        let mut settings = system.settings.clone();
        let read = summary.evidence.iter().flat_map(|evidence: &Evidence| &evidence.settings);
        for (name, value) in read {
            settings.entry(name.clone()).or_insert_with(|| value.clone().into());
        }
        let mut counting_settings = Map::new();
        for name in WAL_SETTINGS.into_iter().chain([SQL_SETTING]).filter(|name| *name != PLACE_TOO) {
            if let Some(value) = settings.remove(name) {
                counting_settings.insert(name.to_owned(), value);
            }
        }
        NO_PLACE.into_iter().for_each(|name| drop(settings.remove(name)));
        let postgresql = settings.remove(VERSION_SETTING);
        // Daemons behind connectors listen elsewhere in each run, and their versions are compared apart.
        for daemon in settings.values_mut().filter_map(Value::as_object_mut) {
            daemon.remove("base_url");
            daemon.remove("address");
            daemon.remove("version");
        }
        Self {
            cores: machine.cores,
            counting_settings,
            cpu_model: machine.cpu_model.clone(),
            cpu_part: machine.cpu_part.clone(),
            cpu_quota: machine.cpu_quota,
            generator_scheduling: summary.generator.scheduling.to_string(),
            generator_threads: summary.generator.threads,
            kernel: machine.kernel.clone(),
            memory_gib: (machine.memory_bytes as f64 / f64::from(1 << 30)).round() as u64,
            microcode: machine.microcode.clone(),
            postgresql: postgresql.as_ref().and_then(Value::as_str).unwrap_or("unknown").to_owned(),
            suite_commit: machine.commit.clone(),
            suite_version: summary.suite_version.to_string(),
            system_binary_sha256: system.binary_sha256.clone(),
            system_behaviour: system.behaviour,
            system_kind: system.kind,
            system_migrations_sha256: system.migrations_sha256.clone(),
            system_settings: settings,
            system_store: system.store.to_string(),
            system_trust: system.trust.clone(),
            system_version: system.version.clone(),
            toolchain: machine.rustc.clone(),
            virtualisation: machine.virtualisation.clone(),
        }
    }

    /// Returns the differences from `other` that have this consequence, a line each.
    pub fn differences(&self, other: &Self, consequence: Consequence) -> Vec<String> {
        let pairs = self.properties().into_iter().zip(other.properties());
        let differing = pairs.filter_map(|((of, name, mine), (.., theirs))| match (mine, theirs) {
            (Some(mine), Some(theirs)) if mine != theirs => (of == consequence).then(|| {
                let differing = [SETTINGS, DAEMONS].contains(&name);
                let differing = differing.then(|| differing_settings(&self.system_settings, &other.system_settings));
                differing.map_or_else(
                    || format!("{name}: {mine} against {theirs}"),
                    |differing| format!("{name}: {}", differing.join("; ")),
                )
            }),
            // Two machines that both lack a name are not known to be the same.
            (Some(mine), Some(_)) => (of == consequence && name == PROCESSOR && mine == UNKNOWN)
                .then(|| format!("{name}: {UNKNOWN} on both sides")),
            // Older baselines lack it.
            (mine, theirs) if mine != theirs && of == Consequence::CountsAlone => {
                let [mine, theirs] = [mine, theirs].map(|value| value.unwrap_or_else(|| UNKNOWN.to_owned()));
                (consequence == Consequence::Noted).then(|| format!("{name}: {mine} against {theirs}"))
            }
            _ => None,
        });
        differing.collect()
    }

    /// Returns what may differ, each with its consequence; `None` where it is not known.
    fn properties(&self) -> Vec<(Consequence, &'static str, Option<String>)> {
        use Consequence::{CountsAlone, NoStatements, NoWal, Noted, Nothing};
        // The bytes of daemons' handshakes depend on their certificates, which are among their settings.
        let [daemons, settings] = match self.system_kind {
            SystemKind::Connectors => [self.settings(), String::new()],
            _ => [String::new(), self.settings()],
        };
        let text = |text: &str| Some(text.to_owned());
        let or_none = |sha256: &Option<String>| Some(sha256.clone().unwrap_or_else(|| "none".to_owned()));
        let version = major(&self.postgresql);
        let mut properties = vec![
            (Nothing, DAEMONS, Some(daemons)),
            (Nothing, "system", text(self.system_kind.label())),
            (Nothing, "system's behaviour", text(self.system_behaviour.label())),
            (CountsAlone, PROCESSOR, text(&self.cpu_model)),
            (CountsAlone, "cores", Some(self.cores.to_string())),
            (CountsAlone, "CPU quota", Some(self.quota())),
            (CountsAlone, "memory", Some(format!("{} GiB", self.memory_gib))),
            (CountsAlone, "virtualisation", text(&self.virtualisation)),
            (CountsAlone, "system's store", text(&self.system_store)),
            (CountsAlone, "PostgreSQL's major version", text(version)),
            (CountsAlone, SETTINGS, Some(settings)),
            (CountsAlone, "system's certificate", text(&self.system_trust)),
            (CountsAlone, "generator's scheduling", text(&self.generator_scheduling)),
            (CountsAlone, "generator's threads", Some(self.generator_threads.to_string())),
            (CountsAlone, "processor's part", self.cpu_part.clone()),
            (CountsAlone, "processor's microcode", self.microcode.clone()),
            (NoWal, "PostgreSQL's major version", text(version).filter(|version| version != UNKNOWN)),
            (Noted, "suite", text(&self.suite_version)),
            (Noted, "suite's commit", text(&self.suite_commit)),
            (Noted, "system's version", text(&self.system_version)),
            (Noted, "system's binary (SHA-256)", or_none(&self.system_binary_sha256)),
            (Noted, "system's migrations (SHA-256)", or_none(&self.system_migrations_sha256)),
            (Noted, "kernel", text(&self.kernel)),
            (Noted, "toolchain", text(&self.toolchain)),
            (Noted, "PostgreSQL", text(&self.postgresql)),
        ];
        let setting = |name: &str| self.counting_settings.get(name).or_else(|| self.system_settings.get(name));
        let counting = WAL_SETTINGS.map(|name| (NoWal, name)).into_iter().chain([(NoStatements, SQL_SETTING)]);
        properties.extend(counting.map(|(of, name)| (of, name, setting(name).and_then(Value::as_str).and_then(text))));
        properties
    }

    fn quota(&self) -> String {
        self.cpu_quota.map_or_else(|| "none".to_owned(), |quota| format!("{quota:.2}"))
    }

    fn settings(&self) -> String {
        Value::Object(self.system_settings.clone()).to_string()
    }

    /// Returns a short and stable name for a folder, made of all that decides whether latencies can be compared.
    pub fn folder(&self) -> String {
        let mut place = [
            self.cpu_model.as_str(),
            &self.cores.to_string(),
            &self.memory_gib.to_string(),
            &self.virtualisation,
            self.system_kind.label(),
            self.system_behaviour.label(),
            &self.system_store,
            major(&self.postgresql),
            &self.settings(),
            &self.system_trust,
            &self.generator_scheduling,
        ]
        .join("\n");
        // Folders of baselines without these numbers keep their names.
        for number in [&self.cpu_part, &self.microcode].into_iter().flatten() {
            place.push('\n');
            place.push_str(number);
        }
        // Without a quota, folders keep the names that they had before quotas were recorded.
        if self.cpu_quota.is_some() {
            place.push_str(&format!("\nquota {}", self.quota()));
        }
        // Likewise with one thread.
        if self.generator_threads > 1 {
            place.push_str(&format!("\nthreads {}", self.generator_threads));
        }
        let machine = if self.virtualisation == "none" { "metal" } else { "vm" };
        format!(
            "{}-{}x-{}gib-{machine}-{}-{}",
            slug(&self.cpu_model),
            self.cores,
            self.memory_gib,
            slug(self.system_kind.label()),
            &short_hash(&place)[..6]
        )
    }
}

/// Describes the settings that differ, those within a group by themselves.
fn differing_settings(mine: &Map<String, Value>, theirs: &Map<String, Value>) -> Vec<String> {
    let names: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
    let differing = names.into_iter().filter(|name| mine.get(*name) != theirs.get(*name));
    let described = differing.flat_map(|name| match (mine.get(name), theirs.get(name)) {
        (Some(Value::Object(mine)), Some(Value::Object(theirs))) => differing_settings(mine, theirs),
        (mine, theirs) => {
            let [mine, theirs] = [mine, theirs].map(|one| match one {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => "none".to_owned(),
            });
            vec![format!("{name}: {mine} against {theirs}")]
        }
    });
    described.collect()
}

/// Returns the major version: `15` of `15.18 (Debian 15.18-0+deb12u1)`.
fn major(version: &str) -> &str {
    version.split(['.', ' ']).next().unwrap_or(version)
}

/// Reduces a text to lower-case letters, digits and single hyphens, and to a limited length.
fn slug(text: &str) -> String {
    const LONGEST: usize = 24;
    let lower = text.to_ascii_lowercase();
    let words: Vec<_> =
        lower.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-").chars().take(LONGEST).collect::<String>().trim_end_matches('-').to_owned()
}
