//! One side of a duet: a system that runs already, or a program that is started for each block.

use std::path::{Path, PathBuf};

use regex::bytes::Regex;
use sha2::{Digest as _, Sha256};

use super::DuetFlags;
use crate::cli::common_flags::EnvironmentUse;
use crate::cli::prepare::{announce_shared, sizes};
use crate::cli::remote;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::load::plan::DuetSide;
use crate::scenario::need::Need;
use crate::system::base_url::BaseUrl;
use crate::system::certctl_binary::{BinaryChoice, ChosenSettings, PreparedCertctl};
use crate::system::reference::{self, ReferenceStart, StoreChoice};
use crate::system::{Certctl, Token};
use crate::terminal::errln;
use crate::wire::tls::Trust;

/// One side of a duet.
pub(super) enum Player {
    /// A certctl that runs already.
    Running(Box<Running>),
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

/// A certctl that runs already.
pub(super) struct Running {
    base: BaseUrl,
    trust: Trust,
    token: Token,
    database: Option<String>,
}

impl Player {
    pub(super) fn of(flags: &DuetFlags, side: DuetSide) -> Result<Self> {
        let (name, environment, database, migrations) = match side {
            DuetSide::Base => (&flags.base, &flags.base_env, &flags.base_database, &flags.base_migrations),
            DuetSide::Head => (&flags.head, &flags.head_env, &flags.head_database, &flags.head_migrations),
        };
        let flag = side.label();
        if is_url(name) {
            if !environment.is_empty() {
                return Err(Error::usage(format!("--{flag}-env does not apply to a running system: {name}"))
                    .with_hint("set the variable where it is started"));
            }
            let base: BaseUrl = name.parse().map_err(|error| Error::usage(format!("--{flag}: {error}")))?;
            let trust = match &flags.ca_file {
                _ if flags.insecure => Trust::Insecure,
                Some(file) => Trust::from_file(file)?,
                None => Trust::System,
            };
            let token = flags.token.clone().or_else(|| EnvironmentUse::Counts.variable("CERTCTL_TOKEN"));
            let token = token.ok_or_else(|| {
                Error::usage("the API key of the running systems is not given").with_hint("give --token")
            })?;
            let running = Running { base, trust, token: Token::new(token), database: database.clone() };
            return Ok(Self::Running(Box::new(running)));
        }
        if database.is_some() {
            return Err(Error::usage(format!("--{flag}-database applies only to a running system"))
                .with_hint("leave it out: a program that is started gets a PostgreSQL of its own"));
        }
        let program = PathBuf::from(name);
        if is_reference(&program, flag)? {
            if migrations.is_some() {
                return Err(Error::usage(format!("--{flag}-migrations applies only to a certctl-server")));
            }
            let environment = environment.iter().map(|one| assignment(one, flag)).collect::<Result<_>>()?;
            let sha256 = Sha256::digest(read(&program, flag)?).iter().map(|byte| format!("{byte:02x}")).collect();
            return Ok(Self::Reference { program, sha256, environment });
        }
        let settings = ChosenSettings::new(environment)?;
        let (migrations, shares_network) = (migrations.clone(), flags.share_network);
        Ok(Self::Certctl { choice: BinaryChoice { program, migrations, settings, shares_network }, prepared: None })
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Self::Running(running) => running.base.to_string(),
            Self::Reference { program, .. } => files::shown(program),
            Self::Certctl { choice, .. } => files::shown(&choice.program),
        }
    }

    pub(super) fn destinations(&mut self) -> Result<Vec<remote::Destination>> {
        match self {
            Self::Running(running) => {
                let mut found = vec![remote::server(&mut running.base)?];
                found.extend(running.database.as_deref().map(remote::database).transpose()?);
                Ok(found)
            }
            Self::Reference { .. } | Self::Certctl { .. } => Ok(Vec::new()),
        }
    }

    /// Starts it; what was started before must be gone.
    pub(super) fn start(&mut self, port: u16, needs: &[Need]) -> Result<Certctl> {
        match self {
            Self::Running(running) => {
                let Running { base, trust, token, database } = &**running;
                Ok(Certctl::external(base.clone(), trust.clone(), token.clone(), database.clone()))
            }
            Self::Reference { program, sha256, environment } => {
                let start = ReferenceStart {
                    sizes: sizes(needs),
                    port,
                    environment,
                    ..ReferenceStart::new(program, StoreChoice::Auto)
                };
                let mut certctl = reference::start(&start, &mut |_| {})?;
                certctl.system.binary_sha256 = Some(sha256.clone());
                Ok(certctl)
            }
            Self::Certctl { choice, prepared } => {
                let prepared = match prepared {
                    Some(prepared) => prepared,
                    none => {
                        announce_shared(choice);
                        none.insert(Box::new(PreparedCertctl::new(choice.clone(), &mut |line| errln!("{line}"))?))
                    }
                };
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

fn assignment(text: &str, flag: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("--{flag}-env needs NAME=VALUE"))),
    }
}
