//! Rotation: certificates are replaced while connections keep coming. Who saw which, how soon, and at what cost.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Moment;
use crate::measure::observation::{Observation, Value};
use crate::target::connectors::Kind;

/// What begins within this time of a reload's end still belongs to it, and a run has to go on for as long after it.
const AFTERMATH: Duration = Duration::from_secs(1);

/// One replacement of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Where.
    pub kind: Kind,
    /// When the daemon was told.
    pub asked: Moment,
    /// When it had taken it, as far as it tells.
    pub returned: Moment,
    /// The new certificate, as [`crate::wire::handshake::Record`] tells it.
    pub certificate: u64,
}

/// One connection, and the certificate that it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When it was begun.
    pub start: Moment,
    /// When its handshake had ended, so that the certificate had been shown: it may have waited for a daemon that
    /// accepted nobody.
    pub shown: Moment,
    /// Which certificate.
    pub certificate: u64,
    /// How long connection and answer took, in nanoseconds; 0 without an answer.
    pub service_ns: u64,
}

/// All rotations of a run, told by the thread that makes them.
#[derive(Debug, Default)]
pub struct Rotations(Mutex<Vec<Rotation>>);

impl Rotations {
    /// Notes one.
    pub fn note(&self, rotation: Rotation) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(rotation);
    }

    /// What they did to the connections of one daemon, which are in the order of their handshakes' end.
    pub fn observations(&self, kind: Kind, sightings: &[Sighting]) -> Vec<Observation> {
        let rotations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own: Vec<Rotation> = rotations.iter().filter(|rotation| rotation.kind == kind).copied().collect();
        observations(&own, sightings)
    }
}

fn observations(rotations: &[Rotation], sightings: &[Sighting]) -> Vec<Observation> {
    let mut sightings = sightings.to_vec();
    sightings.sort_unstable_by_key(|sighting| sighting.shown);
    let last_start = sightings.iter().map(|one| one.start).max();
    let judged = rotations.iter().enumerate().filter_map(|(index, rotation)| {
        // One shortly before the end of the run had no time to be taken up.
        last_start.filter(|last| *last >= rotation.returned + AFTERMATH)?;
        let end = rotations.get(index + 1).map_or(Moment::from_ns(u64::MAX), |next| next.asked);
        let after: Vec<_> =
            sightings.iter().filter(|one| rotation.asked <= one.shown && one.shown < end).copied().collect();
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
        rotations.iter().any(|rotation| rotation.asked <= one.start && one.start <= rotation.returned + AFTERMATH)
    };
    let answered = sightings.iter().filter(|one| one.service_ns > 0);
    let (during, otherwise): (Vec<&Sighting>, Vec<&Sighting>) = answered.partition(|one| amid(one));
    let mut told = vec![
        Observation { name: "certificates replaced", value: Value::Count(judged.len() as u64) },
        Observation { name: "longest time until every new connection got the new certificate", value: slowest_switch },
    ];
    for (name, group, share) in [
        ("median connection within 1 s of a reload", &during, 0.5),
        ("median connection otherwise", &otherwise, 0.5),
        ("slowest connection within 1 s of a reload", &during, 1.0),
        ("slowest connection otherwise", &otherwise, 1.0),
    ] {
        if let Some(ns) = at(group, share) {
            told.push(Observation { name, value: Value::Duration(Duration::from_nanos(ns)) });
        }
    }
    told
}

/// From the order to the end of the first handshake from which on all were shown the new certificate, the handshakes
/// in the order of their ends; `None` if the last was not. It is known to within one arrival.
fn until_everywhere(rotation: &Rotation, after: &[Sighting]) -> Option<Duration> {
    let last_old = after.iter().rposition(|one| one.certificate != rotation.certificate);
    let first = after.get(last_old.map_or(0, |index| index + 1))?;
    // Where no connection at all was shown the old one, it took no longer than to the first of the new.
    Some(first.shown - rotation.asked)
}

/// The service time that this share of connections do not exceed.
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

    fn told(rotations: &[Rotation], sightings: &[Sighting]) -> Vec<String> {
        observations(rotations, sightings).iter().map(ToString::to_string).collect()
    }

    /// A connection that was shown its certificate as soon as it was begun.
    fn see(at: u64, certificate: u64, service_ms: u64) -> Sighting {
        Sighting { start: ms(at), shown: ms(at), certificate, service_ns: service_ms * 1_000_000 }
    }

    #[test]
    fn the_last_connection_with_the_old_certificate_counts() {
        let rotation = Rotation { kind: Kind::Nginx, asked: ms(1_000), returned: ms(1_010), certificate: 2 };
        let sightings =
            [see(0, 1, 1), see(1_005, 2, 9), see(1_020, 1, 5), see(1_030, 2, 1), see(1_040, 2, 1), see(9_000, 2, 2)];
        assert_eq!(
            told(&[rotation], &sightings),
            [
                "certificates replaced: 1",
                "longest time until every new connection got the new certificate: 30.000 ms",
                "median connection within 1 s of a reload: 1.000 ms",
                "median connection otherwise: 1.000 ms",
                "slowest connection within 1 s of a reload: 9.000 ms",
                "slowest connection otherwise: 2.000 ms",
            ]
        );
    }

    #[test]
    fn a_connection_that_waited_for_its_certificate_got_it_when_it_was_shown() {
        let rotation = Rotation { kind: Kind::Apache, asked: ms(1_000), returned: ms(1_010), certificate: 2 };
        let waited = |at, shown, certificate| Sighting { shown: ms(shown), ..see(at, certificate, 1) };
        // Begun before it was asked for or after it: nobody is accepted for half a second.
        let told = |sightings: &[Sighting]| told(&[rotation], sightings)[1].clone();
        let new = "longest time until every new connection got the new certificate: 520.000 ms";
        assert_eq!(told(&[waited(1_020, 1_520, 2), see(1_530, 2, 1), see(3_000, 2, 1)]), new);
        assert_eq!(told(&[waited(990, 1_515, 1), waited(1_020, 1_520, 2), see(3_000, 2, 1)]), new);
        // The old one was shown after the new one, to a connection that was begun before it.
        assert_eq!(told(&[waited(1_005, 1_510, 1), waited(1_020, 1_500, 2), see(1_520, 2, 1), see(3_000, 2, 1)]), new);
    }

    #[test]
    fn a_certificate_that_is_never_served_is_told_and_one_shortly_before_the_end_is_not() {
        let rotation = |asked| Rotation { kind: Kind::F5, asked: ms(asked), returned: ms(asked + 1), certificate: 7 };
        assert!(told(&[rotation(5)], &[see(4, 1, 1), see(1_006, 1, 1)])[1].ends_with("never"));
        // The last old one was begun after the daemon had taken the new one, and the run ended.
        let sightings = [see(4, 1, 1), see(9, 7, 1), see(5_020, 1, 1)];
        assert_eq!(
            told(&[rotation(5), rotation(5_010)], &sightings)[..2],
            ["certificates replaced: 1", "longest time until every new connection got the new certificate: 4.000 ms",]
        );
        assert!(told(&[], &[see(4, 1, 1)])[1].ends_with("never"));
    }
}
