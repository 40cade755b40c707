//! Futures that stand beside the work of a task and seldom have anything to say.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// A future that is polled only when it has asked for it, however often its task wakes for something else.
///
/// Polling a token, a timer or a signal takes a lock each time; one that is waited for through this takes none.
#[derive(Debug)]
pub struct Aside<'a, F> {
    future: Pin<&'a mut F>,
    bell: Arc<Bell>,
    /// Rings the bell.
    rope: Waker,
    /// Whom the bell wakes.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        task.inspect(Waker::wake_by_ref);
    }
}

impl<'a, F: Future> Aside<'a, F> {
    /// Stands `future` aside; it is polled once, and then when it asks.
    pub fn new(future: Pin<&'a mut F>) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(None) });
        let rope = Waker::from(Arc::clone(&bell));
        Self { future, bell, rope, task: None }
    }

    /// Puts another one in its place.
    pub fn set(&mut self, future: F) {
        self.future.set(future);
        self.bell.rung.store(true, Ordering::Release);
    }
}

impl<F: Future> Future for Aside<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            let task = Some(cx.waker().clone());
            self.bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&task);
            self.task = task;
        }
        // After the waker is in place, so that a bell that rings between is heard either way.
        if !self.bell.rung.load(Ordering::Acquire) || !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let this = &mut *self;
        this.future.as_mut().poll(&mut Context::from_waker(&this.rope))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, sync::atomic::AtomicUsize};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_asks_and_not_otherwise() {
        let (polls, notify) = (AtomicUsize::new(0), Notify::new());
        let mut notified = pin!(notify.notified());
        let counted = pin!(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            notified.as_mut().poll(cx)
        }));
        let mut aside = Aside::new(counted);
        for _ in 0..3 {
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut aside).poll(cx))).await.is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        let (done, ()) = tokio::join!(&mut aside, async { notify.notify_waiters() });
        assert_eq!(((), 2), (done, polls.load(Ordering::Relaxed)));
    }

    #[tokio::test]
    async fn another_task_than_the_first_is_woken() {
        let notify = Arc::new(Notify::new());
        let mut notified = Box::pin(notify.clone().notified_owned());
        let mut aside = Aside::new(Pin::new(&mut notified));
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut aside).poll(cx))).await.is_pending());
        let ring = tokio::spawn(async move { notify.notify_one() });
        Box::pin(&mut aside).await;
        ring.await.unwrap();
        aside.set(Box::pin(Arc::new(Notify::new()).notified_owned()));
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut aside).poll(cx))).await.is_pending());
    }
}
