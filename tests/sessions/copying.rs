//! A copy pass by pass, with visitors at both stores in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom::clock::{Clock, Timestamp};
use cloakroom::command::copy::{Copied, Stages, copy};
use cloakroom::command::{CommandError, Progress, Unfit};
use cloakroom::session::{Retired, Session};
use cloakroom::sessions::Records;
use cloakroom::store::{Cursor, Expected, Key, Page, Record, Saved, SessionStore, StoreError, Version};

use crate::place::{HOUR, behind, get, id, memory, put, replace, session};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// Two stores, one clock, and the keys of some sessions.
struct Scene {
    clock: Clock,
    from: Arc<Records>,
    to: Arc<Records>,
}

impl Scene {
    /// The source has so many sessions, from 0, and they are a second old.
    async fn new(count: u32) -> Self {
        let clock = Clock::manual(START);
        let (from, to) = (memory(&clock).await, memory(&clock).await);
        for number in 0..count {
            put(&from, &key(number), &session("{\"at\":\"start\"}", START)).await;
        }
        clock.advance(SECOND);
        Self { clock, from, to }
    }

    fn now(&self, data: &str) -> Session {
        session(data, self.clock.now())
    }

    async fn copy(&self) -> Copied {
        copy(&self.from, &self.to, &mut Progress::new()).await.unwrap()
    }

    /// A copy with something that happens after the first pass.
    async fn copy_and_meanwhile(&self, meanwhile: impl AsyncFnOnce(&Self)) -> Copied {
        let (mut stages, mut progress) = (Stages::new(&self.from, &self.to).unwrap(), Progress::new());
        stages.bring_over(&mut progress).await.unwrap();
        self.clock.advance(SECOND);
        meanwhile(self).await;
        stages.look_again(&mut progress).await.unwrap();
        stages.end_what_ended(&mut progress).await.unwrap();
        stages.done().clone()
    }

    async fn at_target(&self, number: u32) -> Option<String> {
        get(&self.to, &key(number)).await.map(|session| session.data.as_str().to_owned())
    }
}

fn key(number: u32) -> Key {
    id(number).digest()
}

const AT_START: &str = "{\"at\":\"start\"}";

#[tokio::test]
async fn what_visitors_do_at_the_source_meanwhile_comes_over() {
    let scene = Scene::new(4).await;
    let done = scene
        .copy_and_meanwhile(async |scene| {
            replace(&scene.from, &key(0), &scene.now("{\"changed\":1}")).await;
            put(&scene.from, &key(10), &scene.now("{\"new\":1}")).await;
            // A logout.
            scene.from.end(&[key(1)]).await.unwrap();
            // A new key, of which the old one knows; it was not saved for that.
            let retired = Some(Retired { until: scene.clock.now().plus(SECOND), successor: key(11) });
            replace(&scene.from, &key(2), &Session { retired, ..session(AT_START, START) }).await;
            put(&scene.from, &key(11), &scene.now("{\"cycled\":1}")).await;
        })
        .await;
    assert_eq!(done, Copied { copied: 4 + 4, verified: 5, ended: 1, ..Copied::default() });
    assert!(done.is_whole());
    assert_eq!(scene.at_target(0).await.as_deref(), Some("{\"changed\":1}"));
    assert_eq!(scene.at_target(1).await, None, "a logout wins");
    assert!(get(&scene.to, &key(2)).await.unwrap().retired.is_some());
    for number in [0, 2, 3, 10, 11] {
        assert_eq!(get(&scene.to, &key(number)).await, get(&scene.from, &key(number)).await, "{number}");
    }
}

