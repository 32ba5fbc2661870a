//! Rotation of certificates under load: the certificate that each connection was shown, the delay of the new one, and
//! the cost for connections.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::connector_kind::ConnectorKind;
use crate::clock::Moment;
use crate::measure::observation::{Observation, Value};

/// The time after a reload in which new connections still count as affected by it; a run has to go on for as long after
/// it.
const AFTERMATH: Duration = Duration::from_secs(1);

/// One replacement of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The daemon.
    pub kind: ConnectorKind,
    /// The moment of the order to the daemon.
    pub requested: Moment,
    /// The moment at which the daemon had taken it, as far as it reports that.
    pub returned: Moment,
    /// The new certificate, as [`crate::wire::handshake::Record`] has it.
    pub certificate: u64,
}

/// One connection, and the certificate that it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The moment of its start.
    pub start: Moment,
    /// The end of its handshake, so that the certificate had been shown: it may have waited for a daemon that accepted
    /// no connections.
    pub shown: Moment,
    /// The certificate: of a resumed session that of its first handshake.
    pub certificate: u64,
    /// True if it resumed a session.
    pub resumed: bool,
    /// The time of connection and answer, in nanoseconds; 0 without an answer.
    pub service_ns: u64,
}

/// A worker process that a replacement replaced. It lives on until its connections have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// The daemon.
    pub kind: ConnectorKind,
    /// The moment at which the daemon was ordered to replace it.
    pub requested: Moment,
    /// The moment of the last check whether it lives.
    pub seen: Moment,
    /// True if it had ended then.
    pub ended: bool,
}

/// All rotations of a run, noted by the thread that makes them.
#[derive(Debug, Default)]
pub struct Rotations {
    made: Mutex<Vec<Rotation>>,
    retired: Mutex<Vec<Retired>>,
}

impl Rotations {
    /// Notes a rotation.
    pub fn note(&self, rotation: Rotation) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(rotation);
    }

    /// Notes the life of a worker after its replacement.
    pub fn note_retired(&self, retired: Retired) {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(retired);
    }

    /// Returns the effects on the connections of one daemon, which are in the order of their handshakes' end.
    pub fn observations(&self, kind: ConnectorKind, sightings: &[Sighting]) -> Vec<Observation> {
        let rotations = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let own: Vec<Rotation> = rotations.iter().filter(|rotation| rotation.kind == kind).copied().collect();
        let (resumed, full): (Vec<Sighting>, Vec<Sighting>) = sightings.iter().partition(|one| one.resumed);
        let mut observed = observations(&own, &full);
        observed.extend(of_resumed(&own, &resumed));
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        observed.extend(of_retired(retired.iter().filter(|retired| retired.kind == kind)));
        observed
    }
}

/// Returns the observations of resumed sessions, which show the certificate of their first handshake for as long as the
/// daemon takes their tickets.
fn of_resumed(rotations: &[Rotation], resumed: &[Sighting]) -> Vec<Observation> {
    if resumed.is_empty() {
        return Vec::new();
    }
    let replaced_by = |certificate: u64| match rotations.iter().position(|one| one.certificate == certificate) {
        Some(index) => rotations.get(index + 1),
        None => rotations.first(),
    };
    let late = resumed.iter().filter_map(|one| {
        let rotation = replaced_by(one.certificate).filter(|rotation| rotation.returned <= one.shown)?;
        Some(one.shown - rotation.requested)
    });
    let late: Vec<Duration> = late.collect();
    let share = Value::Share { count: late.len() as u64, of: resumed.len() as u64 };
    let mut observed =
        vec![Observation { name: "resumed handshakes with a certificate that was replaced", value: share }];
    if let Some(longest) = late.into_iter().max() {
        let name = "longest time that a resumed handshake had a certificate that was replaced";
        observed.push(Observation { name, value: Value::Duration(longest) });
    }
    observed
}

fn of_retired<'r>(retired: impl Iterator<Item = &'r Retired>) -> Vec<Observation> {
    let retired: Vec<&Retired> = retired.collect();
    let Some(longest) = retired.iter().map(|one| one.seen - one.requested).max() else { return Vec::new() };
    let alive = retired.iter().filter(|one| !one.ended).count() as u64;
    vec![
        Observation { name: "longest life of a worker process after its replacement", value: Value::Duration(longest) },
        Observation { name: "replaced worker processes alive at the end", value: Value::Count(alive) },
    ]
}

