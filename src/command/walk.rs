//! Every session of a store, some at a time, with patience for a store that fails for a moment.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::CommandError;
use crate::store::{Key, SessionStore, StoreError};

/// Questions under way at once: enough to hide a network's delay, few enough to leave the store to the visitors.
const AT_ONCE: usize = 16;
/// The circuit breaker's longest pause is 2 seconds, so that after the last of these it has let someone try.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Does `work` for every key there is and hands each outcome to `take`, in no order. A key that the store gives twice is
/// worked on twice. What fails is done again, so `work` may be done any number of times.
pub(super) async fn every_key<T, W>(
    store: &dyn SessionStore,
    work: impl Fn(Key) -> W + Clone + Send + Sync + 'static,
    mut take: impl FnMut(T) -> Result<(), CommandError>,
) -> Result<(), CommandError>
where
    T: Send + 'static,
    W: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let mut from = None;
    loop {
        let page = patiently(|| store.scan(from.as_ref())).await?;
        every(page.keys.into_iter().map(Ok), work.clone(), &mut take).await?;
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(()),
        }
    }
}

/// As [`every_key`], for what else there is to work on.
pub(super) async fn every<I, T, W>(
    items: impl Iterator<Item = Result<I, CommandError>>,
    work: impl Fn(I) -> W + Clone + Send + Sync + 'static,
    mut take: impl FnMut(T) -> Result<(), CommandError>,
) -> Result<(), CommandError>
where
    I: Clone + Send + Sync + 'static,
    T: Send + 'static,
    W: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    for item in items {
        if under_way.len() >= AT_ONCE
            && let Some(done) = under_way.join_next().await
        {
            take(finished(done)?)?;
        }
        let (item, work) = (item?, work.clone());
        under_way.spawn(async move { patiently(|| work(item.clone())).await });
    }
    while let Some(done) = under_way.join_next().await {
        take(finished(done)?)?;
    }
    Ok(())
}

fn finished<T>(done: Result<Result<T, StoreError>, tokio::task::JoinError>) -> Result<T, StoreError> {
    done.unwrap_or_else(|error| Err(StoreError::Failed(error.into())))
}

/// Asks again for a while before it gives up.
pub(super) async fn patiently<T, W>(ask: impl Fn() -> W) -> Result<T, StoreError>
where
    W: Future<Output = Result<T, StoreError>>,
{
    for pause in PAUSES {
        match ask().await {
            Err(StoreError::Failed(_) | StoreError::Open | StoreError::Timeout | StoreError::Unreachable(_)) => {
                sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            }
            answer => return answer,
        }
    }
    ask().await
}
