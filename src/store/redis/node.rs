//! One server, or the master of a few, as a place to send requests to.

use redis::{Cmd, FromRedisValue, Pipeline};

use super::connection::{Connection, Target};
use super::request::{Proof, Reply, Request, Terms, Wait};
use super::server::Connected;
use super::watch::Watch;
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
        let waiting = wait.map(|wait| (connection.another(None), wait));
        Self { connection, replaceable, waiting }
    }

    /// The same in the runtime that asks; `watch` hears of changes to what is read there.
    pub(super) fn another(&self, watch: Option<Watch>) -> Self {
        let waiting = self.waiting.as_ref().map(|(connection, wait)| (connection.another(None), *wait));
        Self { connection: self.connection.another(watch), replaceable: self.replaceable, waiting }
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
            connection.call_repeatable(|connected| request.send(connected, terms)).await
        } else {
            connection.call(async |connected| request.send(connected, terms).await).await
        }
    }

    /// A question about the server itself.
    pub(super) async fn look<T: FromRedisValue>(&self, question: &Cmd) -> Result<T, StoreError> {
        let ask = |mut on: Connected| async move { question.query_async(&mut on.connection).await };
        self.connection.call_repeatable(ask).await
    }

    /// Several questions in one go.
    pub(super) async fn look_at_once<T: FromRedisValue>(&self, questions: &Pipeline) -> Result<T, StoreError> {
        let ask = |mut on: Connected| async move { questions.query_async(&mut on.connection).await };
        self.connection.call_repeatable(ask).await
    }
}
