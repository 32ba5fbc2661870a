//! The closed workload: each user sends a request, waits for the answer, and sends the next. It slows down with the
//! system, so that its latencies omit the requests that would have been sent meanwhile.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::watch;

use super::arrival::{Arrival, PlannedRequest};
use super::deadline::SWEEP_EVERY;
use super::plan::Model;
use super::run::Client;
use super::worker_pool::{Shared, perform};
use crate::clock::Moment;
use crate::event_loop::{sleep, yield_now};
use crate::measure::generator::GeneratorReading;

/// The users of a closed workload.
pub struct Users {
    stage: watch::Sender<UserStage>,
    next_seq: Cell<u64>,
    in_flight: Cell<u64>,
    /// The number of users that have completed all their rounds.
    finished: Cell<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum UserStage {
    Waiting,
    Running,
    Over,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            stage: watch::Sender::new(UserStage::Waiting),
            next_seq: Cell::new(0),
            in_flight: Cell::new(0),
            finished: Cell::new(0),
        }
    }
}

impl Users {
    /// Ends the users: no further request starts.
    pub fn end(&self) {
        self.stage.send_replace(UserStage::Over);
    }

    async fn reached(&self, stage: UserStage) {
        // `self` owns the sender, so the wait cannot fail while `self` exists.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    fn over(&self) -> bool {
        *self.stage.borrow() == UserStage::Over
    }
}

/// Runs one user: round after round of all steps.
pub async fn work<C: Client>(user: usize, client: &mut C, shared: &Shared, users: &Users) {
    let Model::Closed { think, rounds } = shared.plan.model else { unreachable!("only closed workloads have users") };
    let shard = shared.share.shard();
    users.reached(UserStage::Running).await;
    for _ in 0..rounds.unwrap_or(u64::MAX) {
        for step in 0..shared.plan.steps {
            let now = Moment::now();
            // The pacer, which ends the users too, may be a little behind.
            if users.over() || shared.is_over(now) {
                return;
            }
            if !shared.control.may_send() {
                return;
            }
            let seq = shard.number_of(users.next_seq.replace(users.next_seq.get() + 1));
            shared.recorder.borrow_mut().scheduled(step, now);
            users.in_flight.set(users.in_flight.get() + 1);
            let planned = PlannedRequest { seq, client: shard.number_of(user as u64), step };
            perform(user, client, Arrival { planned, intended: now, handed: now, waited: false }, now, shared).await;
            users.in_flight.set(users.in_flight.get() - 1);
            // Answers that have come are read before the next request is sent: its sending would be part of their
            // times. Neither does a system that answers at once keep the pacer from its turn. All users share the look.
            yield_now().await;
        }
        if think > Duration::ZERO {
            tokio::select! {
                () = sleep(think) => {}
                () = users.reached(UserStage::Over) => return,
            }
        }
    }
    users.finished.set(users.finished.get() + 1);
}

