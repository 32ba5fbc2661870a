//! Whether a run measured what it says it measured. An invalid one is worth nothing, whatever its latencies.

use std::fmt;
use std::time::Duration;

use super::outcome::Outcome;
use super::recorder::Measurement;
use super::threshold::Checked;
use crate::wire::FaultKind;

/// A generator's thread that was on a CPU for more than this share of the window had no room left.
pub const MAX_BUSY_SHARE: f64 = 0.9;
/// More than this share of arrivals beyond the lag bound makes a run invalid: the bound is one on p99.
const MAX_LATE_SHARE: f64 = 0.01;

/// More than this share of handshakes of the other kind makes a run invalid. A server may decline to resume now and
/// then, as when it changes its ticket keys.
const MAX_UNDECLARED_SHARE: f64 = 0.01;

/// An effect in the domain, claimed by answers and counted where it must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// What is counted.
    pub name: &'static str,
    /// How many the answers claimed.
    pub claimed: u64,
    /// How many were found.
    pub found: u64,
    /// Where they were looked for.
    pub source: &'static str,
}

impl Work {
    /// Work that answers claim and `source` shows. A request without a complete answer may have been carried out all
    /// the same: up to `unanswered` more than claimed is no surplus.
    pub fn counted(name: &'static str, claimed: u64, found: u64, unanswered: u64, source: &'static str) -> Self {
        let found = if found > claimed { claimed.max(found.saturating_sub(unanswered)) } else { found };
        Self { name, claimed, found, source }
    }
}

/// A reason why a run is invalid.
#[derive(Clone, Debug, PartialEq)]
pub enum Invalid {
    /// The run was stopped before its end.
    Partial,
    /// No arrival got the right answer.
    NothingMeasured,
    /// A workload was not run; the text says why.
    NotRun {
        /// Which one.
        workload: &'static str,
        /// Why not.
        why: String,
    },
    /// Where no threshold judges errors: not everything got the right answer.
    Broken {
        /// How many did not.
        wrong: u64,
        /// Of how many.
        scheduled: u64,
    },
    /// Arrivals were never sent.
    Unsent {
        /// How many.
        unsent: u64,
        /// Of how many.
        scheduled: u64,
    },
    /// Too many arrivals started too late.
    Lag {
        /// How many were late.
        late: u64,
        /// How many of them had to wait for a connection.
        for_connection: u64,
        /// Of how many.
        timed: u64,
        /// What was late, and by more than what.
        punctuality: Punctuality,
    },
    /// The generator ran out of ports or file descriptors, or of room for answers.
    Exhausted {
        /// How many requests were given up for that.
        connections: u64,
    },
    /// Handshakes were full and meant to be resumed, or the other way round.
    Handshakes {
        /// How many.
        undeclared: u64,
        /// Of how many.
        of: u64,
    },
    /// The generator's thread had no CPU time left.
    Saturated {
        /// The share of the window in which it ran, 0 to 1.
        busy_share: f64,
    },
    /// A threshold cannot be judged: it has too few samples.
    TooFewSamples(Checked),
    /// What the run was to see did not come about.
    Never(&'static str),
    /// Answers broke a rule that allows no exception.
    Rule {
        /// What they did.
        what: &'static str,
        /// How many.
        count: u64,
        /// Of how many.
        of: u64,
    },
    /// The work found is not the work claimed.
    Work(Work),
    /// The work could not be counted; the text says why.
    WorkUncounted(String),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partial => f.write_str("the run was stopped before its end"),
            Self::NothingMeasured => f.write_str("not one arrival got the right answer: nothing was measured"),
            Self::NotRun { workload, why } => write!(f, "{workload} was not run: {why}"),
            Self::Broken { wrong, scheduled } => {
                write!(f, "{wrong} of {scheduled} arrivals did not get the right answer: something does not work")
            }
            Self::Unsent { unsent, scheduled } => write!(
                f,
                "{unsent} of {scheduled} arrivals were never sent: no connection was free within the timeout (the target is \
                 overloaded, or --connections too low)"
            ),
            Self::Lag { late, for_connection, timed, punctuality } => {
                let why = if for_connection * 2 > *late {
                    "most waited for a connection (the target is overloaded, or --connections too low)"
                } else {
                    "the generator was the bottleneck (give it a less busy machine)"
                };
                let what = match punctuality.of {
                    Timed::Arrivals | Timed::BusyClients => "arrivals started",
                    Timed::Ticks => "ticks of the generator's timer came",
                };
                let bound_ms = punctuality.bound.as_secs_f64() * 1e3;
                write!(f, "{late} of {timed} {what} more than {bound_ms} ms late: {why}")
            }
            Self::Exhausted { connections } => write!(
                f,
                "{connections} requests were given up for want of ports, file descriptors or room for answers here: lower the rate, \
                 or see net.ipv4.ip_local_port_range and ulimit -n"
            ),
            Self::Handshakes { undeclared, of } => write!(
                f,
                "{undeclared} of {of} handshakes were full and meant to be resumed, or the other way round (see what the \
                 peer says of session tickets, or choose another --resumption)"
            ),
            Self::Saturated { busy_share } => {
                write!(
                    f,
                    "the generator's thread was on a CPU for {:.0}% of the window: it was the bottleneck",
                    busy_share * 100.0
                )
            }
            Self::TooFewSamples(checked) => {
                let (needed, had) = (checked.threshold.samples_needed(), checked.had);
                write!(f, "{checked} needs {needed} right answers, this run has {had} (lengthen --duration)")
            }
            Self::Never(what) => write!(f, "{what}: never (lengthen --duration, or see what failed)"),
            Self::Rule { what, count, of } => write!(f, "{count} of {of} {what}: not one may be"),
            Self::WorkUncounted(why) => write!(f, "the work done could not be counted: {why}"),
            Self::Work(work) => {
                write!(f, "{}: answers claim {}, {} shows {}", work.name, work.claimed, work.source, work.found)
            }
        }
    }
}

