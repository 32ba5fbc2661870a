//! The validity of a run: whether it measured what it states. An invalid one is worth nothing, whatever its latencies.

use std::fmt;
use std::time::Duration;

use super::attribution::Delays;
use super::machine_use::{Stopped, Taken};
use super::outcome::Outcome;
use super::recorder::Measurement;
use super::threshold::Checked;
use super::timeline::Second;
use crate::wire::FaultKind;

/// The share of the window above which a generator's thread that was on a CPU had no room left.
pub const MAX_BUSY_SHARE: f64 = 0.9;
/// The share of arrivals beyond the lag bound above which a run is invalid: the bound is one on p99.
const MAX_LATE_SHARE: f64 = 0.01;

/// The share of handshakes of the other kind above which a run is invalid. A server may decline to resume now and then,
/// as when it changes its ticket keys.
const MAX_UNDECLARED_SHARE: f64 = 0.01;

/// A side effect that answers claim, counted where it must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The name of the side effect.
    pub name: &'static str,
    /// The number that the answers claimed.
    pub claimed: u64,
    /// The number that was found.
    pub found: u64,
    /// The source of the number found.
    pub source: &'static str,
}

impl Work {
    /// Makes the record of a side effect that answers claim and `source` shows. A request without a complete answer may
    /// have had its side effect all the same: up to `unanswered` more than claimed is no surplus.
    pub fn counted(name: &'static str, claimed: u64, found: u64, unanswered: u64, source: &'static str) -> Self {
        let found = if found > claimed { claimed.max(found.saturating_sub(unanswered)) } else { found };
        Self { name, claimed, found, source }
    }
}

/// A reason for which a run is invalid.
#[derive(Clone, Debug, PartialEq)]
pub enum Invalid {
    /// The run was stopped before its end.
    Partial,
    /// No arrival got the right answer.
    NothingMeasured,
    /// A workload was not run; the text states the reason.
    NotRun {
        /// The name of the workload.
        workload: &'static str,
        /// The reason.
        why: String,
    },
    /// Not every arrival got the right answer, and no threshold judges errors.
    Broken {
        /// The number that did not.
        wrong: u64,
        /// The number of arrivals scheduled.
        scheduled: u64,
    },
    /// Arrivals were never sent, for a reason on the generator's side.
    Unsent {
        /// The number of them.
        unsent: u64,
        /// The number of them that waited for a connection; more connections would have avoided the wait.
        for_connection: u64,
        /// The number of arrivals scheduled.
        scheduled: u64,
        /// The absences of the generator.
        away: Away,
    },
    /// Too many arrivals started too late, for a reason on the generator's side.
    Lag {
        /// The number of late ones.
        late: u64,
        /// The number of them that waited for a connection; more connections would have avoided the wait.
        for_connection: u64,
        /// The number of all arrivals or ticks.
        timed: u64,
        /// The length of the first part of the window, if the reason is about that alone.
        within: Option<Duration>,
        /// The bound on lateness, and the events that it is about.
        punctuality: Punctuality,
        /// The absences of the generator.
        away: Away,
    },
    /// The generator ran out of ports or file descriptors, or of room for answers.
    Exhausted {
        /// The number of requests that were given up for that.
        connections: u64,
    },
    /// Handshakes were full and meant to be resumed, or the other way round.
    Handshakes {
        /// The number of them.
        undeclared: u64,
        /// The number of all handshakes.
        of: u64,
    },
    /// The generator's thread had no CPU time left.
    Saturated {
        /// The share of the window in which it ran, 0 to 1.
        busy_share: f64,
        /// The number of its threads, of which this is the busiest.
        threads: usize,
    },
    /// Other processes, or the host, took the CPU that the run needed.
    Starved(Taken),
    /// A CPU quota stopped the run.
    Throttled(Stopped),
    /// The server that was started for the run ended before its load did; the text has its last words.
    Ended(String),
    /// A threshold cannot be judged: it has too few samples.
    TooFewSamples {
        /// The threshold, with the measured value.
        checked: Checked,
        /// The flag that gives more samples, as a hint.
        hint: &'static str,
    },
    /// The event that the run was to observe did not occur.
    Never {
        /// The name of the observation.
        what: &'static str,
        /// The flag that gives it more time, as a hint.
        hint: &'static str,
    },
    /// The number of a side effect found is not the number claimed.
    Work(Work),
    /// The side effects could not be counted; the text states the reason.
    WorkUncounted(String),
    /// One of the shards of the run did not do what it had to.
    Shard {
        /// Its index, from 0.
        index: u64,
        /// The number of shards.
        count: u64,
        /// Its fault.
        fault: ShardFault,
    },
    /// A shard's part cannot be added to the others; the text names it and the reason.
    Parts(String),
}

