//! Everything that is typed: command lines of the bench targets, URLs, rates, durations, shares.

#![no_main]

use std::time::Duration;

use certctl_bench::cli::acme_flags::{AcmeBurstFlags, AcmeFlowFlags};
use certctl_bench::cli::agent_storm_flags::AgentStormFlags;
use certctl_bench::cli::api_tier_flags::ApiTierFlags;
use certctl_bench::cli::bench::Bench;
use certctl_bench::cli::bulk_renewal_flags::BulkRenewalFlags;
use certctl_bench::cli::common_flags::{duration, duration_or_zero, ArrivalSpread, BenchFlags};
use certctl_bench::cli::compare::share;
use certctl_bench::cli::connector_tier_flags::ConnectorTierFlags;
use certctl_bench::load::rate::Rate;
use certctl_bench::seed::redact_url;
use certctl_bench::system::base_url::{redact, BaseUrl};
use clap::Parser as _;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    single(text);
    // The first character selects the bench target whose command line the rest is.
    let mut rest = text.chars();
    let which = rest.next().map_or(0, |first| u32::from(first) % 6);
    let Some(mut words) = shlex::split(rest.as_str()) else { return };
    words.insert(0, "bench".to_owned());
    match which {
        0 => command_line::<AgentStormFlags>(&words),
        1 => command_line::<ApiTierFlags>(&words),
        2 => command_line::<BulkRenewalFlags>(&words),
        3 => command_line::<AcmeFlowFlags>(&words),
        4 => command_line::<AcmeBurstFlags>(&words),
        _ => command_line::<ConnectorTierFlags>(&words),
    }
});

fn single(text: &str) {
    if let Ok(base) = text.parse::<BaseUrl>() {
        assert_eq!(base.to_string().parse::<BaseUrl>().as_ref(), Ok(&base), "{text:?}");
        let _ = base.server_name();
    }
    if let Ok(rate) = text.parse::<Rate>() {
        assert!(rate.per_second_f64() > 0.0 && rate.per_second_f64().is_finite());
        let _ = rate.offset_ns(1);
    }
    if let Ok(span) = duration(text) {
        assert!(span > Duration::ZERO);
        assert_eq!(duration_or_zero(text), Ok(span));
    }
    if let Ok(share) = share(text) {
        assert!((0.0..=10.0).contains(&share));
    }
    let _ = text.parse::<ArrivalSpread>();
    // The text between the first colon and the last `@` is a password.
    let secret = "9c1f-recognisable";
    if !text.contains(secret) {
        for url in [format!("postgres://u:{secret}{text}@h/d"), format!("postgres://u:{text}{secret}@h/d")] {
            assert!(!redact_url(&url).contains(secret), "{url:?}");
            assert!(!redact(&url).contains(secret), "{url:?}");
        }
    }
}

fn command_line<B: Bench>(words: &[String]) {
    let Ok(mut flags) = BenchFlags::<B>::try_parse_from(words) else { return };
    let _ = flags.bench.groups(&flags.load);
    flags.apply_smoke();
    let _ = (flags.is_smoke(), flags.bench.needs(&flags.load), flags.bench.groups(&flags.load));
}
