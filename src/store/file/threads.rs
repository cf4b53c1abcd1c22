//! A few threads that wait for the disk, so that no worker has to: a disk that stalls makes calls late, not workers.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::super::StoreError;

/// Each carries one call at a time, so this many may wait for the disk at once; more wait for their turn.
const THREADS: usize = 8;

/// The way to the threads, which end when nobody can send any more.
pub(super) struct Threads(Sender<Job>);

type Job = Box<dyn FnOnce() + Send>;

/// Who waits for a job, or no longer does.
pub(super) struct Caller<'a>(&'a dyn Fn() -> bool);

impl Caller<'_> {
    /// An error once the caller has given up: nobody would learn what is done from here on.
    pub(super) fn still_waits(&self) -> io::Result<()> {
        if (self.0)() { Err(io::Error::other("the caller has gone")) } else { Ok(()) }
    }
}

impl Threads {
    pub(super) fn start() -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let queue = Arc::clone(&queue);
            let work = move || {
                while let Some(job) = next(&queue) {
                    // A job that panics leaves its caller without an answer, and the thread to the others.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            let name = "store-file".to_owned();
            std::thread::Builder::new().name(name).spawn(work).map_err(|error| StoreError::Failed(error.into()))?;
        }
        Ok(Self(jobs))
    }

    /// Has one of the threads do something, unless the caller has given up by then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Caller<'_>) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = move || {
            let caller = Caller(&|| answer.is_closed());
            let outcome = caller.still_waits().and_then(|()| work(&caller));
            let _ = answer.send(outcome);
        };
        let gone = || StoreError::Failed("the store's threads have ended".into());
        self.0.send(Box::new(job)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(|error| StoreError::Failed(error.into()))
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_others_go_on() {
        let threads = Threads::start().unwrap();
        for _ in 0..THREADS * 2 {
            let outcome = threads.run(|_| -> io::Result<()> { panic!("as a test wants it") }).await;
            assert!(matches!(outcome, Err(StoreError::Failed(_))));
        }
        assert_eq!(threads.run(|_| Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_begun() {
        let threads = Threads::start().unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        // All threads are held until `go` is dropped.
        let held: Vec<_> = (0..THREADS)
            .map(|_| {
                let wait = Arc::clone(&wait);
                let hold = threads.run(move |_| {
                    let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Ok(())
                });
                Box::pin(hold)
            })
            .collect();
        let mut held = held;
        for hold in &mut held {
            assert!(tokio::time::timeout(std::time::Duration::ZERO, hold.as_mut()).await.is_err());
        }
        let (tell, told) = mpsc::channel();
        let late = threads.run(move |_| {
            tell.send(()).unwrap();
            Ok(())
        });
        assert!(tokio::time::timeout(std::time::Duration::ZERO, late).await.is_err());
        drop(go);
        for hold in held {
            hold.await.unwrap();
        }
        // The job was thrown away, and with it the way to tell.
        assert!(told.recv().is_err());
    }
}
