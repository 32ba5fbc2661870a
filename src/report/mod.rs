//! Reports: the summary as JSON, the system's evidence, and reports of one run or several as text, Markdown and HTML; the
//! runs that are kept, and their trend; and runs in the formats of other tools.

pub mod bars;
pub mod capacity;
pub mod colour;
pub mod comparison_html;
pub mod comparison_markdown;
pub mod comparison_text;
pub mod duet;
pub mod escape;
pub mod evidence;
pub mod export;
pub mod headline;
pub mod history;
pub mod html;
pub mod job_summary;
pub mod machine_use;
pub mod markdown;
pub mod picture;
pub mod plot;
pub mod result_files;
pub mod runs;
pub mod splice;
pub mod table;
pub mod tables;
pub mod text;
pub mod trend;