/// The fault of a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum ShardFault {
    /// It ended before its load did; the text states how.
    Ended(String),
    /// It was not ready until so long after the common start, and sent nothing.
    Late(Duration),
    /// Its own part is invalid, for a reason of its generator or its machine.
    Own(String),
}

impl Invalid {
    /// Returns true if the run measured something other than it states, so that not even a breach by the system can be
    /// derived from it. In all other cases a clear breach outranks the reason.
    pub fn voids_breaches(&self) -> bool {
        match self {
            Self::Handshakes { .. } | Self::Parts(_) => true,
            // The load was less than planned.
            Self::Shard { fault, .. } => !matches!(fault, ShardFault::Own(_)),
            _ => false,
        }
    }

    /// Returns true if the reason lies with the generator or its machine, so that another run hides nothing that the
    /// system did. Lateness and arrivals that were never sent are charged to this side only as far as they would have
    /// been there at a system that never stalls (`attribution.rs`); too few connections are another matter, since a
    /// slower system needs more.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Saturated { .. } | Self::Starved(_) | Self::Throttled(_) => true,
            Self::Shard { fault, .. } => matches!(fault, ShardFault::Own(_) | ShardFault::Late(_)),
            Self::Lag { late, for_connection, .. } => for_connection * 2 <= *late,
            Self::Unsent { unsent, for_connection, .. } => for_connection * 2 <= *unsent,
            _ => false,
        }
    }

    /// Returns true if arrivals waited on the generator's side, for it or for a connection: those in flight are then
    /// not all at the system.
    pub fn delays_arrivals(&self) -> bool {
        matches!(self, Self::Lag { .. } | Self::Unsent { .. } | Self::Shard { .. })
    }

    /// Returns true if every sample may be slow through no fault of the system: the generator was the bottleneck, or
    /// others kept the system from working. The speed and timeliness of its answers then say nothing about it; their
    /// content does.
    pub fn slows_all(&self) -> bool {
        matches!(self, Self::Saturated { .. } | Self::Starved(_) | Self::Throttled(_) | Self::Shard { .. })
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partial => f.write_str("the run was stopped before its end"),
            Self::NothingMeasured => f.write_str("no arrival got the right answer: nothing was measured"),
            Self::NotRun { workload, why } => write!(f, "{workload} was not run: {why}"),
            Self::Broken { wrong, scheduled } => {
                write!(f, "{wrong} of {scheduled} arrivals did not get the right answer: something does not work")
            }
            Self::Unsent { unsent, for_connection, scheduled, away } => {
                let why = Why { away, for_connection: *for_connection, of: *unsent };
                write!(f, "{unsent} of {scheduled} arrivals were never sent within the timeout: {why}")
            }
            Self::Lag { late, for_connection, timed, within, punctuality, away } => {
                let what = match punctuality.of {
                    Timed::Arrivals | Timed::BusyClients => "arrivals started",
                    Timed::Ticks => "ticks of the generator's timer came",
                };
                let bound_ms = punctuality.bound.as_secs_f64() * 1e3;
                write!(f, "{late} of {timed} {what} more than {bound_ms} ms late")?;
                if let Some(within) = within {
                    write!(f, " in the first {} s, on which a figure depends", within.as_secs())?;
                }
                write!(f, ": {}", Why { away, for_connection: *for_connection, of: *late })
            }
            Self::Exhausted { connections } => write!(
                f,
                "{connections} requests were given up because the generator had no port, file descriptor or room for \
                 answers left: lower the rate, or raise net.ipv4.ip_local_port_range and ulimit -n"
            ),
            Self::Handshakes { undeclared, of } => write!(
                f,
                "{undeclared} of {of} handshakes were full instead of resumed, or resumed instead of full (check how \
                 the peer issues session tickets, or choose another --resumption)"
            ),
            Self::Saturated { busy_share, threads } => {
                let percent = busy_share * 100.0;
                match threads {
                    0 | 1 => write!(f, "the generator's thread was on a CPU for {percent:.0}% of the window")?,
                    _ => write!(
                        f,
                        "one of the generator's {threads} threads was on a CPU for {percent:.0}% of the window"
                    )?,
                }
                f.write_str(": it was the bottleneck")
            }
            Self::Starved(taken) => taken.fmt(f),
            Self::Throttled(stopped) => stopped.fmt(f),
            Self::Ended(why) => f.write_str(why),
            Self::TooFewSamples { checked, hint } => {
                let (needed, had) = (checked.threshold.samples_needed(), checked.had);
                write!(f, "{checked} needs {needed} right answers, this run has {had} ({hint})")
            }
            Self::Never { what, hint } => write!(f, "{what}: not observed ({hint}, or check what failed)"),
            Self::WorkUncounted(why) => write!(f, "the work done could not be counted: {why}"),
            Self::Shard { index, count, fault } => write!(f, "shard {index} of {count} (counted from 0): {fault}"),
            Self::Parts(why) => write!(f, "a part cannot be merged: {why}"),
            Self::Work(work) => {
                write!(f, "{}: answers claim {}, {} shows {}", work.name, work.claimed, work.source, work.found)
            }
        }
    }
}