#[tokio::test]
async fn what_visitors_do_at_the_target_meanwhile_stays() {
    let scene = Scene::new(5).await;
    let done = scene
        .copy_and_meanwhile(async |scene| {
            for number in [0, 1] {
                replace(&scene.to, &key(number), &scene.now("{\"target\":1}")).await;
            }
            put(&scene.to, &key(10), &scene.now("{\"own\":1}")).await;
            // Ended at the source, and used at the target since.
            scene.from.end(&[key(1)]).await.unwrap();
            // Ended at the source, and only looked at at the target since.
            scene.from.end(&[key(2)]).await.unwrap();
            let there = scene.to.store.load(&key(2)).await.unwrap().unwrap();
            assert!(scene.to.store.touch(&key(2), there.version, scene.clock.now().plus(2 * HOUR)).await.unwrap());
            // On its way to a new key at the target.
            let retired = Some(Retired { until: scene.clock.now().plus(HOUR), successor: key(10) });
            replace(&scene.to, &key(3), &Session { retired, ..session(AT_START, START) }).await;
        })
        .await;
    assert_eq!(done, Copied { copied: 5, verified: 3, ended: 1, ..Copied::default() });
    for number in [0, 1] {
        assert_eq!(scene.at_target(number).await.as_deref(), Some("{\"target\":1}"), "{number}");
    }
    assert_eq!(scene.at_target(2).await, None);
    assert!(get(&scene.to, &key(3)).await.unwrap().retired.is_some(), "it is not brought back to life");
    assert_eq!(scene.at_target(10).await.as_deref(), Some("{\"own\":1}"));
    // The next run leaves it all as it is, and what is only at the target is none of its business.
    let done = scene.copy().await;
    assert_eq!(done, Copied { same: 1, newer: 2, verified: 3, ..Copied::default() });
    assert_eq!(scene.at_target(1).await.as_deref(), Some("{\"target\":1}"));
}

#[tokio::test]
async fn the_older_gives_way_to_the_newer_in_one_direction_only() {
    let scene = Scene::new(3).await;
    put(&scene.to, &key(0), &session("{\"older\":1}", Timestamp::from_millis(1))).await;
    put(&scene.to, &key(1), &scene.now("{\"newer\":1}")).await;
    let spoilt = scene.to.store.save(&key(2), Expected::Absent, "no session".into(), START.plus(HOUR)).await.unwrap();
    assert!(matches!(spoilt, Saved::Stored(_)));
    assert_eq!(scene.copy().await, Copied { copied: 2, newer: 1, verified: 3, ..Copied::default() });
    assert_eq!(scene.at_target(0).await.as_deref(), Some(AT_START));
    assert_eq!(scene.at_target(1).await.as_deref(), Some("{\"newer\":1}"));
    assert_eq!(scene.at_target(2).await.as_deref(), Some(AT_START));
}

#[tokio::test]
async fn what_is_spoilt_or_lost_at_the_target_is_told() {
    let scene = Scene::new(4).await;
    let done = scene
        .copy_and_meanwhile(async |scene| {
            replace(&scene.to, &key(0), &session("{\"at\":\"Start\"}", START)).await;
            let there = scene.to.store.load(&key(1)).await.unwrap().unwrap();
            let expected = Expected::Version(there.version);
            let _ = scene.to.store.save(&key(1), expected, "spoilt".into(), there.expires_at).await.unwrap();
            scene.to.store.delete(&key(2)).await.unwrap();
        })
        .await;
    assert_eq!(done, Copied { copied: 4, verified: 1, different: 2, missing: 1, ..Copied::default() });
    assert!(!done.is_whole());
    assert!(scene.copy().await.is_whole(), "the next run mends it");
    assert_eq!(scene.at_target(0).await.as_deref(), Some(AT_START));
}

#[tokio::test]
async fn what_expires_by_itself_was_not_ended() {
    let scene = Scene::new(2).await;
    let done = scene
        .copy_and_meanwhile(async |scene| {
            // Its visitor is at the target by now.
            let there = scene.to.store.load(&key(0)).await.unwrap().unwrap();
            assert!(scene.to.store.touch(&key(0), there.version, scene.clock.now().plus(2 * HOUR)).await.unwrap());
            scene.clock.advance(HOUR);
        })
        .await;
    assert_eq!(done, Copied { copied: 2, ..Copied::default() });
    assert_eq!(scene.at_target(0).await.as_deref(), Some(AT_START));
    assert_eq!(scene.at_target(1).await, None);
}

#[tokio::test]
async fn idle_deadlines_that_moved_at_the_source_move_at_the_target() {
    let scene = Scene::new(1).await;
    scene.copy().await;
    let later = scene.clock.now().plus(2 * HOUR);
    let there = scene.from.store.load(&key(0)).await.unwrap().unwrap();
    assert!(scene.from.store.touch(&key(0), there.version, later).await.unwrap());
    assert_eq!(scene.copy().await, Copied { same: 1, verified: 1, ..Copied::default() });
    assert_eq!(scene.to.store.load(&key(0)).await.unwrap().unwrap().expires_at, later);
}

