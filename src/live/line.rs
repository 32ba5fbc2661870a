//! The line that shows the progress of a run in a terminal or a log.

use std::time::Duration;

use super::second::LiveSecond;
use super::view::Extent;
use crate::load::progress::Stage;
use crate::report::colour::Palette;
use crate::report::plot::ticks;

/// The number of seconds in a sparkline.
const SPARKS: usize = 16;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws values as bars, the greatest highest; a space where a value is missing.
pub fn sparkline(values: impl Iterator<Item = Option<f64>>) -> String {
    let values: Vec<_> = values.collect();
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let bar = |value: f64| BARS[((value / most.max(f64::MIN_POSITIVE) * 8.0).ceil() as usize).clamp(1, 8) - 1];
    values.iter().map(|value| value.map_or(' ', bar)).collect()
}

/// The place of a line.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A terminal, which draws each line over the one before.
    Terminal(Palette),
    /// A log.
    Log,
}

/// Returns the line after the latest of `seconds`. `since` is the time in the stage so far.
pub fn line(seconds: &[LiveSecond], extent: &Extent, since: Duration, place: Place) -> String {
    let Some(now) = seconds.last() else { return String::new() };
    let counts = &now.counts;
    let of = |whole: Duration| format!("{:>3.0} of {:.0} s", since.as_secs_f64(), whole.as_secs_f64());
    let stage = match now.stage {
        Stage::Opening => return format!("opening    {} of {} connections", counts.connections, extent.connections),
        Stage::WarmUp => format!("warm-up    {}", of(extent.warm_up)),
        Stage::Measuring => format!("measuring  {}", of(extent.window)),
        Stage::Draining => "draining ".to_owned(),
    };
    let time = |us: Option<f64>| us.map_or_else(|| "–".to_owned(), ticks::duration);
    let [p50, _, p99] = now.response_us;
    let rate = format!("{:.0}", now.answers_per_s);
    let errors = counts.not_ok + counts.unsent;
    let Place::Terminal(palette) = place else {
        let lag = time(now.lag_p99_us);
        return format!(
            "{stage}  {rate} answers/s, p50 {}, p99 {}, lag p99 {lag}; {} ok, {errors} not ok",
            time(p50),
            time(p99),
            counts.ok
        );
    };
    let latest = &seconds[seconds.len().saturating_sub(SPARKS)..];
    let rates = sparkline(latest.iter().map(|second| Some(second.answers_per_s)));
    let slow = sparkline(latest.iter().map(|second| second.response_us[2]));
    let wrong = format!("{errors} not ok");
    let wrong = if errors > 0 { palette.bad(wrong) } else { wrong.into() };
    format!("{stage}  {rates} {rate}/s  p99 {slow} {}  {wrong}", time(p99))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::second::Sampler;
    use crate::load::progress::Progress;
    use crate::measure::Outcome;

    #[test]
    fn bars_are_as_high_as_their_values() {
        assert_eq!(sparkline([Some(0.0), Some(1.0), None, Some(4.0), Some(8.0)].into_iter()), "▁▁ ▄█");
        assert_eq!(sparkline([Some(0.0), None].into_iter()), "▁ ");
        assert_eq!(sparkline(std::iter::empty()), "");
    }

    #[test]
    fn a_line_tells_stage_rate_and_errors() {
        let extent = Extent { connections: 50, warm_up: Duration::from_secs(5), window: Duration::from_secs(30) };
        let (progress, mut sampler) = (Progress::default(), Sampler::from(Duration::ZERO));
        let mut seconds = Vec::new();
        let terminal = Place::Terminal(Palette::PLAIN);
        let mut shown = |stage, at_s, place| {
            let at = Duration::from_secs(at_s);
            seconds.push(sampler.sample(at, stage, progress.counts(), &progress.observed()));
            line(&seconds, &extent, Duration::from_secs(1), place)
        };
        progress.connected();
        assert_eq!(shown(Stage::Opening, 1, terminal), "opening    1 of 50 connections");
        (0..2_000).for_each(|_| progress.count(Outcome::Ok, 1_500_000));
        progress.gave_up();
        let log = shown(Stage::Measuring, 2, Place::Log);
        assert_eq!(log, "measuring    1 of 30 s  2000 answers/s, p50 1.5 ms, p99 1.5 ms, lag p99 –; 2000 ok, 1 not ok");
        let drawn = shown(Stage::Draining, 3, terminal);
        assert_eq!(drawn, "draining   ▁█▁ 0/s  p99  ██ 1.5 ms  1 not ok");
    }
}
