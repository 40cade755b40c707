//! How messages are cut out of byte streams, lines on pipes and events on HTTP, and how they wait to be written.

pub mod hang_up;
pub mod lines;
pub mod queue;
pub mod sse;
pub mod writer;
