//! Counts that are the same in every run of a case: bytes, flights, round trips, and nearly so instructions. Unlike
//! time, they can hold a change to an exact number.

use std::collections::BTreeMap;

use serde::Serialize;

use super::keyring::Parties;
use super::pipe::{Pipe, Shake, unmetered};
use crate::error::{Context, Result};
use crate::measure::instructions::Instructions;
use crate::report::table::{Cell, Table};
use crate::wire::tls::PROVIDER;

/// The number of handshakes counted. An ECDSA signature is up to two bytes shorter in three of four handshakes, and
/// shorter still in one of a hundred: the maximum of so many is the same in every run, the minimum is not.
pub const HANDSHAKES: u32 = 64;
/// The number of handshakes that shows that everything works.
pub const SMOKE_HANDSHAKES: u32 = 2;
/// The version of `counts.json`.
const SCHEMA_VERSION: u32 = 1;

/// The content of `counts.json`: keys are sorted, units stand in names.
#[derive(Clone, Debug, Serialize)]
pub struct HandshakeCounts {
    /// The counts of each case, by its label.
    cases: BTreeMap<String, CaseCounts>,
    /// The reason for which instructions are null.
    instructions_unavailable: Option<String>,
    /// The TLS library.
    provider: &'static str,
    /// The schema's version: raised when a field changes its meaning or is removed.
    schema_version: u32,
}

/// The counts of a case. Those that end in `_max` are to be compared; a minimum shows how much signatures vary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseCounts {
    /// The cipher suite, as IANA names it.
    pub cipher_suite: &'static str,
    /// The number of flights that the client sent.
    pub client_flights: u32,
    /// Instructions of the client's part in user mode.
    pub client_instructions_median: Option<u64>,
    /// The bytes that the client sent, with record headers: the most of all handshakes.
    pub client_to_server_bytes_max: usize,
    /// The least of all handshakes.
    pub client_to_server_bytes_min: usize,
    /// The key exchange group, as IANA names it, or `-`.
    pub group: &'static str,
    /// The number of handshakes counted.
    pub handshakes: u32,
    /// `full` or `resumed`, as the TLS library reports it.
    pub kind: &'static str,
    /// The number of times that the client waited for the server before it could send data; TCP's is not among them.
    pub round_trips: u32,
    /// The number of flights that the server sent, tickets included.
    pub server_flights: u32,
    /// Instructions of the server's part in user mode.
    pub server_instructions_median: Option<u64>,
    /// The bytes that the server sent, with record headers and tickets: the most of all handshakes.
    pub server_to_client_bytes_max: usize,
    /// The least of all handshakes.
    pub server_to_client_bytes_min: usize,
    /// The protocol version.
    pub version: &'static str,
}

impl HandshakeCounts {
    /// Counts this many handshakes of each case.
    ///
    /// # Errors
    /// If a handshake fails or is not what its case specifies.
    pub fn of<'p>(cases: impl IntoIterator<Item = &'p Parties>, handshakes: u32) -> Result<Self> {
        let counter = Instructions::of_this_thread();
        let mut counted = BTreeMap::new();
        for parties in cases {
            let counts = count(parties, handshakes, counter.as_ref().ok())?;
            counted.insert(parties.case().to_string(), counts);
        }
        let instructions_unavailable = counter.err().map(|error| format!("perf_event_open: {error}"));
        Ok(Self { cases: counted, instructions_unavailable, provider: PROVIDER, schema_version: SCHEMA_VERSION })
    }

    /// Returns the counts of a case, by its label.
    pub fn case(&self, label: &str) -> Option<&CaseCounts> {
        self.cases.get(label)
    }

    /// Renders the content of `counts.json`.
    ///
    /// # Errors
    /// None is known: every value has a form in JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context(|| "writing counts as JSON".to_owned()).map(|json| json + "\n")
    }

    /// Renders a table, for people.
    pub fn to_table(&self) -> String {
        let header =
            ["handshake", "client bytes", "server bytes", "flights", "round trips", "client instr.", "server instr."];
        let mut table = Table::new("", 1, &header);
        for (label, counts) in &self.cases {
            let row = [
                label.clone(),
                range(counts.client_to_server_bytes_min, counts.client_to_server_bytes_max),
                range(counts.server_to_client_bytes_min, counts.server_to_client_bytes_max),
                format!("{} + {}", counts.client_flights, counts.server_flights),
                counts.round_trips.to_string(),
                instructions(counts.client_instructions_median),
                instructions(counts.server_instructions_median),
            ];
            table.rows.push(row.map(Cell::from).into());
        }
        let reason = self.instructions_unavailable.as_ref();
        let note = reason.map(|reason| format!("no instruction counts: {reason}\n"));
        format!("{}\n{}", table, note.unwrap_or_default())
    }
}

