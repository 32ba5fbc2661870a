//! The recorder, which takes samples during a run and returns the measurement at its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::absence::{Absences, TICK_EVERY};
use super::attribution::{AttributedDelays, Attribution, OurDelays, Start};
use super::distribution::Distribution;
use super::generator::{self, GeneratorUse};
use super::outcome::Outcome;
use super::segment::{Segment, Segments};
use super::spread::ByteSpread;
use super::tally::Tally;
use super::timeline::Timeline;
use crate::clock::Moment;
use crate::foreign::{self, Label};
use crate::wire::handshake::Record;
use crate::wire::{Fault, Handshake, Phases};

/// The facts about one arrival once it is over.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The index of its step in the scenario.
    pub step: usize,
    /// The connection that it was sent on, counted from 0.
    pub connection: usize,
    /// The intended start.
    pub intended: Moment,
    /// The moment at which the generator handed it in.
    pub handed: Moment,
    /// True if no connection was free for it at that moment.
    pub waited: bool,
    /// The actual start.
    pub actual: Moment,
    /// The moment of its end.
    pub end: Moment,
    /// The generator's own part of the time from actual start to end, in nanoseconds.
    pub own_ns: u64,
    /// The phases of the time from actual start to end.
    pub phases: Phases,
    /// Its outcome.
    pub outcome: Outcome,
    /// The handshake, if the request opened a connection.
    pub handshake: Option<Record>,
    /// True if the request needed a connection and could not open one.
    pub unconnected: bool,
    /// The bytes of the answer, head and body; 0 without one.
    pub answer_bytes: u64,
}

impl Sample {
    /// Returns the response time: from the intended start, in nanoseconds.
    pub fn response_ns(&self) -> u64 {
        self.end.ns_since(self.intended)
    }

    /// Returns the service time: from the actual start, in nanoseconds.
    pub fn service_ns(&self) -> u64 {
        self.end.ns_since(self.actual)
    }

    /// Returns the schedule lag: from the intended to the actual start, in nanoseconds.
    pub fn lag_ns(&self) -> u64 {
        self.actual.ns_since(self.intended)
    }
}

/// The facts about one step of a journey once it is over.
#[derive(Clone, Copy, Debug)]
pub struct StepSample {
    /// The index of the step in the scenario.
    pub step: usize,
    /// The intended start of the arrival that began the journey.
    pub arrival: Moment,
    /// The intended start of the step: that of the arrival, or the end of the step before it.
    pub intended: Moment,
    /// Its actual start.
    pub actual: Moment,
    /// The moment of its end.
    pub end: Moment,
    /// The generator's own part of the time from actual start to end, in nanoseconds.
    pub own_ns: u64,
    /// Its outcome.
    pub outcome: Outcome,
}

/// A right answer in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightAnswer {
    /// The intended start of its arrival, in nanoseconds from the beginning of the window.
    pub at_ns: u64,
    /// Its response time, in nanoseconds.
    pub response_ns: u64,
}

/// The distributions of the phases of requests that got the right answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PhaseDistributions {
    /// TCP connect, of requests that opened a connection.
    pub dial: Distribution,
    /// TLS handshake, of requests that opened a connection.
    pub tls: Distribution,
    /// The first flight of the TLS handshake: to the first byte of the peer's answer.
    pub hello: Distribution,
    /// The rest of the TLS handshake.
    pub finish: Distribution,
    /// Sending the request.
    pub send: Distribution,
    /// Waiting for the first byte.
    pub first_byte: Distribution,
    /// Receiving the rest.
    pub receive: Distribution,
}

/// The measurement of one of a scenario's steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepMeasurement {
    /// Its name.
    #[serde(deserialize_with = "foreign::label")]
    pub name: Label,
    /// Arrivals that the schedule put into the window; as a step of journeys, the number of those that came to it.
    pub scheduled: u64,
    /// The outcomes of those that were sent.
    pub outcomes: Tally<Outcome>,
    /// Response time of right answers.
    pub response: Distribution,
    /// Service time of right answers.
    pub service: Distribution,
    /// The part of the response time of right answers that is the system's for certain; see [`Measurement::certain`].
    pub certain: Distribution,
}

