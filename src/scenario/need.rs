//! The needs of a scenario: conditions that the system must meet.

use std::time::Duration;

use super::job_drain::Keys;

/// A condition that the system must meet before a scenario can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The token is granted this permission.
    Permission(&'static str),
    /// The agent of this number, counted from 1, of the seeded fleet is there.
    Agent(u64),
    /// The certificate of this number, counted from 1, of those seeded for renewal is there.
    Certificate(u64),
    /// The same, and it is not in renewal already, or can be put back.
    Renewable(u64),
    /// The certificate of this number, counted from 1, of those that agents deploy is there.
    Deployment(u64),
    /// All rows that fit these criteria are of the seeds, or of an earlier run, or in a private database: they will be
    /// changed.
    OnlyOurs(&'static [(&'static str, &'static str)]),
    /// So many OCSP requests from one address within a minute are answered.
    Ocsp {
        /// The issuer that they are about.
        issuer: &'static str,
        /// The number of requests.
        per_minute: u64,
    },
    /// Its database can be reached: changes by a workload can be undone before the next one.
    Database,
    /// The certificates of a drain are there, as many as this, and map to the targets of the first agents.
    Drain {
        /// The number of certificates.
        certificates: u64,
        /// The number of agents.
        agents: u64,
    },
    /// This party makes the private keys of renewed certificates.
    Keys(Keys),
    /// certctl's job processor may come to so many jobs within this time, as far as its settings are known.
    ProcessorRounds {
        /// The number of jobs.
        jobs: u64,
        /// The time.
        within: Duration,
    },
    /// It is an ACME server, and is not certctl: of certctl's own API nothing is needed.
    AcmeAlone,
    /// It finalizes ACME orders, as stock certctl cannot: one that is started is changed for it, and one that runs is
    /// believed.
    AcmeFinalization,
    /// An ACME server answers.
    Acme {
        /// The path of its directory, or a URL at the system.
        directory: String,
        /// True if ACME requests carry the token, as certctl as built requires.
        bearer: bool,
        /// True if it must have renewal information (RFC 9773).
        renewal_info: bool,
    },
}
