//! The search at a system: one point after another, each a window at one rate.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::capacity::point::MeasuredPoint;
use crate::capacity::search::{self, PointVerdict, SearchStep, unfinished};
use crate::capacity::{Capacity, PointBounds, stop_rule};
use crate::cli::bench::{self, Bench, Groups, SystemOf};
use crate::cli::bench_load::BenchLoad;
use crate::cli::session::Session;
use crate::cli::signals::Signals;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::sleep;
use crate::files;
use crate::live::Live;
use crate::load::cut::{Cut, ErrorLimit, RunLimits};
use crate::load::rate::Rate;
use crate::load::runtime::runtime;
use crate::measure::threshold::Threshold;
use crate::report::{capacity as report, text};
use crate::run::{BoundWorkload, Workload, sockets};
use crate::summary::About;
use crate::summary::plan::PlanFacts;
use crate::system::probe::Probe;
use crate::system::{CheckedCertctl, System as _, SystemKind};
use crate::terminal::{errln, out, outln};

/// The share of errors at which a point ends, unless `--abort-on-errors` states another: far above every threshold.
const MOST_ERRORS: ErrorLimit = ErrorLimit { share: 0.5, within: Duration::from_secs(5) };
/// The longest wait for a system to be quiet after a breach.
const QUIET_PATIENCE: Duration = Duration::from_secs(60);
/// The number of quick answers in a row that make it quiet.
const QUIET_ANSWERS: usize = 3;
/// The interval of these requests.
const QUIET_EVERY: Duration = Duration::from_millis(500);
/// The time below which an answer is quick, where no threshold bounds a response time.
const QUICK: Duration = Duration::from_secs(1);
/// The request to see whether a system is quiet: certctl answers it from its database.
const READINESS: &str = "/ready";

/// A search while it runs.
pub(super) struct Seeker<'a, B: Bench> {
    pub(super) load: &'a BenchLoad<B>,
    pub(super) system: &'a SystemOf<B>,
    /// The certctl of the system.
    pub(super) certctl: &'a CheckedCertctl,
    /// The view of each point.
    pub(super) live: Live,
    /// Ends the search once set.
    pub(super) stop: Arc<AtomicBool>,
    /// The arrivals in flight above which a point ends, if the user has chosen.
    pub(super) most_in_flight: Option<u64>,
    pub(super) result: Capacity,
}

/// Plans the workloads at this rate, with windows of this length.
pub(super) fn planned<B: Bench>(load: &BenchLoad<B>, window: Duration, per_s: f64) -> Result<Groups<SystemOf<B>>> {
    let rate = Rate::of_per_second(per_s).ok_or_else(|| Error::usage(format!("{per_s}/s is not a rate")))?;
    let BenchLoad { mut bench, mut load } = load.clone();
    bench.set_rate(rate);
    load.duration = Some(window);
    let groups = bench.groups(&load)?;
    if groups.len() != 1 {
        return Err(Error::usage(format!("{}: its workloads run one after another, and have no common rate", B::NAME)));
    }
    Ok(groups)
}

/// Returns the samples per second of the rarest step of a workload, which every threshold is planned for.
///
/// # Errors
/// If the workload has no rate.
pub(super) fn sampled_per_s<B: Bench>(load: &BenchLoad<B>, workload: &Workload) -> Result<f64> {
    Ok(stop_rule::rate_per_s(workload)? / load.bench.arrivals_for_a_sample())
}

