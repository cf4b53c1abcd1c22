//! A thread that owns a database connection and works off what is sent to it until nobody can send any more.

use std::sync::mpsc::{self, Receiver, Sender};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::super::StoreError;

/// The way to such a thread.
pub(super) struct Thread<Job>(Sender<Job>);

/// Where an answer goes; dropped without one, the thread has ended or left the job out.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

impl<Job: Send + 'static> Thread<Job> {
    /// Opens the connection on the thread itself, so that a slow disk delays nobody else.
    pub(super) async fn start(
        name: &str,
        open: impl FnOnce() -> Result<Connection, StoreError> + Send + 'static,
        work: impl FnOnce(Connection, Receiver<Job>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel();
        let (report, opened) = oneshot::channel();
        let run = move || match open() {
            Ok(connection) => {
                let _ = report.send(Ok(()));
                work(connection, queue);
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|error| StoreError::Failed(error.into()))?;
        opened.await.map_err(|_| gone())??;
        Ok(Self(jobs))
    }

    /// Sends one job and waits for its answer.
    pub(super) async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(job(answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> StoreError {
    StoreError::Failed("the database's thread has ended".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it stands in for a function that can fail")]
    fn nowhere() -> Result<Connection, StoreError> {
        Ok(Connection::open_in_memory().unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_an_error_now_and_later() {
        let work = |_: Connection, queue: Receiver<Answer<()>>| {
            let _job = queue.recv().unwrap();
            panic!("as a test wants it");
        };
        let thread = Thread::start("panics", nowhere, work).await.unwrap();
        for _ in 0..3 {
            assert!(matches!(thread.ask(|answer| answer).await, Err(StoreError::Failed(_))));
        }
    }

    #[tokio::test]
    async fn a_panic_while_opening_is_an_error() {
        let work = |_: Connection, _: Receiver<Answer<()>>| {};
        let thread = Thread::start("panics", || panic!("as a test wants it"), work).await;
        assert!(matches!(thread.map(drop), Err(StoreError::Failed(_))));
    }

    #[tokio::test]
    async fn ends_when_nobody_can_send() {
        let (ended, end) = oneshot::channel();
        let work = |_: Connection, queue: Receiver<Answer<()>>| {
            while let Ok(answer) = queue.recv() {
                let _ = answer.send(Ok(()));
            }
            ended.send(()).unwrap();
        };
        let thread = Thread::start("ends", nowhere, work).await.unwrap();
        thread.ask(|answer| answer).await.unwrap();
        drop(thread);
        end.await.unwrap();
    }
}
