//! The summary of a run for people: `summary.txt`, and the terminal's output.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::colour::Palette;
use super::table::{Cell, Table};
use super::{evidence, headline, machine_use, tables};
use crate::foreign;
use crate::measure::Outcome;
use crate::measure::observation::{show, show_rate};
use crate::summary::facts::{
    DistributionFacts, HandshakeFacts, HandshakeKindCount, ObservationFacts, OutcomeCount, SpreadFacts, ThresholdFacts,
    Unit,
};
use crate::summary::plan::{ConnectionUse, LoadModel, PlanFacts};
use crate::summary::shards::{OneShard, ShardFacts};
use crate::summary::verdict::Verdict;
use crate::summary::{About, Summary, WorkloadResults};
use crate::system::{SystemDescription, SystemKind};

/// The columns of a summary.
const COLUMNS: usize = 80;
/// The columns of a row's key, with the space after it.
const KEY_COLUMNS: usize = 13;
/// The beginning of a line that continues the one before: further to the right than a row without a key.
const CONTINUED: &str = "               ";
/// The width of a line of settings.
const SETTINGS_COLUMNS: usize = COLUMNS - KEY_COLUMNS;

/// Renders the heading of a run: system, workloads and machine.
pub fn heading<'p>(about: &About, plans: impl Iterator<Item = &'p PlanFacts>) -> String {
    let (described, machine) = (&about.system, &about.machine);
    let mut text = fitted(&format!("{}: {}\n", about.scenario, about.title));
    if described.kind == SystemKind::Connectors {
        connectors(&mut text, described);
    } else {
        certctl(&mut text, described);
    }
    let plans: Vec<_> = plans.collect();
    for plan in &plans {
        let name = if plans.len() > 1 { format!("{}: ", plan.name) } else { String::new() };
        row(&mut text, "workload", &format!("{name}{}", workload(plan)));
    }
    row(
        &mut text,
        "machine",
        &format!(
            "{} × {}, {:.1} GiB{}, Linux {}, {}",
            machine.cores,
            machine.cpu_model,
            machine.memory_bytes as f64 / f64::from(1 << 30),
            machine.limits(),
            machine.kernel,
            machine.rustc
        ),
    );
    text
}

/// Breaks lines between words, so that none is longer than the columns of a summary; a longer word stays whole. It is
/// not for tables, whose cells are in columns: see [`Table::within`].
pub(super) fn fitted(text: &str) -> String {
    let mut fitted = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (mut rest, mut begin) = (line.trim_end_matches('\n'), "");
        let mut room = COLUMNS;
        loop {
            let over = rest.char_indices().nth(room).map(|(at, _)| at);
            // Neither within the key nor within the spaces before the words.
            let least = rest.len() - rest.trim_start().len();
            let least = if begin.is_empty() { least.max(KEY_COLUMNS.min(rest.len())) } else { least };
            let broken = over.and_then(|at| {
                // A space right behind the last column is a good place, too.
                let end = if rest[at..].starts_with(' ') { at + 1 } else { at };
                let last = rest[..end].rfind(' ').filter(|space| *space >= least);
                last.or_else(|| Some(at + rest[at..].find(' ')?))
            });
            let Some(space) = broken else { break };
            let _ = writeln!(fitted, "{begin}{}", rest[..space].trim_end());
            rest = rest[space..].trim_start();
            (begin, room) = (CONTINUED, COLUMNS - CONTINUED.len());
        }
        fitted.push_str(begin);
        fitted.push_str(rest);
        fitted.push_str(if line.ends_with('\n') { "\n" } else { "" });
    }
    fitted
}

