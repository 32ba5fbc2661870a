//! The open workload: arrivals follow the schedule, whatever the system does.

use std::time::Duration;

use super::arrival::Arrival;
use super::dispatcher::Dispatcher;
use super::run::Client;
use super::worker_pool::{Shared, perform};
use crate::clock::Moment;
use crate::event_loop::yield_now;
use crate::measure::generator::GeneratorReading;

/// Runs one worker: takes one arrival after another.
pub async fn work<C: Client>(worker: usize, client: &mut C, shared: &Shared, dispatcher: &Dispatcher) {
    while let Some(arrival) = dispatcher.take(worker).await {
        perform(worker, client, arrival, Moment::now(), shared).await;
        dispatcher.finish();
    }
}

/// Hands in every arrival at its intended start, through warm-up and window, and waits for the last ones to end.
/// Returns readings at the edges of the window.
pub async fn load(shared: &Shared, dispatcher: &Dispatcher, run_start: Moment) -> (GeneratorReading, GeneratorReading) {
    let readings = pace(shared, dispatcher, run_start).await;
    if shared.end_early() {
        dispatcher.abandon_waiting();
    }
    shared.drain(|| dispatcher.outstanding()).await;
    dispatcher.abandon_waiting();
    while dispatcher.outstanding() > 0 {
        shared.deadlines.expire_all();
        yield_now().await;
    }
    readings
}

async fn pace(shared: &Shared, dispatcher: &Dispatcher, run_start: Moment) -> (GeneratorReading, GeneratorReading) {
    let plan = &shared.plan;
    let start = run_start + plan.starts_after;
    let window_start = start + plan.warm_up;
    shared.recorder.borrow_mut().begin(window_start);
    let window_end = window_start + plan.window;
    let span = plan.warm_up + plan.window + plan.goes_on;
    // Stands for the beginning of the window if the run ends before it.
    let mut at_start = GeneratorReading::take();
    let (mut measuring, mut at_end) = (false, None);
    for (offset_ns, planned) in plan.schedule(shared.share) {
        let intended = start + Duration::from_nanos(offset_ns);
        if !measuring && intended >= window_start {
            measuring = true;
            shared.wait(window_start).await;
            at_start = GeneratorReading::take();
            shared.measuring();
        }
        if at_end.is_none() && intended >= window_end {
            shared.wait(window_end).await;
            at_end = Some(GeneratorReading::take());
            shared.paced();
        }
        if !shared.wait(intended).await || !shared.control.may_send() {
            break;
        }
        shared.recorder.borrow_mut().scheduled(planned.step, intended);
        dispatcher.put(Arrival { planned, intended, handed: Moment::now(), waited: false });
    }
    if at_end.is_none() {
        shared.wait(window_end).await;
        at_end = Some(GeneratorReading::take());
        shared.paced();
    }
    shared.wait(start + span).await;
    (at_start, at_end.unwrap_or_default())
}
