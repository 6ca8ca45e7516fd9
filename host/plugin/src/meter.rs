//! Measures the CPU time of one call: the time spent inside polls of its future, the sink's own polls left out.
//!
//! Epoch ticks alone would charge a guest for time that it waits. Must never decide what follows; the caller compares.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// CPU time of one call. Shared between the call's future and the epoch callback inside it.
#[derive(Debug)]
pub(crate) struct Meter {
    base: Instant,
    /// Nanoseconds of finished polls.
    spent: AtomicU64,
    /// Nanoseconds of the sink's polls.
    excluded: AtomicU64,
    /// When the current poll began, in nanoseconds after `base`, plus one; zero outside of a poll.
    entered: AtomicU64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { base: Instant::now(), spent: AtomicU64::new(0), excluded: AtomicU64::new(0), entered: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// CPU time so far, up to this moment.
    pub(crate) fn used(&self) -> Duration {
        let entered = self.entered.load(Ordering::Relaxed);
        let current = if entered == 0 { 0 } else { self.now().saturating_sub(entered - 1) };
        let spent = self.spent.load(Ordering::Relaxed).saturating_add(current);
        Duration::from_nanos(spent.saturating_sub(self.excluded.load(Ordering::Relaxed)))
    }

    /// Runs `future` and charges its polls.
    pub(crate) async fn charge<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context: &mut Context<'_>| {
            let began = self.now();
            self.entered.store(began + 1, Ordering::Relaxed);
            let polled = future.as_mut().poll(context);
            self.entered.store(0, Ordering::Relaxed);
            self.spent.fetch_add(self.now().saturating_sub(began), Ordering::Relaxed);
            polled
        })
        .await
    }

    /// Runs `future`, inside of a charged one, without charging it.
    pub(crate) async fn exclude<T>(&self, mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> T {
        poll_fn(|context: &mut Context<'_>| -> Poll<T> {
            let began = self.now();
            let polled = future.as_mut().poll(context);
            self.excluded.fetch_add(self.now().saturating_sub(began), Ordering::Relaxed);
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {}
    }

    #[tokio::test]
    async fn waiting_and_the_sink_are_free() {
        let meter = Meter::new();
        meter
            .charge(async {
                spin(Duration::from_millis(20));
                tokio::time::sleep(Duration::from_millis(200)).await;
                meter.exclude(Box::pin(async { spin(Duration::from_millis(200)) })).await;
                assert!(meter.used() >= Duration::from_millis(20));
            })
            .await;
        let used = meter.used();
        assert!(used >= Duration::from_millis(20) && used < Duration::from_millis(150), "{used:?}");
    }
}
