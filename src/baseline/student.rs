//! Student's t, by the regularised incomplete beta function.

/// Returns the quantile of Student's t with this many degrees of freedom (any positive number) that leaves `tail` above
/// it, with `tail` in (0, 0.5].
pub fn t_above(tail: f64, freedom: f64) -> f64 {
    // The tail falls with t: halve the span until it is as narrow as floating point makes it.
    let (mut low, mut high) = (0.0, 1.0);
    while t_tail(high, freedom) > tail && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if t_tail(middle, freedom) > tail { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// Returns the probability that Student's t exceeds `t` (not negative).
pub fn t_tail(t: f64, freedom: f64) -> f64 {
    0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// Returns the regularised incomplete beta function, by its continued fraction (Lentz's method).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side of the mean only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp() / a;
    let away_from_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let (mut c, mut fraction) = (1.0, d);
    // As many terms as the square root of the larger parameter are enough, which is half the number of runs.
    for step in 1..10_000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            change = c * d;
            fraction *= change;
        }
        if (change - 1.0).abs() < 1e-14 {
            break;
        }
    }
    front * fraction
}

/// Returns the logarithm of the gamma function of a positive number (Lanczos, g = 7).
fn ln_gamma(x: f64) -> f64 {
    #[expect(clippy::excessive_precision, reason = "as published")]
    const COEFFICIENTS: [f64; 9] = [
        0.99999999999980993,
        676.5203681218851,
        -1259.1392167224028,
        771.32342877765313,
        -176.61502916214059,
        12.507343278686905,
        -0.13857109526572012,
        9.9843695780195716e-6,
        1.5056327351493116e-7,
    ];
    if x < 0.5 {
        // Reflection.
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let [first, rest @ ..] = COEFFICIENTS;
    let sum = (1..).zip(rest).fold(first, |sum, (index, one)| sum + one / (x + f64::from(index)));
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_match_published_tables() {
        for (tail, freedom, t) in [
            (0.025, 1.0, 12.706),
            (0.025, 4.0, 2.776),
            (0.005, 10.0, 3.169),
            (0.000_5, 18.0, 3.922),
            (0.05, 2.0, 2.920),
            (0.005, 1.0, 63.657),
            (0.025, 1e6, 1.960),
        ] {
            let found = t_above(tail, freedom);
            assert!((found - t).abs() < 1e-3, "{tail} {freedom}: {found}");
        }
    }

    proptest! {
        #[test]
        fn the_quantile_inverts_the_tail(tail in 1e-7..0.5_f64, freedom in 1.0..500.0_f64) {
            let back = t_tail(t_above(tail, freedom), freedom);
            prop_assert!((back / tail - 1.0).abs() < 1e-6, "{back}");
        }
    }
}
