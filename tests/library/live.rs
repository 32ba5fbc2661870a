//! The view of a run: the page, its events and the metrics, at the server's socket and in a browser.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use certctl_bench::live::page;
use certctl_bench::live::second::Sampler;
use certctl_bench::live::server::LiveListener;
use certctl_bench::live::view::View;
use certctl_bench::live::{Live, Watching};
use certctl_bench::load::progress::{Observed, Progress, Stage};
use certctl_bench::measure::machine_use::CpuUse;
use certctl_bench::measure::threshold::Threshold;
use certctl_bench::measure::{Outcome, Quantile};
use certctl_bench::report::html::Page;
use certctl_bench::run::Workload;
use serde_json::Value;

use super::export::read_by_python;
use super::html::{assert_fits, assert_well_formed};
use crate::common::made_up::plan;
use crate::common::needs::needs;
use crate::common::process::until;
use crate::common::webdriver::WebDriver;

fn workload() -> Workload {
    let limit = |ms| Duration::from_millis(ms);
    let thresholds =
        vec![Threshold::Response(Quantile::P95, limit(500)), Threshold::Response(Quantile::P99, limit(500))];
    Workload { name: "heartbeat", plan: plan(), thresholds }
}

/// Plays a second of answers, of which the slowest take `slowest_us`.
fn play(progress: &Progress, slowest_us: u64, wrong: u64) {
    for number in 1..=500 {
        progress.count(Outcome::Ok, number * slowest_us * 2);
        progress.lagged(number * 400);
    }
    (0..wrong).for_each(|_| progress.count(Outcome::Failed(500), 1));
}

/// Returns a view after warm-up, window and a second of drain, as it is without a database or with one.
fn view(has_database: bool) -> View {
    let (progress, mut sampler) = (Progress::default(), Sampler::from(Duration::ZERO));
    let mut view = View::of("agent_storm", "<b>agents</b>", Some(Threshold::Errors(0.001)));
    let workload = workload();
    view.show(std::iter::once(&workload));
    for at_s in 1..=40 {
        let stage = match at_s {
            ..=2 => Stage::Opening,
            3..=7 => Stage::WarmUp,
            8..=39 => Stage::Measuring,
            _ => Stage::Draining,
        };
        if stage > Stage::Opening {
            play(&progress, if at_s == 30 { 900_000 } else { 3_000 + at_s * 20 }, u64::from(at_s == 30) * 7);
            let cpu = CpuUse { generator: 0.1, system: Some(0.6), others: 0.05, idle: 1.2, ..CpuUse::default() };
            progress.observe_machine(cpu, 2);
        }
        if has_database && stage == Stage::Measuring {
            let backends = [("active", 4), ("waiting_lock", at_s % 3), ("idle_in_transaction", 1)];
            progress.observe_backends(backends.map(|(name, count)| (name.to_owned(), count)).into());
        }
        let observed: Observed = progress.observed().clone();
        view.push(sampler.sample(Duration::from_secs(at_s), stage, progress.counts(), &observed));
    }
    view
}

#[test]
fn the_live_page_is_well_formed_and_loads_one_script() {
    for view in [View::default(), view(false), view(true)] {
        let page = page::whole(&view);
        assert_well_formed(&page);
        assert_eq!(page.matches("src=").count(), 1, "one script: {page}");
        assert!(page.contains("script-src 'self'; connect-src 'self'") && page.contains("<script src=\"page.js\">"));
        assert!(!page.contains("<b>"), "the title is escaped");
    }
    let parts = page::parts(&view(true));
    for id in ["latency", "rate", "lag", "machine", "database"] {
        assert!(parts[id].contains("<svg"), "{id}");
    }
    assert!(parts["latency"].contains("limit of response time p95, response time p99 (500 ms)"));
    assert!(parts["seconds"].contains("<td>draining</td>"), "{}", parts["seconds"]);
    assert!(parts["errors"].contains("limit of errors (0.1%)</li>"), "{}", parts["errors"]);
    // The drain differs from the warm-up by a word in the legend and by lines in its ground, without any colour.
    let latency = &parts["latency"];
    for name in ["not measured: opening, warm-up</li>", "not measured: drain</li>", ">warm-up</text>"] {
        assert!(latency.contains(name), "no {name}: {latency}");
    }
    let grounds: Vec<_> = latency.split("class=\"f-drain\"").skip(1).collect();
    let is_hatched = |ground: &str| {
        ground.split_once("/>").is_some_and(|(_, next)| next.trim_start().starts_with("<polyline class=\"s-hatch"))
    };
    assert_eq!(
        (grounds.len(), grounds.iter().filter(|ground| is_hatched(ground)).count()),
        (3, 3),
        "wide, narrow, in the legend"
    );
    assert!(!page::parts(&view(false))["database"].contains("<svg"), "no database was given");
    let mut unbounded = view(false);
    unbounded.floor = None;
    assert_eq!(page::parts(&unbounded)["errors"], "", "no bound on errors");
}

