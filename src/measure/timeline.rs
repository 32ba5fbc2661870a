//! A run second by second, by intended start, so that a stall shows at its time and not only in a tail. The warm-up is
//! kept apart from the measured window, so that no figure can count it by mistake.
//!
//! A histogram takes 12 kB, so that only the seconds in which arrivals are under way have one: the others take some
//! hundred bytes each.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrReader, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::distribution::{self, Quantile, encode};
use super::outcome::Outcome;
use crate::error::{Context as _, Result};

/// The largest share of arrivals without the right answer in a steady second.
pub const MAX_WRONG_SHARE: f64 = 0.01;
/// The most seconds that have a histogram. A longer time limit of a request is rare, and costs some microseconds for
/// each answer that comes later than this.
const MOST_OPEN: usize = 32;

/// One second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Second {
    /// Arrivals with an intended start in it.
    pub scheduled: u64,
    /// Those among them that started late because of the generator.
    pub late_by_generator: u64,
    /// Ticks of the generator's timer that were due in it.
    pub ticks: u64,
    /// Those among them that came late.
    pub late_ticks: u64,
    /// Arrivals with an intended start in it that did start.
    pub started: u64,
    /// Those among them that got the right answer.
    pub ok: u64,
    response_us: ResponseTimes,
}

/// The response times of a second, in microseconds.
#[derive(Clone, Debug)]
enum ResponseTimes {
    /// As they are recorded.
    Open(Histogram<u32>),
    /// As they are kept: in the HDR V2 format, or nothing without any.
    Packed(Box<[u8]>),
}

/// The moment from which on a run was steady, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steady {
    /// After this time, to the second.
    After(Duration),
    /// Not by the end of the run.
    Never,
}

/// The measured window, second by second, and the warm-up before it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Timeline {
    seconds: Vec<Second>,
    /// The number of whole seconds: the window may end amid its last.
    whole: usize,
    /// The seconds of the warm-up, backwards: the first one is the last before the window.
    warm_up: Vec<Second>,
    /// The seconds that have a histogram, in the order in which they got it.
    #[serde(skip)]
    open: VecDeque<Place>,
    /// Histograms, empty, for the next ones.
    #[serde(skip)]
    spare: Vec<Histogram<u32>>,
}

/// A second of the window, or of the warm-up, backwards.
#[derive(Clone, Copy, Debug)]
enum Place {
    Window(usize),
    WarmUp(usize),
}

impl Timeline {
    /// Makes room for a whole window, so that recording allocates nothing.
    pub fn new(window: Duration) -> Self {
        // A window is a day at most.
        Self { seconds: seconds(window), whole: window.as_secs() as usize, ..Self::default() }.with_room()
    }

    /// Makes room for the warm-up too.
    pub fn with_warm_up(self, warm_up: Duration) -> Self {
        Self { warm_up: seconds(warm_up), ..self }.with_room()
    }

    fn with_room(self) -> Self {
        let most = (self.seconds.len() + self.warm_up.len()).min(MOST_OPEN);
        Self { open: VecDeque::with_capacity(most), spare: vec![empty(); most], ..self }
    }

    /// Records an arrival with an intended start `offset_ns` into the window.
    pub fn record(&mut self, offset_ns: u64, outcome: Outcome, response_ns: u64) {
        self.record_at(Place::Window((offset_ns / 1_000_000_000) as usize), outcome, response_ns);
    }

    fn record_at(&mut self, place: Place, outcome: Outcome, response_ns: u64) {
        let Some(second) = self.at(place) else { return };
        second.started += 1;
        if outcome != Outcome::Ok {
            return;
        }
        second.ok += 1;
        if !matches!(second.response_us, ResponseTimes::Open(_)) {
            self.open(place);
        }
        if let Some(ResponseTimes::Open(histogram)) = self.at(place).map(|second| &mut second.response_us) {
            histogram.saturating_record(response_ns / 1_000);
        }
    }

    fn at(&mut self, place: Place) -> Option<&mut Second> {
        match place {
            Place::Window(index) => self.seconds.get_mut(index),
            Place::WarmUp(index) => self.warm_up.get_mut(index),
        }
    }