/// Colours the words of a summary that judge.
pub fn coloured(text: &str, palette: Palette) -> String {
    let paint = |line: &str| -> String {
        let key = line.get(..KEY_COLUMNS).unwrap_or_default();
        let value = line.get(KEY_COLUMNS..).unwrap_or_default();
        let cell = |word: &str| line.strip_suffix(word).filter(|_| !value.is_empty());
        if key.trim_end() == "verdict" {
            let painted = match () {
                () if value.starts_with("pass") => palette.good(value),
                () if value.starts_with("smoke") => palette.doubtful(value),
                () => palette.bad(value),
            };
            format!("{key}{painted}")
        } else if matches!(key.trim_end(), "breached" | "invalid" | "but") {
            format!("{}{value}", palette.bad(key))
        } else if matches!(key.trim_end(), "doubtful" | "ended early") {
            format!("{}{value}", palette.doubtful(key))
        } else if let Some(before) = cell("  BREACHED") {
            format!("{before}  {}", palette.bad("BREACHED"))
        } else if let Some(before) = cell("  too few samples") {
            format!("{before}  {}", palette.doubtful("too few samples"))
        } else if let Some(before) = cell("  kept") {
            format!("{before}  {}", palette.good("kept"))
        } else {
            line.to_owned()
        }
    };
    let lines = text.split_inclusive('\n').map(|line| match line.strip_suffix('\n') {
        Some(line) => paint(line) + "\n",
        None => paint(line),
    });
    lines.collect()
}

/// Adds the rows of a certctl, or of the reference server.
fn certctl(text: &mut String, described: &SystemDescription) {
    let address = described.address.as_ref().map_or_else(String::new, |address| format!(" ({address})"));
    row(text, "system", &format!("{} at {}{address}", system(described), described.base_url));
    // Figures of writes mean nothing without these settings.
    let durability = ["fsync", "synchronous_commit"]
        .into_iter()
        .filter_map(|key| described.settings.get(key)?.as_str().map(|value| format!(", {key} {value}")))
        .collect::<String>();
    row(text, "", &format!("store {}{durability}; {}", described.store, described.trust));
    if let Some(how) = described.patch() {
        row(text, "", &format!("patched database ({how})"));
    }
    if let Some(sha256) = &described.binary_sha256 {
        row(text, "", &format!("started from the binary of SHA-256 {sha256}"));
        if let Some(sha256) = &described.migrations_sha256 {
            row(text, "", &format!("with migrations of SHA-256 {sha256}"));
        }
        if described.still_at_work() {
            row(text, "", "loaded before the work of its start had ended");
        }
        setting_rows(text, described);
    }
    daemons(described).for_each(|daemon| row(text, "", &format!("agents deploy to {daemon}")));
    skipped(text, described);
}

/// Adds a row for each daemon that is missing.
fn skipped(text: &mut String, described: &SystemDescription) {
    for skipped in described.settings.get("skipped").and_then(Value::as_array).into_iter().flatten() {
        row(text, "", skipped.as_str().unwrap_or(""));
    }
}

/// Returns settings of certctl's on one line.
pub(super) fn settings<'a>(settings: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let each = settings.into_iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("")));
    each.collect::<Vec<_>>().join(" ")
}

/// Adds rows with the settings of a certctl that was started: those that differ from its defaults.
fn setting_rows(text: &mut String, described: &SystemDescription) {
    let each = described.certctl_settings().into_iter().flatten().map(|setting| settings([setting]));
    let mut line = match described.settings.get("network").and_then(Value::as_str) {
        Some(network) => format!("network: {network}; settings:"),
        None => "settings:".to_owned(),
    };
    for setting in each {
        if line.len() + setting.len() >= SETTINGS_COLUMNS {
            row(text, "", &line);
            line.clear();
        }
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(&setting);
    }
    row(text, "", &line);
}

/// Adds the rows of the daemons behind connectors.
fn connectors(text: &mut String, described: &SystemDescription) {
    for (index, daemon) in daemons(described).enumerate() {
        row(text, if index == 0 { "system" } else { "" }, &daemon);
    }
    row(text, "", &described.trust);
    skipped(text, described);
}

