//! The page of a duet: its verdict first, its figures and their tables, and foreign text that is only text.

use std::collections::BTreeMap;

use certctl_bench::duet::block::{Answers, Block, COSTS, SideWork, StatementPair, WorkloadBlock};
use certctl_bench::duet::verdict::{DuetVerdict, Settings, judge, overall};
use certctl_bench::duet::{Duet, SCHEMA_VERSION, Sides};
use certctl_bench::report::duet as report;

use super::html::{assert_fits, assert_well_formed};
use crate::common::made_up::{about, planned};

const BLOCKS: usize = 16;

/// Returns a block in which the head is slower by this share, more or less, and counts one statement more.
fn block(index: usize, slower: f64) -> Block {
    let scatter = [-0.012, 0.004, 0.011, -0.007, 0.009, -0.005][index % 6];
    let logarithm = slower.ln_1p() + scatter;
    let answers = |factor: f64, right| Answers {
        scheduled: 1_085,
        right,
        p50_us: Some(2_000.0 * factor * (1.0 + scatter)),
        p95_us: Some(3_500.0 * factor),
        p99_us: Some(6_000.0 * factor),
        bytes: Some(400.0),
    };
    let names = [("response_p50_us", 1.0), ("response_p95_us", 1.6), ("response_p99_us", 4.0), ("answer_bytes", 0.0)];
    let logarithms: BTreeMap<_, _> = names.into_iter().map(|(name, wide)| (name, logarithm * wide)).collect();
    let work = |calls: f64| SideWork {
        per_answer: COSTS.into_iter().zip([calls, 85.0, 20.0, 2_000.0, 30.0]).collect(),
        answers: 1_085,
        ..SideWork::default()
    };
    let answers = Sides { base: answers(1.0, 1_085), head: answers(logarithm.exp(), 1_085 - index as u64 % 2) };
    let name = "agent_storm".to_owned();
    Block {
        number: index + 1,
        first: if index.is_multiple_of(2) { "base" } else { "head" },
        ports: Sides::default(),
        workloads: vec![WorkloadBlock { name, answers, logarithms, slice_s: 1.0 }],
        work: Sides { base: work(4.0), head: work(5.0) },
        others: Some(0.05 + if index == 6 { 0.9 } else { 0.0 }),
    }
}

/// Returns a duet whose head is slower by this share.
fn duet(slower: f64) -> Duet {
    let settings = Settings { threshold: 0.01, alpha: 0.01, blocks: BLOCKS };
    let blocks: Vec<Block> = (0..BLOCKS).map(|index| block(index, slower)).collect();
    let (measures, missing) = judge(&blocks, &settings);
    let verdict = overall(&measures, false, !missing.is_empty());
    let system = about().system;
    let statements = vec![StatementPair {
        outline: "SELECT <actor_roles>".to_owned(),
        calls: Sides { base: 1.0, head: 2.0 },
        rows: Sides { base: 9.0, head: 18.0 },
        shared_blocks: Sides { base: 3.0, head: 6.0 },
    }];
    Duet {
        schema_version: SCHEMA_VERSION,
        scenario: "agent_storm",
        finished_at: "2026-01-01T00:00:00Z".to_owned(),
        verdict,
        exit_code: verdict.exit_code(),
        invalid: Vec::new(),
        missing,
        notes: vec!["block 7: other processes and the host took 0.9 processors".to_owned()],
        settings,
        systems: Some(Sides { base: system.clone(), head: system }),
        machine: about().machine,
        plans: vec![planned()],
        measures,
        statements,
        repeated: vec!["block 3: the generator was 12 ms <late>".to_owned()],
        blocks,
    }
}

#[test]
fn the_page_of_a_duet_begins_with_its_verdict() {
    let duet = duet(0.3);
    assert_eq!(duet.verdict, DuetVerdict::Regressed);
    let page = report::html(&duet);
    assert_well_formed(&page);
    let first = |what: &str| page.find(what).unwrap_or_else(|| panic!("no {what}: {page}"));
    // In the order of a reader's questions, each with its figure.
    let order = [
        "<div class=\"verdict bad\"><p><strong>regressed</strong>: the head is worse: agent_storm response_p50_us by +",
        "<figcaption>Changes from base to head</figcaption>",
        "<caption>Measures</caption>",
        "<figcaption>Change of the response time, block by block; Response time of both sides, block by block",
        "<caption>Blocks</caption>",
        "<h2>What disturbed the run</h2>",
        "<figcaption>Processors that others took, block by block</figcaption>",
        "<li>repeated: block 3: the generator was 12 ms &lt;late&gt;</li>",
        "<li>block 7: other processes and the host took 0.9 processors</li>",
    ];
    let places = order.map(first);
    assert!(places.is_sorted(), "{places:?}");
    // The table says what the figure shows: each change, its interval, and what counts.
    let (change, [low, high]) = (duet.measures[0].change.unwrap(), duet.measures[0].interval.unwrap());
    let shown = |share: f64| format!("{:+.1}%", share * 100.0);
    let interval = format!("{} … {}", shown(low), shown(high));
    for cell in [&*shown(change), &*interval, "±1%", "±0.1 pp", "±0.5%"] {
        assert!(page.contains(&format!("<td class=\"n\">{cell}</td>")), "no {cell}: {page}");
    }
    let described = format!("regressed {}, between {} and {}; ±1% count.", shown(change), shown(low), shown(high));
    assert!(page.contains(&described), "no {described}");
    for loading in ["src=", "url(", "@import", "<script", "href=\"http"] {
        assert!(!page.contains(loading), "{loading}");
    }
}

#[test]
fn a_duet_without_a_block_has_a_page() {
    let mut none = duet(0.0);
    (none.measures, none.missing, none.blocks) = (Vec::new(), Vec::new(), Vec::new());
    (none.notes, none.repeated, none.systems) = (Vec::new(), Vec::new(), None);
    none.verdict = DuetVerdict::Invalid;
    none.invalid = vec!["the duet was stopped".to_owned(), "0 of 16 blocks were played".to_owned()];
    let page = report::html(&none);
    assert_well_formed(&page);
    assert!(page.contains("<li>0 of 16 blocks were played</li>") && page.contains("Nothing was noted."), "{page}");
    assert!(!page.contains("<svg"), "{page}");
}

#[test]
fn a_browser_shows_the_page_of_a_duet_without_overflow() {
    // A figure of changes, two charts by block, one of others.
    assert_fits(&report::html(&duet(0.3)), 4);
    assert_fits(&report::html(&duet(-0.002)), 4);
}
