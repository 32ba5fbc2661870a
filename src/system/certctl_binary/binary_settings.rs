//! certctl's settings that differ from its defaults: those that a load test needs, and the user's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::FlagNames;
use crate::database;
use crate::error::{Error, Result};
use crate::foreign;

/// An interval that no run reaches.
pub const DAY: &str = "24h";
/// The value that stands for a secret.
const HIDDEN: &str = "[secret]";
/// The shortest secret that is looked for in all output; a shorter one, such as a number, would be found everywhere.
const LEAST_SECRET: usize = 8;
/// The pool of database connections, and its default.
const POOL: (&str, u32) = ("CERTCTL_DATABASE_MAX_CONNS", 50);

/// The settings that a load test needs, and that the user may change.
const NEEDED: [(&str, &str); 8] = [
    ("CERTCTL_ACME_SERVER_ENABLED", "true"),
    // Zero is no limit.
    ("CERTCTL_ACME_SERVER_RATE_LIMIT_CHALLENGE_RESPONDS_PER_HOUR", "0"),
    ("CERTCTL_ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS", "0"),
    ("CERTCTL_ACME_SERVER_RATE_LIMIT_KEY_CHANGE_PER_HOUR", "0"),
    ("CERTCTL_ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR", "0"),
    ("CERTCTL_OCSP_RATE_LIMIT_PER_IP_MIN", "0"),
    // One line a request would be written otherwise.
    ("CERTCTL_LOG_LEVEL", "warn"),
    ("CERTCTL_RATE_LIMIT_ENABLED", "false"),
];

/// The intervals of background loops, which are to have no turn in a run but their first, at certctl's start. The one
/// of agents' health is also the time after which an agent counts as silent.
const LOOPS: [&str; 14] = [
    "CERTCTL_ACME_SERVER_GC_INTERVAL",
    "CERTCTL_AUDIT_CHAIN_VERIFY_INTERVAL",
    "CERTCTL_CRL_GENERATION_INTERVAL",
    "CERTCTL_JOB_TIMEOUT_INTERVAL",
    "CERTCTL_NETWORK_SCAN_INTERVAL",
    "CERTCTL_NOTIFICATION_RETRY_INTERVAL",
    "CERTCTL_RATE_LIMIT_JANITOR_INTERVAL",
    "CERTCTL_SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL",
    "CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL",
    "CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL",
    "CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL",
    "CERTCTL_SCHEDULER_RETRY_INTERVAL",
    "CERTCTL_SESSION_GC_INTERVAL",
    "CERTCTL_SHORT_LIVED_EXPIRY_CHECK_INTERVAL",
];

/// The settings by which the suite reaches the server that it starts.
const OURS: [&str; 11] = [
    "CERTCTL_AGENT_BOOTSTRAP_TOKEN",
    "CERTCTL_API_KEYS_NAMED",
    "CERTCTL_AUTH_SECRET",
    "CERTCTL_AUTH_TYPE",
    "CERTCTL_CONFIG_ENCRYPTION_KEY",
    "CERTCTL_DATABASE_MIGRATIONS_PATH",
    "CERTCTL_DATABASE_URL",
    "CERTCTL_SERVER_HOST",
    "CERTCTL_SERVER_PORT",
    "CERTCTL_SERVER_TLS_CERT_PATH",
    "CERTCTL_SERVER_TLS_KEY_PATH",
];

/// The settings of a certctl that is started, by name, beside those by which the suite reaches it.
#[derive(Clone, Debug)]
pub struct ChosenSettings {
    all: BTreeMap<String, String>,
    /// The names of the user's.
    given: BTreeSet<String>,
}

impl ChosenSettings {
    /// Takes the user's settings, each `NAME=VALUE`, over those that a load test needs. Values that look secret are
    /// registered, so that no output shows them.
    ///
    /// # Errors
    /// If one is no setting of certctl's, or one that the suite itself sets (kind `Usage`). The error shows no value.
    pub fn new(given: &[String], flags: FlagNames) -> Result<Self> {
        let flag = flags.settings;
        let needed = NEEDED.into_iter().chain(LOOPS.map(|name| (name, DAY)));
        let mut all: BTreeMap<String, String> =
            needed.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut names = BTreeSet::new();
        // A variable with one a line ends with a line end, or is empty.
        for setting in given.iter().filter(|setting| !setting.trim().is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            database::keep_passwords(value);
            if is_secret(name) && value.len() >= LEAST_SECRET {
                foreign::keep_secret(value, HIDDEN);
            }
            let is_name = |start: &str| {
                let rest = name.strip_prefix(start).unwrap_or_default();
                !rest.is_empty()
                    && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            };
            if !setting.contains('=') || !(is_name("CERTCTL_") || is_name("GO")) || value.contains('\0') {
                return Err(Error::usage(format!(
                    "{flag} needs NAME=VALUE, and a NAME that begins with CERTCTL_ or GO"
                ))
                .with_hint(format!("write it as {flag} CERTCTL_LOG_LEVEL=info")));
            }
            if OURS.contains(&name) {
                return Err(Error::usage(format!(
                    "{flag} {name}: the suite itself sets it, to reach the certctl that it starts"
                ))
                .with_hint("leave it out, or start certctl yourself and give its URL, https://host:port"));
            }
            all.insert(name.to_owned(), value.to_owned());
            names.insert(name.to_owned());
        }
        Ok(Self { all, given: names })
    }

