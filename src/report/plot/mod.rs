//! Figures as SVG: readable in light and dark, wide and on a phone, without a script or a font.

pub mod blocks;
pub mod chart;
pub mod figure;
pub mod ink;
pub mod intervals;
pub mod machine;
pub mod percentiles;
pub mod phases;
pub mod rates;
pub mod seconds;
pub mod ticks;
pub mod trend;
pub mod waits;
