//! What a scenario needs to find at its target.

/// Something that must hold at the target before a scenario can be asked.
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
    /// Whatever fits these criteria is of the seeds, or of an earlier run: it will be changed.
    OnlyOurs(&'static [(&'static str, &'static str)]),
    /// Its database is at hand: what a workload has changed can be put back before the next one.
    Database,
    /// An ACME server answers.
    Acme {
        /// Where its directory is: a path, or a URL at the target.
        directory: String,
        /// Whether ACME requests carry the token, as certctl as built wants them to.
        bearer: bool,
    },
}