#[test]
fn a_browser_shows_the_live_page_without_overflow() {
    let page = page::whole(&view(true)).replace("<script src=\"page.js\"></script>\n", "");
    let page = page.replace("script-src 'self'; ", "");
    let policy = "style-src 'unsafe-inline'";
    assert!(page.contains(policy));
    assert_fits(&page, 6);
}

/// A view that is served, of a run whose counters the test sets.
struct Served {
    live: Option<Live>,
    progress: Arc<Progress>,
    address: SocketAddr,
}

impl Served {
    fn start(has_page: bool) -> Self {
        let listener = LiveListener::bind("127.0.0.1:0".parse().unwrap(), has_page).unwrap();
        let url = listener.url().unwrap();
        let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap();
        let live = Live::start("agent_storm", "200 agents heartbeat in turn", None, vec![listener]).unwrap();
        Self { live: Some(live), progress: Arc::default(), address }
    }

    fn watch(&self) -> Watching<'_> {
        let workload = workload();
        self.live.as_ref().unwrap().watch(self.progress.clone(), std::iter::once(&workload))
    }

    /// Sends these bytes and returns the whole answer.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Follows the events.
    fn follow(&self) -> Events {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        Events { stream, text: String::new() }
    }
}

struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    /// Returns the data of the next event of this name.
    fn next(&mut self, name: &str) -> Value {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.split_once(&format!("event: {name}\ndata: ")).map(|(_, data)| data.to_owned());
                self.text = rest.to_owned();
                match data {
                    Some(data) => return serde_json::from_str(&data).unwrap(),
                    None => continue,
                }
            }
            let mut bytes = [0; 1 << 16];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the events ended before {name}");
            // A letter may be cut in two: all but the last bytes are text.
            let mut read = bytes[..count].to_vec();
            while std::str::from_utf8(&read).is_err() {
                let mut one = [0];
                self.stream.read_exact(&mut one).unwrap();
                read.extend(one);
            }
            self.text.push_str(&String::from_utf8(read).unwrap());
        }
    }
}

#[test]
fn events_follow_a_run_until_its_report() {
    let mut served = Served::start(true);
    let progress = served.progress.clone();
    let mut events = served.follow();
    let watching = served.watch();
    progress.enter(Stage::Measuring);
    let figures = |event: Value| event["figures"].as_str().unwrap_or_default().to_owned();
    // Seconds come as they are read; one of them has the counts.
    play(&progress, 3_000, 3);
    until("the wrong answers are shown", || {
        figures(events.next("parts")).contains("<dt>errors</dt><dd class=\"bad\">3</dd>")
    });
    drop(watching);
    let page = served.get("/");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("agent_storm"), "{page}");
    let script = served.get("/page.js");
    assert!(script.contains("text/javascript") && script.contains("EventSource"), "{script}");
    served.live.take().unwrap().end("<p>the \"report\"</p>\n".to_owned());
    assert_eq!(events.next("report"), Value::from("<p>the \"report\"</p>\n"));
    let mut rest = Vec::new();
    events.stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty() && events.text.is_empty(), "nothing follows the report");
}

#[test]
fn a_run_without_a_report_says_so() {
    let mut served = Served::start(true);
    let mut events = served.follow();
    events.next("parts");
    drop(served.live.take());
    assert_eq!(events.next("over"), Value::from(""));
}

#[test]
fn requests_that_are_not_for_the_page_are_refused() {
    let served = Served::start(true);
    let refused = |request: &str, status: &str| {
        let answer = served.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    };
    refused("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403");
    refused("GET /events HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", "403");
    refused("GET / HTTP/1.1\r\n\r\n", "403");
    refused("GET /elsewhere HTTP/1.1\r\nHost: localhost\r\n\r\n", "404");
    refused("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405");
    refused("nonsense\r\n\r\n", "400");
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(9_000));
    refused(&long, "431");
    // Where metrics alone are served, there is no page, and Prometheus may use any name.
    let metrics = Served::start(false);
    assert!(metrics.get("/").starts_with("HTTP/1.1 404"));
    let scraped = metrics.ask("GET /metrics HTTP/1.1\r\nHost: load-generator:9\r\n\r\n");
    assert!(scraped.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text;"), "{scraped}");
    assert!(scraped.ends_with("# EOF\n"), "{scraped}");
}

#[test]
fn a_client_that_sends_nothing_delays_no_other() {
    let served = Served::start(true);
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(served.address).unwrap()).collect();
    let mut half = TcpStream::connect(served.address).unwrap();
    half.write_all(b"GET / HT").unwrap();
    assert!(served.get("/").starts_with("HTTP/1.1 200 OK"));
    half.write_all(b"TP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("</html>\n"));
    drop(silent);
}

