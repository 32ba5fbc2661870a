//! The Criterion loops: one connection, one request per iteration. They run in a process of their own, because
//! Criterion reads the command line itself, and its memory must not count as the workload's.

use std::cell::Cell;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use serde::{Deserialize, Serialize};

use super::bench::{self, Bench, ChoiceOf};
use super::criterion::CriterionFlags;
use super::hand_over::{self, HandOver};
use super::invocation::Invocation;
use super::prepare::SystemChoice as _;
use super::shield::Shield;
use super::{elsewhere, exit};
use crate::clock::Moment;
use crate::error::{Context, Error, Result};
use crate::event_loop::{EventLoop, timeout};
use crate::load::arrival::PlannedRequest;
use crate::load::plan::Model;
use crate::load::runtime::runtime;
use crate::measure::Outcome;
use crate::measure::machine::Machine;
use crate::run::BoundWorkload;
use crate::scenario::Scenario;
use crate::system::CheckedCertctl;
use crate::terminal::outln;
use crate::wire::connection::Stopwatch;
use crate::wire::peer::Peer;
use crate::wire::{Connection, Phases, Scratch};

/// The longest time for a request of the loop.
const PATIENCE: Duration = Duration::from_secs(10);
/// Holds the hand-over from the bench target to its loop process.
const VARIABLE: &str = "CERTCTL_BENCH_LOOP";

/// The facts that the loop process needs.
#[derive(Deserialize, Serialize)]
struct LoopOrder {
    certctl: HandOver,
    steps: Vec<String>,
    flags: Vec<String>,
    system: String,
    /// True if a step without results to compare with is an error.
    strict: bool,
}

/// Runs the loops of these steps of a scenario in a process of its own, with Criterion's flags. `results` is the folder
/// of all results of this suite.
///
/// # Errors
/// If the process cannot be started or fails.
pub fn run_apart(
    invocation: &Invocation,
    checked: &CheckedCertctl,
    (scenario, steps): (&str, &[&str]),
    flags: &CriterionFlags,
    results: &Path,
) -> Result<()> {
    let certctl = &checked.certctl;
    let system = elsewhere::id(&certctl.system.label(), &Machine::this());
    // Where there is nothing to compare with, Criterion would fail.
    let mut strict = true;
    let compares = flags.save_baseline.is_none() && !flags.discard_baseline && flags.load_baseline.is_none();
    let name = flags.baseline.as_deref().or(flags.baseline_lenient.as_deref());
    for step in steps.iter().filter(|_| compares) {
        if let Some(why) = elsewhere::incomparable(&elsewhere::home(results), scenario, step, &system, name) {
            outln!("{why}");
            strict = false;
        }
    }
    let hand_over = LoopOrder {
        certctl: HandOver::of(checked),
        steps: steps.iter().map(|step| (*step).to_owned()).collect(),
        flags: invocation.texts()?,
        system,
        strict,
    };
    let hand_over = serde_json::to_string(&hand_over).context(|| "encoding the input of the loop".to_owned())?;
    let status = invocation
        .again()?
        .args(flags.to_arguments())
        .env(VARIABLE, hand_over)
        .status()
        .context(|| "starting the loop".to_owned())?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("the Criterion loop ended with {status}"))) }
}

/// Runs the loops and returns their exit code, if this process was started to do that.
pub fn run_if_handed_over<B: Bench>() -> Option<ExitCode> {
    Some(match hand_over::find(VARIABLE)?.and_then(run::<B>) {
        Ok(()) => exit::done(0),
        Err(error) => exit::fail(&error),
    })
}

fn run<B: Bench>(order: LoopOrder) -> Result<()> {
    let certctl = order.certctl.take()?;
    let arguments = order.flags.into_iter().map(Into::into).collect();
    let mut flags = bench::parse::<B>(arguments).context(|| format!("reading {VARIABLE}"))?;
    flags.apply_smoke();
    let handed_over = ChoiceOf::<B>::handed_over(certctl);
    let system = handed_over.ok_or_else(|| Error::new(format!("{} has no loops", B::NAME)))?;
    let groups = bench::bind(flags.bench.groups(&flags.load)?, &system)?;

    let _shield = Shield::raise()?;
    let mut criterion = flags.criterion.configure(Criterion::default(), order.strict);
    let mut group = criterion.benchmark_group(B::NAME);
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    for name in &order.steps {
        let requests = Requests::of(name, groups.iter().flatten())?;
        // System and machine are part of the id, so that a saved baseline is never compared with another's.
        group.bench_function(BenchmarkId::new(name.as_str(), &order.system), |bencher| {
            bencher.iter_custom(|iterations| requests.time(iterations))
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

fn silent() -> Error {
    Error::new(format!("the loop's request: no answer within {} s", PATIENCE.as_secs()))
}

/// A step of a scenario whose request is sent again and again for the scenario's last client.
struct Requests {
    runtime: EventLoop,
    peer: Arc<Peer>,
    scenario: Rc<dyn Scenario>,
    client: u64,
    step: usize,
    next_seq: Cell<u64>,
}

impl Requests {
    fn of<'w>(step: &str, mut workloads: impl Iterator<Item = &'w BoundWorkload>) -> Result<Self> {
        let found = workloads.find_map(|bound| {
            let at = bound.scenario.steps().iter().position(|name| *name == step)?;
            Some((bound, at))
        });
        let (bound, step) = found.ok_or_else(|| Error::new(format!("no workload has a step {step}")))?;
        let client = match bound.workload.plan.model {
            Model::Open { clients, .. } => clients - 1,
            Model::Closed { .. } => 0,
        };
        let (scenario, peer) = (bound.scenario.clone(), bound.peer.clone());
        Ok(Self { runtime: runtime()?, peer, scenario, client, step, next_seq: Cell::new(0) })
    }

    /// Returns the time that `iterations` requests take, one after another on one connection that is open already.
    fn time(&self, iterations: u64) -> Duration {
        match self.runtime.block_on(self.send_all(iterations)) {
            Ok(duration) => duration,
            Err(error) => {
                // Criterion has no way to end a benchmark with an error.
                exit::fail_now(&error)
            }
        }
    }

    async fn send_all(&self, iterations: u64) -> Result<Duration> {
        let mut scratch = Scratch::default();
        let mut connection = self.connect().await?;
        let start = Instant::now();
        for _ in 0..iterations {
            let at = Moment::now();
            let (mut watch, mut phases) = (Stopwatch::from(at), Phases::default());
            let seq = self.next_seq.replace(self.next_seq.get() + 1);
            let planned = PlannedRequest { seq, client: self.client, step: self.step };
            let method = self.scenario.encode(planned, &mut scratch.request);
            let exchange = connection.exchange(method, &mut scratch, &mut watch, &mut phases);
            let reusable = timeout(PATIENCE, exchange).await.map_err(|_| silent())?;
            let reusable = reusable.map_err(|fault| Error::new(format!("the loop's request: {fault}")))?;
            let outcome = scratch.response().map(|response| self.scenario.judge(planned, at, &response));
            if outcome != Some(Outcome::Ok) || !reusable {
                let outcome = outcome.map_or_else(|| "no response".to_owned(), |outcome| outcome.to_string());
                return Err(Error::new(format!("the loop's request: {outcome}, connection kept: {reusable}")));
            }
        }
        Ok(start.elapsed())
    }

    async fn connect(&self) -> Result<Connection> {
        let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
        let opened =
            timeout(PATIENCE, self.peer.dialer(0).open(&mut watch, &mut phases)).await.map_err(|_| silent())?;
        opened.map_err(|fault| Error::new(format!("opening the loop's connection: {fault}")))
    }
}