impl fmt::Display for ShardFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(how) | Self::Own(how) => f.write_str(how),
            Self::Late(by) => {
                write!(f, "it was ready {:.3} s after the common start, and sent nothing", by.as_secs_f64())
            }
        }
    }
}

/// The absences of the generator within the window: stopped, starved of a CPU, or busy with answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Away {
    /// Their total.
    pub total: Duration,
    /// The longest one.
    pub longest: Duration,
}

impl Away {
    fn of(measurement: &Measurement) -> Self {
        Self { total: measurement.timer.total, longest: measurement.timer.longest }
    }
}

/// The reason for which arrivals were late or unsent.
struct Why<'a> {
    away: &'a Away,
    for_connection: u64,
    of: u64,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.for_connection * 2 > self.of {
            return f.write_str(
                "most waited for a connection, and would have waited even if every answer had taken no longer than \
                 usual (raise --connections)",
            );
        }
        f.write_str("the generator was the bottleneck")?;
        if self.away.total > Duration::ZERO {
            let (total, longest) = (self.away.total.as_secs_f64(), self.away.longest.as_secs_f64());
            write!(f, ": it did not run for {total:.3} s in all, {longest:.3} s at once, stopped or starved of a CPU")?;
        }
        f.write_str(" (use a less busy machine)")
    }
}

/// The bound on lateness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Punctuality {
    /// The lag above which an event is late.
    pub bound: Duration,
    /// The events that may be late.
    pub of: Timed,
}

/// The events that may be late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Arrivals.
    Arrivals,
    /// Arrivals of clients that send one request after another: to wait for an answer before the next request is their
    /// normal behaviour.
    BusyClients,
    /// Ticks of the generator's timer, since users have no schedule.
    Ticks,
}

