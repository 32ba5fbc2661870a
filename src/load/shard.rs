//! Shards: the parts of a run's load, each driven by one generator thread, in one process or in several, on one machine
//! or on several.
//!
//! Every connection, with its client where each client has its own, belongs to exactly one shard; so does every arrival
//! of the schedule and every request that a run may send at most. They are dealt like cards: number `n` of a kind goes
//! to shard `n mod count`. A shard computes the whole schedule from plan and seed and keeps what is its own, so that the
//! arrivals of all shards together are those of a generator with one thread, whatever their number.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::arrival::PlannedRequest;
use super::dispatcher::Affinity;
use super::plan::{Model, Plan};

/// The largest number of shards of a run.
pub const MOST_SHARDS: u64 = 4_096;

/// One of the shards of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ShardNumbers")]
pub struct Shard {
    index: u64,
    count: u64,
}

/// A shard as it is read, before it is checked.
#[derive(Deserialize)]
struct ShardNumbers {
    index: u64,
    count: u64,
}

impl TryFrom<ShardNumbers> for Shard {
    type Error = String;

    fn try_from(ShardNumbers { index, count }: ShardNumbers) -> Result<Self, String> {
        Self::new(index, count).ok_or_else(|| format!("there is no shard {index} of {count}: they count from 0"))
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl Shard {
    /// The only shard of a run that has one.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Returns shard `index`, counted from 0, of `count`; `None` if there is no such shard, or there are more than
    /// [`MOST_SHARDS`].
    pub fn new(index: u64, count: u64) -> Option<Self> {
        (index < count && count <= MOST_SHARDS).then_some(Self { index, count })
    }

    /// Returns the shards of the threads of this one, if it is the shard of a process with so many; `None` if there are
    /// more than [`MOST_SHARDS`] then. Process i of n with m threads has shards i·m to i·m + m − 1 of n·m.
    pub fn threads(self, threads: u64) -> Option<Vec<Self>> {
        let first = self.index.checked_mul(threads)?;
        let count = self.count.checked_mul(threads)?;
        (0..threads).map(|thread| Self::new(first + thread, count)).collect()
    }

    /// Returns its index, counted from 0.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Returns the number of shards of the run.
    pub const fn count(self) -> u64 {
        self.count
    }

    /// Returns true if it has the thing with this number, counted from 0.
    pub const fn owns(self, number: u64) -> bool {
        number % self.count == self.index
    }

    /// Returns how many of `all` things it has.
    pub const fn size_of(self, all: u64) -> u64 {
        all / self.count + (self.index < all % self.count) as u64
    }

    /// Returns the number, among those of all shards, of its own thing with the number `own`, both counted from 0.
    pub const fn number_of(self, own: u64) -> u64 {
        own * self.count + self.index
    }

    /// Returns the number, among its own, of a thing that it has, both counted from 0.
    pub const fn own_number_of(self, number: u64) -> u64 {
        number / self.count
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of {}", self.index, self.count)
    }
}

/// The part of a plan's load that is one shard's.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    shard: Shard,
    connections: u64,
    dealt_by: DealtBy,
}

/// The rule by which arrivals are dealt.
#[derive(Clone, Copy, Debug)]
enum DealtBy {
    /// To the shard of the connection that they need.
    Connection,
    /// To the shard of their client, which may use any connection of the shard.
    Client,
    /// In turn, all steps of a round to one shard: they have no client to whom it matters.
    Round { steps: u64 },
}

impl Share {
    /// Returns the share that `shard` has of the load of `plan`.
    pub fn of(plan: &Plan, shard: Shard) -> Self {
        let dealt_by = match &plan.model {
            Model::Open { affinity: Affinity::Own, .. } => DealtBy::Connection,
            Model::Open { clients, affinity: Affinity::Any, .. } if *clients >= shard.count => DealtBy::Client,
            Model::Open { .. } | Model::Closed { .. } => DealtBy::Round { steps: plan.steps.max(1) as u64 },
        };
        Self { shard, connections: plan.connections as u64, dealt_by }
    }

    /// Returns all of a load over so many connections, each for clients of its own.
    pub const fn whole(connections: usize) -> Self {
        Self { shard: Shard::WHOLE, connections: connections as u64, dealt_by: DealtBy::Connection }
    }

    /// Returns the shard.
    pub const fn shard(&self) -> Shard {
        self.shard
    }

    /// Returns true if it is all of the load.
    pub const fn is_whole(&self) -> bool {
        self.shard.count == 1
    }

    /// Returns the number of its connections, which are its users in a closed workload.
    pub const fn connections(&self) -> usize {
        self.shard.size_of(self.connections) as usize
    }

    /// Returns the connection, among its own, of a client that has one of its own.
    pub const fn connection_of(&self, client: u64) -> usize {
        self.shard.own_number_of(client % self.connections) as usize
    }