    /// Sets what a workload needs, unless the user has set it.
    pub fn suggest(&mut self, name: &str, value: &str) {
        if !self.given.contains(name) {
            self.all.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Returns every setting.
    pub fn all(&self) -> &BTreeMap<String, String> {
        &self.all
    }

    /// Returns every setting for results: values that look secret are hidden.
    pub fn shown(&self) -> Map<String, Value> {
        self.all.iter().map(|(name, value)| (name.clone(), shown(name, value).into())).collect()
    }

    /// Returns the setting that dates the acknowledgement of a demo, where the settings have one without a date:
    /// certctl demands one of the last day, and that it be given anew at each start.
    pub(super) fn acknowledgement(&self) -> Option<(&'static str, String)> {
        const DATE: &str = "CERTCTL_DEMO_MODE_ACK_TS";
        let acknowledges = self.all.get("CERTCTL_DEMO_MODE_ACK").is_some_and(|value| value == "true");
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        (acknowledges && !self.all.contains_key(DATE)).then(|| (DATE, now_s.to_string()))
    }

    /// Returns the most connections that the server opens to its database.
    pub(super) fn pool(&self) -> u32 {
        self.all.get(POOL.0).and_then(|value| value.parse().ok()).unwrap_or(POOL.1)
    }
}

/// Returns the value of a setting for results; one that looks secret is hidden.
pub fn shown(name: &str, value: &str) -> String {
    if is_secret(name) { HIDDEN.to_owned() } else { foreign::redact(value).into_owned() }
}

/// Reports whether the value of such a setting is a secret: a word of its name says so, and the last does not say that
/// it is something about a secret. The path of a webhook is one.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 7] = ["KEY", "SECRET", "TOKEN", "PASSWORD", "PASSPHRASE", "CREDENTIAL", "WEBHOOK"];
    const ABOUT: [&str; 7] = ["PATH", "FILE", "DIR", "RETENTION", "EMPTY", "MODE", "HOUR"];
    !name.rsplit('_').next().is_some_and(|last| ABOUT.contains(&last))
        && name.split('_').any(|word| WORDS.iter().any(|secret| word.trim_end_matches('S').ends_with(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_which_values_are_secret() {
        for name in [
            "CERTCTL_X_KEY",
            "CERTCTL_APIKEYS",
            "CERTCTL_TOKEN_2",
            "CERTCTL_VAULT_CREDENTIALS",
            "CERTCTL_SLACK_WEBHOOK_URL",
            "CERTCTL_KEY_PEM",
            "GO_SECRET",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "CERTCTL_KEYGEN_MODE",
            "CERTCTL_LOG_LEVEL",
            "CERTCTL_CA_KEY_PATH",
            "CERTCTL_OCSP_RESPONDER_KEY_DIR",
            "CERTCTL_SIGNING_KEY_RETENTION",
            "CERTCTL_TOKEN_FILE",
            "CERTCTL_BOOTSTRAP_TOKEN_DENY_EMPTY",
            "CERTCTL_ACME_SERVER_RATE_LIMIT_KEY_CHANGE_PER_HOUR",
            "GOMAXPROCS",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_setting_of_the_users_wins() {
        // As a variable of several lines is split.
        let given = ["CERTCTL_LOG_LEVEL=info=x", "CERTCTL_NEW=", "GOGC=off", ""].map(str::to_owned);
        let settings = ChosenSettings::new(&given, FlagNames::CERTCTL).unwrap();
        let value = |name: &str| settings.all().get(name).map(String::as_str);
        assert_eq!(value("CERTCTL_LOG_LEVEL"), Some("info=x"));
        assert_eq!([value("CERTCTL_NEW"), value("GOGC")], [Some(""), Some("off")]);
        assert_eq!(value("CERTCTL_SCHEDULER_RETRY_INTERVAL"), Some(DAY));
        assert_eq!(settings.pool(), 50);
    }

    #[test]
    fn what_a_workload_needs_gives_way_to_the_users() {
        let given = ["CERTCTL_KEYGEN_MODE=agent".to_owned()];
        let mut settings = ChosenSettings::new(&given, FlagNames::CERTCTL).unwrap();
        assert_eq!(settings.acknowledgement(), None);
        for (name, value) in
            [("CERTCTL_KEYGEN_MODE", "server"), ("CERTCTL_LOG_LEVEL", "info"), ("CERTCTL_DEMO_MODE_ACK", "true")]
        {
            settings.suggest(name, value);
        }
        assert_eq!((&*settings.all()["CERTCTL_KEYGEN_MODE"], &*settings.all()["CERTCTL_LOG_LEVEL"]), ("agent", "info"));
        // The date is no setting of the run: it would be another at each start.
        let (name, date) = settings.acknowledgement().unwrap();
        assert_eq!((name, settings.all().contains_key(name)), ("CERTCTL_DEMO_MODE_ACK_TS", false));
        assert!(date.parse::<u64>().unwrap() > 1_700_000_000, "{date}");
        settings.suggest(name, "1");
        assert_eq!(settings.acknowledgement(), None);
    }

    #[test]
    fn what_the_suite_sets_is_refused() {
        for name in OURS {
            let given = [format!("{name}=recognisable-value")];
            let refused = ChosenSettings::new(&given, FlagNames::HEAD).unwrap_err().to_string();
            assert!(
                refused.starts_with("--head-env ") && refused.contains(name) && !refused.contains("recognisable"),
                "{refused}"
            );
        }
        for wrong in ["CERTCTL_X", "PATH=/x", "certctl_x=1", "CERTCTL_=1", "=1", "CERTCTL-X=1"] {
            assert!(ChosenSettings::new(&[wrong.to_owned()], FlagNames::CERTCTL).is_err(), "{wrong}");
        }
    }
}