#[test]
fn metrics_count_what_was_counted() {
    let served = Served::start(false);
    let _watching = served.watch();
    served.progress.enter(Stage::Measuring);
    play(&served.progress, 3_000, 2);
    let mut metrics = String::new();
    until("the counts are served", || {
        metrics = served.get("/metrics");
        metrics.contains("certctl_bench_arrivals_total{outcome=\"ok\"} 500\n")
    });
    let values: BTreeMap<&str, &str> = metrics.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    for (name, value) in [
        ("certctl_bench_arrivals_total{outcome=\"not_ok\"}", "2"),
        ("certctl_bench_run_info{scenario=\"agent_storm\"}", "1"),
        ("certctl_bench_stage{stage=\"measuring\"}", "1"),
        ("certctl_bench_stage{stage=\"warm-up\"}", "0"),
        ("certctl_bench_live_response_seconds_count", "500"),
        ("certctl_bench_live_response_seconds_bucket{le=\"0.004096\"}", "500"),
        ("certctl_bench_live_lag_seconds_bucket{le=\"+Inf\"}", "500"),
    ] {
        assert_eq!(values.get(name), Some(&value), "{name}: {metrics}");
    }
}

#[test]
fn prometheus_reads_the_metrics_of_a_run() {
    needs!(Readers);
    let served = Served::start(false);
    let _watching = served.watch();
    served.progress.enter(Stage::Measuring);
    served.progress.observe_machine(CpuUse { system: Some(0.5), idle: 1.5, ..CpuUse::default() }, 2);
    served.progress.observe_backends([("waiting_lock".to_owned(), 3)].into());
    play(&served.progress, 3_000, 2);
    let mut body = String::new();
    until("the counts are served", || {
        let answer = served.get("/metrics");
        body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        body.contains("_count 500\n")
    });
    let families = read_by_python("openmetrics", &body);
    let family = |name: &str| {
        let mut found = families.as_array().unwrap().iter().filter(|family| family["name"] == name);
        found.next().unwrap_or_else(|| panic!("no {name}: {families:#}")).clone()
    };
    assert_eq!(family("certctl_bench_live_response_seconds")["type"], "histogram");
    assert_eq!(family("certctl_bench_live_response_seconds")["unit"], "seconds");
    assert_eq!(family("certctl_bench_arrivals")["type"], "counter");
    let backends = family("certctl_bench_database_backends");
    assert_eq!(backends["samples"][0]["labels"]["state"], "waiting_lock");
}

#[test]
fn a_page_in_a_browser_follows_the_run_to_its_report() {
    needs!(WebDriver);
    for (width, dark, name) in [(1_280, false, "live-wide"), (375, true, "live-phone")] {
        let mut served = Served::start(true);
        let progress = served.progress.clone();
        let browser = WebDriver::start(width, 900, dark);
        browser.open(&format!("http://{}/", served.address));
        let watching = served.watch();
        progress.enter(Stage::Measuring);
        progress.observe_machine(CpuUse { generator: 0.2, system: Some(0.7), idle: 1.1, ..CpuUse::default() }, 2);
        let figure = |name: &str| {
            format!(
                "return [...document.querySelectorAll('#figures div')].find(one => \
                 one.querySelector('dt').textContent === '{name}')?.querySelector('dd').textContent ?? ''"
            )
        };
        // The page changes by itself, second by second.
        play(&progress, 3_000, 0);
        until("answers are shown", || browser.run(&figure("p50")).as_str().is_some_and(|text| text.ends_with("ms")));
        play(&progress, 900_000, 4);
        until("errors are shown", || browser.run(&figure("errors")) == "4");
        browser.until("return document.querySelectorAll('#latency svg polyline').length > 4");
        let fits = "return document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(browser.run(fits), true, "wider than its window");
        // The keyboard reaches the table, and opens it; a part that is replaced takes no focus away.
        browser.press("\u{e004}");
        assert_eq!(browser.run("return document.activeElement.tagName"), "SUMMARY");
        browser.press("\u{e007}");
        browser.until("return document.querySelector('details').open");
        browser.run("window.before = document.getElementById('figures').innerHTML");
        play(&progress, 3_000, 1);
        browser.until("return document.getElementById('figures').innerHTML !== window.before");
        assert_eq!(browser.run("return document.activeElement.tagName"), "SUMMARY", "the focus stays");
        assert_eq!(browser.run("return document.getElementById('status').getAttribute('role')"), "status");
        browser.picture(name);
        drop(watching);
        let mut report = Page::new("agent_storm");
        report.add("<p id=\"it\">the report &amp; its &lt;figures&gt;</p>");
        served.live.take().unwrap().end(report.end());
        browser.until("return document.getElementById('it')?.textContent === 'the report & its <figures>'");
        assert_eq!(browser.run("return document.title"), "agent_storm – certctl-bench");
    }
}
