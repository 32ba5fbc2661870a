//! A duet block by block: the change of the response time, the response time of both sides, and the processors that
//! others took.

use super::chart::{Axis, Chart, Polyline, Scale};
use super::ink::{Ink, Stroke};
use super::ticks;
use crate::duet::block::{Answers, Block, WorkloadBlock};
use crate::load::plan::DuetSide;

/// The widths of a line, and of the mark of a block.
const LINE: i32 = 2;
const MARK: i32 = 3;
/// The most blocks that are named on the axis.
const MOST_TICKS: usize = 16;

/// Draws the change of a workload's p50 and p95 in each block, beside the least change that counts; `None` where no
/// block has one.
pub fn changes(blocks: &[Block], workload: &str, threshold: f64) -> Option<Chart> {
    let change = |measure: &'static str| {
        move |block: &Block| Some(of(block, workload)?.logarithms.get(measure)?.exp_m1() * 100.0)
    };
    let mut lines = line("p95", Ink::Run(2), Stroke::Dashed, blocks, change("response_p95_us"));
    lines.extend(line("p50", Ink::Run(0), Stroke::Solid, blocks, change("response_p50_us")));
    if lines.is_empty() {
        return None;
    }
    let (from, to) = span(blocks);
    let across = |percent: f64| vec![(from, percent), (to, percent)];
    let limit = threshold * 100.0;
    let label = Some(format!("the change that counts (±{}%)", ticks::digits(limit)));
    let limits = vec![across(-limit), across(limit)];
    lines.insert(0, Polyline { label, ink: Ink::Text, stroke: Stroke::Dashed, width: 1, parts: limits });
    let none = Polyline { label: None, ink: Ink::Muted, stroke: Stroke::Solid, width: 1, parts: vec![across(0.0)] };
    lines.insert(0, none);
    let (least, most) =
        heights(&lines).fold((0.0, 0.0), |(least, most): (f64, f64), one| (least.min(one), most.max(one)));
    let room = (most - least) * 0.05;
    let (least, most) = (least - room, most + room);
    let ticks = ticks::linear_ticks(least, most, 7).into_iter();
    let ticks = ticks.map(|tick| (tick, format!("{}%", ticks::digits(tick)))).collect();
    let title = "change, head against base".to_owned();
    let y = Axis { title, scale: Scale::Linear, from: least, to: most, ticks };
    chart("Change of the response time, block by block", blocks, y, lines)
}

/// Draws the response times of both sides in each block; `None` where none has enough right answers.
pub fn times(blocks: &[Block], workload: &str) -> Option<Chart> {
    let mut lines = Vec::new();
    for (side, ink) in [(DuetSide::Head, Ink::Run(1)), (DuetSide::Base, Ink::Run(0))] {
        let mut add = |quantile: &str, stroke, take: fn(&Answers) -> Option<f64>| {
            let label = format!("{}: {quantile}", side.label());
            lines.extend(line(&label, ink, stroke, blocks, |block| take(of(block, workload)?.answers.of(side))));
        };
        add("p95", Stroke::Dashed, |answers| answers.p95_us);
        add("p50", Stroke::Solid, |answers| answers.p50_us);
    }
    let (from, to) = ticks::log_range(heights(&lines));
    let ticks = ticks::log_ticks(from, to, 6).into_iter().map(|us| (us, ticks::duration(us))).collect();
    let y = Axis { title: "response time (log)".to_owned(), scale: Scale::Log, from, to, ticks };
    chart("Response time of both sides, block by block", blocks, y, lines)
}

/// Draws the processors that others and the host took in each block; `None` where nothing is known of them.
pub fn others(blocks: &[Block]) -> Option<Chart> {
    let lines = line("others and the host", Ink::Run(2), Stroke::Solid, blocks, |block| block.others);
    let to = heights(&lines).fold(0.5, f64::max) * 1.1;
    let ticks = ticks::linear_ticks(0.0, to, 5).into_iter().map(|tick| (tick, ticks::digits(tick))).collect();
    let y = Axis { title: "processors".to_owned(), scale: Scale::Linear, from: 0.0, to, ticks };
    chart("Processors that others took, block by block", blocks, y, lines)
}

fn of<'b>(block: &'b Block, workload: &str) -> Option<&'b WorkloadBlock> {
    block.workloads.iter().find(|one| one.name == workload)
}

/// Returns the ends of the axis of blocks.
fn span(blocks: &[Block]) -> (f64, f64) {
    (0.5, blocks.len() as f64 + 0.5)
}

fn chart(title: &str, blocks: &[Block], y: Axis, lines: Vec<Polyline>) -> Option<Chart> {
    if lines.is_empty() {
        return None;
    }
    let (from, to) = span(blocks);
    let each = blocks.len().div_ceil(MOST_TICKS).max(1);
    let ticks = blocks.iter().step_by(each).map(|block| (block.number as f64, block.number.to_string())).collect();
    Some(Chart {
        title: title.to_owned(),
        description: format!("{} blocks; the table of blocks has the figures.", blocks.len()),
        x: Axis { title: "block".to_owned(), scale: Scale::Linear, from, to, ticks },
        y,
        bands: Vec::new(),
        areas: Vec::new(),
        lines,
    })
}

/// Returns a line through the blocks that have a value, with a mark for each; nothing where none has.
fn line(
    label: &str,
    ink: Ink,
    stroke: Stroke,
    blocks: &[Block],
    value: impl Fn(&Block) -> Option<f64>,
) -> Vec<Polyline> {
    let known: Vec<_> = blocks.iter().filter_map(|block| Some((block.number as f64, value(block)?))).collect();
    if known.is_empty() {
        return Vec::new();
    }
    let marks = known.iter().map(|point| vec![*point]).collect();
    vec![
        Polyline { label: None, ink, stroke: Stroke::Solid, width: MARK, parts: marks },
        Polyline { label: Some(label.to_owned()), ink, stroke, width: LINE, parts: vec![known] },
    ]
}

fn heights(lines: &[Polyline]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| line.parts.iter().flatten().map(|(_, height)| *height))
}