impl StepMeasurement {
    /// Records a right answer.
    fn right(&mut self, response_ns: u64, service_ns: u64, certain_ns: Option<u64>) {
        self.response.record(response_ns);
        self.service.record(service_ns);
        if let Some(certain_ns) = certain_ns {
            self.certain.record(certain_ns);
        }
    }
}

/// Connections opened before or during a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Handshakes {
    /// TCP connect.
    pub dial: Distribution,
    /// TLS handshake.
    pub tls: Distribution,
    /// The properties of the handshakes.
    pub kinds: Tally<Handshake>,
    /// The outcomes of the attempts that opened no connection.
    pub failed: Tally<Outcome>,
    /// The duration of each attempt, whatever its outcome.
    pub tried: Distribution,
    /// The number of handshakes that were full and meant to be resumed, or the other way round.
    pub undeclared: u64,
    /// Bytes read for each handshake.
    pub read_bytes: ByteSpread,
    /// Bytes written for each handshake.
    pub written_bytes: ByteSpread,
}

impl Handshakes {
    /// Records a handshake that opened a connection.
    pub fn record(&mut self, record: &Record, phases: &Phases) {
        self.dial.record(phases.dial_ns);
        self.tls.record(phases.tls_ns());
        self.tried.record(phases.dial_ns + phases.tls_ns());
        self.kinds.add(record.handshake);
        self.undeclared += u64::from(!record.as_declared);
        self.read_bytes.add(record.read_bytes.into());
        self.written_bytes.add(record.written_bytes.into());
    }

    /// Records an attempt that opened no connection, after this time.
    pub fn fail(&mut self, outcome: Outcome, ns: u64) {
        self.failed.add(outcome);
        self.tried.record(ns);
    }
}

/// The settings of a recorder. Measurements that are merged have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderSettings {
    /// The planned length of the measured window.
    pub window: Duration,
    /// The length of the warm-up.
    pub warm_up: Duration,
    /// The lag above which an arrival or a tick is late.
    pub late_bound: Duration,
    /// True for users, who have no schedule to be late against.
    pub closed: bool,
    /// True for journeys.
    pub journeys: bool,
    /// True if each right answer is kept.
    pub keeps_answers: bool,
}

/// The whole measurement of one workload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The settings of its recorder.
    pub settings: RecorderSettings,
    /// The length of the measured window; shorter than planned if the run was stopped.
    pub window: Duration,
    /// True if the run was stopped before its window ended.
    pub partial: bool,
    /// Arrivals before the window, sent but not measured.
    pub warm_up_arrivals: u64,
    /// Arrivals after the window, sent but not measured, while other workloads of the run were.
    pub later_arrivals: u64,
    /// Requests without a complete answer, in warm-up and window: their work may or may not have been done.
    pub unanswered: u64,
    /// Arrivals that the schedule put into the window.
    pub scheduled: u64,
    /// Those among them that were sent.
    pub started: u64,
    /// Those among them (or, in a closed workload, ticks) that were later than the bound on schedule lag.
    pub late: u64,
    /// Those among the late that had to wait for a connection.
    pub late_for_connection: u64,
    /// The delays among the late and the unsent that may have been caused on the generator's side.
    pub delays: AttributedDelays,
    /// Those among the unsent that were given up because the run was ended early.
    pub given_up: u64,
    /// Errors that are the system's for certain.
    pub certain_errors: CertainErrors,
    /// The ticks of the generator's timer.
    pub timer: Absences,
    /// The outcomes of the arrivals that were sent.
    pub outcomes: Tally<Outcome>,
    /// Response time of right answers.
    pub response: Distribution,
    /// Service time of right answers.
    pub service: Distribution,
    /// The generator's own part of it: the time in which it worked on the request, or had not read what had come. An
    /// upper bound of what the generator added.
    pub own_part: Distribution,
    /// The precision of the generator: the schedule lag of all arrivals that were sent, or, in a closed workload, the
    /// lag of its timer's ticks.
    pub lag: Distribution,
    /// Response time of everything but right answers.
    pub failed_response: Distribution,
    /// The part of the response time of right answers that is the system's for certain: the service time alone if the
    /// start was late, without the time in which the generator was away, and without its own part.
    pub certain: Distribution,
    /// The scenario's steps.
    pub steps: Vec<StepMeasurement>,
    /// The segments of a rate profile; none without one.
    pub segments: Segments,
    /// The phases of the service time of right answers.
    pub phases: PhaseDistributions,
    /// Connections opened before the first arrival.
    pub opening: Handshakes,
    /// Connections that had to be opened within the window.
    pub reopening: Handshakes,
    /// Connections, warm-up included, that this side closed before their peer did, since too many waited for their
    /// peer: each keeps its port in TIME_WAIT.
    pub closed_first: u64,
    /// The bytes of all right answers, head and body.
    pub answer_bytes: u64,
    /// Each right answer, in the order of their ends, where they are kept: on the sides of a duet.
    pub answers: Vec<RightAnswer>,
    /// The window and its warm-up second by second.
    pub timeline: Timeline,
    /// The first fault or wrong answer of each outcome, as text for people.
    pub examples: Vec<(Outcome, String)>,
    /// The generator's own use of resources.
    pub generator: GeneratorUse,
}

