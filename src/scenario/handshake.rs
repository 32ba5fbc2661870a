//! `nginx_handshake`, `apache_handshake`, `haproxy_handshake`, `f5_handshake`: a new connection, a TLS handshake, one
//! small request, and the end.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::{Claim, Scenario, unwanted};
use crate::clock::Moment;
use crate::error::Result;
use crate::load::arrival::Ask;
use crate::measure::observation::Observation;
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome, Quantile};
use crate::scenario::rotation::{Rotations, Sighting};
use crate::target::connectors::Kind;
use crate::target::offer::Offer;
use crate::wire::handshake::Record;
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode, with_header};

/// A new connection to one daemon for every arrival.
pub struct Handshake {
    kind: Kind,
    offer: Offer,
    request: Vec<u8>,
    /// Certificates that are replaced meanwhile, and who saw which; in `rotation` alone.
    rotations: Option<(Arc<Rotations>, RefCell<Vec<Sighting>>)>,
    /// How often they are.
    every: Duration,
}

impl Handshake {
    /// At a daemon whose Host is `host`, to which this is offered.
    pub fn new(kind: Kind, offer: Offer, host: &str) -> Self {
        let mut request = encode(Method::Get, kind.path(), host, None, "");
        // The peer is to close first; see `Connection::close_second`.
        with_header(&mut request, "Connection", "close");
        Self { kind, offer, request, rotations: None, every: Duration::ZERO }
    }

    /// While certificates are replaced so often; `expected` is how many connections there will be.
    #[must_use]
    pub fn through(self, rotations: Arc<Rotations>, every: Duration, expected: usize) -> Self {
        Self { rotations: Some((rotations, RefCell::new(Vec::with_capacity(expected)))), every, ..self }
    }
}

impl Scenario for Handshake {
    fn name(&self) -> &'static str {
        match (self.kind, &self.rotations) {
            (Kind::Nginx, None) => "nginx_handshake",
            (Kind::Apache, None) => "apache_handshake",
            (Kind::Haproxy, None) => "haproxy_handshake",
            (Kind::F5, None) => "f5_handshake",
            (Kind::Nginx, Some(_)) => "nginx_rotation",
            (Kind::Apache, Some(_)) => "apache_rotation",
            (Kind::Haproxy, Some(_)) => "haproxy_rotation",
            (Kind::F5, Some(_)) => "f5_rotation",
        }
    }

    fn title(&self) -> String {
        let meanwhile = match &self.rotations {
            Some(_) => format!(", while its certificate is replaced every {}", humantime::format_duration(self.every)),
            None => String::new(),
        };
        let (kind, path, offer) = (self.kind, self.kind.path(), self.offer);
        format!("{kind}: a new TCP and TLS connection, GET {path}, and the end; {offer}{meanwhile}")
    }

    fn steps(&self) -> &'static [&'static str] {
        &["handshake"]
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let (p95, p99) = match self.kind {
            Kind::F5 => (Duration::from_millis(1_500), Duration::from_secs(5)),
            _ => (Duration::from_secs(1), Duration::from_secs(3)),
        };
        vec![Threshold::Response(Quantile::P95, p95), Threshold::Response(Quantile::P99, p99)]
    }

    fn encode(&self, _ask: Ask, request: &mut Vec<u8>) -> Method {
        request.clear();
        request.extend_from_slice(&self.request);
        Method::Get
    }

    fn judge(&self, _ask: Ask, start: Moment, response: &Response<'_>) -> Outcome {
        if let Some((_, sightings)) = &self.rotations
            && let Some(own) = sightings.borrow_mut().iter_mut().rev().find(|one| one.start == start)
        {
            own.service_ns = Moment::now().ns_since(start);
        }
        if response.status == 200 { Outcome::Ok } else { unwanted(response.status) }
    }

    fn connected(&self, start: Moment, record: &Record) {
        if let Some((_, sightings)) = &self.rotations {
            let mut sightings = sightings.borrow_mut();
            // Bounded by what was expected: one more would allocate while it is measured.
            if sightings.len() < sightings.capacity() {
                sightings.push(Sighting { start, certificate: record.certificate, service_ns: 0 });
            }
        }
    }

    fn open_books(&self, _database: &mut postgres::Client) -> Result<()> {
        Ok(())
    }

    fn close_books(&self, _unanswered: u64, _database: &mut postgres::Client) -> Result<Vec<Work>> {
        Ok(Vec::new())
    }

    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        match &self.rotations {
            Some((rotations, sightings)) => rotations.observations(self.kind, &sightings.borrow()),
            None => Vec::new(),
        }
    }
}