fn observations(rotations: &[Rotation], sightings: &[Sighting]) -> Vec<Observation> {
    let mut sightings = sightings.to_vec();
    sightings.sort_unstable_by_key(|sighting| sighting.shown);
    let last_start = sightings.iter().map(|one| one.start).max();
    let judged = rotations.iter().enumerate().filter_map(|(index, rotation)| {
        // A rotation shortly before the end of the run had no time to take effect.
        last_start.filter(|last| *last >= rotation.returned + AFTERMATH)?;
        let end = rotations.get(index + 1).map_or(Moment::from_ns(u64::MAX), |next| next.requested);
        let after: Vec<_> =
            sightings.iter().filter(|one| rotation.requested <= one.shown && one.shown < end).copied().collect();
        let has_aftermath = after.iter().any(|one| one.start >= rotation.returned);
        has_aftermath.then(|| until_everywhere(rotation, &after))
    });
    let judged: Vec<Option<Duration>> = judged.collect();
    let slowest_switch = match judged.iter().copied().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max())
    {
        Some(longest) => Value::Duration(longest),
        None => Value::Never,
    };
    let amid = |one: &Sighting| {
        rotations.iter().any(|rotation| rotation.requested <= one.start && one.start <= rotation.returned + AFTERMATH)
    };
    let answered = sightings.iter().filter(|one| one.service_ns > 0);
    let (during, otherwise): (Vec<&Sighting>, Vec<&Sighting>) = answered.partition(|one| amid(one));
    let mut observed = vec![
        Observation { name: "certificates replaced", value: Value::Count(judged.len() as u64) },
        Observation { name: "longest time until every full handshake got the new certificate", value: slowest_switch },
    ];
    for (name, group, share) in [
        ("median connection within 1 s of a reload", &during, 0.5),
        ("median connection otherwise", &otherwise, 0.5),
        ("slowest connection within 1 s of a reload", &during, 1.0),
        ("slowest connection otherwise", &otherwise, 1.0),
    ] {
        if let Some(ns) = at(group, share) {
            observed.push(Observation { name, value: Value::Duration(Duration::from_nanos(ns)) });
        }
    }
    observed
}

/// Returns the time from the order to the end of the first handshake from which on all were shown the new certificate,
/// the handshakes in the order of their ends; `None` if the last was not. It is known to within one arrival.
fn until_everywhere(rotation: &Rotation, after: &[Sighting]) -> Option<Duration> {
    let last_old = after.iter().rposition(|one| one.certificate != rotation.certificate);
    let first = after.get(last_old.map_or(0, |index| index + 1))?;
    // If no connection was shown the old one, the time is at most that to the first with the new one.
    Some(first.shown - rotation.requested)
}

