//! The merge of measurements: the parts of one workload, each recorded by a thread of its own, become the measurement
//! that one recorder would have made of all of it.

use super::recorder::{
    CertainErrors, Handshakes, Measurement, PhaseDistributions, RecorderSettings, RightAnswer, StepMeasurement,
};
use crate::error::{Error, Result};

/// The most samples of a measurement that is read, so that no sum of a thousand of them overflows.
const MOST_SAMPLES: u64 = 1 << 53;

impl Measurement {
    /// Adds another part of the same workload: of arrivals, connections and a thread of its own. Of two examples of an
    /// outcome the first remains; the window is as long as the longer one, which parts of a run that ended early have
    /// by a few milliseconds.
    ///
    /// # Errors
    /// If the other one is no part of the same workload; the error names the difference.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_same_workload(other)?;
        self.window = self.window.max(other.window);
        self.partial |= other.partial;
        for (count, more) in [
            (&mut self.warm_up_arrivals, other.warm_up_arrivals),
            (&mut self.later_arrivals, other.later_arrivals),
            (&mut self.unanswered, other.unanswered),
            (&mut self.scheduled, other.scheduled),
            (&mut self.started, other.started),
            (&mut self.late, other.late),
            (&mut self.late_for_connection, other.late_for_connection),
            (&mut self.given_up, other.given_up),
            (&mut self.closed_first, other.closed_first),
            (&mut self.answer_bytes, other.answer_bytes),
        ] {
            *count += more;
        }
        self.delays.merge(&other.delays);
        self.certain_errors.merge(other.certain_errors);
        self.timer.merge(&other.timer)?;
        self.outcomes.merge(&other.outcomes);
        self.response.merge(&other.response)?;
        self.service.merge(&other.service)?;
        self.own_part.merge(&other.own_part)?;
        self.lag.merge(&other.lag)?;
        self.failed_response.merge(&other.failed_response)?;
        self.certain.merge(&other.certain)?;
        for (step, other) in self.steps.iter_mut().zip(&other.steps) {
            step.merge(other)?;
        }
        self.segments.merge(&other.segments)?;
        self.phases.merge(&other.phases)?;
        self.opening.merge(&other.opening)?;
        self.reopening.merge(&other.reopening)?;
        self.answers.extend_from_slice(&other.answers);
        self.answers.sort_unstable_by_key(|answer| (answer.end_ns(), answer.at_ns));
        self.timeline.merge(&other.timeline)?;
        for (outcome, detail) in &other.examples {
            if !self.examples.iter().any(|(known, _)| known == outcome) {
                self.examples.push((*outcome, detail.clone()));
            }
        }
        self.generator.merge(&other.generator);
        Ok(())
    }

    fn check_same_workload(&self, other: &Self) -> Result<()> {
        let different = |what: &str, one: String, other: String| {
            let text = format!("merging measurements: {what} is {one} in one and {other} in another");
            Err(Error::new(text).with_hint("give every part of a run the same flags"))
        };
        let RecorderSettings { window, warm_up, late_bound, closed, journeys, keeps_answers } = self.settings;
        let others = other.settings;
        for (what, one, other) in [
            ("the planned window", window, others.window),
            ("the warm-up", warm_up, others.warm_up),
            ("the bound on schedule lag", late_bound, others.late_bound),
        ] {
            if one != other {
                return different(what, format!("{one:?}"), format!("{other:?}"));
            }
        }
        let model = |closed| if closed { "closed" } else { "open" }.to_owned();
        if closed != others.closed {
            return different("the workload model", model(closed), model(others.closed));
        }
        let kind = |journeys| if journeys { "journeys" } else { "requests" }.to_owned();
        if journeys != others.journeys {
            return different("the kind of arrival", kind(journeys), kind(others.journeys));
        }
        let kept = |keeps| if keeps { "yes" } else { "no" }.to_owned();
        if keeps_answers != others.keeps_answers {
            return different("the keeping of each answer", kept(keeps_answers), kept(others.keeps_answers));
        }
        let names = |one: &Self| one.steps.iter().map(|step| step.name).collect::<Vec<_>>().join(", ");
        if names(self) != names(other) {
            return different("the list of steps", names(self), names(other));
        }
        Ok(())
    }

    /// Checks the counts of a measurement that was read from a file.
    ///
    /// # Errors
    /// If they contradict one another, or are beyond those of any run.
    pub fn check(&self) -> Result<()> {
        let step_outcomes: u64 = self.steps.iter().map(|step| step.outcomes.total().min(MOST_SAMPLES)).sum();
        let in_reason =
            [self.scheduled, self.warm_up_arrivals, self.later_arrivals, self.unanswered, self.answer_bytes]
                .into_iter()
                .chain([self.late, self.given_up, self.closed_first, step_outcomes])
                .all(|count| count <= MOST_SAMPLES);
        let consistent = self.started <= self.scheduled
            && self.outcomes.total() == self.started
            && self.window <= self.settings.window
            && self.response.count() + self.failed_response.count() == self.started;
        if in_reason && consistent {
            return Ok(());
        }
        Err(Error::new("reading a measurement: its counts contradict one another").with_hint("run this part again"))
    }
}