/// Lets the users send requests through warm-up and window, and waits for the requests in flight. Returns readings at
/// the edges of the window, which ends early once all users have completed their rounds.
pub async fn load(shared: &Shared, users: &Users, run_start: Moment) -> (GeneratorReading, GeneratorReading) {
    let plan = &shared.plan;
    let start = run_start + plan.starts_after;
    let (window_start, window_end) = (start + plan.warm_up, start + plan.warm_up + plan.window);
    shared.recorder.borrow_mut().begin(window_start);
    let mut at_start = GeneratorReading::take();
    shared.wait(start).await;
    users.stage.send_replace(UserStage::Running);
    if shared.wait(window_start).await {
        at_start = GeneratorReading::take();
        shared.measuring();
        let all_finished = || users.finished.get() == shared.share.connections();
        while Moment::now() < window_end && !all_finished() {
            if !shared.wait(window_end.min(Moment::now() + SWEEP_EVERY)).await {
                break;
            }
        }
        if all_finished() {
            shared.recorder.borrow_mut().end(Moment::now());
        }
    }
    let at_end = GeneratorReading::take();
    shared.paced();
    if plan.goes_on > Duration::ZERO {
        // Other workloads may still be measured: the load beside them must go on.
        shared.wait(window_end + plan.goes_on).await;
    }
    users.end();
    shared.end_early();
    shared.drain(|| users.in_flight.get()).await;
    while users.in_flight.get() > 0 {
        shared.deadlines.expire_all();
        yield_now().await;
    }
    (at_start, at_end)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::load::plan::{Opening, Plan};
    use crate::load::run::{Completion, Control, Job, ThreadPlace, run};
    use crate::load::runtime::runtime;
    use crate::load::shard::Shard;
    use crate::load::start_line::StartLine;
    use crate::measure::{Measurement, Outcome, Recorder};
    use crate::wire::handshake::Record;
    use crate::wire::{Fault, Phases};

    /// A user whose answers come once every user has sent a request.
    struct Chorister {
        users: usize,
        /// The time for which the thread is busy with an answer.
        busy: Duration,
        log: Rc<RefCell<Vec<&'static str>>>,
        sent: Rc<watch::Sender<usize>>,
    }

    impl Client for Chorister {
        async fn open(&mut self) -> Result<(Record, Phases), Fault> {
            unreachable!("connections are opened by the first request")
        }

        async fn perform(&mut self, arrival: Arrival, _start: Moment) -> Completion {
            self.log.borrow_mut().push("send");
            self.sent.send_modify(|sent| *sent += 1);
            let all = self.users * (arrival.planned.step + 1);
            self.sent.subscribe().wait_for(|sent| *sent >= all).await.unwrap();
            // The last user too gets its answer together with the others.
            yield_now().await;
            self.log.borrow_mut().push("read");
            let end = Moment::now() + self.busy;
            while Moment::now() < end {}
            let (phases, outcome) = (Phases::default(), Outcome::Ok);
            Completion { end, phases, outcome, handshake: None, unconnected: false, answer_bytes: 0 }
        }

        fn abandon(&mut self) -> bool {
            false
        }

        async fn close(self, _patience: Duration) {}
    }

    /// Runs one round of two steps; returns what the users did, a line for each turn of all, and the measurement.
    fn sing(users: usize, busy: Duration) -> (Vec<String>, Measurement) {
        let plan = Plan {
            model: Model::Closed { think: Duration::ZERO, rounds: Some(1) },
            steps: 2,
            starts_after: Duration::ZERO,
            warm_up: Duration::ZERO,
            window: Duration::from_secs(600),
            goes_on: Duration::ZERO,
            connections: users,
            opening: Opening::ByFirstRequest,
            timeout: Duration::from_secs(600),
            max_lag: Duration::from_millis(10),
            rng_seed: 1,
            further: 0,
            part: None,
        };
        let log = Rc::<RefCell<Vec<&str>>>::default();
        let (shared, sent) = (log.clone(), Rc::new(watch::Sender::new(0)));
        let recorder = Recorder::new(plan.window, plan.max_lag, &["one", "other"]).of_users();
        let job = Job {
            plan,
            client: Box::new(move || Chorister { users, busy, log: shared.clone(), sent: sent.clone() }),
            recorder: Rc::new(RefCell::new(recorder)),
        };
        let place = ThreadPlace { shard: Shard::WHOLE, start_line: StartLine::of(1), checks_limits: true };
        let mut measured = runtime().unwrap().block_on(run(vec![job], &place, &Control::default())).unwrap();
        let turns = log.borrow().chunks(users).map(|turn| turn.join(" ")).collect();
        (turns, measured.measurements.remove(0))
    }

    #[test]
    fn answers_are_read_before_the_next_requests_are_sent() {
        let (turns, measurement) = sing(3, Duration::ZERO);
        assert_eq!(turns, ["send send send", "read read read", "send send send", "read read read"]);
        assert_eq!((measurement.service.count(), measurement.own_part.count()), (6, 6));
        assert!(measurement.own_part.max_ns() <= measurement.service.max_ns());
    }

    #[test]
    fn a_tick_waits_its_turn_behind_a_burst_of_answers() {
        let busy = Duration::from_millis(8);
        let (_, measurement) = sing(20, busy);
        // Of 160 ms: the first tick of these is due within 20 ms, and found after four more answers at the latest.
        let lag_ns = measurement.timer.lag.max_ns().unwrap();
        assert!(lag_ns >= 130_000_000, "{lag_ns} ns");
        // The last answer of the burst has waited for all others.
        let own_ns = measurement.own_part.max_ns().unwrap();
        assert!(own_ns >= 158_000_000, "{own_ns} ns");
    }
}