/// Lists the daemons of the system, each with its version and address.
fn daemons(described: &SystemDescription) -> impl Iterator<Item = String> {
    described.settings.iter().filter_map(|(name, facts)| {
        let base_url = facts["base_url"].as_str()?;
        let address = facts["address"].as_str().map_or_else(String::new, |address| format!(" ({address})"));
        let origin = if facts["started"] == true { ", started" } else { "" };
        Some(format!("{name} {} at {base_url}{address}{origin}", facts["version"].as_str().unwrap_or("")))
    })
}

/// Names the system.
pub(super) fn system(described: &SystemDescription) -> String {
    match described.kind {
        SystemKind::Reference => {
            format!("reference server {} ({}), not certctl", described.version, described.behaviour)
        }
        SystemKind::Connectors => daemons(described).collect::<Vec<_>>().join(", "),
        kind => format!("{kind} {}", described.version),
    }
}

/// Describes the load of a workload on one line.
pub(super) fn workload(plan: &PlanFacts) -> String {
    let who = match (plan.model, plan.affinity) {
        (LoadModel::Closed, _) => {
            let users = if plan.clients == 1 { "user" } else { "users" };
            format!("{} {users}, think time {} s", plan.clients, plan.think_s.unwrap_or_default())
        }
        (_, ConnectionUse::PerArrival) => {
            format!("a new connection for each arrival, at most {} at once", plan.connections)
        }
        (_, ConnectionUse::Own) => format!("{} connections, one per agent", plan.connections),
        (_, ConnectionUse::Any) => format!("{} pooled connections", plan.connections),
    };
    let rounded = |rate: f64| (rate * 1e3).round() / 1e3;
    let rate = match (&plan.arrivals, plan.rate_per_s, &plan.rate_profile) {
        (Some(arrivals), Some(rate), None) => format!(" {arrivals} {}/s,", rounded(rate)),
        (Some(arrivals), Some(rate), Some(profile)) => format!(" {arrivals} {profile} (mean {}/s),", rounded(rate)),
        _ => String::new(),
    };
    let delay = if plan.starts_after_s > 0.0 {
        format!("starts after {} s, ", (plan.starts_after_s * 1e3).round() / 1e3)
    } else {
        String::new()
    };
    format!(
        "{},{rate} {who}, {delay}warm-up {} s, window {} s, rng seed {}",
        plan.model, plan.warm_up_s, plan.window_s, plan.rng_seed
    )
}

/// Renders everything below the heading: the verdict, and why; then thresholds, distributions and counts.
pub fn results(summary: &Summary) -> String {
    let mut text = String::new();
    verdict(&mut text, summary);
    if !summary.thresholds.is_empty() {
        let _ = writeln!(text, "\n{}", thresholds(&summary.thresholds).within(COLUMNS));
    }
    text.push('\n');
    let several = summary.measured().count() > 1;
    for (plan, results) in summary.measured() {
        if several {
            text.push_str(&fitted(&format!("{}: {}\n", plan.name, plan.title)));
        }
        counts(&mut text, results, plan, summary);
        text.push('\n');
        let _ = writeln!(text, "{}", distributions(results, plan).within(COLUMNS));
        text.push('\n');
        own_part(&mut text, results, plan);
        if !results.segments.is_empty() {
            let _ = writeln!(text, "{}\n", tables::segments(results, plan).within(COLUMNS));
        }
        handshakes(&mut text, "handshakes", &results.opening);
        let again = if plan.affinity == ConnectionUse::PerArrival { "handshakes" } else { "reconnects" };
        handshakes(&mut text, again, &results.reopening);
        if several {
            text.push('\n');
        }
    }
    if let Some(shards) = &summary.shards {
        row(&mut text, "shards", &shards_line(shards));
    }
    generator(&mut text, summary);
    if let [used] = &summary.machine_use[..] {
        text.push_str(&fitted(&foreign::visible_lines(&machine_use::lines(used))));
    }
    if let [evidence] = &summary.evidence[..] {
        let _ = write!(text, "\n{}", fitted(&foreign::visible_lines(&evidence::lines(evidence))));
    }
    foreign::visible_lines(&text).into_owned()
}