/// Returns every reason for which a workload is invalid; none if it is valid. If its figure comes from the first part
/// of the window, `decisive_span` long, the generator must have been in time within that too, and not only on the average of
/// the whole.
pub fn judge(
    measurement: &Measurement,
    work: &[Work],
    punctuality: Punctuality,
    decisive_span: Option<Duration>,
) -> Vec<Invalid> {
    let mut reasons = Vec::new();
    if measurement.partial {
        reasons.push(Invalid::Partial);
    }
    if measurement.response.count() == 0 {
        reasons.push(Invalid::NothingMeasured);
    }
    let (ours, away) = (measurement.ours(), Away::of(measurement));
    // A client that sends one request after another waits for itself, however many connections there are.
    let pool = if punctuality.of == Timed::BusyClients { Delays::default() } else { ours.pool };
    let (unsent, for_connection) = (ours.generator.unsent + pool.unsent, pool.unsent);
    if unsent > 0 {
        reasons.push(Invalid::Unsent { unsent, for_connection, scheduled: measurement.scheduled, away });
    }
    let lag = |late: u64, for_connection, timed: u64, within, of| {
        let punctuality = Punctuality { of, ..punctuality };
        let too_many = late as f64 > timed as f64 * MAX_LATE_SHARE;
        too_many.then_some(Invalid::Lag { late, for_connection, timed, within, punctuality, away })
    };
    if punctuality.of != Timed::Ticks {
        let late = ours.generator.late + pool.late;
        reasons.extend(lag(late, pool.late, measurement.lag.count(), None, punctuality.of));
    }
    let timer = &measurement.timer;
    // Each thread's timer: the others must not hide one that did not run.
    let ticks = timer.worst();
    reasons.extend(lag(ticks.late, 0, ticks.of, None, Timed::Ticks));
    if let Some(within) = decisive_span {
        let seconds = measurement.timeline.seconds();
        let seconds = &seconds[..seconds.len().min(within.as_secs_f64().ceil() as usize)];
        let sum = |count: fn(&Second) -> u64| seconds.iter().map(count).sum::<u64>();
        let within = Some(Duration::from_secs(seconds.len() as u64));
        let (late, started) = (sum(|second| second.late_by_generator), sum(|second| second.started));
        reasons.extend(lag(late, 0, started, within, punctuality.of));
        reasons.extend(lag(sum(|second| second.late_ticks), 0, sum(|second| second.ticks), within, Timed::Ticks));
    }
    let exhausted = measurement.outcomes.count(Outcome::Broken(FaultKind::Exhausted));
    if exhausted > 0 {
        reasons.push(Invalid::Exhausted { connections: exhausted });
    }
    let undeclared = measurement.opening.undeclared + measurement.reopening.undeclared;
    let of = measurement.opening.kinds.total() + measurement.reopening.kinds.total();
    if undeclared as f64 > of as f64 * MAX_UNDECLARED_SHARE {
        reasons.push(Invalid::Handshakes { undeclared, of });
    }
    let busy_share = measurement.generator.busy_share();
    if busy_share > MAX_BUSY_SHARE {
        reasons.push(Invalid::Saturated { busy_share, threads: measurement.generator.threads() });
    }
    reasons.extend(work.iter().filter(|work| work.claimed != work.found).cloned().map(Invalid::Work));
    reasons
}