#[tokio::test]
async fn what_cannot_be_read_fails_and_nothing_else_does() {
    let scene = Scene::new(1).await;
    let saved = scene.from.store.save(&key(10), Expected::Absent, "no session".into(), START.plus(HOUR)).await.unwrap();
    assert!(matches!(saved, Saved::Stored(_)));
    let done = scene.copy().await;
    let failed = [(Unfit::Unreadable, 1)].into();
    assert_eq!(done, Copied { copied: 1, verified: 1, failed, ..Copied::default() });
    assert!(!done.is_whole());
}

/// A store in whose saves someone else comes first, or that fails now and then.
struct Troubled {
    inner: Arc<dyn SessionStore>,
    calls: AtomicUsize,
    trouble: Trouble,
}

#[derive(Clone)]
enum Trouble {
    /// Every call fails.
    Broken,
    /// After a few calls it is away for thirty; of those, half have acted all the same.
    Away,
    /// Before the first save someone else stores this.
    Rival(Bytes),
}

impl Troubled {
    fn around(records: &Records, trouble: Trouble) -> Arc<Records> {
        let inner = Arc::clone(&records.store);
        behind(records, Arc::new(Self { inner, calls: AtomicUsize::new(0), trouble }))
    }

    async fn call<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        match &self.trouble {
            Trouble::Broken => Err(StoreError::Unreachable("on purpose".into())),
            Trouble::Away if (10..40).contains(&call) && call.is_multiple_of(2) => {
                work.await.and_then(|_| Err(StoreError::Timeout))
            }
            Trouble::Away if (10..40).contains(&call) => Err(StoreError::Unreachable("on purpose".into())),
            Trouble::Away | Trouble::Rival(_) => work.await,
        }
    }
}

#[async_trait]
impl SessionStore for Troubled {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.call(self.inner.load(key)).await
    }

    async fn save(&self, key: &Key, expected: Expected, value: Bytes, at: Timestamp) -> Result<Saved, StoreError> {
        if let (Trouble::Rival(theirs), Expected::Absent) = (&self.trouble, expected) {
            let _ = self.inner.save(key, Expected::Absent, theirs.clone(), at).await?;
        }
        self.call(self.inner.save(key, expected, value, at)).await
    }

    async fn touch(&self, key: &Key, expected: Version, at: Timestamp) -> Result<bool, StoreError> {
        self.call(self.inner.touch(key, expected, at)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.call(self.inner.delete(key)).await
    }

    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        self.call(self.inner.scan(from)).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(self)
    }
}

#[tokio::test]
async fn who_stores_at_the_target_in_the_same_moment_is_not_overwritten() {
    for (rival, expected) in [(START.plus(SECOND), "{\"rival\":1}"), (Timestamp::from_millis(1), AT_START)] {
        let mut scene = Scene::new(1).await;
        let value = scene.to.codec.encode(&key(0), &session("{\"rival\":1}", rival), rival);
        scene.to = Troubled::around(&scene.to, Trouble::Rival(value));
        assert!(scene.copy().await.is_whole());
        assert_eq!(scene.at_target(0).await.as_deref(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn stores_that_fail_for_a_moment_are_asked_again() {
    let mut scene = Scene::new(40).await;
    let (from, to) = (Arc::clone(&scene.from), Arc::clone(&scene.to));
    scene.from = Troubled::around(&from, Trouble::Away);
    scene.to = Troubled::around(&to, Trouble::Away);
    let done = scene.copy().await;
    // Of those stored just before a time-out nobody knows who stored them.
    assert_eq!((done.copied + done.same, done.verified, done.is_whole()), (40, 40, true), "{done:?}");
    for number in 0..40 {
        assert_eq!(get(&to, &key(number)).await, get(&from, &key(number)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_ends_the_run() {
    for broken in ["source", "target"] {
        let mut scene = Scene::new(3).await;
        let place = if broken == "source" { &mut scene.from } else { &mut scene.to };
        *place = Troubled::around(place, Trouble::Broken);
        let failed = copy(&scene.from, &scene.to, &mut Progress::new()).await.unwrap_err();
        assert!(matches!(failed, CommandError::Store(_)), "{broken}: {failed}");
        assert_eq!(failed.code(), 69);
    }
}
