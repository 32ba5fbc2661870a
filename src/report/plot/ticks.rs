//! The marks of an axis, and their labels.

/// The smallest and the greatest latency that a logarithmic axis shows, in microseconds.
const LEAST_US: f64 = 0.01;
const MOST_US: f64 = 1e10;
/// A logarithmic axis that spans fewer decades has marks at 1, 2 and 5 of each.
const FEW_DECADES: f64 = 2.5;

/// Returns the greatest of 1, 2 and 5 times a power of ten that is not above `value`, which is positive.
fn round_down(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    let fits = |step: f64| step * decade <= value * (1.0 + 1e-9);
    [5.0, 2.0, 1.0].into_iter().find(|step| fits(*step)).unwrap_or(1.0) * decade
}

/// Returns the next of the series 1, 2, 5, 10, 20 … after `value`, which is one of it.
fn next(value: f64) -> f64 {
    let decade = 10f64.powf((value.log10() + 1e-9).floor());
    match (value / decade).round() as i64 {
        1 => 2.0 * decade,
        2 => 5.0 * decade,
        _ => 10.0 * decade,
    }
}

/// Returns the ends of a logarithmic axis that shows all values, in round numbers; a decade without any value.
pub fn log_range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let known = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
    let known = known.map(|value| value.clamp(LEAST_US, MOST_US));
    let (least, most) =
        known.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    if most == 0.0 {
        return (1.0, 10.0);
    }
    let from = round_down(least);
    let mut to = round_down(most);
    if to < most {
        to = next(to);
    }
    // At least half a decade, or noise would look like a change.
    while to < 3.0 * from {
        to = next(to);
    }
    (from, to)
}

/// Returns the marks of a logarithmic axis between two round numbers: 1, 2 and 5 of each decade, or decades where there
/// are many; at most `most`, but two at least where the axis has them.
pub fn log_ticks(from: f64, to: f64, most: usize) -> Vec<f64> {
    let mut ticks = Vec::new();
    let mut at = round_down(from);
    while at <= to * (1.0 + 1e-9) {
        if at >= from * (1.0 - 1e-9) {
            ticks.push(at);
        }
        at = next(at);
    }
    let decades = (to / from).log10();
    if decades > FEW_DECADES || ticks.len() > most {
        ticks.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-6);
    }
    thin(ticks, most)
}

/// Returns the marks of an axis from `from` to `to`: multiples of 1, 2 or 5 times a power of ten, at most `most`.
pub fn linear_ticks(from: f64, to: f64, most: usize) -> Vec<f64> {
    let most = most.max(2);
    let mut step = round_down(((to - from) / most as f64).max(f64::MIN_POSITIVE));
    let count = |step: f64| ((to / step + 1e-9).floor() - (from / step - 1e-9).ceil()) as i64 + 1;
    while count(step) > most as i64 {
        step = next(step);
    }
    let first = (from / step - 1e-9).ceil() as i64;
    (0..count(step)).map(|index| (first + index) as f64 * step).collect()
}

/// Returns the marks of an axis of quantiles, each as the number of samples of which one lies beyond: 1 (0%), 2 (50%),
/// 10 (90%), 100 …
pub fn percentile_ticks(to: f64) -> Vec<f64> {
    let mut ticks = vec![1.0, 2.0];
    let mut decade = 10.0;
    while decade <= to * (1.0 + 1e-9) {
        ticks.push(decade);
        decade *= 10.0;
    }
    ticks
}

/// Keeps every n-th mark where there are more than `most`.
fn thin(ticks: Vec<f64>, most: usize) -> Vec<f64> {
    let each = ticks.len().div_ceil(most.max(2)).max(1);
    ticks.into_iter().step_by(each).collect()
}

/// Formats a duration in microseconds with at most three digits and the unit that suits it.
pub fn duration(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 0.9995 => (us * 1e3, "ns"),
        us if us < 999.5 => (us, "µs"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// Formats a number with at most three digits and no needless zero; a larger one whole.
pub fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// Formats the quantile beyond which one in `beyond` lies: `50%`, `99.9%`.
pub fn percentile(beyond: f64) -> String {
    // Each further decade is one digit more.
    let decimals = (beyond.log10().round() as i64 - 2).clamp(0, 12) as usize;
    format!("{:.decimals$}%", 100.0 - 100.0 / beyond)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_percentiles_are_formatted() {
        let durations: Vec<String> =
            [0.25, 1.0, 9.996, 512.4, 999.6, 1_234.0, 20_000.0, 1e6, 2.5e6].map(duration).into();
        assert_eq!(durations, ["250 ns", "1 µs", "10 µs", "512 µs", "1 ms", "1.23 ms", "20 ms", "1 s", "2.5 s"]);
        let percentiles: Vec<String> = percentile_ticks(1e5).into_iter().map(percentile).collect();
        assert_eq!(percentiles, ["0%", "50%", "90%", "99%", "99.9%", "99.99%", "99.999%"]);
        assert_eq!(log_ticks(200.0, 2_000.0, 8), [200.0, 500.0, 1_000.0, 2_000.0]);
        assert_eq!(linear_ticks(-10.0, 120.0, 8), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0]);
        assert_eq!(log_range([]), (1.0, 10.0));
    }

    fn ascending(ticks: &[f64]) -> bool {
        ticks.iter().all(|tick| tick.is_finite()) && ticks.windows(2).all(|pair| pair[0] < pair[1])
    }

    proptest! {
        #[test]
        fn a_logarithmic_axis_holds_its_values(values in prop::collection::vec(0.02..1e9_f64, 1..20), most in 3..10_usize) {
            let (from, to) = log_range(values.iter().copied());
            prop_assert!(values.iter().all(|value| from <= value * 1.000_001 && value * 0.999_999 <= to));
            let (least, greatest) = values.iter().fold((f64::MAX, 0.0_f64), |(a, b), v| (a.min(*v), b.max(*v)));
            prop_assert!(from * 3.0 > least && to < greatest * 10.0, "{from} to {to} for {least} to {greatest}");
            let ticks = log_ticks(from, to, most);
            prop_assert!(ascending(&ticks) && (1..=most).contains(&ticks.len()), "{ticks:?}");
            prop_assert!(ticks.iter().all(|tick| from * 0.999_999 <= *tick && *tick <= to * 1.000_001));
        }

        #[test]
        fn a_linear_axis_has_few_round_ticks(from in -1e4..1e4_f64, span in 1e-3..1e6_f64, most in 2..12_usize) {
            let to = from + span;
            let ticks = linear_ticks(from, to, most);
            prop_assert!(ascending(&ticks) && ticks.len() <= most.max(2), "{ticks:?}");
            prop_assert!(ticks.iter().all(|tick| from - span * 1e-6 <= *tick && *tick <= to + span * 1e-6), "{ticks:?}");
            // No mark is missing where a step of twice and a half would have had room.
            prop_assert!(ticks.len() * 3 + 3 >= most, "{ticks:?}");
        }

        #[test]
        fn percentile_ticks_end_at_the_sample_count(count in 2.0..1e9_f64) {
            let ticks = percentile_ticks(count);
            prop_assert!(ascending(&ticks) && ticks.iter().all(|tick| *tick <= count.max(2.0) * 1.000_001));
        }
    }
}
