//! `cargo bench --bench generator`: the cost of the generator itself, part by part.

use std::hint::black_box;
use std::time::{Duration, Instant};

use certctl_bench::clock::{Moment, thread_cpu_ns};
use certctl_bench::load::arrival::{Arrival, PlannedRequest};
use certctl_bench::load::dispatcher::{Affinity, Dispatcher};
use certctl_bench::load::rate::Rate;
use certctl_bench::load::schedule::{FleetSchedule, Pattern, Schedule, Stream};
use certctl_bench::load::shard::Share;
use certctl_bench::measure::{Outcome, Recorder, Sample};
use certctl_bench::scenario::Scenario;
use certctl_bench::scenario::agent_storm::{AgentStorm, Fleet, HEARTBEAT, POLL};
use certctl_bench::scenario::nonces::Nonces;
use certctl_bench::wire::Phases;
use certctl_bench::wire::http1::Parser;
use certctl_bench::wire::request::Method;
use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

const AGENTS: u64 = 5_000;

fn planned(seq: u64) -> PlannedRequest {
    PlannedRequest { seq, client: seq, step: HEARTBEAT }
}

/// The answer of certctl to a heartbeat, with the fields that it sends.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Security-Policy: default-src 'self'; img-src 'self' data:\r\n\
    Content-Type: application/json\r\nPermissions-Policy: accelerometer=(), camera=(), geolocation=()\r\n\
    Referrer-Policy: no-referrer-when-downgrade\r\nStrict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
    X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
    X-Request-Id: 6f1ac3a5-5f3a-4f53-8a5a-5f1f2cf1b6a5\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
    Content-Length: 32\r\n\r\n{\"status\":\"heartbeat_recorded\"}\n";

fn request(criterion: &mut Criterion) {
    let storm = AgentStorm::new(Fleet::Contract, AGENTS, "localhost:8443", "load-test-token");
    let (mut bytes, mut seq) = (Vec::with_capacity(1024), 0);
    criterion.bench_function("generator/encode_request", |bencher| {
        bencher.iter(|| {
            seq += 1;
            storm.encode(black_box(planned(seq)), &mut bytes)
        });
    });
}

fn response(criterion: &mut Criterion) {
    let storm = AgentStorm::new(Fleet::Contract, AGENTS, "localhost:8443", "load-test-token");
    let mut parser = Parser::default();
    let mut group = criterion.benchmark_group("generator");
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("parse_response", |bencher| {
        bencher.iter(|| {
            parser.start(Method::Post);
            parser.feed(black_box(RESPONSE))
        });
    });
    group.bench_function("parse_and_judge_response", |bencher| {
        bencher.iter(|| {
            parser.start(Method::Post);
            parser.feed(black_box(RESPONSE)).expect("a valid response");
            storm.judge(planned(7), Moment::from_ns(1), &parser.response().expect("a complete response"))
        });
    });
    group.finish();
}

fn record(criterion: &mut Criterion) {
    let mut recorder = Recorder::new(Duration::from_secs(300), Duration::from_millis(10), &["heartbeat"]);
    recorder.begin(Moment::from_ns(0));
    let mut ns = 0;
    criterion.bench_function("generator/record_sample", |bencher| {
        bencher.iter(|| {
            ns = (ns + 5_987_654) % 300_000_000_000;
            let phases = Phases {
                send_ns: 40_000,
                first_byte_ns: 2_000_000 + ns % 1_000,
                receive_ns: 5_000,
                ..Phases::default()
            };
            let (intended, actual) = (Moment::from_ns(ns), Moment::from_ns(ns + 60_000));
            let end = Moment::from_ns(actual.as_ns() + phases.total_ns());
            recorder.record(black_box(&Sample {
                step: HEARTBEAT,
                connection: 0,
                intended,
                handed: intended,
                waited: false,
                actual,
                end,
                own_ns: 45_000,
                phases,
                outcome: Outcome::Ok,
                handshake: None,
                unconnected: false,
                answer_bytes: 0,
            }));
        });
    });
}

fn arrivals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("generator");
    let rate = Rate::per_second(167);
    let stream = |step, seconds| Stream { step, period: Duration::from_secs(seconds) };
    let fleet = FleetSchedule { streams: vec![stream(HEARTBEAT, 60), stream(POLL, 30)], jitter: 0.1, restart: None };
    for pattern in [Pattern::Constant(rate), Pattern::Poisson(rate), Pattern::Fleet(fleet)] {
        let fresh = || Schedule::new(&pattern, AGENTS, 2, Duration::from_secs(86_400), 1);
        let mut schedule = fresh();
        group.bench_function(format!("draw_arrival/{pattern}"), |bencher| {
            bencher.iter(|| {
                let next = schedule.next();
                if next.is_none() {
                    schedule = fresh();
                }
                next
            });
        });
    }
    group.bench_function("hand_in_arrival", |bencher| {
        let dispatcher = || {
            Dispatcher::new(Share::whole(AGENTS as usize), Affinity::Own, Duration::from_secs(10), Box::new(|_, _| {}))
        };
        bencher.iter_batched_ref(
            dispatcher,
            |dispatcher| {
                for seq in 0..AGENTS {
                    dispatcher.put(black_box(Arrival {
                        planned: planned(seq),
                        intended: Moment::from_ns(seq),
                        handed: Moment::from_ns(seq),
                        waited: false,
                    }));
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Nonces of the first five minutes of a run, as long as certctl's.
fn nonce(number: u64) -> ([u8; 32], Moment) {
    let mut nonce = [b'n'; 32];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    (nonce, Moment::from_ns(number * 30_000))
}

/// The insertions of which only the longest is kept.
const SEGMENT: u64 = 10_000;
const SEGMENTS: u64 = 1_000;

/// Times ten million insertions of nonces, in CPU time: what else runs on the machine is no pause of this thread's
/// making. Interrupts are in it all the same, and so is the host's steal. They hit other insertions in each round,
/// while the set pauses in each round at the same fill: so `longest_ns` has the longest insertion of each segment in
/// the round in which that was shortest. Returns the longest of these.
fn longest_insertion(longest_ns: &mut [u64]) -> Duration {
    let mut nonces = Nonces::new(Duration::from_secs(240));
    nonces.keep_names();
    for (segment, least_ns) in longest_ns.iter_mut().enumerate() {
        let (mut most_ns, mut last_ns) = (0, thread_cpu_ns());
        for number in 0..SEGMENT {
            let (nonce, requested) = nonce(segment as u64 * SEGMENT + number);
            assert!(nonces.insert(&nonce, requested));
            let now_ns = thread_cpu_ns();
            most_ns = most_ns.max(now_ns - last_ns);
            last_ns = now_ns;
        }
        *least_ns = most_ns.min(*least_ns);
    }
    Duration::from_nanos(longest_ns.iter().copied().max().unwrap_or_default())
}

fn nonces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("generator");
    let (mut nonces, mut number) = (Nonces::new(Duration::from_secs(240)), 0);
    nonces.keep_names();
    group.bench_function("record_nonce", |bencher| {
        bencher.iter(|| {
            number += 1;
            let (nonce, requested) = nonce(number);
            nonces.insert(black_box(&nonce), requested)
        });
    });
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
    let mut longest_ns = vec![u64::MAX; SEGMENTS as usize];
    let mut longest = None;
    group.bench_function("10_million_nonces", |bencher| {
        bencher.iter_custom(|rounds| {
            let start = Instant::now();
            (0..rounds).for_each(|_| longest = Some(longest_insertion(&mut longest_ns)));
            start.elapsed()
        });
    });
    if let Some(longest) = longest {
        println!("longest insertion of a nonce: {longest:?}\n");
    }
    group.finish();
}

criterion_group!(generator, request, response, record, arrivals, nonces);
criterion_main!(generator);
