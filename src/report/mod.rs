//! So what, second half: the summary as JSON and as text, the server's evidence, and the live line.

pub mod evidence;
pub mod facts;
pub mod live;
pub mod plan;
pub mod summary;
pub mod text;
pub mod verdict;

pub use summary::Summary;
pub use verdict::Verdict;
