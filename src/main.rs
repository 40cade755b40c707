//! The `mcp-bridge` program.
fn main() {}