    /// Returns true if it has this arrival of an open workload.
    pub const fn owns(&self, planned: &PlannedRequest) -> bool {
        self.shard.owns(match self.dealt_by {
            DealtBy::Connection => planned.client % self.connections,
            DealtBy::Client => planned.client,
            DealtBy::Round { steps } => planned.seq / steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::load::plan::{DuetPart, Opening};
    use crate::load::profile::tests::profiles;
    use crate::load::rate::Rate;
    use crate::load::schedule::{ArrivalSpread, FleetSchedule, Pattern, Restart, Stream};

    const WINDOW: Duration = Duration::from_secs(60);

    fn spreads() -> impl Strategy<Value = ArrivalSpread> {
        prop::sample::select(vec![ArrivalSpread::Constant, ArrivalSpread::Poisson, ArrivalSpread::Jittered])
    }

    fn fleets() -> impl Strategy<Value = Pattern> {
        let restart = prop::option::of((1_u64..9).prop_map(|s| Restart { within: Duration::from_secs(s), step: 2 }));
        (prop::collection::vec(2_u64..30, 1..3), 0.0..0.9_f64, restart).prop_map(|(periods, jitter, restart)| {
            let streams = periods.into_iter().enumerate();
            let streams = streams.map(|(step, seconds)| Stream { step, period: Duration::from_secs(seconds) });
            Pattern::Fleet(FleetSchedule { streams: streams.collect(), jitter, restart })
        })
    }

    fn patterns() -> impl Strategy<Value = Pattern> {
        let rate = (1_u64..40).prop_map(Rate::per_second);
        let even = (spreads(), rate.clone()).prop_map(|(spread, rate)| spread.at(rate));
        let varying = (spreads(), profiles(rate)).prop_filter_map("over the window", |(spread, profile)| {
            Some(Pattern::Varying(spread, profile.over(WINDOW)?))
        });
        prop_oneof![even, varying, fleets()]
    }

    fn plans() -> impl Strategy<Value = Plan> {
        let affinities = prop::sample::select(vec![Affinity::Own, Affinity::Any]);
        let parts = prop::sample::select(vec![None, Some(DuetPart::Heads), Some(DuetPart::Tails)]);
        (patterns(), 1_u64..40, affinities, 1_usize..40, 1_usize..4, any::<u64>(), 0_u64..3, parts).prop_map(
            |(pattern, clients, affinity, connections, steps, rng_seed, warm_up_s, part)| Plan {
                model: Model::Open { pattern, clients, affinity },
                steps,
                starts_after: Duration::ZERO,
                warm_up: Duration::from_secs(warm_up_s),
                window: WINDOW,
                goes_on: Duration::from_secs(1),
                connections,
                further: 0,
                opening: Opening::ByFirstRequest,
                timeout: Duration::from_secs(1),
                max_lag: Duration::from_millis(10),
                rng_seed,
                part,
            },
        )
    }

    fn shards() -> impl Strategy<Value = Vec<Shard>> {
        // Processes, and threads of each.
        (1_u64..6, 1_u64..4).prop_map(|(processes, threads)| {
            let processes = (0..processes).map(|index| Shard::new(index, processes).unwrap());
            processes.flat_map(|process| process.threads(threads).unwrap()).collect()
        })
    }

    proptest! {
        // Each case draws a schedule for every shard.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn all_shards_have_the_single_thread_schedule(plan in plans(), shards in shards()) {
            let whole: Vec<_> = plan.schedule(Share::of(&plan, Shard::WHOLE)).collect();
            let mut union = Vec::new();
            for shard in shards {
                let share = Share::of(&plan, shard);
                let own: Vec<_> = plan.schedule(share).collect();
                prop_assert!(own.is_sorted_by_key(|(at_ns, _)| *at_ns));
                if let Model::Open { affinity: Affinity::Own, clients, .. } = &plan.model {
                    // Each client keeps the connection that it would have with one thread.
                    for client in (0..*clients).filter(|client| shard.owns(client % plan.connections as u64)) {
                        let connection = shard.number_of(share.connection_of(client) as u64);
                        prop_assert_eq!(connection, client % plan.connections as u64);
                        prop_assert!(share.connection_of(client) < share.connections());
                    }
                }
                union.extend(own);
            }
            // A sequence number comes once only.
            union.sort_by_key(|(_, planned)| planned.seq);
            prop_assert_eq!(union, whole);
        }

        #[test]
        fn a_client_belongs_to_one_shard(plan in plans(), shards in shards()) {
            let Model::Open { clients, affinity, .. } = plan.model else { unreachable!() };
            let count = shards.len() as u64;
            prop_assume!(affinity == Affinity::Own || clients >= count);
            let mut owners = std::collections::HashMap::new();
            for shard in shards {
                for (_, planned) in plan.schedule(Share::of(&plan, shard)) {
                    prop_assert_eq!(*owners.entry(planned.client).or_insert(shard), shard);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn everything_is_dealt_out_exactly(all in 0_u64..3_000, shards in shards()) {
            prop_assert_eq!(shards.iter().map(|shard| shard.size_of(all)).sum::<u64>(), all);
            let mut numbers: Vec<u64> = Vec::new();
            for shard in shards {
                let own: Vec<u64> = (0..shard.size_of(all)).map(|own| shard.number_of(own)).collect();
                prop_assert!(own.iter().all(|number| shard.owns(*number)));
                prop_assert!((0..).zip(&own).all(|(own, number)| shard.own_number_of(*number) == own));
                numbers.extend(own);
            }
            numbers.sort_unstable();
            prop_assert!(numbers.into_iter().eq(0..all));
        }
    }

    #[test]
    fn impossible_shards_are_refused() {
        assert_eq!([Shard::new(0, 0), Shard::new(3, 3), Shard::new(0, MOST_SHARDS + 1)], [None; 3]);
        assert_eq!(Shard::new(1, 1_000).unwrap().threads(5), None);
        assert_eq!(serde_json::from_str::<Shard>(r#"{"index":1,"count":2}"#).unwrap(), Shard::new(1, 2).unwrap());
        let error = serde_json::from_str::<Shard>(r#"{"index":2,"count":2}"#).unwrap_err();
        assert!(error.to_string().contains("no shard 2 of 2"), "{error}");
    }
}
