//! Futures that end whatever happens around them: when the visitor goes, and when they panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;

use super::error::ProxyError;

/// Runs `future` in place, and goes on with it in a task of `tasks` if this is dropped before it has ended.
///
/// hyper drops a request's future when its visitor hangs up; a task for each request would cost a hop through the
/// scheduler for all of them instead.
pub fn outlive<F>(future: Pin<Box<F>>, tasks: TaskTracker) -> impl Future<Output = F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    Outlive { future: Some(future), tasks }
}

struct Outlive<F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    tasks: TaskTracker,
}

impl<F: Future<Output: Send> + Send + 'static> Future for Outlive<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out while it is polled: a future that panics is not polled again by the drop.
        let Some(mut future) = self.future.take() else { return Poll::Pending };
        let poll = future.as_mut().poll(cx);
        if poll.is_pending() {
            self.future = Some(future);
        }
        poll
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Outlive<F> {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(future), Ok(runtime)) = (self.future.take(), runtime) {
            self.tasks.spawn_on(future, &runtime);
        }
    }
}

/// Runs `future`; a panic in it is an error. Its message was written to the log by the panic itself.
pub async fn catch_panic<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, ProxyError> {
    std::future::poll_fn(|cx| {
        // What the future held is dropped by the unwinding and never looked at again.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(ProxyError::Panicked)),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_dropped_future_goes_on_and_is_waited_for() {
        let (go, wait) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let tasks = TaskTracker::new();
        let work = async move {
            wait.await.unwrap();
            tell.send(()).unwrap();
        };
        let mut running = Box::pin(outlive(Box::pin(work), tasks.clone()));
        assert!(futures_poll(&mut running).await.is_pending());
        drop(running);
        assert_eq!(tasks.len(), 1);
        go.send(()).unwrap();
        tasks.close();
        tasks.wait().await;
        told.await.unwrap();
    }

    #[tokio::test]
    async fn an_ended_future_leaves_no_task() {
        let tasks = TaskTracker::new();
        assert_eq!(outlive(Box::pin(async { 3 }), tasks.clone()).await, 3);
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn o15_a_panic_is_an_error_and_the_future_is_not_run_again() {
        let tasks = TaskTracker::new();
        let panics = outlive(Box::pin(async { panic!("on purpose") }), tasks.clone());
        assert!(matches!(catch_panic::<_>(pin!(panics)).await, Err::<(), _>(ProxyError::Panicked)));
        assert!(tasks.is_empty());
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
    }
}