impl Measurement {
    /// Makes room for what each right answer on an open connection records.
    fn make_room(&mut self) {
        let phases = &mut self.phases;
        let whole = [&mut self.response, &mut self.service, &mut self.own_part, &mut self.certain];
        let lags = [&mut self.lag, &mut self.timer.lag];
        let phases = [&mut phases.send, &mut phases.first_byte, &mut phases.receive];
        let steps = self.steps.iter_mut().flat_map(|step| [&mut step.response, &mut step.service, &mut step.certain]);
        whole.into_iter().chain(lags).chain(phases).chain(steps).for_each(Distribution::make_room);
    }

    /// Returns the number of arrivals that were scheduled in the window and never sent.
    pub fn unsent(&self) -> u64 {
        self.scheduled - self.started
    }

    /// Returns the delays among the late and the unsent that were caused on the generator's side.
    pub fn ours(&self) -> OurDelays {
        self.delays.ours(&self.service)
    }

    /// Returns the number of arrivals that were never sent because the system held every connection.
    pub fn unsent_by_system(&self) -> u64 {
        let ours = self.ours();
        let others = self.given_up + ours.generator.unsent + ours.pool.unsent;
        self.unsent().saturating_sub(others)
    }

    /// Returns the number of errors that are the system's for certain, refusals not included. One that was late because
    /// of the generator's side and overlapped an absence is subtracted twice: too few is safe, too many is not.
    pub fn errors_by_system(&self) -> u64 {
        let ours = self.ours();
        let ours = ours.generator.timed_out + ours.pool.timed_out;
        self.certain_errors.others.saturating_sub(ours) + self.unsent_by_system()
    }

    /// Returns the share of scheduled arrivals that did not get the right answer, unsent ones included; `None` without
    /// any.
    pub fn error_share(&self) -> Option<f64> {
        let errors = self.scheduled - self.outcomes.count(Outcome::Ok);
        (self.scheduled > 0).then(|| errors as f64 / self.scheduled as f64)
    }
}

/// Errors that are the system's for certain: none of them may be due to a lack of ports or descriptors on this machine,
/// or to an absence of the generator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertainErrors {
    /// Requests that were refused with a 429 of the right shape.
    pub refused: u64,
    /// All others that did not get the right answer.
    pub others: u64,
}

/// A recorder of samples. A request on an open connection allocates nothing, but for a few small blocks once a second of a
/// run of more than half a minute ([`Timeline`]).
pub struct Recorder {
    from: Moment,
    to: Moment,
    late_bound_ns: u64,
    /// True once the run was ended early: the system is not the reason for arrivals that are given up from then on.
    cut: bool,
    attribution: Attribution,
    measurement: Measurement,
}

