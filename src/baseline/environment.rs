//! The environment of a run. A difference in kind makes latencies incomparable; a difference in version is reported.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
/// Settings that decide which statements are counted. Statements within others are not counted, whatever `track` says.
const SQL_SETTINGS: [&str; 1] = ["pg_stat_statements.track_utility"];
/// Settings that are evidence, but do not affect a comparison.
const NO_PLACE: [&str; 4] =
    ["compute_query_id", "pg_stat_statements.max", "pg_stat_statements.track", "pg_stat_statements.track_planning"];
/// A setting of counts that stays among those of the system: it was there before the others of its kind.
const PLACE_TOO: &str = "wal_level";

/// The setting that becomes `postgresql`.
const VERSION_SETTING: &str = "server_version";

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
        for name in WAL_SETTINGS.into_iter().chain(SQL_SETTINGS).filter(|name| *name != PLACE_TOO) {
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
            kernel: machine.kernel.clone(),
            memory_gib: (machine.memory_bytes as f64 / f64::from(1 << 30)).round() as u64,
            microcode: machine.microcode.clone(),
            postgresql: postgresql.as_ref().and_then(Value::as_str).unwrap_or("unknown").to_owned(),
            suite_commit: machine.commit.clone(),
            suite_version: summary.suite_version.to_string(),
            system_binary_sha256: system.binary_sha256.clone(),
            system_behaviour: system.behaviour,
            system_kind: system.kind,
            system_settings: settings,
            system_store: system.store.to_string(),
            system_trust: system.trust.clone(),
            system_version: system.version.clone(),
            toolchain: machine.rustc.clone(),
            virtualisation: machine.virtualisation.clone(),
        }
    }

    /// Returns the differences that make every figure of `other` incomparable with this one's: another kind of system,
    /// or other certificates.
    pub fn other_target(&self, other: &Self) -> Vec<String> {
        let [mine, theirs] = [self, other].map(|one| if one.is_connectors() { one.settings() } else { String::new() });
        differing([
            ("daemons", &mine, &theirs),
            ("system", self.system_kind.label(), other.system_kind.label()),
            ("system's behaviour", self.system_behaviour.label(), other.system_behaviour.label()),
        ])
    }

    /// Reports whether the system is the daemons behind connectors: the bytes of their handshakes depend on their
    /// certificates.
    fn is_connectors(&self) -> bool {
        self.system_kind == SystemKind::Connectors
    }

    fn quota(&self) -> String {
        self.cpu_quota.map_or_else(|| "none".to_owned(), |quota| format!("{quota:.2}"))
    }

    fn settings(&self) -> String {
        Value::Object(self.system_settings.clone()).to_string()
    }

    /// Returns the differences that make latencies incomparable: another machine, store or setting. They do not affect
    /// counts.
    pub fn other_place(&self, other: &Self) -> Vec<String> {
        let [mine, theirs] = [self, other].map(|one| {
            [
                one.cores.to_string(),
                format!("{} GiB", one.memory_gib),
                major(&one.postgresql).to_owned(),
                if one.is_connectors() { String::new() } else { one.settings() },
                one.quota(),
            ]
        });
        // Two machines that both lack a name are not known to be the same.
        let nameless = |name: &str, mine: &String, theirs: &String| {
            (mine == UNKNOWN && theirs == UNKNOWN).then(|| format!("{name}: unknown on both sides"))
        };
        let mut differences = differing([
            ("processor", &self.cpu_model, &other.cpu_model),
            ("cores", &mine[0], &theirs[0]),
            ("CPU quota", &mine[4], &theirs[4]),
            ("memory", &mine[1], &theirs[1]),
            ("virtualisation", &self.virtualisation, &other.virtualisation),
            ("system's store", &self.system_store, &other.system_store),
            ("PostgreSQL's major version", &mine[2], &theirs[2]),
            ("system's settings", &mine[3], &theirs[3]),
            ("system's certificate", &self.system_trust, &other.system_trust),
            ("generator's scheduling", &self.generator_scheduling, &other.generator_scheduling),
        ]);
        differences.extend(nameless("processor", &self.cpu_model, &other.cpu_model));
        for (name, mine, theirs) in self.numbers(other) {
            // Older baselines lack them, which is reported among the notes.
            if let (Some(mine), Some(theirs)) = (mine, theirs) {
                differences.extend(differing([(name, mine, theirs)]));
            }
        }
        differences
    }

    /// Returns the details that the processor's name leaves open, of both environments.
    fn numbers<'a>(&'a self, other: &'a Self) -> [(&'static str, Option<&'a String>, Option<&'a String>); 2] {
        [
            ("processor's part", self.cpu_part.as_ref(), other.cpu_part.as_ref()),
            ("processor's microcode", self.microcode.as_ref(), other.microcode.as_ref()),
        ]
    }

    /// Returns the differences that make WAL incomparable: with them, the same work makes more or less of it. A setting
    /// that only one side states is no difference.
    pub fn other_wal(&self, other: &Self) -> Vec<String> {
        let mut differing = self.other_settings(other, &WAL_SETTINGS);
        let [mine, theirs] = [self, other].map(|one| major(&one.postgresql));
        if mine != theirs && ![mine, theirs].contains(&"unknown") {
            differing.push(format!("PostgreSQL's major version: {mine} against {theirs}"));
        }
        differing
    }

    /// Returns the differences that make counts of statements incomparable. A setting that only one side states is no
    /// difference.
    pub fn other_sql(&self, other: &Self) -> Vec<String> {
        self.other_settings(other, &SQL_SETTINGS)
    }

    fn other_settings(&self, other: &Self, names: &[&str]) -> Vec<String> {
        let differing = names.iter().filter_map(|name| {
            let [mine, theirs] = [self, other]
                .map(|one| one.counting_settings.get(*name).or_else(|| one.system_settings.get(*name))?.as_str());
            (mine? != theirs?).then(|| format!("{name}: {} against {}", mine.unwrap_or(""), theirs.unwrap_or("")))
        });
        differing.collect()
    }

    /// Returns all other differences: one may be the subject of the comparison, or explain a change.
    pub fn notes(&self, other: &Self) -> Vec<String> {
        let unknown = UNKNOWN.to_owned();
        let one_sided = self.numbers(other).into_iter().filter(|(_, mine, theirs)| mine.is_some() != theirs.is_some());
        let one_sided = one_sided
            .flat_map(|(name, mine, theirs)| differing([(name, mine.unwrap_or(&unknown), theirs.unwrap_or(&unknown))]));
        let mut notes = differing([
            ("suite", &self.suite_version, &other.suite_version),
            ("suite's commit", &self.suite_commit, &other.suite_commit),
            ("system's version", &self.system_version, &other.system_version),
            ("kernel", &self.kernel, &other.kernel),
            ("toolchain", &self.toolchain, &other.toolchain),
            ("PostgreSQL", &self.postgresql, &other.postgresql),
        ]);
        let [mine, theirs] = [self, other].map(|one| one.system_binary_sha256.as_deref().unwrap_or("none"));
        notes.extend(differing([("system's binary (SHA-256)", mine, theirs)]));
        notes.extend(one_sided);
        notes
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

fn differing<const N: usize>(pairs: [(&str, &str, &str); N]) -> Vec<String> {
    let differing = pairs.into_iter().filter(|(_, mine, theirs)| mine != theirs);
    differing.map(|(name, mine, theirs)| format!("{name}: {mine} against {theirs}")).collect()
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
