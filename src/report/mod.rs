//! Reports: the summary as JSON, the system's evidence, the live line, and reports of one run or several as text,
//! Markdown and HTML.

pub mod bars;
pub mod consistency;
pub mod escape;
pub mod evidence;
pub mod facts;
pub mod headline;
pub mod html;
pub mod live;
pub mod machine_use;
pub mod markdown;
pub mod plan;
pub mod plot;
pub mod runs;
pub mod sheet;
pub mod splice;
pub mod summary;
pub mod text;
pub mod verdict;

pub use summary::Summary;
pub use verdict::Verdict;
