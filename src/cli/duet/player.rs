//! One side of a duet: a system that runs already, or a program that is started for each block.

use std::path::{Path, PathBuf};

use regex::bytes::Regex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::DuetFlags;
use crate::cli::prepare::{announce_shared, set_up, sizes};
use crate::cli::remote;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::load::plan::DuetSide;
use crate::scenario::need::Need;
use crate::system::base_url::redact;
use crate::system::certctl_binary::{BinaryChoice, ChosenSettings, FlagNames, PreparedCertctl, shown};
use crate::system::reference::{self, ReferenceStart, StoreChoice};
use crate::system::{Certctl, hex};
use crate::terminal::errln;

/// One side of a duet.
pub(super) enum Player {
    /// A certctl that runs already.
    Running(Box<Certctl>),
    /// A reference server, which is started for each block.
    Reference {
        /// The program.
        program: PathBuf,
        /// Its SHA-256, in hexadecimal digits.
        sha256: String,
        /// Variables of its environment.
        environment: Vec<(String, String)>,
    },
    /// A certctl-server, which is started for each block.
    Certctl {
        /// The program.
        choice: BinaryChoice,
        /// Its database, once it is prepared.
        prepared: Option<Box<PreparedCertctl>>,
    },
}

impl Player {
    pub(super) fn of(flags: &DuetFlags, side: DuetSide) -> Result<Self> {
        let (name, environment, database, migrations) = match side {
            DuetSide::Base => (&flags.base, &flags.base_env, &flags.base_database, &flags.base_migrations),
            DuetSide::Head => (&flags.head, &flags.head_env, &flags.head_database, &flags.head_migrations),
        };
        let flag = side.label();
        // A variable with one a line ends with a line end, or is empty.
        let environment: Vec<String> = environment.iter().filter(|one| !one.trim().is_empty()).cloned().collect();
        let only_of_binaries = || Error::usage(format!("--{flag}-migrations applies only to a certctl-server"));
        if is_url(name) {
            if migrations.is_some() {
                return Err(only_of_binaries());
            }
            if !environment.is_empty() {
                return Err(Error::usage(format!("--{flag}-env does not apply to a running system: {}", redact(name)))
                    .with_hint("set the variable where it is started"));
            }
            let base = name.parse().map_err(|error| Error::usage(format!("--{flag}: {error}")))?;
            return Ok(Self::Running(Box::new(flags.access.certctl(base, database.clone())?)));
        }
        if database.is_some() {
            return Err(Error::usage(format!("--{flag}-database applies only to a running system"))
                .with_hint("leave it out: a program that is started gets a PostgreSQL of its own"));
        }
        let program = PathBuf::from(name);
        if is_reference(&program, flag)? {
            if migrations.is_some() {
                return Err(only_of_binaries());
            }
            // One without a folder would be looked for in PATH.
            let program = std::path::absolute(&program).context(|| format!("finding {name}"))?;
            let environment = environment.iter().map(|one| assignment(one, flag)).collect::<Result<_>>()?;
            let sha256 = sha256(&read(&program, flag)?);
            return Ok(Self::Reference { program, sha256, environment });
        }
        let names = match side {
            DuetSide::Base => FlagNames::BASE,
            DuetSide::Head => FlagNames::HEAD,
        };
        let settings = ChosenSettings::new(&environment, names)?;
        let (migrations, shares_network) = (migrations.clone(), flags.share_network);
        let choice = BinaryChoice { flags: names, program, migrations, settings, shares_network, patches: Vec::new() };
        choice.check()?;
        Ok(Self::Certctl { choice, prepared: None })
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Self::Running(certctl) => certctl.base.to_string(),
            Self::Reference { program, .. } => files::shown(program),
            Self::Certctl { choice, .. } => files::shown(&choice.program),
        }
    }

    pub(super) fn destinations(&mut self) -> Result<Vec<remote::Destination>> {
        match self {
            Self::Running(certctl) => {
                let mut found = vec![remote::server(&mut certctl.base)?];
                found.extend(certctl.database.as_deref().map(remote::database).transpose()?);
                Ok(found)
            }
            Self::Reference { .. } | Self::Certctl { .. } => Ok(Vec::new()),
        }
    }

    /// Starts it; what was started before must be gone.
    pub(super) fn start(&mut self, port: u16, needs: &[Need]) -> Result<Certctl> {
        match self {
            Self::Running(certctl) => {
                let Certctl { base, trust, token, database, allow_foreign_rows, .. } = &**certctl;
                let mut again = Certctl::external(base.clone(), trust.clone(), token.clone(), database.clone());
                again.allow_foreign_rows = *allow_foreign_rows;
                Ok(again)
            }
            Self::Reference { program, sha256: of_first, environment } => {
                let bytes = std::fs::read(&*program).context(|| format!("reading {}", program.display()))?;
                if sha256(&bytes) != *of_first {
                    return Err(Error::new(format!("{} was replaced since the duet began", program.display()))
                        .with_hint("build in another folder, or give copies"));
                }
                let start = ReferenceStart {
                    sizes: sizes(needs),
                    port,
                    environment,
                    ..ReferenceStart::new(program, StoreChoice::Auto)
                };
                let mut certctl = reference::start(&start, &mut |_| {})?;
                certctl.system.binary_sha256 = Some(of_first.clone());
                let shown = environment.iter().map(|(name, value)| (name.clone(), shown(name, value).into())).collect();
                certctl.system.settings.insert("certctl".to_owned(), Value::Object(shown));
                Ok(certctl)
            }
            Self::Certctl { choice, prepared } => {
                let prepared = match prepared {
                    Some(prepared) => prepared,
                    none => {
                        announce_shared(choice);
                        set_up(choice, needs);
                        none.insert(Box::new(PreparedCertctl::new(choice.clone(), &mut |line| errln!("{line}"))?))
                    }
                };
                // What it tells of each start is in the result.
                prepared.start(sizes(needs), port, &mut |_| {})
            }
        }
    }
}

pub(super) fn is_url(side: &str) -> bool {
    side.contains("://")
}

/// Reports whether a program is a certctl-reference: its help says so.
pub(super) fn is_reference(program: &Path, flag: &str) -> Result<bool> {
    let mark = Regex::new("A certctl-shaped HTTPS server for benchmarks").context(|| "making a pattern".to_owned())?;
    Ok(mark.is_match(&read(program, flag)?))
}

fn read(program: &Path, flag: &str) -> Result<Vec<u8>> {
    std::fs::read(program).map_err(|error| {
        Error::usage(format!("--{flag} {}: {error}", program.display()))
            .with_hint("give a program, or a URL that begins with https://")
    })
}

/// Returns the SHA-256 of a program, in hexadecimal digits.
fn sha256(program: &[u8]) -> String {
    hex(&Sha256::digest(program))
}

fn assignment(text: &str, flag: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("--{flag}-env needs NAME=VALUE"))),
    }
}
