//! One command about one key, sent in one go with what belongs to it.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, ToRedisArgs, Value, from_redis_value};
use sha1::{Digest as _, Sha1};

use super::server::{Connected, Place};
use crate::store::StoreError;

/// A script, called by its digest so that it travels once.
pub(super) struct Script {
    digest: String,
    text: &'static str,
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        Self { digest: hex::encode(Sha1::digest(text)), text }
    }

    pub(super) fn call(&self, key: &str) -> Request {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.digest).arg(1).arg(key);
        Request { key: key.to_owned(), command, script: Some(self.text), repeatable: false, writes: true }
    }
}

pub(super) struct Request {
    pub(super) key: String,
    command: Cmd,
    script: Option<&'static str>,
    /// Whether it may be done twice.
    pub(super) repeatable: bool,
    pub(super) writes: bool,
}

impl Request {
    pub(super) fn get(key: &str) -> Self {
        let command = Cmd::get(key);
        Self { key: key.to_owned(), command, script: None, repeatable: true, writes: false }
    }

    pub(super) fn delete(key: &str) -> Self {
        let command = Cmd::del(key);
        Self { key: key.to_owned(), command, script: None, repeatable: true, writes: true }
    }

    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.command.arg(arg);
        self
    }

    /// For a script that only reads.
    pub(super) fn that_reads(self) -> Self {
        Self { repeatable: true, writes: false, ..self }
    }

    pub(super) async fn send(&self, mut on: Connected, terms: Terms) -> RedisResult<Reply> {
        let answer = match self.send_once(&mut on.connection, terms, None).await {
            // It did not run: this server has not seen the script yet, or has forgotten it.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                Box::pin(self.send_once(&mut on.connection, terms, self.script)).await
            }
            answer => answer,
        };
        match answer {
            Ok(answer) => Ok(Reply::Answer(Answer { watched: on.watched, ..answer })),
            Err(error) => Reply::of_error(error),
        }
    }

    async fn send_once(
        &self,
        connection: &mut MultiplexedConnection,
        terms: Terms,
        script: Option<&str>,
    ) -> RedisResult<Answer> {
        let proof = match terms.proof {
            Some(Proof::Replicas(wait)) if self.writes => Some(wait.command()),
            Some(Proof::Master) if !self.writes => Some(redis::cmd("ROLE")),
            _ => None,
        };
        if !terms.asking && proof.is_none() && script.is_none() {
            let value = self.command.query_async(connection).await?;
            return Ok(Answer { value, replicated: true, watched: false });
        }
        // Boxed, so that a command that goes alone does not carry its size along.
        Box::pin(self.send_with(connection, terms, script, proof)).await
    }

    /// The command and what belongs to it, in one go.
    async fn send_with(
        &self,
        connection: &mut MultiplexedConnection,
        terms: Terms,
        script: Option<&str>,
        proof: Option<Cmd>,
    ) -> RedisResult<Answer> {
        let proven = proof.is_some();
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        if let Some(script) = script {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(script);
        }
        if terms.asking {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(self.command.clone());
        if let Some(proof) = proof {
            pipeline.add_command(proof);
        }
        let mut answers: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
        let proof = if proven { Some(last(&mut answers)) } else { None };
        let value = last(&mut answers);
        answers.into_iter().collect::<RedisResult<Vec<Value>>>()?;
        let value = value?;
        let replicated = match (terms.proof, proof) {
            (Some(Proof::Replicas(wait)), Some(reached)) => from_redis_value::<u32>(reached?)? >= wait.replicas,
            (_, None) | (None, _) => true,
            (Some(Proof::Master), Some(role)) => {
                if !is_master(role?) {
                    return Err(io::Error::other("the server is no master any more").into());
                }
                true
            }
        };
        Ok(Answer { value, replicated, watched: false })
    }
}

fn last(answers: &mut Vec<RedisResult<Value>>) -> RedisResult<Value> {
    let missing = || Err(RedisError::from((ErrorKind::UnexpectedReturnType, "an answer is missing")));
    answers.pop().unwrap_or_else(missing)
}

/// What is sent around a request.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// The server is about to get the key's slot, and answers only who was sent by the one that still has it.
    pub(super) asking: bool,
    pub(super) proof: Option<Proof>,
}

/// What must be shown for an answer to count.
#[derive(Clone, Copy)]
pub(super) enum Proof {
    /// Of a read: that the server is a master. One that was demoted answers with what it had, or with nothing.
    Master,
    /// Of a write: that enough replicas have it.
    Replicas(Wait),
}

/// How many replicas must have a write before it counts, and how long they may take.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    pub(super) replicas: u32,
    pub(super) limit: Duration,
}

impl Wait {
    fn command(self) -> Cmd {
        // Zero would be for ever.
        let millis = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut command = redis::cmd("WAIT");
        command.arg(self.replicas).arg(millis);
        command
    }
}

/// Whether this answer to `ROLE` is a master's.
pub(super) fn is_master(role: Value) -> bool {
    let words: Vec<Value> = from_redis_value(role).unwrap_or_default();
    words.into_iter().next().is_some_and(|role| from_redis_value::<String>(role).is_ok_and(|role| role == "master"))
}

/// What a server said.
pub(super) enum Reply {
    Answer(Answer),
    /// Not asked of the right server of a cluster; nothing happened.
    Elsewhere(Elsewhere),
}

/// Where the right server is.
pub(super) enum Elsewhere {
    /// This one has the slot, for this key and only this time.
    Ask(Place),
    /// This one has the slot from now on.
    Moved(Place),
    /// Later, the slot is on its way.
    TryAgain,
}

impl Reply {
    fn of_error(error: RedisError) -> RedisResult<Self> {
        if error.code() == Some("WRONGTYPE") {
            return Ok(Self::Answer(Answer::of_another_type()));
        }
        let ErrorKind::Server(kind) = error.kind() else { return Err(error) };
        let place = error.redirect_node().and_then(|(place, _)| Place::parse(place));
        Ok(Self::Elsewhere(match (kind, place) {
            (ServerErrorKind::Ask, Some(place)) => Elsewhere::Ask(place),
            (ServerErrorKind::Moved, Some(place)) => Elsewhere::Moved(place),
            (ServerErrorKind::TryAgain, _) => Elsewhere::TryAgain,
            _ => return Err(error),
        }))
    }
}

pub(super) struct Answer {
    pub(super) value: Value,
    /// Whether as many replicas have it as must.
    replicated: bool,
    /// Whether word comes if what was read is changed.
    pub(super) watched: bool,
}

impl Answer {
    /// A key that does not even hold a string reads as one that is no record of anybody's.
    fn of_another_type() -> Self {
        Self { value: Value::BulkString(Vec::new()), replicated: true, watched: false }
    }

    /// For an answer that something was written: whether that counts.
    pub(super) fn must_be_replicated(&self) -> Result<(), StoreError> {
        if self.replicated {
            return Ok(());
        }
        Err(StoreError::Failed("fewer replicas than store.wait_replicas have what was written".into()))
    }
}
