//! A stand-in for certctl-server: a script that takes its command line and settings, and has the reference server serve.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::process::{copy_program, write_script};

/// The name of the setting with the path of a file in which the stand-in reports what it sees.
pub const REPORT: &str = "CERTCTL_STAND_IN_REPORT";

/// Refuses to start without the settings that certctl demands.
const SETTINGS: &str = r#"
for name in CERTCTL_DATABASE_URL CERTCTL_DATABASE_MIGRATIONS_PATH CERTCTL_SERVER_TLS_CERT_PATH \
    CERTCTL_SERVER_TLS_KEY_PATH CERTCTL_AUTH_SECRET CERTCTL_API_KEYS_NAMED CERTCTL_AGENT_BOOTSTRAP_TOKEN \
    CERTCTL_CONFIG_ENCRYPTION_KEY; do
    eval "value=\${$name-}"
    [ -n "$value" ] || { echo "$name is required" >&2; exit 1; }
done
[ "$CERTCTL_AUTH_TYPE" = api-key ] || { echo "CERTCTL_AUTH_TYPE is required" >&2; exit 1; }
[ "${#CERTCTL_CONFIG_ENCRYPTION_KEY}" -ge 32 ] || { echo "CERTCTL_CONFIG_ENCRYPTION_KEY is too short" >&2; exit 1; }
[ -z "$(ls)" ] || { echo "the working folder is not empty" >&2; exit 1; }
[ -f "$CERTCTL_DATABASE_MIGRATIONS_PATH/seed_demo.sql" ] || { echo "no migrations" >&2; exit 1; }
token=${CERTCTL_API_KEYS_NAMED#*:}
export CERTCTL_REFERENCE_TOKEN="${token%%:*}" CERTCTL_REFERENCE_DATABASE="$CERTCTL_DATABASE_URL"
"#;
/// Migrates. The reference server makes its tables when it starts, and ends with its standard input.
const MIGRATE: &str = r#"
if [ "${1-}" = --migrate-only ]; then "$reference" </dev/null >/dev/null; exit; fi
"#;
const SERVE: &str = r#"
if [ -n "${CERTCTL_STAND_IN_REPORT-}" ]; then
    { readlink /proc/self/ns/net; cat /proc/net/dev /proc/net/route; env; echo "SERVER_PID=$$"; } \
        >"$CERTCTL_STAND_IN_REPORT"
fi
exec "$reference" --listen "$CERTCTL_SERVER_HOST:$CERTCTL_SERVER_PORT" \
    --tls-cert "$CERTCTL_SERVER_TLS_CERT_PATH" --tls-key "$CERTCTL_SERVER_TLS_KEY_PATH"
"#;
/// Rows of the kind with which certctl calls others, and one that stays.
const DEMO_SEED: &str = "
    CREATE TABLE IF NOT EXISTS network_scan_targets (id text PRIMARY KEY, enabled boolean NOT NULL);
    INSERT INTO network_scan_targets VALUES ('nst-lan', true) ON CONFLICT DO NOTHING;
    INSERT INTO issuers (id, name, type) VALUES ('iss-elsewhere', 'elsewhere', 'Vault') ON CONFLICT DO NOTHING;
";

/// A source tree with a stand-in in it, which every user can read.
pub struct StandIn {
    folder: TempDir,
}

impl StandIn {
    /// Returns one that does everything that the suite needs.
    pub fn new() -> Self {
        Self::with_script(&[SETTINGS, MIGRATE, SERVE].concat())
    }

    /// Returns one of before the flag --migrate-only.
    pub fn old() -> Self {
        Self::with_script(&[SETTINGS, SERVE].concat())
    }

    /// Returns one that migrates, and then does this in place of serving.
    pub fn that_then(script: &str) -> Self {
        Self::with_script(&[SETTINGS, MIGRATE, script].concat())
    }

    /// Returns one that does so, and then serves.
    pub fn that_serves_after(script: &str) -> Self {
        Self::that_then(&[script, SERVE].concat())
    }

    /// Returns one that is this shell script.
    pub fn with_script(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As root, it runs as another user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let reference = folder.path().join("certctl-reference");
        copy_program(env!("CARGO_BIN_EXE_certctl-reference"), &reference);
        let stand_in = Self { folder };
        for name in ["bin", "migrations"] {
            fs::create_dir(stand_in.folder.path().join(name)).unwrap();
        }
        fs::write(stand_in.demo_seed(), DEMO_SEED).unwrap();
        write_script(&stand_in.program(), &format!("reference='{}'\n{script}", reference.display()));
        stand_in
    }

    pub fn program(&self) -> PathBuf {
        self.folder.path().join("bin/certctl-server")
    }

    pub fn demo_seed(&self) -> PathBuf {
        self.folder.path().join("migrations/seed_demo.sql")
    }

    /// Appends statements to the demo seed.
    pub fn add_to_demo_seed(&self, sql: &str) {
        fs::write(self.demo_seed(), [DEMO_SEED, sql].concat()).unwrap();
    }

    /// Returns the SHA-256 of the program.
    pub fn sha256(&self) -> String {
        sha256(fs::read(self.program()).unwrap())
    }

    /// Returns the SHA-256 of what `sha256sum *.sql` prints in the folder of the migrations.
    pub fn migrations_sha256(&self) -> String {
        sha256(format!("{}  seed_demo.sql\n", sha256(fs::read(self.demo_seed()).unwrap())))
    }

    /// Makes a file that every user can write, for [`REPORT`].
    pub fn report(&self) -> PathBuf {
        let path = self.folder.path().join("report");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        path
    }
}

fn sha256(content: impl AsRef<[u8]>) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the arguments that select a program.
pub fn certctl(program: &Path) -> [String; 2] {
    ["--certctl".to_owned(), program.to_str().unwrap().to_owned()]
}
