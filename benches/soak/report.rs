//! What the run has shown, as a table.

use std::sync::Arc;

use crate::faults::Counts;
use crate::ledger::{Account, Ledger};

/// What must be so at the end.
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) passed: bool,
}

impl Check {
    pub(crate) fn new(what: impl Into<String>, passed: bool) -> Self {
        Self { what: what.into(), passed }
    }
}

/// What was measured of the bridge.
pub(crate) struct Figures {
    /// At the start and at the end.
    pub(crate) files: (usize, usize),
    /// After the warm-up, at the end, and at most; in bytes.
    pub(crate) memory: (u64, u64, u64),
}

/// Each kind's requests are accounted for.
pub(crate) fn accounts(ledgers: &[Arc<Ledger>]) -> Vec<Check> {
    let check = |ledger: &Arc<Ledger>| {
        ledger.read(|account| {
            let ended = account.answers + account.errors.values().sum::<u64>() + account.cancelled;
            let kind = ledger.kind;
            [
                Check::new(format!("{kind}: each request has one end"), account.sent == ended),
                Check::new(format!("{kind}: there are answers"), account.answers > 0),
                Check::new(format!("{kind}: no message was somebody else's"), account.wrong.is_empty()),
                Check::new(format!("{kind}: nobody waited in vain"), account.nothing.is_empty()),
                Check::new(format!("{kind}: no client failed"), account.panics == 0),
            ]
        })
    };
    ledgers.iter().flat_map(check).collect()
}

pub(crate) fn print(ledgers: &[Arc<Ledger>], faults: &Counts, figures: &Figures, checks: &[Check]) {
    let row = |name: &str, cell: &dyn Fn(&Account) -> u64| {
        let cells: Vec<_> = ledgers.iter().map(|ledger| format!("{:>12}", ledger.read(cell))).collect();
        println!("{name:<34}{}", cells.concat());
    };
    let kinds: Vec<_> = ledgers.iter().map(|ledger| format!("{:>12}", ledger.kind)).collect();
    println!("\n{:<34}{}", "", kinds.concat());
    row("requests sent", &|account| account.sent);
    row("  answered", &|account| account.answers);
    row("  ended by an error", &|account| account.errors.values().sum());
    row("  cancelled", &|account| account.cancelled);
    row("  answered wrongly", &|account| account.wrong.len() as u64);
    row("  not answered", &|account| account.nothing.len() as u64);
    row("notifications", &|account| account.notices);
    row("sessions", &|account| account.sessions);
    row("streams taken up again", &|account| account.resumed);
    for ledger in ledgers {
        ledger.read(|account| {
            let errors: Vec<_> = account.errors.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            println!("errors of {}: {}", ledger.kind, errors.join(", "));
            let bad = account.wrong.iter().chain(&account.nothing).take(10);
            bad.for_each(|what| println!("  {}: {what:.600}", ledger.kind));
        });
    }
    println!(
        "faults: {} servers killed, {} servers and {} clients stopped for a while, {} connections cut, {} reloads",
        faults.killed, faults.children_stopped, faults.clients_stopped, faults.cut, faults.reloads
    );
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let (warm, end, peak) = figures.memory;
    println!("memory: {} after the warm-up, {} at the end, {} at most", mib(warm), mib(end), mib(peak));
    println!("open files: {} at the start, {} at the end\n", figures.files.0, figures.files.1);
    for Check { what, passed } in checks {
        println!("{:<60}{}", what, if *passed { "ok" } else { "FAILED" });
    }
}
