//! How messages are cut out of byte streams: lines on pipes, events on HTTP.

pub mod hang_up;
pub mod lines;
pub mod queue;
pub mod sse;
pub mod writer;
