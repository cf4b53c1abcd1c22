//! A cache before a database that is down, hangs, is away or does not forget.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cloakroom::store::{CachedDb, Expected, SessionStore};
use tokio::time::Instant;

use crate::cached::{House, LIMIT, MAX_AGE, key};
use crate::cases::{stored, value};
use crate::fixture::Fixture;
use crate::watched::{Call, Fate, Watched};

/// All that can be asked, with the outcome that the database alone decides.
async fn all_is_well(house: &House, proxy: &dyn SessionStore) {
    let version = house.keep(proxy, Expected::Absent, "one").await;
    assert_eq!(value(proxy, &key()).await.unwrap(), "one");
    assert!(proxy.touch(&key(), version, house.later().plus(MAX_AGE)).await.unwrap());
    let record = proxy.load(&key()).await.unwrap().unwrap();
    assert_eq!((record.version, record.expires_at), (version, house.later().plus(MAX_AGE)));
    house.keep(proxy, Expected::Version(version), "two").await;
    assert_eq!(value(proxy, &key()).await.unwrap(), "two");
    proxy.delete(&key()).await.unwrap();
    assert_eq!(value(proxy, &key()).await, None);
}

#[tokio::test]
async fn a_cache_that_is_down_changes_nothing_but_speed() {
    for fate in [Fate::Fail, Fate::FailAfterwards] {
        let house = House::new().await;
        let (cache, proxy) = house.before(move |_, _| fate);
        all_is_well(&house, &*proxy).await;
        assert!(cache.calls(Call::Delete) > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_hangs_costs_its_own_limit_and_soon_nothing() {
    let house = House::new().await;
    let (_, proxy) = house.before(|_, _| Fate::Hang);
    let start = Instant::now();
    house.keep(&*proxy, Expected::Absent, "x").await;
    let spent = start.elapsed();
    assert!(spent >= LIMIT && spent < LIMIT + Duration::from_millis(5), "{spent:?}");
    for _ in 0..4 {
        assert_eq!(value(&*proxy, &key()).await.unwrap(), "x");
    }
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(value(&*proxy, &key()).await.unwrap(), "x");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    proxy.delete(&key()).await.unwrap();
    all_is_well(&house, &*proxy).await;
}

#[tokio::test]
async fn a_cache_that_is_away_at_the_start_is_used_when_it_is_there() {
    let mut fixture = Fixture::cached_db_memcached();
    fixture.memcached[0].stop();
    let store = fixture.open().await;
    let worker = Arc::clone(&store).attach().await.unwrap();
    let deadline = fixture.later(3_600_000);
    stored(&*store, &key(), Expected::Absent, "x", deadline).await;
    fixture.memcached[0].restart();
    // What it could not be told to forget is not believed for as long as it could be there.
    fixture.clock.advance(MAX_AGE + Duration::from_secs(10));
    for handle in [store, worker] {
        let items = |fixture: &Fixture| fixture.memcached[0].tell("mg session:visitor v\r\n");
        assert_eq!(items(&fixture), "EN");
        // While the breaker is open the cache is left alone.
        while items(&fixture) == "EN" {
            assert_eq!(value(&*handle, &key()).await.unwrap(), "x");
        }
        fixture.memcached[0].tell("md session:visitor\r\n");
    }
}

/// A cache that forgets nothing while it is told so, and otherwise works.
fn deaf_to_deletes(house: &House) -> (Arc<AtomicBool>, Arc<CachedDb>) {
    let deaf = Arc::new(AtomicBool::new(true));
    let rule = {
        let deaf = Arc::clone(&deaf);
        move |call, _| if call == Call::Delete && deaf.load(Ordering::SeqCst) { Fate::Fail } else { Fate::Pass }
    };
    (deaf, house.before(rule).1)
}

#[tokio::test]
async fn an_entry_that_could_not_be_removed_is_not_believed_here_and_elsewhere_only_until_it_ends() {
    let house = House::new().await;
    let (_, proxy) = deaf_to_deletes(&house);
    let worker = Arc::clone(&proxy).attach().await.unwrap();
    house.keep(&*house.rows, Expected::Absent, "in").await;
    assert_eq!(value(&*proxy, &key()).await.unwrap(), "in");
    // The visitor logs out.
    proxy.delete(&key()).await.unwrap();
    let elsewhere = house.proxy();
    for handle in [&*proxy as &dyn SessionStore, &*worker] {
        assert_eq!(value(handle, &key()).await, None);
    }
    assert_eq!(value(&*elsewhere, &key()).await.unwrap(), "in");
    house.clock.advance(MAX_AGE);
    for handle in [&*proxy as &dyn SessionStore, &*worker, &*elsewhere] {
        assert_eq!(value(handle, &key()).await, None);
    }
}

#[tokio::test]
async fn an_entry_that_could_not_be_removed_is_removed_when_it_is_asked_for_again() {
    let house = House::new().await;
    let (deaf, proxy) = deaf_to_deletes(&house);
    house.keep(&*house.rows, Expected::Absent, "in").await;
    assert_eq!(value(&*proxy, &key()).await.unwrap(), "in");
    proxy.delete(&key()).await.unwrap();
    deaf.store(false, Ordering::SeqCst);
    assert_eq!(value(&*proxy, &key()).await, None);
    assert_eq!(value(&*house.proxy(), &key()).await, None);
}

/// The row is written, and whoever wrote it does not learn so, or has gone before the cache was told.
#[tokio::test]
async fn after_a_write_of_unknown_outcome_the_entry_is_not_believed() {
    for gone in [false, true] {
        let house = House::new().await;
        let version = house.keep(&*house.rows, Expected::Absent, "old").await;
        let told = Arc::new(AtomicUsize::new(0));
        let rows: Arc<dyn SessionStore> =
            Watched::new(&house.rows, |call, _| if call == Call::Save { Fate::FailAfterwards } else { Fate::Pass });
        let cache: Arc<dyn SessionStore> = {
            let told = Arc::clone(&told);
            Watched::new(&house.cache, move |call, _| {
                if call == Call::Delete && told.fetch_add(1, Ordering::SeqCst) == 0 { Fate::Hang } else { Fate::Pass }
            })
        };
        let proxy = if gone { house.proxy_of(&house.rows, &cache) } else { house.proxy_of(&rows, &house.cache) };
        let key = key();
        assert_eq!(value(&*proxy, &key).await.unwrap(), "old");
        let save = proxy.save(&key, Expected::Version(version), "new".into(), house.later());
        let outcome = tokio::time::timeout(Duration::from_millis(50), save).await;
        assert!(!matches!(outcome, Ok(Ok(_))), "{outcome:?}");
        assert_eq!(gone, outcome.is_err() && told.load(Ordering::SeqCst) == 1);
        assert_eq!(value(&*proxy, &key).await.unwrap(), "new");
    }
}
