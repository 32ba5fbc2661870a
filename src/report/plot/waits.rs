//! The database's active backends, sample by sample, by the type of what they wait for.

use std::collections::BTreeMap;

use super::chart::{Area, Axis, Band, Chart, Scale};
use super::ink::Ink;
use super::seconds::Stall;
use super::ticks;
use crate::evidence::ActivitySample;

/// The groups of active backends, from the lowest area on: those that run, and those that wait by PostgreSQL's type of
/// the wait, with all further types in the last one.
const GROUPS: [(&str, &[&str], Ink); 5] = [
    ("running", &[], Ink::Phase(3)),
    ("waiting for a lock", &["Lock"], Ink::Phase(5)),
    ("waiting within the server", &["LWLock", "BufferPin", "IPC"], Ink::Phase(1)),
    ("waiting for I/O", &["IO"], Ink::Phase(0)),
    ("waiting for something else", &[], Ink::Phase(6)),
];
const OTHERS: usize = GROUPS.len() - 1;

/// Returns the backends of each group.
fn groups(sample: &ActivitySample) -> [u64; GROUPS.len()] {
    let mut counts = [0; GROUPS.len()];
    for (wait, count) in &sample.waits {
        let kind = wait.split(' ').next().unwrap_or_default();
        let group = GROUPS.iter().position(|(_, kinds, _)| kinds.contains(&kind)).unwrap_or(OTHERS);
        counts[group] += count;
    }
    counts[0] = sample.active.saturating_sub(counts.iter().sum());
    counts
}

/// Builds the chart below one whose seconds are on `x` and whose background is `bands`; `None` without two samples, or
/// where no backend was ever active. On that axis the samples begin at `window_at`.
pub fn chart(title: &str, samples: &[ActivitySample], x: &Axis, bands: &[Band], window_at: f64) -> Option<Chart> {
    let placed = samples.iter().map(|sample| (window_at + sample.at_s, groups(sample)));
    let placed: Vec<_> = placed.filter(|(at, _)| (x.from..=x.to).contains(at)).collect();
    let most = placed.iter().map(|(_, counts)| counts.iter().sum::<u64>()).max().filter(|most| *most > 0)?;
    if placed.len() < 2 {
        return None;
    }
    let is_there = |group: &usize| placed.iter().any(|(_, counts)| counts[*group] > 0);
    let areas = (0..GROUPS.len()).filter(is_there).map(|group| {
        let (label, _, ink) = GROUPS[group];
        let edges = placed.iter().map(|(at, counts)| {
            let low: u64 = counts[..group].iter().sum();
            (*at, low as f64, (low + counts[group]) as f64)
        });
        Area { label: label.to_owned(), ink, points: edges.collect() }
    });
    let areas = areas.collect();
    let to = most as f64 * 1.1;
    let ticks = ticks::linear_ticks(0.0, to, 5).into_iter().map(|tick| (tick, ticks::digits(tick))).collect();
    Some(Chart {
        title: title.to_owned(),
        description: format!("{} samples, at most {most} active backends.", placed.len()),
        x: x.clone(),
        y: Axis { title: "active backends".to_owned(), scale: Scale::Linear, from: 0.0, to, ticks },
        bands: bands.to_vec(),
        areas,
        lines: Vec::new(),
    })
}

/// Describes what the active backends were waiting for while requests of a stall were under way; `None` without a
/// sample.
pub fn during(stall: &Stall, samples: &[&ActivitySample], window_at: f64) -> Option<String> {
    let from = stall.first as f64;
    // Its last request may have taken as long as its slowest.
    let to = (stall.last + 1) as f64 + stall.slowest_us.unwrap_or_default() as f64 / 1e6;
    let within: Vec<_> = samples.iter().filter(|sample| (from..to).contains(&(window_at + sample.at_s))).collect();
    let busiest = within.iter().map(|sample| sample.active).max()?;
    // Of each wait the sample with most backends in it: their number, and that of all active ones.
    let mut waits: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for sample in &within {
        for (wait, count) in &sample.waits {
            let most = waits.entry(wait).or_default();
            *most = (*most).max((*count, sample.active));
        }
    }
    let when = if stall.first == stall.last {
        format!("In second {}", stall.first)
    } else {
        format!("In seconds {} to {}", stall.first, stall.last)
    };
    let what = match waits.iter().max_by_key(|(_, most)| **most) {
        Some((wait, (most, active))) => format!("up to {most} of {active} active backends waited for {wait}"),
        None => format!("none of up to {busiest} active backends waited"),
    };
    Some(format!("{when} {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: f64, active: u64, waits: &[(&str, u64)]) -> ActivitySample {
        ActivitySample { at_s, active, waits: waits.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect() }
    }

    #[test]
    fn backends_are_grouped_by_what_they_wait_for() {
        let waits = [("Lock transactionid", 3), ("IO WalSync", 2), ("LWLock WALWrite", 1), ("Timeout PgSleep", 1)];
        assert_eq!(groups(&sample(0.0, 9, &waits)), [2, 3, 1, 2, 1]);
        // A sample that was torn apart never counts below none.
        assert_eq!(groups(&sample(0.0, 1, &[("Lock tuple", 3)])), [0, 3, 0, 0, 0]);
    }

    #[test]
    fn a_stall_is_explained_by_the_samples_within_it() {
        let samples = [
            sample(1.0, 9, &[("IO WalSync", 9)]),
            sample(3.1, 20, &[("Lock transactionid", 12)]),
            sample(4.1, 18, &[("Lock transactionid", 7), ("IO WalSync", 8)]),
            sample(9.0, 2, &[("IO WalSync", 2)]),
        ];
        let samples: Vec<_> = samples.iter().collect();
        let stall = Stall { first: 3, last: 4, slowest_us: Some(1_200_000) };
        let text = during(&stall, &samples, 0.0);
        assert_eq!(
            text.as_deref(),
            Some("In seconds 3 to 4 up to 12 of 20 active backends waited for Lock transactionid.")
        );
        assert_eq!(during(&Stall { first: 30, last: 30, slowest_us: None }, &samples, 0.0), None);
        // The samples are two seconds earlier on the axis of another workload.
        let stall = Stall { first: 7, last: 7, slowest_us: None };
        let text = during(&stall, &samples, -2.0);
        assert_eq!(text.as_deref(), Some("In second 7 up to 2 of 2 active backends waited for IO WalSync."));
    }
}