impl Recorder {
    /// Makes a recorder for a measured window of length `window` and a scenario with these steps; arrivals that start
    /// later than `late_bound` count as late.
    pub fn new(window: Duration, late_bound: Duration, steps: &[&'static str]) -> Self {
        let steps = steps.iter().map(|name| StepMeasurement {
            name,
            scheduled: 0,
            outcomes: Tally::default(),
            response: Distribution::default(),
            service: Distribution::default(),
            certain: Distribution::default(),
        });
        let mut measurement = Measurement {
            settings: RecorderSettings { window, late_bound, ..RecorderSettings::default() },
            window,
            timeline: Timeline::new(window),
            steps: steps.collect(),
            ..Measurement::default()
        };
        measurement.make_room();
        Self {
            from: Moment::from_ns(u64::MAX),
            to: Moment::from_ns(u64::MAX),
            late_bound_ns: late_bound.as_nanos() as u64,
            cut: false,
            attribution: Attribution::new(1, late_bound.as_nanos() as u64),
            measurement,
        }
    }

    /// Sets the workload to closed: users have no schedule to be late against, so that lag is the timer's.
    pub fn of_users(mut self) -> Self {
        self.measurement.settings.closed = true;
        self
    }

    /// Sets the arrivals to journeys, whose steps are recorded by [`Recorder::record_step`].
    pub fn of_journeys(mut self) -> Self {
        self.measurement.settings.journeys = true;
        self
    }

    /// Sets the number of connections of the workload.
    pub fn with_connections(self, connections: usize) -> Self {
        Self { attribution: Attribution::new(connections, self.late_bound_ns), ..self }
    }

    /// Makes room for the seconds of a warm-up before the window.
    pub fn with_warm_up(mut self, warm_up: Duration) -> Self {
        self.measurement.settings.warm_up = warm_up;
        self.measurement.timeline = self.measurement.timeline.with_warm_up(warm_up);
        self
    }

    /// Keeps each right answer, with room for so many, and a tenth more, before recording allocates.
    pub fn keeping_answers(mut self, expected: usize) -> Self {
        self.measurement.answers.reserve(expected + expected / 10 + 1);
        self.measurement.settings.keeps_answers = true;
        self
    }

    /// Measures these parts of the window on their own too: in order, without gaps, over the whole of it.
    pub fn with_segments(mut self, segments: &[Segment]) -> Self {
        self.measurement.segments = Segments::new(segments);
        self
    }

    /// Sets the beginning of the window; it ends after its length.
    pub fn begin(&mut self, from: Moment) {
        self.from = from;
        self.to = from + self.measurement.window;
    }

    /// Counts an arrival of the schedule, or a request of a user.
    pub fn scheduled(&mut self, step: usize, intended: Moment) {
        if self.is_measured(intended) {
            self.measurement.scheduled += 1;
            if !self.settings().journeys {
                self.measurement.steps[step].scheduled += 1;
            }
            let offset_ns = intended.ns_since(self.from);
            self.measurement.segments.schedule(offset_ns);
            self.measurement.timeline.schedule(offset_ns);
        } else if intended < self.from {
            self.measurement.warm_up_arrivals += 1;
        } else {
            self.measurement.later_arrivals += 1;
        }
    }

    /// Records that the generator's timer, which ticks on a fixed grid, was due at `due` and woke it at `now`: its own
    /// delays and absences show there, whatever the system does. A tick that was missed counts like one that came late.
    /// Returns the moment at which the next tick is due.
    pub fn tick(&mut self, due: Moment, now: Moment) -> Moment {
        let next = self.measurement.timer.woke(due, now, self.late_bound_ns, self.from..self.to);
        let mut tick = due;
        while tick <= now {
            if self.is_measured(tick) {
                let lag_ns = now.ns_since(tick);
                let late = lag_ns > self.late_bound_ns;
                self.measurement.timeline.tick(tick.ns_since(self.from), late);
                if self.settings().closed {
                    self.measurement.lag.record(lag_ns);
                    self.measurement.late += u64::from(late);
                }
            }
            tick = tick + TICK_EVERY;
        }
        next
    }

    /// Records a connection opened before the first arrival.
    pub fn opened(&mut self, record: &Record, phases: &Phases) {
        self.measurement.opening.record(record, phases);
    }

    /// Records an attempt to open a connection before the first arrival that failed after this time.
    pub fn not_opened(&mut self, outcome: Outcome, ns: u64) {
        self.measurement.opening.fail(outcome, ns);
    }

    /// Records an arrival that is over. One outside the window is not measured; one of the warm-up is in the timeline.
    pub fn record(&mut self, sample: &Sample) {
        generator::request_over();
        if matches!(sample.outcome, Outcome::TimedOut | Outcome::Broken(_)) {
            self.measurement.unanswered += 1;
        }
        let measured = self.is_measured(sample.intended);
        let start =
            Start { intended: sample.intended, handed: sample.handed, waited: sample.waited, actual: sample.actual };
        let timed_out = sample.outcome == Outcome::TimedOut;
        let RecorderSettings { closed, journeys, keeps_answers, .. } = self.settings();
        let late_by_generator =
            !closed && self.attribution.started(sample.connection, start, sample.service_ns(), timed_out, measured);
        let measurement = &mut self.measurement;
        if !measured {
            if sample.intended < self.from {
                let before_ns = self.from.ns_since(sample.intended);
                measurement.timeline.record_warm_up(before_ns, sample.outcome, sample.response_ns());
            }
            return;
        }
        measurement.started += 1;
        measurement.outcomes.add(sample.outcome);
        let mut step = measurement.steps.get_mut(sample.step).filter(|_| !journeys);
        if let Some(step) = &mut step {
            step.outcomes.add(sample.outcome);
        }
        let offset_ns = sample.intended.ns_since(self.from);
        let mut late = false;
        if !closed {
            let lag_ns = sample.lag_ns();
            measurement.lag.record(lag_ns);
            late = lag_ns > self.late_bound_ns;
            if late {
                measurement.late += 1;
                measurement.late_for_connection += u64::from(sample.waited);
                measurement.timeline.late(offset_ns, late_by_generator);
            }
        }
        // The cause of a wait for a connection is known only at the end, so that none of it is the system's for
        // certain.
        let from = if late { sample.actual } else { sample.intended };
        let away_ns = measurement.timer.away_ns(from, sample.end, self.late_bound_ns);
        if sample.outcome == Outcome::Ok {
            measurement.answer_bytes += sample.answer_bytes;
            if keeps_answers {
                measurement.answers.push(RightAnswer { at_ns: offset_ns, response_ns: sample.response_ns() });
            }
            measurement.response.record(sample.response_ns());
            measurement.service.record(sample.service_ns());
            measurement.own_part.record(sample.own_ns);
            // What is own part and absence is subtracted twice: too little is safe, too much is not.
            let not_ours_ns = sample.end.ns_since(from).saturating_sub(sample.own_ns);
            let certain_ns = away_ns.map(|away_ns| not_ours_ns.saturating_sub(away_ns));
            if let Some(certain_ns) = certain_ns {
                measurement.certain.record(certain_ns);
            }
            if let Some(step) = step {
                step.right(sample.response_ns(), sample.service_ns(), certain_ns);
                measurement.phases.record(sample);
            }
        } else {
            measurement.failed_response.record(sample.response_ns());
            measurement.certain_errors.add(sample.outcome, away_ns == Some(0) && !self.cut);
        }
        if let Some(record) = &sample.handshake {
            measurement.reopening.record(record, &sample.phases);
        } else if sample.unconnected {
            measurement.reopening.fail(sample.outcome, sample.service_ns());
        }
        measurement.segments.record(offset_ns, sample.outcome, sample.response_ns());
        measurement.timeline.record(offset_ns, sample.outcome, sample.response_ns());
    }

    /// Records a step of a journey that is over. It belongs to the window if its arrival does.
    pub fn record_step(&mut self, sample: &StepSample) {
        if !self.is_measured(sample.arrival) {
            return;
        }
        let measurement = &mut self.measurement;
        let step = &mut measurement.steps[sample.step];
        step.scheduled += 1;
        step.outcomes.add(sample.outcome);
        if sample.outcome == Outcome::Ok {
            let lag_ns = sample.actual.ns_since(sample.intended);
            let from = if lag_ns > self.late_bound_ns { sample.actual } else { sample.intended };
            let away_ns = measurement.timer.away_ns(from, sample.end, self.late_bound_ns);
            let not_ours_ns = sample.end.ns_since(from).saturating_sub(sample.own_ns);
            let certain_ns = away_ns.map(|away_ns| not_ours_ns.saturating_sub(away_ns));
            step.right(sample.end.ns_since(sample.intended), sample.end.ns_since(sample.actual), certain_ns);
        }
    }

    /// Records a connection that a journey had to open.
    pub fn reopened(&mut self, arrival: Moment, record: &Record, phases: &Phases) {
        if self.is_measured(arrival) {
            self.measurement.reopening.record(record, phases);
        }
    }

    /// Records a connection that a journey could not open, after this time.
    pub fn not_reopened(&mut self, arrival: Moment, outcome: Outcome, ns: u64) {
        if self.is_measured(arrival) {
            self.measurement.reopening.fail(outcome, ns);
        }
    }

    /// Records an arrival that waited in vain for a connection: for this one, or for any.
    pub fn unsent(&mut self, connection: Option<usize>, intended: Moment, handed: Moment) {
        let measured = self.is_measured(intended);
        if self.cut {
            self.measurement.given_up += u64::from(measured);
        } else {
            self.attribution.unsent(connection, intended, handed, measured);
        }
    }

    /// Keeps the detail of the first fault of each outcome.
    pub fn example(&mut self, outcome: Outcome, detail: impl FnOnce() -> String) {
        let examples = &mut self.measurement.examples;
        if !examples.iter().any(|(known, _)| *known == outcome) {
            examples.push((outcome, detail()));
        }
    }

    /// Counts a connection that this side closed before its peer did.
    pub fn closed_first(&mut self) {
        self.measurement.closed_first += 1;
    }

    /// Keeps the detail of a fault; see [`Recorder::example`].
    pub fn fault(&mut self, fault: &Fault) {
        self.example(Outcome::Broken(fault.kind), || fault.detail.clone());
    }

    /// Ends the window early, and the run with it: an arrival with an intended start from `now` on is not part of it.
    pub fn stop(&mut self, now: Moment) {
        self.measurement.partial = true;
        self.cut = true;
        self.end(now);
    }

    /// Ends the window early, because all requests have been sent.
    pub fn end(&mut self, now: Moment) {
        self.to = self.to.min(now).max(self.from.min(now));
        let window = self.to - self.from;
        self.measurement.window = window;
        self.measurement.timeline.truncate(window.as_nanos().div_ceil(1_000_000_000) as usize);
    }

    /// Ends the window early and gives up the arrivals that wait for a connection: the run is to send no more.
    pub fn cut(&mut self, now: Moment) {
        self.cut = true;
        self.end(now);
    }

    /// Returns the measurement, once every sample is in.
    pub fn finish(&mut self, generator: GeneratorUse) -> Measurement {
        let delays = self.attribution.delays();
        Measurement { generator, delays, ..std::mem::take(&mut self.measurement) }
    }

    /// Returns the moment at which the window ends, or has ended.
    pub fn window_end(&self) -> Moment {
        self.to
    }

    const fn settings(&self) -> RecorderSettings {
        self.measurement.settings
    }

    fn is_measured(&self, intended: Moment) -> bool {
        self.from <= intended && intended < self.to
    }
}

impl CertainErrors {
    /// Counts an error; `was_there` is true if the generator was not away meanwhile.
    fn add(&mut self, outcome: Outcome, was_there: bool) {
        use crate::wire::FaultKind::Exhausted;
        match outcome {
            Outcome::Ok | Outcome::Broken(Exhausted) => {}
            // A timeout, or a closed connection, may be the result of an absence.
            Outcome::TimedOut | Outcome::Broken(_) if !was_there => {}
            Outcome::Refused => self.refused += 1,
            _ => self.others += 1,
        }
    }
}

impl PhaseDistributions {
    fn record(&mut self, sample: &Sample) {
        let phases = &sample.phases;
        if sample.handshake.is_some() {
            self.dial.record(phases.dial_ns);
            self.tls.record(phases.tls_ns());
            self.hello.record(phases.hello_ns);
            self.finish.record(phases.finish_ns);
        }
        self.send.record(phases.send_ns);
        self.first_byte.record(phases.first_byte_ns);
        self.receive.record(phases.receive_ns);
    }
}