/// Adds the verdict, and the reasons for it.
fn verdict(text: &mut String, summary: &Summary) {
    row(text, "verdict", &format!("{} (exit {})", summary.verdict, summary.exit_code));
    if summary.verdict == Verdict::Smoke {
        row(text, "", "a smoke run only shows that every part works; cargo bench measures");
    }
    let clear = summary.verdict == Verdict::Breached;
    let breached = summary.thresholds.iter().filter(|threshold| threshold.passed == Some(false));
    for threshold in breached.filter(|threshold| clear && (summary.invalid.is_empty() || threshold.certain)) {
        let (measured, limit) = (tables::measured(threshold), tables::limit(threshold));
        row(text, "breached", &format!("{}: {measured}, limit {limit}", threshold.title()));
    }
    for breach in &summary.breaches {
        row(text, "breached", breach);
    }
    if let Some(ended) = &summary.ended_early {
        row(text, "ended early", ended);
    }
    for reason in &summary.invalid {
        row(text, if clear { "but" } else { "invalid" }, reason);
    }
    for reason in summary.doubtful() {
        row(text, "doubtful", reason);
    }
    if let Some(retries) = headline::retries(summary) {
        row(text, "retried", &retries);
    }
}

fn row(text: &mut String, key: &str, value: &str) {
    text.push_str(&fitted(&format!("{key:<12} {}\n", foreign::visible(value, usize::MAX))));
}

fn counts(text: &mut String, results: &WorkloadResults, plan: &PlanFacts, summary: &Summary) {
    let arrivals = &results.arrivals;
    let partial = if arrivals.partial { ", PARTIAL" } else { "" };
    row(
        text,
        "arrivals",
        &format!(
            "scheduled {}, started {}, {}, unsent {} (in {:.1} s{partial}; warm-up {} more)",
            arrivals.scheduled,
            arrivals.started,
            plan.late(arrivals.late),
            arrivals.unsent,
            arrivals.measured_s,
            arrivals.warm_up
        ),
    );
    row(text, "outcomes", &outcomes(&results.outcomes));
    for entry in &results.outcomes {
        if let Some(example) = &entry.example {
            row(text, "", &format!("first {}: {example}", entry.outcome));
        }
    }
    for step in results.steps.iter().filter(|step| step.outcomes.iter().any(|entry| entry.outcome != Outcome::Ok)) {
        row(text, "", &format!("{}: {}", step.name, outcomes(&step.outcomes)));
    }
    for (index, work) in results.work.iter().enumerate() {
        let key = if index == 0 { "work" } else { "" };
        row(text, key, &format!("{}: {} of {} ({})", work.name, work.found, work.claimed, work.source));
    }
    if results.work.is_empty() {
        row(text, "work", unchecked(summary));
    }
    for (index, observation) in results.observations.iter().enumerate() {
        row(text, if index == 0 { "observed" } else { "" }, &observed(observation));
    }
}

/// Returns the reason for which no side effect was counted.
pub(super) fn unchecked(summary: &Summary) -> &'static str {
    match summary.invalid.iter().any(|reason| reason.starts_with("the work done could not be counted")) {
        true => "not checked: see why the run is invalid",
        false if summary.shards.is_some() => {
            "not checked: no database given (--database URL; shards of several machines take none)"
        }
        false => "not checked: no database given (--database URL)",
    }
}

/// Describes the shards of a run on one line.
fn shards_line(facts: &ShardFacts) -> String {
    let worst = |figure: fn(&OneShard) -> Option<f64>| {
        let known = facts.shards.iter().filter_map(|one| Some((figure(one)?, one.index)));
        known.max_by(|(one, _), (other, _)| one.total_cmp(other))
    };
    let mut line = format!("{} played, start {}, {}", facts.shards.len(), facts.start, facts.clocks);
    if let Some((share, index)) = worst(|one| Some(one.busy_share)) {
        let _ = write!(line, "; busiest thread {:.1}% (shard {index})", share * 100.0);
    }
    if let Some((us, index)) = worst(|one| one.lag_p99_us) {
        let _ = write!(line, ", largest lag p99 {:.3} ms (shard {index})", us / 1e3);
    }
    line
}

