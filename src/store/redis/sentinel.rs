//! Which server is the master, by the word of Redis Sentinel and of that server itself.
//!
//! All sentinels are asked, and the one that knows the latest configuration is believed first: each failover has a
//! number, its epoch. Nobody is believed who names a server that does not call itself a master. While a connection is
//! up both are asked again and again, for a master that is cut off from its sentinels goes on answering.

use std::collections::HashMap;
use std::io;
use std::sync::Weak;
use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{Connection, Shared, Target};
use super::error::{cause, failed, is_of_the_connection};
use super::request;
use super::server::{Connected, Place, Server};
use super::watch::Watch;
use crate::store::StoreError;

/// How much longer the others are waited for when one has answered.
const STRAGGLERS: Duration = Duration::from_millis(50);
/// How often a connection's master is asked for while nothing is wrong.
const WATCH: Duration = Duration::from_millis(500);

pub(super) struct Sentinels {
    all: Vec<Connection>,
    master: String,
    /// A data server, wherever it is.
    server: Server,
}

/// What a sentinel answers: the master's place, and all it knows of the master.
type Answer = (RedisResult<Option<(String, u16)>>, RedisResult<HashMap<String, String>>);

/// The master as a sentinel has it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Named {
    epoch: u64,
    place: Place,
}

impl Sentinels {
    pub(super) fn new(sentinels: Vec<Server>, master: String, server: Server) -> Self {
        let all = sentinels.into_iter().map(|sentinel| Connection::new(Target::Server(sentinel))).collect();
        Self { all, master, server }
    }

    /// The same in the runtime that asks; `watch` hears of changes at the master.
    pub(super) fn another(&self, watch: Option<Watch>) -> Self {
        let all = self.all.iter().map(|sentinel| sentinel.another(None)).collect();
        Self { all, master: self.master.clone(), server: self.server.watched(watch) }
    }

    /// A connection to the first that is named and is a master.
    pub(super) async fn connect(&self) -> RedisResult<Connected> {
        let mut last = None;
        for place in self.ask().await? {
            match connect_to(&self.server.at(&place), &place).await {
                Ok(connected) => return Ok(connected),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            let detail = format!("{:?}", self.master);
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "no sentinel knows the master", detail))
        }))
    }

    /// Whether this connection is to the master still.
    async fn stands(&self, connected: &Connected) -> bool {
        match is_master(connected).await {
            Ok(false) => return false,
            Err(error) if is_of_the_connection(&error) => return false,
            _ => {}
        }
        for place in self.ask().await.unwrap_or_default() {
            if connected.place.as_deref() == Some(&place) {
                return true;
            }
            // Only to see what it is: that this connection ends at once is no loss.
            if connect_to(&self.server.at(&place).watched(None), &place).await.is_ok() {
                return false;
            }
        }
        true
    }

    /// Where the master is, the latest word first, each place once.
    async fn ask(&self) -> RedisResult<Vec<Place>> {
        let mut asked = JoinSet::new();
        for sentinel in &self.all {
            let (sentinel, master) = (sentinel.clone(), self.master.clone());
            asked.spawn(async move { named_by(&sentinel, &master).await });
        }
        let (mut named, mut silence, mut answered) = (Vec::new(), String::new(), false);
        loop {
            let next = asked.join_next();
            let answer = if answered { timeout(STRAGGLERS, next).await.unwrap_or(None) } else { next.await };
            match answer {
                Some(Ok(Ok(answer))) => {
                    answered = true;
                    named.extend(answer);
                }
                Some(Ok(Err(error))) => silence = cause(&error),
                Some(Err(_)) => {}
                None => break,
            }
        }
        if !answered {
            return Err(io::Error::other(format!("no sentinel answers: {silence}")).into());
        }
        named.sort_by_key(|named: &Named| std::cmp::Reverse(named.epoch));
        let mut places: Vec<Place> = Vec::new();
        for Named { place, .. } in named {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(places)
    }
}

/// Gives up a connection when it no longer is to the master, and makes another one.
pub(super) async fn watch(connection: Weak<Shared>) {
    loop {
        sleep(WATCH).await;
        let Some(shared) = connection.upgrade() else { return };
        if let (Target::Master(sentinels), Some(connected)) = (&shared.target, shared.current())
            && !sentinels.stands(&connected).await
        {
            connected.discard();
            drop(connected);
            // If it cannot be made, calls will say so.
            let _ = Connection::from(shared).connected().await;
        }
    }
}

async fn connect_to(server: &Server, place: &Place) -> RedisResult<Connected> {
    let connected = server.connect().await?;
    if is_master(&connected).await? {
        return Ok(connected);
    }
    // A failover is under way, so that the next attempt may succeed.
    Err(io::Error::other(format!("{place}, which a sentinel calls the master, is not one")).into())
}

async fn is_master(connected: &Connected) -> RedisResult<bool> {
    redis::cmd("ROLE").query_async(&mut connected.connection.clone()).await.map(request::is_master)
}

async fn named_by(sentinel: &Connection, master: &str) -> Result<Option<Named>, StoreError> {
    let mut question = redis::pipe();
    // Only the first names a server that was promoted before all others follow it, only the second has the epoch.
    question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    question.cmd("SENTINEL").arg("MASTER").arg(master).ignore_errors();
    let question = &question;
    let ask = |mut on: Connected| async move { question.query_async::<Answer>(&mut on.connection).await };
    let (place, state) = sentinel.call_repeatable(ask).await?;
    let epoch = state.ok().and_then(|state| state.get("config-epoch")?.parse().ok()).unwrap_or(0);
    let place = place.map_err(|error| failed(&error))?;
    Ok(place.map(|(host, port)| Named { epoch, place: Place { host, port } }))
}