impl CertainErrors {
    fn merge(&mut self, other: Self) {
        self.refused += other.refused;
        self.others += other.others;
    }
}

impl StepMeasurement {
    fn merge(&mut self, other: &Self) -> Result<()> {
        self.scheduled += other.scheduled;
        self.outcomes.merge(&other.outcomes);
        self.response.merge(&other.response)?;
        self.service.merge(&other.service)?;
        self.certain.merge(&other.certain)
    }
}

impl PhaseDistributions {
    fn merge(&mut self, other: &Self) -> Result<()> {
        let Self { dial, tls, hello, finish, send, first_byte, receive } = self;
        dial.merge(&other.dial)?;
        tls.merge(&other.tls)?;
        hello.merge(&other.hello)?;
        finish.merge(&other.finish)?;
        send.merge(&other.send)?;
        first_byte.merge(&other.first_byte)?;
        receive.merge(&other.receive)
    }
}

impl Handshakes {
    fn merge(&mut self, other: &Self) -> Result<()> {
        self.dial.merge(&other.dial)?;
        self.tls.merge(&other.tls)?;
        self.kinds.merge(&other.kinds);
        self.failed.merge(&other.failed);
        self.tried.merge(&other.tried)?;
        self.undeclared += other.undeclared;
        self.read_bytes.merge(&other.read_bytes);
        self.written_bytes.merge(&other.written_bytes);
        Ok(())
    }
}