/// Plans a point at this rate: its window is so long that every threshold's quantile has its samples.
///
/// # Errors
/// If the rate is too low for that, or too high for the rows that are seeded (kind `Usage`).
pub(super) fn plan<B: Bench>(load: &BenchLoad<B>, bounds: &PointBounds, per_s: f64) -> Result<Groups<SystemOf<B>>> {
    let least = Duration::from_secs_f64(bounds.least_s);
    let mut window = least;
    let groups = planned(load, least, per_s)?;
    for planned in groups.iter().flatten() {
        window = window.max(stop_rule::window(&planned.workload, sampled_per_s(load, &planned.workload)?));
    }
    if window.as_secs_f64() > bounds.most_s.ceil() {
        return Err(Error::usage(format!(
            "at {per_s}/s a threshold's quantile has its samples after {} s, above --longest-point {}s",
            window.as_secs(),
            bounds.most_s
        ))
        .with_hint(format!("raise --floor, or give --longest-point {}s", window.as_secs())));
    }
    if window == least { Ok(groups) } else { planned(load, window, per_s) }
}

/// Returns an error on one line, with its hint.
fn reason(error: &Error) -> String {
    let hint = error.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
    format!("{}{hint}", error.what()).replace('\n', "; ")
}

impl<B: Bench> Seeker<'_, B> {
    /// Measures one point after another until there is a conclusion; whatever was measured by then is in `file`.
    ///
    /// # Errors
    /// If the first point cannot run.
    pub(super) fn seek(&mut self, signals: &Signals, file: &Path) -> Result<()> {
        let began = Moment::now();
        loop {
            let tried = self.result.tried();
            let per_s = match search::next(&self.result.search, &tried) {
                SearchStep::Done(conclusion) => {
                    self.conclude(conclusion, None);
                    return Ok(());
                }
                SearchStep::Measure(per_s) => per_s,
            };
            let point = match self.measure(per_s, began) {
                Ok(point) => point,
                Err(error) if self.result.points.is_empty() => return Err(error),
                Err(error) => {
                    let why = match self.is_stopped() {
                        true => "the search was stopped".to_owned(),
                        false => reason(&error),
                    };
                    self.conclude(unfinished(&tried), Some(why));
                    return Ok(());
                }
            };
            outln!("{}", report::row(&point));
            self.result.points.push(point);
            self.conclude(unfinished(&self.result.tried()), Some("the search had not ended".to_owned()));
            // What cannot be saved now is saved again at the end, where a failure is an error.
            if self.result.to_json().and_then(|json| files::write(file, json)).is_ok() {
                signals.kept();
            }
            if let Err(error) = self.recover() {
                let why = if self.is_stopped() { "the search was stopped".to_owned() } else { error.what().to_owned() };
                self.conclude(unfinished(&self.result.tried()), Some(why));
                return Ok(());
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn conclude(&mut self, conclusion: search::Conclusion, why: Option<String>) {
        self.result.conclude(conclusion, why);
        self.result.finished_at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    }

    /// Measures a point at this rate.
    ///
    /// # Errors
    /// If it cannot run, does not fit into the time that is left, or was stopped.
    fn measure(&mut self, per_s: f64, began: Moment) -> Result<MeasuredPoint> {
        let number = self.result.points.len() + 1;
        let groups = match plan(self.load, &self.result.point_bounds, per_s) {
            // The first rate is the user's own.
            Err(error) if error.kind() == ErrorKind::Usage && number > 1 => {
                return Ok(MeasuredPoint::unplanned(number, per_s, reason(&error)));
            }
            groups => groups?,
        };
        // Where each client has a connection of its own, a higher rate may take more of them.
        let needed = sockets(groups.iter().flatten().map(|planned| &planned.workload));
        let allowed = needed.with_threads(self.load.load.most_threads()).allow(self.load.bench.sized());
        if let Err(error) = allowed {
            return Ok(MeasuredPoint::unplanned(number, per_s, reason(&error)));
        }
        let groups = bench::bind(groups, self.system)?;
        let bound: Vec<&BoundWorkload> = groups.iter().flatten().collect();
        let workloads = || bound.iter().map(|bound| &bound.workload);
        let longest = workloads().map(|workload| workload.plan.end()).max().unwrap_or_default();
        let left_s = self.result.point_bounds.search_s - (Moment::now() - began).as_secs_f64();
        if longest.as_secs_f64() > left_s {
            return Err(Error::new(format!(
                "the time for all points, {:.0} s, is over",
                self.result.point_bounds.search_s
            ))
            .with_hint("raise --max-time"));
        }
        let floor = self.load.bench.error_floor();
        // A 429 that is no error must not end a point either.
        let errors = matches!(floor, Threshold::Errors(_)).then_some(MOST_ERRORS);
        let in_flight = match self.most_in_flight {
            Some(most) => most,
            None => stop_rule::most_in_flight(workloads())?,
        };
        let limits = self.load.load.limits();
        let limits = RunLimits { errors: limits.errors.or(errors), in_flight: Some(in_flight), ..limits };
        let about = About::new(B::NAME, B::ABOUT, self.system.describe(), bound.iter().copied());
        if number == 1 {
            self.result.plans = bound.iter().map(|bound| PlanFacts::of_workload(bound)).collect();
            if let Some(remark) = self.load.bench.remark(self.system, &workloads().collect::<Vec<_>>()) {
                errln!("{remark}");
            }
            out!("{}", text::heading(&about, self.result.plans.iter()));
            outln!("{}", report::head());
        }
        let session = Session {
            system: self.system,
            groups: &groups,
            shards: self.load.load.shards(&groups, &self.system.addresses())?,
            floor: Some(floor),
            smoke: false,
            max_other_cpu: self.load.load.max_other_cpu,
            rotates_every: None,
            stop: self.stop.clone(),
            cut: Cut::new(limits),
            crew: None,
            keep: &|_| {},
            live: Some(&self.live),
        };
        let summary = session.run(about)?;
        if self.is_stopped() {
            return Err(Error::new("stopped before anything was measured"));
        }
        let doubtful = summary.doubtful().map(|why| format!("point {number}, doubtful: {why}"));
        self.result.notes.extend(doubtful);
        Ok(MeasuredPoint::of(number, per_s, &summary))
    }

    /// Waits until the system is fit for the next point: alive, and quiet after a breach.
    ///
    /// # Errors
    /// If it has ended, is not quiet within a bound, or the search was stopped.
    fn recover(&self) -> Result<()> {
        if let Some(error) = self.certctl.certctl.ended() {
            return Err(Error::new(format!("the system ended: {}", reason(&error))));
        }
        let Some(last) = self.result.points.last() else { return Ok(()) };
        if last.verdict != PointVerdict::Breached && last.ended_early.is_none() {
            return Ok(());
        }
        let groups = planned(self.load, Duration::from_secs_f64(self.result.point_bounds.least_s), last.rate_per_s)?;
        let quick = stop_rule::strictest(groups.iter().flatten().map(|planned| &planned.workload)).unwrap_or(QUICK);
        if runtime()?.block_on(self.becomes_quiet(quick)) {
            return Ok(());
        }
        Err(Error::new(format!(
            "{} s after the point at {}/s the system had not answered {QUIET_ANSWERS} requests for {} in a row, each \
             within {} ms",
            QUIET_PATIENCE.as_secs(),
            last.rate_per_s,
            self.readiness(),
            quick.as_millis()
        )))
    }

    /// Returns the path of the request to see whether the system is quiet.
    fn readiness(&self) -> &str {
        match &self.certctl.acme {
            // It has nothing else of certctl's.
            Some(acme) if self.certctl.certctl.system.kind == SystemKind::AcmeServer => &acme.directory,
            _ => READINESS,
        }
    }

    /// Waits until the system answers quickly again, a few times in a row; returns `false` if it does not, or if the
    /// search was stopped.
    async fn becomes_quiet(&self, quick: Duration) -> bool {
        let mut probe = Probe::new(&self.certctl.certctl, self.certctl.dialer.clone()).until(&self.stop);
        let last = Moment::now() + QUIET_PATIENCE;
        let mut in_a_row = 0;
        while !self.is_stopped() && Moment::now() < last {
            let asked = Moment::now();
            let is_right = probe.get(self.readiness()).await.is_ok_and(|answer| answer.status == 200);
            in_a_row = if is_right && Moment::now() - asked < quick { in_a_row + 1 } else { 0 };
            if in_a_row == QUIET_ANSWERS {
                return true;
            }
            sleep(QUIET_EVERY).await;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::acme_enroll_flags::AcmeEnrollFlags;
    use crate::cli::api_tier_flags::ApiTierFlags;
    use crate::cli::bulk_renewal_flags::BulkRenewalFlags;
    use crate::cli::deploy_loop_flags::DeployLoopFlags;
    use crate::load::plan::Plan;

    const BOUNDS: PointBounds = PointBounds { least_s: 2.0, most_s: 300.0, search_s: 3_600.0 };

    fn plans<B: Bench>(flags: &[&str], per_s: f64) -> Result<Vec<(Plan, f64)>> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let load = BenchLoad::<B>::parse("capacity", &flags, &[])?;
        let groups = plan(&load, &BOUNDS, per_s)?;
        let workloads = groups.into_iter().flatten().map(|planned| planned.workload);
        workloads.map(|workload| Ok((workload.plan.clone(), stop_rule::rate_per_s(&workload)?))).collect()
    }

    #[test]
    fn a_window_is_as_long_as_its_quantiles_need() {
        let window = |per_s| plans::<ApiTierFlags>(&["--warm-up", "1s"], per_s).unwrap()[0].0.window.as_secs();
        // 1,000 right answers for p99, and a tenth more.
        assert_eq!([window(50.0), window(200.0), window(5_000.0)], [22, 6, 2]);
        assert!(plans::<ApiTierFlags>(&[], 3.0).unwrap_err().to_string().contains("--longest-point 300s"));
    }

    #[test]
    fn a_step_that_most_journeys_leave_out_has_its_samples() {
        let window = |flags: &[&str]| plans::<AcmeEnrollFlags>(flags, 40.0).unwrap()[0].0.window.as_secs();
        // 200 new accounts for p95, and a tenth more: one of five enrolments makes one.
        assert_eq!([window(&[]), window(&["--orders-per-account", "1"])], [28, 6]);
    }

    #[test]
    fn a_fleet_of_loops_grows_with_the_rate_within_its_rows() {
        // Each loop waits for two polls, up to a second apart, and has two seconds more.
        let agents = |flags: &[&str], per_s| plans::<DeployLoopFlags>(flags, per_s).map(|plans| plans[0].0.connections);
        assert_eq!([5.0, 50.0, 1_250.0].map(|per_s| agents(&[], per_s).unwrap()), [20, 200, 5_000]);
        assert_eq!(agents(&["--agents", "100"], 25.0).unwrap(), 100);
        let none: &[&str] = &[];
        for (flags, per_s) in [(none, 1_300.0), (&["--agents", "100"][..], 26.0)] {
            let error = agents(flags, per_s).unwrap_err();
            assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("raise --agents"), "{error}");
        }
    }

    #[test]
    fn further_workloads_keep_their_proportion() {
        let rates = |flags: &[&str]| {
            let found = plans::<ApiTierFlags>(flags, 100.0).unwrap();
            found.into_iter().map(|(_, per_s)| per_s).collect::<Vec<_>>()
        };
        assert_eq!(rates(&[]), [100.0, 100.0]);
        assert_eq!(rates(&["--issuance-rate", "50/s", "--list-rate", "25/s"]), [100.0, 50.0]);
    }

    #[test]
    fn a_rate_beyond_the_seeded_rows_cannot_be_planned() {
        plans::<BulkRenewalFlags>(&["--warm-up", "500ms"], 400.0).unwrap();
        let error = plans::<BulkRenewalFlags>(&["--warm-up", "500ms"], 900.0).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("seeded certificates"), "{error}");
    }
}