    /// Gives a second a histogram, and packs the one that has had it longest if there are too many.
    fn open(&mut self, place: Place) {
        if self.open.len() >= MOST_OPEN
            && let Some(oldest) = self.open.pop_front()
            && let Some(second) = self.at(oldest)
        {
            let packed = ResponseTimes::of(&second.response_us.histogram());
            if let ResponseTimes::Open(mut histogram) = std::mem::replace(&mut second.response_us, packed) {
                histogram.reset();
                self.spare.push(histogram);
            }
        }
        let spare = self.spare.pop();
        let Some(second) = self.at(place) else { return };
        let histogram = match &second.response_us {
            ResponseTimes::Packed(bytes) if bytes.is_empty() => spare.unwrap_or_else(empty),
            times => times.histogram().into_owned(),
        };
        second.response_us = ResponseTimes::Open(histogram);
        self.open.push_back(place);
    }

    /// Counts an arrival that is scheduled `offset_ns` into the window.
    pub fn schedule(&mut self, offset_ns: u64) {
        if let Some(second) = self.second(offset_ns) {
            second.scheduled += 1;
        }
    }

    /// Records that the arrival with this intended start was late, because of the generator or for another reason.
    pub fn late(&mut self, offset_ns: u64, by_generator: bool) {
        if let Some(second) = self.second(offset_ns) {
            second.late_by_generator += u64::from(by_generator);
        }
    }

    /// Counts a tick of the generator's timer that was due `offset_ns` into the window.
    pub fn tick(&mut self, offset_ns: u64, late: bool) {
        if let Some(second) = self.second(offset_ns) {
            second.ticks += 1;
            second.late_ticks += u64::from(late);
        }
    }

    fn second(&mut self, offset_ns: u64) -> Option<&mut Second> {
        self.seconds.get_mut((offset_ns / 1_000_000_000) as usize)
    }

    /// Records an arrival of the warm-up, with an intended start `before_ns` before the window, which is not 0.
    pub fn record_warm_up(&mut self, before_ns: u64, outcome: Outcome, response_ns: u64) {
        self.record_at(Place::WarmUp((before_ns.saturating_sub(1) / 1_000_000_000) as usize), outcome, response_ns);
    }

    /// Adds what another part of the run recorded. A second that only one of them reached is as that one has it.
    ///
    /// # Errors
    /// If that one has a sample beyond the bounds of this one: it was read, and the suite did not write it.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.whole = self.whole.max(other.whole);
        merge(&mut self.seconds, &other.seconds)?;
        merge(&mut self.warm_up, &other.warm_up)
    }

    /// Returns the window's seconds in order.
    pub fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// Returns the warm-up's seconds in order; the last one ends where the window begins.
    pub fn warm_up(&self) -> impl Iterator<Item = &Second> {
        self.warm_up.iter().rev()
    }

    /// Returns the moment from which on this quantile of the response time of all arrivals stayed below `limit` in
    /// every second. An arrival without the right answer counts as longer than any, and a second with more than
    /// [`MAX_WRONG_SHARE`] of them is not steady, nor is one with too few right answers for the quantile. The rest of
    /// the window after its last whole second does not count. Useful if each second has enough requests.
    pub fn steady(&self, quantile: Quantile, limit: Duration) -> Steady {
        let whole = &self.seconds[..self.whole.min(self.seconds.len())];
        let is_steady = |second: &&Second| second.is_steady(quantile, limit);
        let steady = whole.iter().rev().take_while(is_steady).count();
        match whole.len() - steady {
            _ if steady == 0 => Steady::Never,
            before => Steady::After(Duration::from_secs(before as u64)),
        }
    }

    /// Leaves out the seconds from `length` on, which a run that ended early did not reach.
    pub fn truncate(&mut self, length: usize) {
        self.seconds.truncate(length);
    }
}

fn merge(seconds: &mut Vec<Second>, others: &[Second]) -> Result<()> {
    for (second, other) in seconds.iter_mut().zip(others) {
        second.merge(other)?;
    }
    seconds.extend_from_slice(others.get(seconds.len()..).unwrap_or_default());
    Ok(())
}

fn seconds(length: Duration) -> Vec<Second> {
    let count = length.as_nanos().div_ceil(1_000_000_000) as usize;
    let response_us = ResponseTimes::Packed(Box::default());
    let second = Second { scheduled: 0, late_by_generator: 0, ticks: 0, late_ticks: 0, started: 0, ok: 0, response_us };
    vec![second; count]
}

