//! Requests of modern clients that are being answered, so that those of whoever is not accepted any more can be ended.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::auth::Principal;

/// All of them. Clones share what they hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Guests(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// The last number that was given to a request.
    last: u64,
    by_number: HashMap<u64, (Principal, CancellationToken)>,
}

/// One request. Dropping it takes it out of the table.
pub(super) struct Guest {
    guests: Guests,
    number: u64,
    expelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Guests {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A principal's request.
    pub(super) fn enter(&self, principal: &Principal) -> Guest {
        let token = CancellationToken::new();
        let expelled = Box::pin(token.clone().cancelled_owned());
        let mut table = self.table();
        table.last += 1;
        let number = table.last;
        table.by_number.insert(number, (principal.clone(), token));
        Guest { guests: self.clone(), number, expelled }
    }

    /// Ends the requests of those who are not `accepted` any more.
    pub(super) fn end_unless(&self, accepted: impl Fn(&Principal) -> bool) {
        for (principal, token) in
            self.table().by_number.values().filter(|(principal, _)| !accepted(principal))
        {
            log::info!("a request is cancelled: {principal} is not accepted any more");
            token.cancel();
        }
    }
}

impl Guest {
    /// Whether the request is to end.
    pub(super) fn poll_expelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.expelled.as_mut().poll(cx)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.table().by_number.remove(&self.number);
    }
}
