//! All loops that could run, and those that a command line selects.

use std::fmt;

use super::matrix::{Case, HandshakeId, SessionUse};

/// The part of a handshake in memory that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeasuredSide {
    /// The client's alone.
    Client,
    /// The server's alone.
    Server,
    /// Both, one after the other in one thread.
    Both,
}

impl MeasuredSide {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Client, Self::Server, Self::Both];

    /// Returns its name in benchmark ids.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Both => "both",
        }
    }
}

/// The part of the matrix that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// The base case and what differs from it in one property.
    Default,
    /// Everything.
    Full,
}

/// A Criterion loop. Its id is `GROUP/FUNCTION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loop {
    /// Handshakes in memory.
    Pipe(MeasuredSide, Case),
    /// Handshakes over TCP with the server of this label.
    Loopback(String, HandshakeId),
    /// Handshakes in memory on so many threads.
    Throughput(usize, Case),
}

impl Loop {
    /// Returns all loops, group by group, for these servers and a machine with this many cores.
    pub fn all(servers: &[&str], cores: usize) -> Vec<Self> {
        let pipes = MeasuredSide::ALL.into_iter().flat_map(|side| Case::all().map(move |case| Self::Pipe(side, case)));
        let offers = |server: &&str| {
            let server = (*server).to_owned();
            let mut offers: Vec<HandshakeId> = HandshakeId::all().collect();
            offers.sort_by_key(|offer| !offer.is_default());
            offers.into_iter().map(move |offer| Self::Loopback(server.clone(), offer))
        };
        let threads = (1..=cores).flat_map(|threads| Case::all().map(move |case| Self::Throughput(threads, case)));
        pipes.chain(servers.iter().flat_map(offers)).chain(threads).collect()
    }

    /// Selects the loops of the scope whose ids `wants` accepts. Without a scope, a filter selects from everything, and
    /// no filter means the default.
    ///
    /// # Errors
    /// Those of `wants`.
    pub fn select<E>(
        loops: Vec<Self>,
        cores: usize,
        scope: Option<Scope>,
        is_filtered: bool,
        wants: impl Fn(&str) -> Result<bool, E>,
    ) -> Result<Vec<Self>, E> {
        let scope = scope.unwrap_or(if is_filtered { Scope::Full } else { Scope::Default });
        let in_scope = loops.into_iter().filter(|one| scope == Scope::Full || one.is_default(cores));
        in_scope.filter_map(|one| wants(&one.to_string()).map(|wanted| wanted.then_some(one)).transpose()).collect()
    }

    /// Returns its Criterion group.
    pub fn group(&self) -> String {
        match self {
            Self::Pipe(side, _) => format!("handshake/{}", side.label()),
            Self::Loopback(server, _) => format!("handshake/{server}"),
            Self::Throughput(..) => "handshake/throughput".to_owned(),
        }
    }

    /// Returns its name within the group.
    pub fn function(&self) -> String {
        match self {
            Self::Pipe(_, case) => case.to_string(),
            Self::Loopback(_, offer) => offer.to_string(),
            Self::Throughput(1, case) => format!("1-thread/{case}"),
            Self::Throughput(threads, case) => format!("{threads}-threads/{case}"),
        }
    }

    /// Returns the case of the matrix, where both sides are in this suite.
    pub fn case(&self) -> Option<Case> {
        match self {
            Self::Pipe(_, case) | Self::Throughput(_, case) => Some(*case),
            Self::Loopback(..) => None,
        }
    }

    fn is_default(&self, cores: usize) -> bool {
        match self {
            Self::Pipe(_, case) => case.is_default(),
            Self::Loopback(_, offer) => offer.is_default(),
            Self::Throughput(threads, case) => {
                let is_base = Case { offer: case.offer.priming(), ..*case } == Case::BASE;
                // One thread shows the cost of the harness, all threads the capacity of the machine, and doublings the
                // way between.
                is_base
                    && (threads.is_power_of_two() || *threads == cores)
                    && (case.offer.resumption() == SessionUse::Full || *threads == cores)
            }
        }
    }
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group(), self.function())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;
    use std::collections::BTreeSet;

    const SERVERS: [&str; 2] = ["nginx", "rustls-loopback"];

    fn ids(cores: usize, scope: Option<Scope>, filter: Option<&str>) -> Vec<String> {
        let wants =
            |id: &str| Ok::<_, regex::Error>(filter.is_none_or(|filter| Regex::new(filter).unwrap().is_match(id)));
        let loops = Loop::select(Loop::all(&SERVERS, cores), cores, scope, filter.is_some(), wants);
        loops.unwrap().iter().map(Loop::to_string).collect()
    }

    #[test]
    fn ids_are_unique_and_fit_the_limit_of_criterion() {
        let loops = Loop::all(&SERVERS, 4);
        let unique: BTreeSet<String> = loops.iter().map(Loop::to_string).collect();
        assert_eq!(unique.len(), loops.len());
        // Criterion's folder for a function has 64 characters at most.
        let longest = loops.iter().map(|one| one.function().len()).max().unwrap();
        assert!(longest <= 64, "{longest}");
    }

    #[test]
    fn a_filter_selects_from_the_full_matrix() {
        let (default, full) = (ids(4, None, None), ids(4, Some(Scope::Full), None));
        assert_eq!(default, ids(4, Some(Scope::Default), None));
        assert!(default.iter().all(|id| full.contains(id)) && default.len() < full.len() / 5);
        // 3 sides × 10 cases; 2 servers × full and resumed; 1, 2 and 4 threads in full, 4 resumed.
        assert_eq!(default.len(), 30 + 4 + 4, "{default:#?}");
        let rare = "handshake/client/tls12/rsa-4096/p256/full/client-auth";
        assert!(!default.contains(&rare.to_owned()));
        assert_eq!(ids(4, None, Some(&format!("^{rare}$"))), [rare]);
        assert_eq!(ids(4, Some(Scope::Default), Some(rare)), [""; 0]);
        let both = ids(4, None, Some("^handshake/both/tls13/ed25519/x25519/"));
        assert_eq!(both.len(), 4, "{both:?}");
        assert!(ids(4, Some(Scope::Default), Some("^handshake/both")).len() == 10);
    }

    #[test]
    fn the_full_matrix_has_every_thread_count() {
        let threads = |scope| {
            let ids = ids(6, Some(scope), Some("throughput/.*tls13/ecdsa-p256/x25519/full/no-client-auth"));
            ids.iter().map(|id| id.split('/').nth(2).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(threads(Scope::Default), ["1-thread", "2-threads", "4-threads", "6-threads"]);
        assert_eq!(threads(Scope::Full).len(), 6);
    }
}