impl RightAnswer {
    /// Returns its end, in nanoseconds from the beginning of the window.
    fn end_ns(&self) -> u64 {
        self.at_ns.saturating_add(self.response_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::clock::Moment;
    use crate::measure::generator::ThreadUse;
    use crate::measure::segment::Segment;
    use crate::measure::{Outcome, Recorder, Sample, StepSample};
    use crate::wire::handshake::{Handshake, HandshakeFlow, Record};
    use crate::wire::{FaultKind, Phases};

    const MS: u64 = 1_000_000;
    const CONNECTIONS: usize = 12;
    const WINDOW: Duration = Duration::from_millis(2_500);
    const WARM_UP: Duration = Duration::from_millis(1_200);
    const STEPS: [&str; 2] = ["list", "issue"];
    const OUTCOMES: [Outcome; 6] = [
        Outcome::Ok,
        Outcome::Ok,
        Outcome::Ok,
        Outcome::Refused,
        Outcome::TimedOut,
        Outcome::Broken(FaultKind::Closed),
    ];

    /// An arrival, on a connection of the whole run.
    #[derive(Clone, Debug)]
    struct Event {
        at_ms: u64,
        connection: usize,
        step: usize,
        lag_us: u64,
        service_us: u64,
        outcome: Outcome,
        kind: EventKind,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum EventKind {
        Kept,
        Reconnected,
        Unconnected,
        Waited,
        Unsent,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        use EventKind::{Kept, Reconnected, Unconnected, Unsent, Waited};
        let event = (
            0..4_200_u64,
            0..CONNECTIONS,
            0..STEPS.len(),
            0..30_000_u64,
            1..90_000_u64,
            prop::sample::select(&OUTCOMES[..]),
            prop::sample::select(vec![Kept, Kept, Reconnected, Unconnected, Waited, Unsent]),
        );
        let event = event.prop_map(|(at_ms, connection, step, lag_us, service_us, outcome, kind)| Event {
            at_ms,
            connection,
            step,
            lag_us,
            service_us,
            outcome,
            kind,
        });
        prop::collection::vec(event, 0..80).prop_map(|mut events| {
            // One after the other, as one thread records them.
            events.sort_by_key(|event| (event.at_ms * 1_000 + event.lag_us + event.service_us, event.at_ms));
            events
        })
    }

    #[derive(Clone, Copy, Debug)]
    struct Kind {
        closed: bool,
        journeys: bool,
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        (any::<bool>(), any::<bool>()).prop_map(|(closed, journeys)| Kind { closed, journeys })
    }

    fn recorder(kind: Kind, window: Duration) -> Recorder {
        let half = window / 2;
        let segments = [(Duration::ZERO, half), (half, window)];
        let segments = segments.map(|(begin, end)| Segment { begin, end, from_per_s: 1.0, to_per_s: 2.0 });
        let recorder = Recorder::new(window, Duration::from_millis(10), &STEPS)
            .with_connections(CONNECTIONS)
            .with_warm_up(WARM_UP)
            .with_segments(&segments)
            .keeping_answers(10);
        let recorder = if kind.closed { recorder.of_users() } else { recorder };
        if kind.journeys { recorder.of_journeys() } else { recorder }
    }

    fn handshake(connection: usize) -> Record {
        let kind = if connection.is_multiple_of(3) { HandshakeFlow::Resumed } else { HandshakeFlow::Full };
        let handshake = Handshake {
            kind,
            version: "TLS1.3",
            suite: "TLS13_AES_128_GCM_SHA256",
            group: "X25519",
            key: "ecdsa-p256",
            chain_length: 2,
            alpn: "http/1.1",
        };
        let (read_bytes, written_bytes) = (1_000 + connection as u32, 400 + connection as u32);
        Record { handshake, as_declared: connection != 7, read_bytes, written_bytes, certificate: 1 }
    }

    /// Records the events of some connections.
    fn record(kind: Kind, events: &[Event], is_own: impl Fn(usize) -> bool) -> Measurement {
        let mut recorder = recorder(kind, WINDOW);
        let connections = (0..CONNECTIONS).filter(|connection| is_own(*connection));
        for connection in connections {
            let phases = Phases { dial_ns: 50_000 + connection as u64, hello_ns: 400_000, ..Phases::default() };
            recorder.opened(&handshake(connection), &phases);
            if connection == 5 {
                recorder.not_opened(Outcome::Broken(FaultKind::Connect), 3 * MS);
            }
        }
        recorder.begin(Moment::from_ns(MS) + WARM_UP);
        for event in events.iter().filter(|event| is_own(event.connection)) {
            let intended = Moment::from_ns(event.at_ms * MS + MS);
            let actual = intended + Duration::from_micros(event.lag_us);
            let phases =
                Phases { send_ns: 1_000, first_byte_ns: event.service_us * 1_000 - 1_000, ..Phases::default() };
            let end = actual + Duration::from_nanos(phases.total_ns());
            recorder.scheduled(event.step, intended);
            recorder.example(event.outcome, || format!("an answer that is {}", event.outcome));
            if event.kind == EventKind::Unsent {
                recorder.unsent(Some(event.connection), intended, intended);
                continue;
            }
            if kind.journeys {
                let (step, outcome) = (event.step, event.outcome);
                let own_ns = 500;
                recorder.record_step(&StepSample { step, arrival: intended, intended, actual, end, own_ns, outcome });
            }
            let reconnected = event.kind == EventKind::Reconnected && event.outcome == Outcome::Ok;
            recorder.record(&Sample {
                step: event.step,
                connection: event.connection,
                intended,
                handed: intended,
                waited: event.kind == EventKind::Waited,
                actual,
                end,
                own_ns: event.lag_us * 500,
                phases,
                outcome: event.outcome,
                handshake: reconnected.then(|| handshake(event.connection)),
                unconnected: event.kind == EventKind::Unconnected && event.outcome != Outcome::Ok,
                answer_bytes: 100,
            });
            if event.connection == 3 {
                recorder.closed_first();
            }
        }
        recorder.finish(ThreadUse { scheduling: "SCHED_OTHER", ..ThreadUse::default() }.into())
    }

    fn merged(parts: &[Measurement]) -> Measurement {
        let mut all = parts[0].clone();
        parts[1..].iter().for_each(|part| all.merge(part).unwrap());
        all
    }

    /// Returns a measurement as JSON, without what only the number of its threads shows.
    fn json(measurement: &Measurement) -> Value {
        let mut json = serde_json::to_value(measurement).unwrap();
        json["generator"] = Value::Null;
        json["timer"]["worst"] = Value::Null;
        // In the order in which they came first, which only one recording of all knows.
        json["examples"].as_array_mut().unwrap().sort_by_key(Value::to_string);
        json
    }

    proptest! {
        // Each case fills, writes and merges some hundred histograms.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn merged_parts_equal_one_recording(kind in kinds(), events in events(), owners in prop::collection::vec(0..4_u32, CONNECTIONS)) {
            let parts = [0, 1, 2, 3].map(|owner| record(kind, &events, |connection| owners[connection] == owner));
            let whole = record(kind, &events, |_| true);
            prop_assert_eq!(json(&merged(&parts)), json(&whole));
            whole.check().unwrap();
        }

        #[test]
        fn merging_is_associative_and_commutative(kind in kinds(), events in events()) {
            let [a, b, c] = [0, 1, 2].map(|owner| record(kind, &events, |connection| connection % 3 == owner));
            let left = merged(&[merged(&[a.clone(), b.clone()]), c.clone()]);
            let right = merged(&[a.clone(), merged(&[b.clone(), c.clone()])]);
            prop_assert_eq!(serde_json::to_value(left).unwrap(), serde_json::to_value(right).unwrap());
            prop_assert_eq!(json(&merged(&[a.clone(), b.clone()])), json(&merged(&[b, a])));
        }

        #[test]
        fn a_written_measurement_is_read_as_it_was(kind in kinds(), events in events()) {
            let measurement = record(kind, &events, |_| true);
            let text = serde_json::to_string(&measurement).unwrap();
            let read: Measurement = serde_json::from_str(&text).unwrap();
            read.check().unwrap();
            prop_assert_eq!(text, serde_json::to_string(&read).unwrap());
            // What was read can be merged like what was recorded.
            prop_assert_eq!(json(&merged(&[read, measurement.clone()])), json(&merged(&[measurement.clone(), measurement])));
        }
    }

    #[test]
    fn measurements_of_other_workloads_are_not_merged() {
        let finish = |mut recorder: Recorder| recorder.finish(ThreadUse::default().into());
        let plain = || Recorder::new(WINDOW, Duration::from_millis(10), &STEPS);
        for (other, named) in [
            (plain().with_warm_up(WARM_UP), "the warm-up is 0ns in one and 1.2s in another"),
            (Recorder::new(Duration::from_secs(9), Duration::from_millis(10), &STEPS), "the planned window is 2.5s"),
            (Recorder::new(WINDOW, Duration::from_millis(5), &STEPS), "the bound on schedule lag is 10ms"),
            (Recorder::new(WINDOW, Duration::from_millis(10), &["list"]), "the list of steps is list, issue"),
            (plain().of_users(), "the workload model is open in one and closed"),
            (plain().of_journeys(), "the kind of arrival is requests"),
            (plain().keeping_answers(1), "the keeping of each answer is no"),
        ] {
            let error = finish(plain()).merge(&finish(other)).unwrap_err();
            assert!(error.what().contains(named), "{}", error.what());
        }
        let segments = [Segment { begin: Duration::ZERO, end: WINDOW, from_per_s: 1.0, to_per_s: 1.0 }];
        let error = finish(plain()).merge(&finish(plain().with_segments(&segments))).unwrap_err();
        assert!(error.what().contains("rate profiles"), "{}", error.what());
    }

    #[test]
    fn contradicting_counts_are_refused() {
        let good = record(Kind { closed: false, journeys: false }, &[], |_| true);
        for break_it in [
            (|one| one.started += 1) as fn(&mut Measurement),
            |one| one.scheduled = u64::MAX,
            |one| one.window += Duration::from_secs(1),
            |one| one.outcomes.add(Outcome::Ok),
            |one| one.response.record(1),
        ] {
            let mut bad = good.clone();
            break_it(&mut bad);
            bad.check().unwrap_err();
        }
    }

    #[test]
    fn the_worst_timer_remains_visible() {
        let of = |late: u64, of: u64| {
            let mut recorder = recorder(Kind { closed: true, journeys: false }, WINDOW);
            recorder.begin(Moment::from_ns(0));
            let mut due = Moment::from_ns(0);
            for tick in 0..of {
                due = recorder.tick(due, due + Duration::from_millis(if tick < late { 15 } else { 0 }));
            }
            recorder.finish(ThreadUse::default().into())
        };
        let (good, bad) = (of(0, 100), of(4, 50));
        for parts in [[good.clone(), bad.clone(), good.clone()], [bad, good.clone(), good]] {
            let all = merged(&parts);
            assert_eq!((all.timer.late, all.timer.lag.count()), (4, 250));
            assert_eq!((all.timer.worst().late, all.timer.worst().of), (4, 50));
        }
    }
}