fn count(parties: &Parties, handshakes: u32, counter: Option<&Instructions>) -> Result<CaseCounts> {
    let mut pipe = Pipe::default();
    pipe.prime(parties)?;
    // The first handshake is not counted: it fills what the library keeps.
    let first = pipe.shake(parties, &mut unmetered)?;
    let mut failure = None;
    let mut read = || match counter.map(Instructions::read) {
        Some(Ok(count)) => count,
        Some(Err(error)) => {
            failure = Some(error);
            0
        }
        None => 0,
    };
    let shakes = (0..handshakes).map(|_| pipe.shake(parties, &mut read)).collect::<Result<Vec<Shake>>>()?;
    if let Some(error) = failure {
        return Err(error).context(|| format!("handshake {}: reading the instruction counter", parties.case()));
    }
    let extremes = |bytes: fn(&Shake) -> usize| {
        let all = || shakes.iter().map(bytes);
        (all().min().unwrap_or(0), all().max().unwrap_or(0))
    };
    let (client_to_server_bytes_min, client_to_server_bytes_max) = extremes(|shake| shake.to_server.bytes);
    let (server_to_client_bytes_min, server_to_client_bytes_max) = extremes(|shake| shake.to_client.bytes);
    let median = |part: fn(&Shake) -> u64| counter.and_then(|_| median(shakes.iter().map(part).collect()));
    Ok(CaseCounts {
        cipher_suite: first.handshake.suite,
        client_flights: first.to_server.flights,
        client_instructions_median: median(|shake| shake.client),
        client_to_server_bytes_max,
        client_to_server_bytes_min,
        group: first.handshake.group,
        handshakes,
        kind: first.handshake.kind.label(),
        round_trips: first.round_trips,
        server_flights: first.to_client.flights,
        server_instructions_median: median(|shake| shake.server),
        server_to_client_bytes_max,
        server_to_client_bytes_min,
        version: first.handshake.version,
    })
}

/// Returns the upper median.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn range(min: usize, max: usize) -> String {
    if min == max { max.to_string() } else { format!("{min}–{max}") }
}

fn instructions(count: Option<u64>) -> String {
    count.map_or_else(|| "–".to_owned(), |count| count.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::keyring::Keyring;
    use crate::handshake::matrix::Case;
    use crate::provision::pki::KeyType;

    fn counts(key_type: KeyType) -> CaseCounts {
        let case = Case { key_type, ..Case::BASE };
        let parties = Keyring::new().unwrap().parties(case).unwrap();
        HandshakeCounts::of([&parties], HANDSHAKES).unwrap().case(&case.to_string()).unwrap().clone()
    }

    #[test]
    fn byte_counts_are_reproducible() {
        let bytes = |counts: &CaseCounts| (counts.client_to_server_bytes_max, counts.server_to_client_bytes_max);
        let [one, another] = [counts(KeyType::EcdsaP256), counts(KeyType::EcdsaP256)];
        assert_eq!(bytes(&one), bytes(&another));
        // The server signs, and the client does not.
        assert!(one.server_to_client_bytes_min < one.server_to_client_bytes_max, "{one:?}");
        assert_eq!(one.client_to_server_bytes_min, one.client_to_server_bytes_max);
        let ed25519 = counts(KeyType::Ed25519);
        assert_eq!(ed25519.server_to_client_bytes_min, ed25519.server_to_client_bytes_max);
        assert_eq!((one.round_trips, one.client_flights, one.server_flights), (1, 2, 1));
    }

    #[test]
    fn the_table_has_a_row_for_each_case() {
        let mut keyring = Keyring::new().unwrap();
        let parties = [Case::BASE, Case { key_type: KeyType::Ed25519, ..Case::BASE }];
        let parties = parties.map(|case| keyring.parties(case).unwrap());
        let counts = HandshakeCounts::of(&parties, SMOKE_HANDSHAKES).unwrap();
        let table = counts.to_table();
        for parties in &parties {
            assert!(table.contains(&parties.case().to_string()), "{table}");
        }
        assert_eq!(
            table.contains("no instruction counts: perf_event_open"),
            table.contains("–\n") || table.contains(" –")
        );
    }

    #[test]
    fn the_median_of_no_samples_is_none() {
        assert_eq!((median(vec![]), median(vec![3, 1, 2]), median(vec![7])), (None, Some(2), Some(7)));
    }
}