fn outcomes(outcomes: &[OutcomeCount]) -> String {
    let counts: Vec<String> = outcomes.iter().map(|entry| format!("{} {}", entry.outcome, entry.count)).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn observed(facts: &ObservationFacts) -> String {
    format!("{}: {}", facts.name, observed_value(facts))
}

/// Renders the value of an observation.
pub(super) fn observed_value(facts: &ObservationFacts) -> String {
    let shown = |seconds| show(Duration::from_secs_f64(seconds));
    let not_within = || facts.not_within_s.map(|span_s| format!("not within {}", shown(span_s)));
    match (facts.count, facts.of, facts.duration_s, facts.per_s) {
        (Some(count), Some(of), ..) => format!("{count} of {of}"),
        (Some(count), None, ..) => count.to_string(),
        (None, _, Some(duration_s), _) => shown(duration_s),
        (None, _, None, Some(per_s)) => show_rate(per_s),
        (None, _, None, None) => not_within().unwrap_or_else(|| "never".to_owned()),
    }
}

/// Adds the generator's part of a closed workload's time, which has no schedule lag to show it.
fn own_part(text: &mut String, results: &WorkloadResults, plan: &PlanFacts) {
    if plan.model == LoadModel::Closed
        && let Some((own_us, response_us)) = results.latency.own_of_p95_us()
    {
        let (own_ms, response_ms, percent) = (own_us / 1e3, response_us / 1e3, own_us / response_us * 100.0);
        let line = format!("at most {own_ms:.3} of the {response_ms:.3} ms of p95 are the generator's ({percent:.1}%)");
        row(text, "own part", &line);
    }
}

/// Formats milliseconds with four digits that count, or to the microsecond.
fn ms(ms: f64) -> String {
    let decimals = match ms {
        ms if ms < 9.9995 => 3,
        ms if ms < 99.995 => 2,
        ms if ms < 999.95 => 1,
        _ => 0,
    };
    format!("{ms:.decimals$}")
}

fn distributions(results: &WorkloadResults, plan: &PlanFacts) -> Table {
    let mut table = Table::new("", 1, &["ms", "count", "p50", "p90", "p95", "p99", "p99.9", "max"]);
    for (name, facts) in distribution_rows(results, plan) {
        let quantiles = [facts.p50_us, facts.p90_us, facts.p95_us, facts.p99_us, facts.p99_9_us, facts.max_us];
        let cells = quantiles.map(|us| us.map_or_else(|| "–".to_owned(), |us| ms(us / 1e3)));
        table.rows.push([name, facts.count.to_string()].into_iter().chain(cells).map(Cell::from).collect());
    }
    table
}

/// Returns a workload's distributions with their names, without those that are optional and empty.
pub(super) fn distribution_rows<'r>(
    results: &'r WorkloadResults,
    plan: &PlanFacts,
) -> Vec<(String, &'r DistributionFacts)> {
    let latency = &results.latency;
    let (closed, per_arrival) = (plan.model == LoadModel::Closed, plan.affinity == ConnectionUse::PerArrival);
    let mut rows = Vec::new();
    let mut add = |name: &str, facts, always: bool| rows.push((name.to_owned(), facts, always));
    add("response time", &latency.response, true);
    for step in &results.steps {
        add(&format!("  {}", step.name), &step.response, true);
    }
    // A user has no intended start but the actual one.
    if !closed {
        add("service time", &latency.service, true);
    }
    if closed {
        add("timer lag", &latency.schedule_lag, true);
    } else {
        add("schedule lag", &latency.schedule_lag, true);
        add("timer lag", &results.timer.lag, false);
    }
    add("own part", &latency.own_part, false);
    if per_arrival {
        add("  TCP connect", &latency.dial, false);
        add("  TLS, to its answer", &latency.tls_hello, false);
        add("  TLS, the rest", &latency.tls_finish, false);
    }
    add("  send", &latency.send, false);
    add("  first byte", &latency.first_byte, false);
    add("  receive", &latency.receive, false);
    add("failed response", &latency.failed_response, false);
    if !results.opening.failed.is_empty() {
        add("connections tried", &results.opening.tried, false);
    }
    if !results.reopening.failed.is_empty() {
        add("connections tried later", &results.reopening.tried, false);
    }
    add("TCP connect", &results.opening.dial, false);
    add("TLS handshake", &results.opening.tls, false);
    if per_arrival {
        add("TLS handshake", &results.reopening.tls, false);
    } else {
        add("TCP reconnect", &results.reopening.dial, false);
        add("TLS rehandshake", &results.reopening.tls, false);
    }
    let kept = rows.into_iter().filter(|(_, facts, always): &(_, &DistributionFacts, _)| *always || facts.count > 0);
    kept.map(|(name, facts, _)| (name, facts)).collect()
}

