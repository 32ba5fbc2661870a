//! `nginx_handshake`, `apache_handshake`, `haproxy_handshake`, `f5_handshake`: a new connection, a TLS handshake, one
//! small request, and the end.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::connector_kind::ConnectorKind;
use super::divisible::{self, Divisible};
use super::rotation::{Rotations, Sighting};
use super::{Claim, Scenario, unwanted};
use crate::clock::Moment;
use crate::error::Result;
use crate::load::arrival::PlannedRequest;
use crate::measure::observation::{Observation, Value};
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome, Quantile};
use crate::wire::handshake::{self, Record};
use crate::wire::http1::Response;
use crate::wire::offer::HandshakeOffer;
use crate::wire::request::{Method, encode, with_header};

/// The names of the kinds of request.
pub const STEPS: &[&str] = &["handshake"];

/// Returns the name of the workload of a daemon; `rotates` if its certificate is replaced meanwhile.
pub fn name(kind: ConnectorKind, rotates: bool) -> &'static str {
    match (kind, rotates) {
        (ConnectorKind::Nginx, false) => "nginx_handshake",
        (ConnectorKind::Apache, false) => "apache_handshake",
        (ConnectorKind::Haproxy, false) => "haproxy_handshake",
        (ConnectorKind::F5, false) => "f5_handshake",
        (ConnectorKind::Nginx, true) => "nginx_rotation",
        (ConnectorKind::Apache, true) => "apache_rotation",
        (ConnectorKind::Haproxy, true) => "haproxy_rotation",
        (ConnectorKind::F5, true) => "f5_rotation",
    }
}

/// Returns the bounds on the latencies of a daemon.
pub fn thresholds(kind: ConnectorKind) -> Vec<Threshold> {
    let (p95, p99) = match kind {
        ConnectorKind::F5 => (Duration::from_millis(1_500), Duration::from_secs(5)),
        _ => (Duration::from_secs(1), Duration::from_secs(3)),
    };
    vec![Threshold::Response(Quantile::P95, p95), Threshold::Response(Quantile::P99, p99)]
}

/// A new connection to one daemon for every arrival.
pub struct ConnectorHandshake {
    kind: ConnectorKind,
    offer: HandshakeOffer,
    request: Vec<u8>,
    /// Connections so far whose handshake has ended well.
    connections: Cell<u64>,
    /// Certificates that are replaced meanwhile; in `rotation` alone.
    rotated: Option<Rotated>,
}

/// Certificates that are replaced while connections come, and the one that each connection was shown.
struct Rotated {
    rotations: Arc<Rotations>,
    /// The interval at which each daemon's is replaced.
    every: Duration,
    sightings: RefCell<Vec<Sighting>>,
    /// Connections for which `sightings` had no room.
    unnoted: Cell<u64>,
}

impl Rotated {
    fn saw(&self, sighting: Sighting) {
        let mut sightings = self.sightings.borrow_mut();
        // Bounded by the expected number: one more would allocate during the measurement.
        if sightings.len() < sightings.capacity() {
            sightings.push(sighting);
        } else {
            self.unnoted.set(self.unnoted.get() + 1);
        }
    }

    fn answered(&self, start: Moment, end: Moment) {
        if let Some(own) = self.sightings.borrow_mut().iter_mut().rev().find(|one| one.start == start) {
            own.service_ns = end.ns_since(start);
        }
    }

    fn observations(&self, kind: ConnectorKind) -> Vec<Observation> {
        let mut observations = self.rotations.observations(kind, &self.sightings.borrow());
        if self.unnoted.get() > 0 {
            let name = "connections more than expected, whose certificates were not noted";
            observations.push(Observation { name, value: Value::Count(self.unnoted.get()) });
        }
        observations
    }
}

/// Returns the room for so many expected connections. The number of a Poisson process is within six standard deviations
/// of its mean, each the root of the mean, in all but one of a thousand million runs.
fn room_for(expected: f64) -> usize {
    (expected + 6.0 * expected.sqrt()).ceil() as usize
}

impl ConnectorHandshake {
    /// Returns the scenario for a daemon whose Host is `host`, with this TLS offer.
    pub fn new(kind: ConnectorKind, offer: HandshakeOffer, host: &str) -> Self {
        let mut request = encode(Method::Get, kind.path(), host, None, "");
        // The peer is to close first; see `Connection::close_second`.
        with_header(&mut request, "Connection", "close");
        Self { kind, offer, request, connections: Cell::new(0), rotated: None }
    }

