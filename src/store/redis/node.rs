//! One server, or the master of a few, as a place to send requests to.

use redis::{Cmd, FromRedisValue, Pipeline};

use super::connection::{Connection, Target};
use super::request::{Proof, Reply, Request, Terms, Wait};
use crate::store::StoreError;

#[derive(Clone)]
pub(super) struct Node {
    connection: Connection,
    /// Whether it may stop to be the master, and go on answering.
    replaceable: bool,
    /// For writes that replicas are waited for, because Redis answers nothing else on a connection meanwhile.
    waiting: Option<(Connection, Wait)>,
}

impl Node {
    pub(super) fn new(target: Target, wait: Option<Wait>) -> Self {
        let replaceable = matches!(target, Target::Master(_));
        let connection = Connection::new(target);
        let waiting = wait.map(|wait| (connection.another(), wait));
        Self { connection, replaceable, waiting }
    }

    pub(super) fn another(&self) -> Self {
        let waiting = self.waiting.as_ref().map(|(connection, wait)| (connection.another(), *wait));
        Self { connection: self.connection.another(), replaceable: self.replaceable, waiting }
    }

    /// Connects, so that what is wrong is known at once.
    pub(super) async fn connect(&self) -> Result<(), StoreError> {
        self.connection.connected().await?;
        if let Some((connection, _)) = &self.waiting {
            connection.connected().await?;
        }
        Ok(())
    }

    pub(super) async fn ask(&self, request: &Request, asking: bool) -> Result<Reply, StoreError> {
        let (connection, proof) = match &self.waiting {
            Some((connection, wait)) if request.writes => (connection, Some(Proof::Replicas(*wait))),
            // A replica refuses writes by itself.
            _ => (&self.connection, (self.replaceable && !request.writes).then_some(Proof::Master)),
        };
        let terms = Terms { asking, proof };
        if request.repeatable {
            connection.call_repeatable(|connection| request.send(connection, terms)).await
        } else {
            connection.call(async |connection| request.send(connection, terms).await).await
        }
    }

    /// A question about the server itself.
    pub(super) async fn look<T: FromRedisValue>(&self, question: &Cmd) -> Result<T, StoreError> {
        let ask = |mut connection| async move { question.query_async(&mut connection).await };
        self.connection.call_repeatable(ask).await
    }

    /// Several questions in one go.
    pub(super) async fn look_at_once<T: FromRedisValue>(&self, questions: &Pipeline) -> Result<T, StoreError> {
        let ask = |mut connection| async move { questions.query_async(&mut connection).await };
        self.connection.call_repeatable(ask).await
    }
}