fn empty() -> Histogram<u32> {
    // The arguments are constants within the library's bounds.
    Histogram::new_with_bounds(1, 600_000_000, 2).expect("constant bounds are valid")
}

impl ResponseTimes {
    /// Packs a histogram.
    fn of(histogram: &Histogram<u32>) -> Self {
        let mut bytes = Vec::new();
        if !histogram.is_empty() {
            // Writing to memory cannot fail, and the histogram is far below the format's limits.
            V2Serializer::new().serialize(histogram, &mut bytes).expect("serializing to memory");
        }
        Self::Packed(bytes.into())
    }

    fn histogram(&self) -> Cow<'_, Histogram<u32>> {
        match self {
            Self::Open(histogram) => Cow::Borrowed(histogram),
            Self::Packed(bytes) if bytes.is_empty() => Cow::Owned(empty()),
            // The suite has written them, and keeps them in memory only.
            Self::Packed(bytes) => {
                Cow::Owned(HdrReader::new().deserialize(&mut &bytes[..]).expect("a histogram that was packed"))
            }
        }
    }
}

impl Serialize for ResponseTimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&*self.histogram()))
    }
}

impl<'de> Deserialize<'de> for ResponseTimes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        distribution::deserialize(deserializer).map(|histogram| Self::of(&histogram))
    }
}

impl Second {
    fn merge(&mut self, other: &Self) -> Result<()> {
        self.scheduled += other.scheduled;
        self.late_by_generator += other.late_by_generator;
        self.ticks += other.ticks;
        self.late_ticks += other.late_ticks;
        self.started += other.started;
        self.ok += other.ok;
        if other.ok > 0 {
            let mut both = self.response_us.histogram().into_owned();
            both.add(&*other.response_us.histogram()).context(|| "merging two seconds".to_owned())?;
            self.response_us = ResponseTimes::of(&both);
        }
        Ok(())
    }

    fn is_steady(&self, quantile: Quantile, limit: Duration) -> bool {
        // Unsent arrivals have not started; if the schedule is not counted, all arrivals have.
        let due = self.scheduled.max(self.started);
        let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        let response_us = self.response_us.histogram();
        let below_us = response_us.lowest_equivalent(limit_us).saturating_sub(1);
        let quick = response_us.count_between(0, below_us);
        self.ok >= quantile.samples_needed()
            && (due - self.ok) as f64 <= due as f64 * MAX_WRONG_SHARE
            && quick as f64 >= due as f64 * quantile.fraction()
    }

    /// Returns the quantile of the response time in microseconds, to within 1%, if enough samples lie beyond it.
    pub fn response_us(&self, quantile: Quantile) -> Option<u64> {
        let response_us = self.response_us.histogram();
        (response_us.len() >= quantile.samples_needed()).then(|| response_us.value_at_quantile(quantile.fraction()))
    }

    /// Returns the longest response time in microseconds.
    pub fn response_max_us(&self) -> Option<u64> {
        let response_us = self.response_us.histogram();
        (!response_us.is_empty()).then(|| response_us.max())
    }

