//! What the near cache believes, and for how long.

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;
use crate::session::Session;
use crate::session::codec::Codec;
use crate::session::data::Data;
use crate::session::expiry::Expiry;
use crate::session::inject::HeaderSettings;
use crate::session::settings::SessionSettings;
use crate::sessions::Records;
use crate::store::{Engine, Expected, Record, Saved, SessionStore, StoreError, StoreSettings, Version, open_engine};

const RULES: NearCacheRules = NearCacheRules { max_age: Duration::from_secs(30), max_bytes: 1 << 20 };

fn key(number: usize) -> Key {
    Key::new(format!("{number:064}"))
}

fn stored(version: u64, bytes: usize) -> Arc<Stored> {
    let data = Data::parse(format!("{{\"a\":\"{}\"}}", "x".repeat(bytes)).into()).unwrap();
    let [created_at, saved_at] = [Timestamp::from_millis(0); 2];
    let session =
        Session { data, created_at, saved_at, expiry: Expiry::Default, retired: None, predecessors: Vec::new() };
    Arc::new(Stored { session, version: Version(version), expires_at: Timestamp::from_millis(i64::MAX) })
}

fn put(near: &NearCache, key: &Key, version: u64) {
    near.keep(key, near.mark(key), &stored(version, 10));
}

fn version(found: Option<Arc<Stored>>) -> Option<u64> {
    found.map(|stored| stored.version.0)
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_believed_until_it_changes() {
    let near = NearCache::new(RULES);
    let [one, other] = [1, 2].map(key);
    put(&near, &one, 1);
    put(&near, &other, 2);
    assert_eq!([version(near.fresh(&one)), version(near.fresh(&other))], [Some(1), Some(2)]);
    near.changed(&one);
    assert_eq!([version(near.fresh(&one)), version(near.fresh(&other))], [None, Some(2)]);
    assert_eq!(version(near.stale(&one, Duration::MAX)), None, "it is known to have changed");
    near.all_changed();
    assert_eq!([near.fresh(&other).is_none(), near.stale(&other, Duration::MAX).is_none()], [true; 2]);
    put(&near, &other, 3);
    near.gone(&other, near.mark(&other));
    assert!(near.stale(&other, Duration::MAX).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_a_change_is_not_kept() {
    let near = NearCache::new(RULES);
    let key = key(1);
    for change in [|near: &NearCache, key: &Key| near.changed(key), |near: &NearCache, _: &Key| near.all_changed()] {
        let mark = near.mark(&key);
        change(&near, &key);
        near.keep(&key, mark, &stored(1, 10));
        assert!(near.fresh(&key).is_none() && near.stale(&key, Duration::MAX).is_none());
    }
    let mark = near.mark(&key);
    near.missed();
    near.keep(&key, mark, &stored(1, 10));
    assert!(near.fresh(&key).is_none(), "the word of a change may have been lost");
    assert_eq!(version(near.stale(&key, Duration::MAX)), Some(1));
    // What is in doubt does not stay beside an answer that may not be kept either.
    let mark = near.mark(&key);
    near.changed(&key);
    near.missed();
    near.keep(&key, mark, &stored(2, 10));
    assert!(near.stale(&key, Duration::MAX).is_none());
}

#[tokio::test(start_paused = true)]
async fn of_two_answers_that_crossed_neither_is_kept_unless_they_are_the_same() {
    let near = NearCache::new(RULES);
    let key = key(1);
    for (second, kept) in [(1, Some(1)), (2, None)] {
        // Both workers asked before either had its answer.
        let [one, other] = [(); 2].map(|()| near.mark(&key));
        near.keep(&key, one, &stored(1, 10));
        near.keep(&key, other, &stored(second, 10));
        assert_eq!(version(near.fresh(&key)), kept);
    }
    // What was there before the question is simply older.
    put(&near, &key, 1);
    put(&near, &key, 2);
    assert_eq!(version(near.fresh(&key)), Some(2));
}

#[tokio::test(start_paused = true)]
async fn doubt_and_age_leave_it_for_an_outage_only() {
    let near = NearCache::new(RULES);
    let key = key(1);
    let mark = near.mark(&key);
    // Age counts from the question: the answer may be as old.
    tokio::time::advance(Duration::from_secs(10)).await;
    near.keep(&key, mark, &stored(1, 10));
    tokio::time::advance(Duration::from_secs(20) - Duration::from_millis(1)).await;
    assert_eq!(version(near.fresh(&key)), Some(1));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(version(near.fresh(&key)), None);
    let minute = Duration::from_secs(60);
    assert_eq!(version(near.stale(&key, minute)), Some(1));
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(version(near.stale(&key, minute)), None);

    put(&near, &key, 2);
    near.missed();
    assert_eq!([version(near.fresh(&key)), version(near.stale(&key, minute))], [None, Some(2)]);
    put(&near, &key, 3);
    assert_eq!(version(near.fresh(&key)), Some(3));
}

#[tokio::test(start_paused = true)]
async fn what_was_in_doubt_when_the_store_answered_again_is_not_shown_in_the_next_outage() {
    let near = NearCache::new(RULES);
    let [one, other] = [1, 2].map(key);
    put(&near, &one, 1);
    let asked_before = near.mark(&other);
    near.missed();
    near.keep(&other, asked_before, &stored(1, 10));
    assert_eq!(version(near.stale(&one, Duration::MAX)), Some(1), "that answer was on its way before");
    for answer in [
        |near: &NearCache, key: &Key| put(near, key, 2),
        |near: &NearCache, key: &Key| {
            near.gone(key, near.mark(key));
        },
    ] {
        put(&near, &one, 1);
        near.missed();
        assert_eq!(version(near.stale(&one, Duration::MAX)), Some(1));
        answer(&near, &other);
        assert_eq!(version(near.stale(&one, Duration::MAX)), None, "it could have been read again");
    }
}

#[tokio::test(start_paused = true)]
async fn it_takes_no_more_memory_than_it_may() {
    let near = NearCache::new(RULES);
    let one = OVERHEAD + 64 + stored(1, 1000 - r#"{"a":""}"#.len()).session.data.detached_bytes();
    let fitting = RULES.max_bytes / one;
    for number in 0..2 * fitting {
        let key = key(number);
        near.keep(&key, near.mark(&key), &stored(1, 1000 - r#"{"a":""}"#.len()));
        near.fresh(&self::key(0));
    }
    let kept: Vec<usize> = (0..2 * fitting).filter(|&number| near.fresh(&key(number)).is_some()).collect();
    assert_eq!(kept.len(), fitting);
    assert_eq!(kept[..2], [0, fitting + 1], "the one that is in use stays");
    assert_eq!(lock(&near.shards[0]).bytes, fitting * one);
    let key = key(1);
    near.keep(&key, near.mark(&key), &stored(1, RULES.max_bytes));
    assert!(near.fresh(&key).is_none(), "nothing goes for what does not fit");
    near.all_changed();
    let shard = lock(&near.shards[0]);
    assert_eq!((shard.bytes, shard.entries.len()), (0, 0));
}

#[test]
fn what_was_used_gets_a_second_turn_and_no_third() {
    let one = OVERHEAD + 64 + stored(1, 10).session.data.detached_bytes();
    let near = NearCache::new(NearCacheRules { max_bytes: 4 * one, ..RULES });
    let kept = || (0..9).filter(|&number| lock(&near.shards[0]).entries.contains_key(&key(number))).collect::<Vec<_>>();
    let add = |number| put(&near, &key(number), 1);
    (0..4).for_each(add);
    assert!(near.fresh(&key(0)).is_some() && near.stale(&key(1), Duration::MAX).is_some());
    add(4);
    assert_eq!(kept(), [0, 1, 3, 4]);
    add(5);
    assert_eq!(kept(), [0, 1, 4, 5]);
    add(6);
    assert_eq!(kept(), [1, 4, 5, 6], "0 had its second turn and was not used again");
    for number in kept() {
        assert!(near.fresh(&key(number)).is_some());
    }
    add(7);
    assert_eq!(kept(), [4, 5, 6, 7], "of those in use the oldest");
    near.keep(&key(8), near.mark(&key(8)), &stored(1, 2 * one));
    assert!(kept().contains(&8) && kept().len() < 4, "a large one takes the place of several");
}

#[test]
fn one_that_comes_looks_at_a_few_and_not_at_all_that_are_in_use() {
    let one = OVERHEAD + 64 + stored(1, 10).session.data.detached_bytes();
    let near = NearCache::new(NearCacheRules { max_bytes: 100 * one, ..RULES });
    for number in 0..100 {
        put(&near, &key(number), 1);
        assert!(near.fresh(&key(number)).is_some());
    }
    put(&near, &key(100), 1);
    let gone: Vec<usize> = (0..101).filter(|&number| near.fresh(&key(number)).is_none()).collect();
    assert_eq!(gone, [MOST_TURNS]);
}

#[test]
fn large_ones_have_several_parts_and_small_ones_room_for_a_session() {
    for (max_bytes, shards) in [(64 << 10, 1), (1 << 20, 1), (5 << 20, 5), (64 << 20, 64), (1 << 30, 64)] {
        let near = NearCache::new(NearCacheRules { max_bytes, ..RULES });
        assert_eq!((near.shards.len(), near.shard_bytes), (shards, max_bytes / shards));
    }
}

#[test]
fn it_forgets_at_the_end_of_a_write_however_that_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let near = NearCache::new(RULES);
    let key = key(1);
    put(&near, &key, 1);
    let mark = near.mark(&key);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _forgetting = Forgetting::new(Some(&near), &key);
        assert!(near.fresh(&key).is_some(), "until then the old session is the session");
        panic!("in the middle of a write");
    }));
    assert!(panicked.is_err() && near.fresh(&key).is_none());
    near.keep(&key, mark, &stored(1, 10));
    assert!(near.fresh(&key).is_none(), "read before the write ended");
}

/// Writes, and then answers, fails, or says no more.
struct Ending {
    inner: Arc<dyn SessionStore>,
    end: Mutex<End>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Answered,
    Failed,
    Silent,
}

impl Ending {
    async fn after<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let answer = write.await;
        let end = *self.end.lock().unwrap();
        match end {
            End::Answered => answer,
            End::Failed => Err(StoreError::Timeout),
            End::Silent => std::future::pending().await,
        }
    }
}

#[async_trait]
impl SessionStore for Ending {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.inner.load(key).await
    }

    async fn save(&self, key: &Key, expected: Expected, value: Bytes, end: Timestamp) -> Result<Saved, StoreError> {
        self.after(self.inner.save(key, expected, value, end)).await
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        self.after(self.inner.touch(key, expected, expires_at)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.after(self.inner.delete(key)).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(self)
    }
}

#[tokio::test(start_paused = true)]
async fn every_write_is_seen_by_who_asks_after_it_however_it_ended() {
    let settings = StoreSettings { engine: Engine::Memory, ..StoreSettings::default() };
    let rules = Arc::new(SessionSettings::default().check(&HeaderSettings::default()).unwrap());
    let codec = Codec::new(&settings, &rules, "sessionid").unwrap();
    let clock = Clock::manual(Timestamp::from_millis(0));
    let inner = open_engine(&settings, None, clock.clone()).await.unwrap();
    let store = Arc::new(Ending { inner, end: Mutex::new(End::Answered) });
    let (near, metrics) = (Some(Arc::new(NearCache::new(RULES))), Arc::new(Metrics::new()));
    let records = Records { store: Arc::clone(&store) as Arc<dyn SessionStore>, codec, clock, metrics, rules, near };
    let session = stored(0, 10).session.clone();
    let [early, late] = [100, 200].map(Timestamp::from_millis);
    for end in [End::Answered, End::Failed, End::Silent] {
        for write in ["save", "touch", "delete"] {
            let key = Key::new(format!("{end:?} {write}"));
            let Saved::Stored(version) = records.save(&key, Expected::Absent, &session, early).await.unwrap() else {
                panic!("there is none yet");
            };
            for _ in 0..2 {
                assert_eq!(records.find_near(&key).await.unwrap().unwrap().expires_at, early);
            }
            *lock_end(&store) = end;
            let written = async {
                match write {
                    "save" => records.save(&key, Expected::Version(version), &session, late).await.is_ok(),
                    "touch" => records.touch(&key, version, late).await.is_ok(),
                    _ => records.delete(&key).await.is_ok(),
                }
            };
            let written = tokio::time::timeout(Duration::from_secs(1), written).await;
            assert_eq!(
                (written.is_err(), written == Ok(true)),
                (matches!(end, End::Silent), matches!(end, End::Answered))
            );
            *lock_end(&store) = End::Answered;
            let expected = (write != "delete").then_some(late);
            let found = records.find_near(&key).await.unwrap();
            assert_eq!(found.map(|stored| stored.expires_at), expected, "{end:?}, {write}");
        }
    }
}

fn lock_end(store: &Ending) -> MutexGuard<'_, End> {
    store.end.lock().unwrap()
}