fn handshakes(text: &mut String, key: &str, facts: &HandshakeFacts) {
    for (index, entry) in facts.kinds.iter().enumerate() {
        let key = if index == 0 { key } else { "" };
        let HandshakeKindCount { count, kind, version, suite, group, key: certificate_key, chain_length, .. } = entry;
        let chain = if *chain_length == 1 { String::new() } else { format!(", chain of {chain_length}") };
        row(text, key, &format!("{count} {kind} {version} {suite} {group}, certificate {certificate_key}{chain}"));
    }
    if !facts.failed.is_empty() {
        row(text, key, &format!("not opened, of {} tried: {}", facts.tried.count, outcomes(&facts.failed)));
    }
    if let (Some(read), Some(written)) = (&facts.read_bytes, &facts.written_bytes) {
        row(text, "", &format!("bytes each: read {}, wrote {}", spread(read), spread(written)));
    }
}

fn spread(facts: &SpreadFacts) -> String {
    if facts.min == facts.max { facts.min.to_string() } else { format!("{} to {}", facts.min, facts.max) }
}

/// Names the generator's busiest thread.
fn busiest(threads: u64) -> String {
    if threads > 1 { format!("the busiest of {threads} threads") } else { "thread".to_owned() }
}

fn generator(text: &mut String, summary: &Summary) {
    let generator = &summary.generator;
    row(
        text,
        "generator",
        &format!(
            "CPU {:.2} s in the window ({} {:.1}% busy); opening {:.2} s CPU in {:.1} s; {}; {}",
            generator.window_cpu_s,
            busiest(generator.threads),
            generator.busy_share * 100.0,
            generator.opening_cpu_s,
            generator.opening_s,
            generator.scheduling,
            generator.tls
        ),
    );
    let per_connection = generator
        .rss_per_connection_bytes
        .map_or_else(String::new, |bytes| format!(", {:.1} KiB per connection", bytes as f64 / 1024.0));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (rss, peak) = (mib(generator.rss_bytes), mib(generator.peak_rss_bytes));
    row(text, "", &format!("memory {rss:.1} MiB, peak {peak:.1} MiB{per_connection}"));
}

fn thresholds(facts: &[ThresholdFacts]) -> Table {
    let mut table = Table::new("", 1, &["threshold", "measured", "limit", ""]);
    for entry in facts {
        let value = |value: f64| match entry.unit {
            Unit::Share => format!("{:.3}%", value * 100.0),
            Unit::Ms => format!("{} ms", ms(value)),
        };
        let row = [
            entry.title(),
            match entry.measured {
                Some(measured) if entry.by_maximum => format!("max {}", value(measured)),
                Some(measured) => value(measured),
                None if entry.certain => format!("{} of {} beyond", entry.beyond, entry.of),
                None => "–".to_owned(),
            },
            if entry.limit < 1e-9 { "none".to_owned() } else { format!("< {}", value(entry.limit)) },
            match entry.passed {
                Some(true) => "kept",
                Some(false) => "BREACHED",
                None => "too few samples",
            }
            .to_owned(),
        ];
        table.rows.push(row.map(Cell::from).into());
    }
    table
}