    /// Returns the response times, in microseconds, in the HDR V2 deflate format, base64.
    pub fn to_base64(&self) -> String {
        encode(&*self.response_us.histogram())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a timeline whose seconds have 200 samples of these milliseconds each.
    fn timeline(seconds_ms: &[u64]) -> Timeline {
        let mut timeline = Timeline::new(Duration::from_secs(seconds_ms.len() as u64));
        for (second, ms) in (0..).zip(seconds_ms) {
            for _ in 0..200 {
                timeline.record(second * 1_000_000_000, Outcome::Ok, ms * 1_000_000);
            }
        }
        timeline
    }

    #[test]
    fn warm_up_seconds_end_where_the_window_begins() {
        let mut timeline = Timeline::new(Duration::from_secs(2)).with_warm_up(Duration::from_millis(1_500));
        for before_ns in [1, 1_000_000_000, 1_000_000_001, 1_500_000_000, 9_000_000_000] {
            timeline.record_warm_up(before_ns, Outcome::Ok, 1_000_000);
        }
        assert_eq!(timeline.warm_up().map(|second| second.ok).collect::<Vec<_>>(), [2, 2]);
        timeline.record_warm_up(1, Outcome::TimedOut, 1_000_000);
        assert_eq!(timeline.warm_up().map(|second| second.started).collect::<Vec<_>>(), [2, 3]);
        assert!(timeline.seconds().iter().all(|second| second.started == 0));
    }

    #[test]
    fn a_second_that_was_packed_takes_late_answers() {
        let length = MOST_OPEN as u64 * 3;
        let mut timeline = Timeline::new(Duration::from_secs(length)).with_warm_up(Duration::from_secs(length));
        let mut open = Vec::new();
        // Each second twice, the second time when most of them have no histogram any more.
        for round in 1..=2 {
            for second in 0..length {
                for sample in 0..30 {
                    timeline.record(second * 1_000_000_000, Outcome::Ok, (second + sample * round) * 1_000_000);
                    timeline.record_warm_up(second * 1_000_000_000 + 1, Outcome::Ok, second * 1_000_000);
                }
            }
            open.push(timeline.open.len());
        }
        assert_eq!(open, [MOST_OPEN; 2]);
        let written = serde_json::to_string(&timeline).unwrap();
        let read: Timeline = serde_json::from_str(&written).unwrap();
        for timeline in [&timeline, &read] {
            for (at, second) in (0_u64..).zip(timeline.seconds()) {
                let mut histogram = empty();
                (1..=2).flat_map(|round| (0..30).map(move |sample| round * sample)).for_each(|ms| {
                    histogram.saturating_record((at + ms) * 1_000);
                });
                assert_eq!((second.ok, second.to_base64()), (60, encode(&histogram)), "second {at}");
                assert_eq!(second.response_us(Quantile::P50), Some(histogram.value_at_quantile(0.5)));
            }
            assert!(timeline.warm_up().all(|second| second.response_us.histogram().len() == 60));
        }
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
    }

    #[test]
    fn steady_state_must_last_to_the_end() {
        let steady = |seconds_ms: &[u64]| timeline(seconds_ms).steady(Quantile::P90, Duration::from_millis(500));
        let after = |seconds| Steady::After(Duration::from_secs(seconds));
        assert_eq!(steady(&[2_000, 900, 10, 20]), after(2));
        assert_eq!(steady(&[10, 900, 10]), after(2));
        assert_eq!(steady(&[10, 10]), after(0));
        assert_eq!(steady(&[10, 10, 501]), Steady::Never);
        let nothing = Timeline::new(Duration::from_secs(3));
        assert_eq!(nothing.steady(Quantile::P90, Duration::from_millis(500)), Steady::Never);
    }

    #[test]
    fn a_second_with_wrong_answers_is_not_steady() {
        let steady = |wrong: u64, unsent: u64| {
            let mut timeline = timeline(&[1, 1, 1]);
            for _ in 0..wrong {
                timeline.record(1_500_000_000, Outcome::Wrong, 1_000);
            }
            for _ in 0..200 + wrong + unsent {
                timeline.schedule(1_500_000_000);
            }
            timeline.steady(Quantile::P90, Duration::from_millis(500))
        };
        // 200 right answers: of 202 arrivals two are less than 1%, of 203 three are more.
        assert_eq!([steady(0, 0), steady(2, 0), steady(0, 2)], [Steady::After(Duration::ZERO); 3]);
        assert_eq!([steady(3, 0), steady(0, 3), steady(2, 1)], [Steady::After(Duration::from_secs(2)); 3]);
    }

    #[test]
    fn a_second_without_enough_right_answers_is_not_steady() {
        let steady = |timeline: &Timeline| timeline.steady(Quantile::P90, Duration::from_millis(500));
        let mut timeline = Timeline::new(Duration::from_millis(4_300));
        let mut answers = |second: u64, count: u64| {
            for _ in 0..count {
                timeline.record(second * 1_000_000_000, Outcome::Ok, 1_000_000);
            }
            steady(&timeline)
        };
        for second in [0, 2] {
            answers(second, 200);
        }
        assert_eq!(answers(1, 99), Steady::Never);
        // The last three tenths of a second do not count.
        assert_eq!(answers(3, 100), Steady::After(Duration::from_secs(2)));
        assert_eq!(answers(1, 1), Steady::After(Duration::ZERO));
    }
}