    /// Adds certificates that are replaced at this interval; `expected` is roughly the number of connections to come.
    #[must_use]
    pub fn through(self, rotations: Arc<Rotations>, every: Duration, expected: f64) -> Self {
        let sightings = RefCell::new(Vec::with_capacity(room_for(expected)));
        Self { rotated: Some(Rotated { rotations, every, sightings, unnoted: Cell::new(0) }), ..self }
    }
}

impl Scenario for ConnectorHandshake {
    fn title(&self) -> String {
        let meanwhile = self.rotated.as_ref().map_or_else(String::new, |rotated| {
            format!(", while its certificate is replaced every {}", humantime::format_duration(rotated.every))
        });
        let (kind, path, offer) = (self.kind, self.kind.path(), self.offer);
        format!("{kind}: a new TCP and TLS connection, GET {path}, and the end; {offer}{meanwhile}")
    }

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    fn encode(&self, _planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        request.clear();
        request.extend_from_slice(&self.request);
        Method::Get
    }

    fn judge(&self, _planned: PlannedRequest, _start: Moment, response: &Response<'_>) -> Outcome {
        if response.status == 200 { Outcome::Ok } else { unwanted(response.status, 200) }
    }

    fn connected(&self, start: Moment, shown: Moment, record: &Record) {
        self.connections.set(self.connections.get() + 1);
        if let Some(rotated) = &self.rotated {
            let resumed = record.handshake.kind == handshake::HandshakeFlow::Resumed;
            rotated.saw(Sighting { start, shown, certificate: record.certificate, resumed, service_ns: 0 });
        }
    }

    fn answered(&self, start: Moment, end: Moment) {
        if let Some(rotated) = &self.rotated {
            rotated.answered(start, end);
        }
    }

    /// Rotations are watched by one thread, which knows all connections in the order of their handshakes.
    fn divisible(&self) -> Option<&dyn Divisible> {
        self.rotated.is_none().then_some(self)
    }

    fn begin_check(&self, _database: &mut crate::database::DatabaseClient) -> Result<()> {
        Ok(())
    }

    fn finish_check(&self, _unanswered: u64, _database: &mut crate::database::DatabaseClient) -> Result<Vec<Work>> {
        Ok(Vec::new())
    }

    fn claims(&self) -> Vec<Claim> {
        let handshakes =
            Claim { name: "handshakes, warm-up included", counter: "handshakes", claimed: self.connections.get() };
        // The suite's mock of an F5 counts them; the daemons have no counter that can be read.
        if self.kind == ConnectorKind::F5 { vec![handshakes] } else { Vec::new() }
    }

    fn observations(&self, measurement: &Measurement) -> Vec<Observation> {
        let mut observations = self.rotated.as_ref().map_or_else(Vec::new, |rotated| rotated.observations(self.kind));
        if measurement.closed_first > 0 {
            let name = "connections that we closed first, whose ports wait a minute";
            observations.push(Observation { name, value: Value::Count(measurement.closed_first) });
        }
        observations
    }
}

impl Divisible for ConnectorHandshake {
    fn instance(&self) -> Box<dyn Scenario + Send> {
        let (kind, offer, request) = (self.kind, self.offer, self.request.clone());
        Box::new(Self { kind, offer, request, connections: Cell::new(0), rotated: None })
    }

    fn notes(&self, _start: Moment) -> Json {
        divisible::write(&self.connections.get())
    }

    fn absorb(&self, notes: &Json, _start: Moment) -> Result<()> {
        let connections: u64 = divisible::read(notes)?;
        self.connections.set(self.connections.get() + connections);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_beyond_the_buffer_are_reported() {
        // 100 are expected, so that there is room for 160.
        let rotated = |connections: u64| {
            let sightings = RefCell::new(Vec::with_capacity(room_for(100.0)));
            let rotated =
                Rotated { rotations: Arc::default(), every: Duration::ZERO, sightings, unnoted: Cell::new(0) };
            for start in (0..connections).map(Moment::from_ns) {
                rotated.saw(Sighting { start, shown: start, certificate: 1, resumed: false, service_ns: 0 });
            }
            rotated.observations(ConnectorKind::Nginx).last().map(ToString::to_string).unwrap()
        };
        assert!(!rotated(160).contains("not noted"));
        assert!(rotated(162).starts_with("connections more than expected, whose certificates were not noted: "));
    }
}