/// How late arrivals may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Punctuality {
    /// What is later than this is late.
    pub bound: Duration,
    /// What may be late.
    pub of: Timed,
}

/// What may be late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Arrivals.
    Arrivals,
    /// Arrivals of clients that ask one thing after another: to wait for an answer before the next request is what
    /// they do.
    BusyClients,
    /// Ticks of the generator's timer, since users have no schedule.
    Ticks,
}

/// Every reason why a workload is invalid; none if it is valid.
pub fn judge(measurement: &Measurement, work: &[Work], punctuality: Punctuality) -> Vec<Invalid> {
    let mut reasons = Vec::new();
    if measurement.partial {
        reasons.push(Invalid::Partial);
    }
    if measurement.response.count() == 0 {
        reasons.push(Invalid::NothingMeasured);
    }
    let (unsent, scheduled) = (measurement.unsent(), measurement.scheduled);
    if unsent > 0 {
        reasons.push(Invalid::Unsent { unsent, scheduled });
    }
    let for_connection = if punctuality.of == Timed::BusyClients { 0 } else { measurement.late_for_connection };
    let late = measurement.late - measurement.late_for_connection + for_connection;
    let timed = measurement.lag.count();
    if late as f64 > timed as f64 * MAX_LATE_SHARE {
        reasons.push(Invalid::Lag { late, for_connection, timed, punctuality });
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
        reasons.push(Invalid::Saturated { busy_share });
    }
    reasons.extend(work.iter().filter(|work| work.claimed != work.found).cloned().map(Invalid::Work));
    reasons
}

/// The thresholds that cannot be judged.
pub fn unjudged(checked: &[Checked]) -> impl Iterator<Item = Invalid> {
    checked.iter().filter(|checked| checked.measured.is_none()).copied().map(Invalid::TooFewSamples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Quantile;
    use crate::measure::threshold::Threshold;

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
        let mut reasons = judge(measurement, work, ARRIVALS);
        reasons.extend(unjudged(&thresholds.map(|threshold| threshold.check(measurement))));
        reasons
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
    fn every_defect_is_named() {
        let partial = Measurement { partial: true, ..good() };
        assert_eq!(judged(&partial, &[]), [Invalid::Partial]);

        let unsent = Measurement { scheduled: 2_001, ..good() };
        assert_eq!(judged(&unsent, &[]), [Invalid::Unsent { unsent: 1, scheduled: 2_001 }]);

        assert_eq!(judged(&Measurement { late: 20, ..good() }, &[]), []);
        let late = Measurement { late: 21, ..good() };
        assert_eq!(
            judged(&late, &[]),
            [Invalid::Lag { late: 21, for_connection: 0, timed: 2_000, punctuality: ARRIVALS }]
        );

        assert_eq!(judged(&good(), &[work(4)]), [Invalid::Work(work(4))]);
    }

    #[test]
    fn clients_that_ask_one_thing_after_another_may_wait_for_themselves() {
        let busy = Punctuality { bound: BOUND, of: Timed::BusyClients };
        let waiting = Measurement { late: 500, late_for_connection: 480, ..good() };
        assert_eq!(judge(&waiting, &[], busy), []);
        let lag = Invalid::Lag { late: 500, for_connection: 480, timed: 2_000, punctuality: ARRIVALS };
        assert_eq!(judge(&waiting, &[], ARRIVALS), [lag]);
        // The generator's own lateness counts in either case.
        let late = Measurement { late: 500, late_for_connection: 479, ..good() };
        assert_eq!(judge(&late, &[], busy).len(), 1);
    }

    #[test]
    fn a_run_that_measured_nothing_is_invalid_and_so_is_a_threshold_without_samples() {
        let reasons = judged(&Measurement { scheduled: 10, started: 10, ..Measurement::default() }, &[]);
        assert!(reasons.contains(&Invalid::NothingMeasured), "{reasons:?}");
        assert!(
            reasons.iter().any(|reason| matches!(reason, Invalid::TooFewSamples(Checked { had: 0, .. }))),
            "{reasons:?}"
        );
    }
}
