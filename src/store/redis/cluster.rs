//! Redis Cluster: which master has which slot of the keys, each on a connection of its own kind.
//!
//! A server that does not have a key's slot says who does and does nothing else, so such an answer is followed even for
//! what must not be done twice. An outcome that is unknown stays unknown: nothing is repeated because of it, but the
//! map of the slots is asked for again, at most every [`PAUSE`].

mod slots;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rand::seq::SliceRandom as _;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::slots::{SlotMap, slot};
use super::connection::{PULSE, Target};
use super::error::cause;
use super::node::Node;
use super::request::{Answer, Elsewhere, Reply, Request, Wait};
use super::server::{Place, Server};
use super::watch::Watch;
use crate::store::StoreError;

/// How often one request may be sent on.
const REDIRECTS: usize = 16;
/// Redirections that are followed at once; a slot that changes hands sends those who ask to and fro for a moment.
const AT_ONCE: usize = 4;
const BRIEFLY: Duration = Duration::from_millis(5);
/// Between two questions for the map.
const PAUSE: Duration = Duration::from_millis(100);
/// How many servers are asked for the map at once; the first answer counts.
const ASKED: usize = 5;

pub(super) struct Cluster(Arc<Shared>);

struct Shared {
    /// Those named in the settings, for when all others are gone.
    seeds: Vec<Place>,
    /// Any server of the cluster, wherever it is.
    server: Server,
    wait: Option<Wait>,
    refreshing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<Place, Node>,
    slots: SlotMap,
}

impl Cluster {
    /// Asks for the map, and begins to connect to every master.
    pub(super) async fn open(seeds: Vec<Place>, server: Server, wait: Option<Wait>) -> Result<Self, StoreError> {
        let (refreshing, state) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { seeds, server, wait, refreshing, state });
        shared.refresh().await?;
        for place in shared.masters() {
            let node = shared.node(&place);
            tokio::spawn(async move { node.connect().await });
        }
        if shared.server.watch().is_some() {
            tokio::spawn(notice_moves(Arc::downgrade(&shared)));
        }
        Ok(Self(shared))
    }

    /// The same in the runtime that asks; `watch` hears of changes to what is read there.
    pub(super) async fn another(&self, watch: Option<Watch>) -> Result<Self, StoreError> {
        Self::open(self.0.seeds.clone(), self.0.server.watched(watch), self.0.wait).await
    }

    pub(super) async fn ask(&self, request: &Request) -> Result<Answer, StoreError> {
        let slot = slot(request.key.as_bytes());
        let Some(mut place) = self.0.lock().slots.master(slot) else {
            self.0.refresh_soon();
            return Err(StoreError::Unreachable(format!("no server of the cluster has slot {slot}").into()));
        };
        let mut asking = false;
        for redirects in 0..REDIRECTS {
            if redirects > AT_ONCE {
                sleep(BRIEFLY).await;
            }
            match self.0.node(&place).ask(request, asking).await {
                Ok(Reply::Answer(answer)) => return Ok(answer),
                Ok(Reply::Elsewhere(Elsewhere::Ask(other))) => (place, asking) = (other.seen_from(&place), true),
                Ok(Reply::Elsewhere(Elsewhere::Moved(other))) => {
                    (place, asking) = (other.seen_from(&place), false);
                    self.0.lock().slots.assign(slot, &place);
                    self.0.keys_moved();
                    self.0.refresh_soon();
                }
                Ok(Reply::Elsewhere(Elsewhere::TryAgain)) => sleep(BRIEFLY).await,
                Err(error) => {
                    self.0.refresh_soon();
                    return Err(error);
                }
            }
        }
        Err(StoreError::Failed("the servers of the cluster do not agree who has the key".into()))
    }

    /// The masters there are, in an order that does not change.
    pub(super) fn masters(&self) -> Vec<Place> {
        self.0.masters()
    }

    pub(super) fn node(&self, place: &Place) -> Node {
        self.0.node(place)
    }

    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        self.0.refresh().await
    }
}

impl Shared {
    fn masters(&self) -> Vec<Place> {
        self.lock().slots.masters()
    }

    fn node(&self, place: &Place) -> Node {
        let mut state = self.lock();
        let make = || Node::new(Target::Server(self.server.at(place)), self.wait);
        state.nodes.entry(place.clone()).or_insert_with(make).clone()
    }

    /// In the background, unless that was done a moment ago.
    fn refresh_soon(self: &Arc<Self>) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = shared.refresh().await {
                tracing::warn!(error = %cause(&error), "no server of the cluster tells who has the keys");
            }
            sleep(PAUSE).await;
            shared.refreshing.store(false, Ordering::Release);
        });
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        let mut asked = JoinSet::new();
        for place in self.some_to_ask() {
            let node = self.node(&place);
            asked.spawn(async move {
                let question = slots::question();
                let answer = node.look(&question).await?;
                SlotMap::read(answer, &place)
            });
        }
        let mut failure = StoreError::Unreachable("there is no server of the cluster to ask".into());
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(slots)) => {
                    self.adopt(slots);
                    return Ok(());
                }
                Ok(Err(error)) => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    /// Some of those that had slots, and some of those in the settings.
    fn some_to_ask(&self) -> Vec<Place> {
        let (mut known, mut seeds) = (self.masters(), self.seeds.clone());
        known.shuffle(&mut rand::rng());
        seeds.shuffle(&mut rand::rng());
        let order: BTreeMap<usize, Place> = (0..).step_by(2).zip(known).chain((1..).step_by(2).zip(seeds)).collect();
        let mut places: Vec<Place> = Vec::new();
        for place in order.into_values() {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places.truncate(ASKED);
        places
    }

    /// Connections to those that have no slots any more end with the calls that are on them.
    fn adopt(&self, slots: SlotMap) {
        let mut state = self.lock();
        let masters = slots.masters();
        state.nodes.retain(|place, _| masters.contains(place) || self.seeds.contains(place));
        if state.slots != slots {
            state.slots = slots;
            self.keys_moved();
        }
    }

    /// Who told of changes to some keys is not the one any more where they are made.
    fn keys_moved(&self) {
        if let Some(watch) = self.server.watch() {
            watch.missed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that gave its slots away in good order keeps its connections, and knows nothing of what the new master does:
/// while the near cache leaves nothing to ask, no redirection would say so.
async fn notice_moves(cluster: Weak<Shared>) {
    loop {
        sleep(PULSE).await;
        let Some(shared) = cluster.upgrade() else { return };
        shared.refresh_soon();
    }
}