/// Returns the service time that this share of connections does not exceed.
fn at(group: &[&Sighting], share: f64) -> Option<u64> {
    let mut service: Vec<u64> = group.iter().map(|one| one.service_ns).collect();
    service.sort_unstable();
    let last = service.len().checked_sub(1)?;
    Some(service[(last as f64 * share) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    fn observed(rotations: &[Rotation], sightings: &[Sighting]) -> Vec<String> {
        observations(rotations, sightings).iter().map(ToString::to_string).collect()
    }

    /// Returns a connection that was shown its certificate as soon as it was begun.
    fn see(at: u64, certificate: u64, service_ms: u64) -> Sighting {
        Sighting { start: ms(at), shown: ms(at), certificate, resumed: false, service_ns: service_ms * 1_000_000 }
    }

    #[test]
    fn rotation_time_ends_with_the_last_old_certificate() {
        let rotation =
            Rotation { kind: ConnectorKind::Nginx, requested: ms(1_000), returned: ms(1_010), certificate: 2 };
        let sightings =
            [see(0, 1, 1), see(1_005, 2, 9), see(1_020, 1, 5), see(1_030, 2, 1), see(1_040, 2, 1), see(9_000, 2, 2)];
        assert_eq!(
            observed(&[rotation], &sightings),
            [
                "certificates replaced: 1",
                "longest time until every full handshake got the new certificate: 30.000 ms",
                "median connection within 1 s of a reload: 1.000 ms",
                "median connection otherwise: 1.000 ms",
                "slowest connection within 1 s of a reload: 9.000 ms",
                "slowest connection otherwise: 2.000 ms",
            ]
        );
    }

    #[test]
    fn certificates_are_timed_at_the_moment_they_are_shown() {
        let rotation =
            Rotation { kind: ConnectorKind::Apache, requested: ms(1_000), returned: ms(1_010), certificate: 2 };
        let waited = |at, shown, certificate| Sighting { shown: ms(shown), ..see(at, certificate, 1) };
        // No connection is accepted for half a second, be it begun before the order or after it.
        let switch_time = |sightings: &[Sighting]| observed(&[rotation], sightings)[1].clone();
        let new = "longest time until every full handshake got the new certificate: 520.000 ms";
        assert_eq!(switch_time(&[waited(1_020, 1_520, 2), see(1_530, 2, 1), see(3_000, 2, 1)]), new);
        assert_eq!(switch_time(&[waited(990, 1_515, 1), waited(1_020, 1_520, 2), see(3_000, 2, 1)]), new);
        // The old one was shown after the new one, to a connection that was begun before it.
        assert_eq!(
            switch_time(&[waited(1_005, 1_510, 1), waited(1_020, 1_500, 2), see(1_520, 2, 1), see(3_000, 2, 1)]),
            new
        );
    }

    #[test]
    fn resumed_handshakes_and_old_workers_are_reported() {
        let rotations = Rotations::default();
        let rotation = |at, certificate| Rotation {
            kind: ConnectorKind::Haproxy,
            requested: ms(at),
            returned: ms(at + 10),
            certificate,
        };
        rotations.note(rotation(1_000, 2));
        rotations.note(rotation(5_000, 3));
        let retired =
            |seen, ended| Retired { kind: ConnectorKind::Haproxy, requested: ms(1_000), seen: ms(seen), ended };
        rotations.note_retired(retired(1_020, true));
        rotations.note_retired(retired(8_000, false));
        rotations.note_retired(Retired { kind: ConnectorKind::Nginx, ..retired(9_000, false) });
        let resumed = |at, certificate| Sighting { resumed: true, ..see(at, certificate, 1) };
        // The first comes while the daemon takes the new one; the session at 5,030 ms is outdated by the second
        // replacement.
        let sightings = [
            [resumed(1_005, 1), see(1_020, 2, 1), resumed(3_000, 1), resumed(3_500, 2)],
            [see(5_020, 3, 1), resumed(5_030, 2), resumed(7_000, 3), see(8_000, 3, 1)],
        ];
        let lines = rotations.observations(ConnectorKind::Haproxy, &sightings.concat());
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert_eq!(lines[1], "longest time until every full handshake got the new certificate: 20.000 ms");
        assert_eq!(
            lines[lines.len() - 4..],
            [
                "resumed handshakes with a certificate that was replaced: 2 of 5",
                "longest time that a resumed handshake had a certificate that was replaced: 2.000 s",
                "longest life of a worker process after its replacement: 7.000 s",
                "replaced worker processes alive at the end: 1",
            ]
        );
    }

    #[test]
    fn a_certificate_that_is_never_served_is_reported() {
        let rotation = |requested| Rotation {
            kind: ConnectorKind::F5,
            requested: ms(requested),
            returned: ms(requested + 1),
            certificate: 7,
        };
        assert!(observed(&[rotation(5)], &[see(4, 1, 1), see(1_006, 1, 1)])[1].ends_with("never"));
        // The last connection with the old certificate came after the second replacement, just before the run ended.
        let sightings = [see(4, 1, 1), see(9, 7, 1), see(5_020, 1, 1)];
        assert_eq!(
            observed(&[rotation(5), rotation(5_010)], &sightings)[..2],
            ["certificates replaced: 1", "longest time until every full handshake got the new certificate: 4.000 ms",]
        );
        assert!(observed(&[], &[see(4, 1, 1)])[1].ends_with("never"));
    }
}
