//! Every store keeps one contract: the same cases for every engine, then what only one of them can do wrong.
//!
//! A new engine is one constructor in `fixture.rs` and one line below.

mod cached;
mod cached_faults;
mod cases;
mod crash_redis;
#[path = "../support/daemon.rs"]
mod daemon;
mod database;
mod django_table;
mod eviction;
mod failover;
mod failover_cluster;
mod failover_sentinel;
mod files;
mod files_django;
mod files_locks;
mod fixture;
mod foreign;
mod guard;
mod memcached;
#[path = "../support/memcached.rs"]
mod memcached_server;
#[path = "../support/mysql.rs"]
mod mysql_server;
mod near;
mod near_races;
#[path = "../support/postgres.rs"]
mod postgres_server;
mod races;
mod redis_django;
mod redis_faults;
mod redis_layout;
mod redis_listing;
mod redis_relay;
#[path = "../support/redis.rs"]
mod redis_server;
mod redis_tls;
#[path = "../support/redis_topologies.rs"]
mod redis_topologies;
mod server_logins;
mod servers;
#[path = "../support/stores.rs"]
mod watched;
mod watching;
mod watching_losses;
mod words;

use fixture::Fixture;

macro_rules! suite {
    ($($engine:ident = $fixture:expr;)+) => {
        $(mod $engine {
            use super::*;
            suite! { @ $fixture, cases =>
                absent_is_not_found
                a_saved_record_comes_back
                save_absent_over_a_living_record_conflicts
                save_over_another_version_conflicts
                every_save_has_a_version_of_its_own
                deleted_stays_deleted
                a_record_ends_at_its_deadline
                an_expired_record_gives_way_to_a_new_one_only
                a_deadline_far_away_or_long_gone_is_kept
                touch_moves_the_deadline_forward_only
                touch_keeps_version_and_value
                touch_needs_the_version
                attached_handles_see_one_store
                any_bytes_come_back
                any_key_is_a_key_of_its_own
                sweep_takes_the_expired_only
                a_future_that_was_dropped_harms_nobody
            }
            suite! { @ $fixture, races =>
                touch_and_save_at_the_same_time_lose_nothing
                of_many_who_create_one_wins
                of_many_who_replace_one_wins
                a_counter_loses_nothing
            }
        })+
    };
    (@ $fixture:expr, $part:ident => $($case:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $part::$case(&$fixture).await;
        })+
    };
}

suite! {
    memory = Fixture::memory();
    memory_guarded = Fixture::memory().guarded();
    db = Fixture::db();
    db_guarded = Fixture::db().guarded();
    mysql = Fixture::mysql();
    postgres = Fixture::postgres();
    redis_tcp = Fixture::redis_tcp();
    redis_tcp_guarded = Fixture::redis_tcp().guarded();
    redis_unix = Fixture::redis_unix();
    redis_unix_guarded = Fixture::redis_unix().guarded();
    redis_tls_acl = Fixture::redis_tls();
    redis_tls_acl_guarded = Fixture::redis_tls().guarded();
    file = Fixture::file();
    file_guarded = Fixture::file().guarded();
    memcached_one = Fixture::memcached();
    memcached_guarded = Fixture::memcached().guarded();
    memcached_unix = Fixture::memcached_unix();
    memcached_three = Fixture::memcached_three();
    cached_db_memory = Fixture::cached_db_memory();
    cached_db_memcached = Fixture::cached_db_memcached();
    cached_db_redis = Fixture::cached_db_redis();
    cached_db_redis_guarded = Fixture::cached_db_redis().guarded();
}

/// What can be asked of a layout that is not ours: no deadline to the millisecond, no version of its own for the same
/// bytes, no key but small letters and digits.
macro_rules! foreign_suite {
    ($($engine:ident = $fixture:expr;)+) => {
        $(mod $engine {
            use super::*;
            suite! { @ $fixture, cases =>
                absent_is_not_found
                save_over_another_version_conflicts
                deleted_stays_deleted
                attached_handles_see_one_store
                any_bytes_come_back
                a_future_that_was_dropped_harms_nobody
            }
            suite! { @ $fixture, races =>
                of_many_who_create_one_wins
                a_counter_loses_nothing
            }
        })+
    };
}

foreign_suite! {
    file_foreign = Fixture::file_foreign();
    memcached_foreign = Fixture::memcached().foreign();
}

/// What Django's table has a place for. It takes text under short keys until the year 9999, and its version is a digest:
/// the same for the same value.
macro_rules! django_suite {
    ($($engine:ident = $fixture:expr;)+) => {
        $(mod $engine {
            use super::*;
            suite! { @ $fixture, cases =>
                absent_is_not_found
                a_saved_record_comes_back
                save_absent_over_a_living_record_conflicts
                save_over_another_version_conflicts
                deleted_stays_deleted
                a_record_ends_at_its_deadline
                an_expired_record_gives_way_to_a_new_one_only
                touch_moves_the_deadline_forward_only
                touch_keeps_version_and_value
                touch_needs_the_version
                attached_handles_see_one_store
                sweep_takes_the_expired_only
                a_future_that_was_dropped_harms_nobody
            }
            suite! { @ $fixture, races =>
                touch_and_save_at_the_same_time_lose_nothing
                of_many_who_create_one_wins
                a_counter_loses_nothing
            }
        })+
    };
}

django_suite! {
    db_as_django = Fixture::db().with_djangos_table();
    mysql_as_django = Fixture::mysql().with_djangos_table();
    postgres_as_django = Fixture::postgres().with_djangos_table();
    redis_sentinel = Fixture::redis_sentinel();
    redis_cluster = Fixture::redis_cluster();
}

macro_rules! survivors {
    ($($engine:ident = $fixture:expr;)+) => {
        mod survives_a_restart {
            use super::*;
            $(#[tokio::test]
            async fn $engine() {
                cases::a_reopened_store_has_it_all(&$fixture).await;
            })+
        }
    };
}

survivors! {
    cached_db = Fixture::cached_db_memcached();
    db = Fixture::db();
    mysql = Fixture::mysql();
    postgres = Fixture::postgres();
    redis_tcp = Fixture::redis_tcp();
    redis_unix = Fixture::redis_unix();
    redis_tls_acl = Fixture::redis_tls();
}
