//! A test that the generator's hot path allocates nothing per request once its buffers have grown.

use std::time::Duration;

use certctl_bench::clock::Moment;
use certctl_bench::load::arrival::PlannedRequest;
use certctl_bench::load::profile::RateProfile;
use certctl_bench::load::rate::Rate;
use certctl_bench::load::schedule::{ArrivalSpread, Pattern, Schedule};
use certctl_bench::measure::allocations::{self, Counting};
use certctl_bench::measure::{Outcome, Recorder, Sample};
use certctl_bench::scenario::Scenario;
use certctl_bench::scenario::agent_storm::{AgentStorm, Fleet};
use certctl_bench::wire::Phases;
use certctl_bench::wire::http1::Parser;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n\
    {\"status\":\"heartbeat_recorded\"}\n";

/// Draws an arrival, encodes its request, parses and judges its response, and records the sample.
fn request(
    storm: &AgentStorm,
    parser: &mut Parser,
    recorder: &mut Recorder,
    bytes: &mut Vec<u8>,
    (at_ns, planned): (u64, PlannedRequest),
) {
    let method = storm.encode(planned, bytes);
    parser.start(method);
    parser.feed(RESPONSE).unwrap();
    let start = Moment::from_ns(at_ns + 1);
    let outcome = storm.judge(planned, start, &parser.response().unwrap());
    assert_eq!(outcome, Outcome::Ok);
    let phases = Phases { first_byte_ns: 1_000_000, ..Phases::default() };
    let end = start + Duration::from_millis(1);
    let intended = Moment::from_ns(at_ns);
    recorder.scheduled(planned.step, intended);
    recorder.record(&Sample {
        step: planned.step,
        connection: planned.client as usize,
        intended,
        handed: intended,
        waited: false,
        actual: start,
        end,
        own_ns: 50_000,
        phases,
        outcome,
        handshake: None,
        unconnected: false,
        answer_bytes: 0,
    });
}

#[test]
fn a_request_allocates_nothing() {
    let window = Duration::from_secs(60);
    let curve = "ramp:500/s-1500/s".parse::<RateProfile>().unwrap().over(window).unwrap();
    assert_nothing_allocated(&Pattern::Poisson(Rate::per_second(1_000)));
    assert_nothing_allocated(&Pattern::Varying(ArrivalSpread::Poisson, curve));
}

fn assert_nothing_allocated(pattern: &Pattern) {
    let storm = AgentStorm::new(Fleet::Contract, 5_000, "localhost:8443", "token");
    let mut parser = Parser::default();
    let mut recorder = Recorder::new(Duration::from_secs(60), Duration::from_millis(10), &["heartbeat"])
        .with_connections(5_000)
        .with_warm_up(Duration::from_secs(2))
        .with_segments(pattern.curve().map_or(&[], |curve| curve.segments()));
    // Half of the count is warm-up.
    recorder.begin(Moment::from_ns(1 + 5_000_000_000));
    let mut bytes = Vec::new();
    let mut schedule = Schedule::new(pattern, 5_000, 1, Duration::from_secs(60), 1);
    let mut due = Moment::from_ns(20_000_001);
    let mut run_requests = |count: usize| {
        for arrival in schedule.by_ref().take(count) {
            request(&storm, &mut parser, &mut recorder, &mut bytes, arrival);
            // The generator's timer ticks meanwhile, and now and then late.
            let now = Moment::from_ns(arrival.0);
            if now.ns_since(due) > 15_000_000 {
                due = recorder.tick(due, now);
                recorder.unsent(None, now, now);
            }
        }
    };
    run_requests(10);
    let before = allocations::of_this_thread();
    run_requests(10_000);
    assert_eq!(allocations::of_this_thread() - before, 0);
    // An allocation would be seen.
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations::of_this_thread() - before, 1);
}