/// Returns the thresholds that cannot be judged: too few samples for the quantile, and no clear breach. `hint` is the
/// flag that gives more.
pub fn unjudged(checked: &[Checked], hint: &'static str) -> impl Iterator<Item = Invalid> {
    let unjudged = checked.iter().filter(|checked| checked.measured.is_none() && !checked.certain);
    unjudged.map(move |checked| Invalid::TooFewSamples { checked: *checked, hint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::measure::Quantile;
    use crate::measure::attribution::OurDelays;
    use crate::measure::threshold::Threshold;
    use crate::measure::timeline::Timeline;

    const BOUND: Duration = Duration::from_millis(5);
    const ARRIVALS: Punctuality = Punctuality { bound: BOUND, of: Timed::Arrivals };

    fn good() -> Measurement {
        let mut measurement = Measurement { scheduled: 2_000, started: 2_000, ..Measurement::default() };
        for _ in 0..2_000 {
            measurement.response.record(1_000_000);
            measurement.lag.record(50_000);
            measurement.outcomes.add(Outcome::Ok);
        }
        measurement
    }

    fn judged(measurement: &Measurement, work: &[Work]) -> Vec<Invalid> {
        let thresholds = [Threshold::Response(Quantile::P99, Duration::from_secs(1)), Threshold::Errors(0.001)];
        let mut reasons = judge(measurement, work, ARRIVALS, None);
        reasons.extend(unjudged(&thresholds.map(|threshold| threshold.check(measurement)), "lengthen --duration"));
        reasons
    }

    const NOT_AWAY: Away = Away { total: Duration::ZERO, longest: Duration::ZERO };

    fn lag(late: u64, for_connection: u64) -> Invalid {
        let (timed, within) = (2_000, None);
        Invalid::Lag { late, for_connection, timed, within, punctuality: ARRIVALS, away: NOT_AWAY }
    }

    fn work(found: u64) -> Work {
        Work { name: "agents", claimed: 5, found, source: "SQL" }
    }

    #[test]
    fn a_good_run_is_valid() {
        assert_eq!(judged(&good(), &[work(5)]), []);
    }

    #[test]
    fn unanswered_requests_explain_a_surplus_and_no_shortage() {
        let found = |found, unanswered| Work::counted("rows", 10, found, unanswered, "SQL").found;
        assert_eq!([found(10, 0), found(13, 3), found(12, 3), found(14, 3), found(9, 3)], [10, 10, 10, 11, 9]);
    }

    #[test]
    fn every_reason_for_an_invalid_run_is_named() {
        let partial = Measurement { partial: true, ..good() };
        assert_eq!(judged(&partial, &[]), [Invalid::Partial]);

        let ours = |generator: Delays, pool| Measurement {
            scheduled: 2_001,
            delays: OurDelays { generator, pool }.into(),
            ..good()
        };
        let one_unsent = Delays { unsent: 1, ..Delays::default() };
        let unsent = |for_connection| Invalid::Unsent { unsent: 1, for_connection, scheduled: 2_001, away: NOT_AWAY };
        assert_eq!(judged(&ours(one_unsent, Delays::default()), &[]), [unsent(0)]);
        assert_eq!(judged(&ours(Delays::default(), one_unsent), &[]), [unsent(1)]);

        let late = |late| Delays { late, ..Delays::default() };
        assert_eq!(judged(&ours(late(20), Delays::default()), &[]), []);
        assert_eq!(judged(&ours(late(1), late(20)), &[]), [lag(21, 20)]);

        assert_eq!(judged(&good(), &[work(4)]), [Invalid::Work(work(4))]);
    }

    #[test]
    fn sequential_clients_may_wait_for_their_own_requests() {
        let busy = Punctuality { bound: BOUND, of: Timed::BusyClients };
        let delays = |late, unsent| Delays { late, unsent, timed_out: 0 };
        let waiting =
            Measurement { delays: OurDelays { generator: delays(20, 0), pool: delays(480, 5) }.into(), ..good() };
        assert_eq!(judge(&waiting, &[], busy, None), []);
        assert_eq!(judge(&waiting, &[], ARRIVALS, None).len(), 2);
        // The generator's own lateness counts in either case.
        let late = Measurement { delays: OurDelays { generator: delays(21, 0), pool: delays(0, 0) }.into(), ..good() };
        assert_eq!(judge(&late, &[], busy, None).len(), 1);
    }

    #[test]
    fn delays_caused_by_the_system_are_a_breach_not_invalid() {
        let mut frozen = Measurement { late: 380, late_for_connection: 380, scheduled: 2_100, ..good() };
        assert_eq!(judged(&frozen, &[]), []);
        // 100 of 2,100 were never sent, since the system held every connection: they are its errors.
        let errors = Threshold::Errors(0.001).check(&frozen);
        assert_eq!((errors.beyond, errors.certain, errors.passed()), (100, true, Some(false)));
        // Arrivals that were given up because the run was ended are not its errors.
        frozen.given_up = 100;
        assert_eq!(Threshold::Errors(0.001).check(&frozen).beyond, 0);
    }

    #[test]
    fn an_absence_is_named_with_its_duration() {
        let mut stopped = good();
        let (mut due, window) = (Moment::from_ns(20_000_000), Moment::default()..Moment::from_ns(10_000_000_000));
        let bound_ns = BOUND.as_nanos() as u64;
        while due < window.end {
            let late_ns = if due.as_ns() == 4_000_000_000 { 2_000_000_000 } else { 0 };
            due = stopped.timer.woke(due, Moment::from_ns(due.as_ns() + late_ns), bound_ns, window.clone());
        }
        let [reason] = &judged(&stopped, &[])[..] else { panic!("one reason") };
        // 4,000 ms to 6,000 ms: the tick that is due at its end is in time.
        assert_eq!(
            reason.to_string(),
            "100 of 499 ticks of the generator's timer came more than 5 ms late: the generator was the bottleneck: it \
             did not run for 2.000 s in all, 2.000 s at once, stopped or starved of a CPU (use a less busy machine)"
        );
    }

    #[test]
    fn an_early_figure_is_judged_by_its_own_seconds() {
        // 20 s; in the second one, the generator was late for a tenth of the arrivals that were due.
        let mut run = Measurement { timeline: Timeline::new(Duration::from_secs(20)), ..good() };
        for arrival in 0..2_000 {
            let offset_ns = arrival * 10_000_000;
            run.timeline.record(offset_ns, Outcome::Ok, 1_000_000);
            if (100..110).contains(&arrival) {
                run.timeline.late(offset_ns, true);
            }
        }
        run.delays.generator.late = 10;
        assert_eq!(judge(&run, &[], ARRIVALS, None), []);
        let reasons = judge(&run, &[], ARRIVALS, Some(Duration::from_millis(1_500)));
        let [Invalid::Lag { late: 10, timed: 200, within, .. }] = reasons[..] else { panic!("{reasons:?}") };
        assert_eq!(within, Some(Duration::from_secs(2)));
        assert_eq!(judge(&run, &[], ARRIVALS, Some(Duration::from_secs(20))), []);
    }

    #[test]
    fn enough_samples_beyond_a_limit_are_a_certain_breach() {
        // 500 samples are too few for p99: five beyond its limit may be chance, fifteen may not.
        let run = |beyond: u64| {
            let mut run = Measurement { scheduled: 500, started: 500, ..Measurement::default() };
            for sample in 0..500 {
                let ns = if sample < beyond { 4_000_000_000 } else { 1_000_000 };
                run.response.record(ns);
                run.certain.record(ns);
                run.outcomes.add(Outcome::Ok);
            }
            Threshold::Response(Quantile::P99, Duration::from_secs(3)).check(&run)
        };
        let judged = |beyond| (run(beyond).measured, run(beyond).certain, run(beyond).passed());
        assert_eq!([judged(5), judged(13)], [(None, false, None); 2]);
        assert_eq!([judged(15), judged(500)], [(None, true, Some(false)); 2]);
    }

    #[test]
    fn only_our_own_reasons_repeat_a_run() {
        let punctuality = ARRIVALS;
        let lag = |for_connection| Invalid::Lag {
            late: 100,
            for_connection,
            timed: 1_000,
            within: None,
            punctuality,
            away: Away::default(),
        };
        let unsent =
            |for_connection| Invalid::Unsent { unsent: 9, for_connection, scheduled: 90, away: Away::default() };
        let stopped = Stopped { times: 22, stopped_s: 1.6, of_s: 30.0 };
        for reason in
            [lag(0), unsent(0), Invalid::Saturated { busy_share: 1.0, threads: 1 }, Invalid::Throttled(stopped)]
        {
            assert!(reason.is_ours(), "{reason}");
        }
        // More connections are needed, or the system failed, or nobody knows.
        let work = Work { name: "rows", claimed: 2, found: 1, source: "SQL" };
        for reason in [
            lag(100),
            unsent(9),
            Invalid::Partial,
            Invalid::NothingMeasured,
            Invalid::Broken { wrong: 1, scheduled: 9 },
            Invalid::Exhausted { connections: 1 },
            Invalid::Handshakes { undeclared: 9, of: 9 },
            Invalid::Never { what: "recovery", hint: "" },
            Invalid::Work(work),
            Invalid::WorkUncounted(String::new()),
        ] {
            assert!(!reason.is_ours(), "{reason}");
        }
    }

    #[test]
    fn a_run_without_measurements_is_invalid() {
        let reasons = judged(&Measurement { scheduled: 10, started: 10, ..Measurement::default() }, &[]);
        assert!(reasons.contains(&Invalid::NothingMeasured), "{reasons:?}");
        assert!(
            reasons
                .iter()
                .any(|reason| matches!(reason, Invalid::TooFewSamples { checked: Checked { had: 0, .. }, .. })),
            "{reasons:?}"
        );
    }
}
