//! Clients of revision 2026-07-28 and a server of theirs: one endpoint, shared children, no sessions.

mod eras;
mod headers;
mod pool;
mod shutdown;
mod statuses;
mod streams;

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::modern::Modern;

/// A bridge whose server speaks 2026-07-28 only.
fn serve() -> Serve {
    Serve::new(Guard::None).child_arg("--modern")
}

fn client(bridge: &Bridge) -> Modern {
    Modern(bridge.http())
}
