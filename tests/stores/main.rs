//! Every store keeps one contract: the same cases for every engine, then what only one of them can do wrong.
//!
//! A new engine is one constructor in `fixture.rs` and one line below.

mod cases;
mod crash_redis;
mod database;
mod eviction;
mod failover;
mod failover_cluster;
mod failover_sentinel;
mod fixture;
mod guard;
mod races;
mod redis_django;
mod redis_faults;
mod redis_layout;
mod redis_listing;
#[path = "../support/redis.rs"]
mod redis_server;
mod redis_tls;
#[path = "../support/redis_topologies.rs"]
mod redis_topologies;

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
    redis_tcp = Fixture::redis_tcp();
    redis_tcp_guarded = Fixture::redis_tcp().guarded();
    redis_unix = Fixture::redis_unix();
    redis_unix_guarded = Fixture::redis_unix().guarded();
    redis_tls_acl = Fixture::redis_tls();
    redis_tls_acl_guarded = Fixture::redis_tls().guarded();
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
    db = Fixture::db();
    redis_tcp = Fixture::redis_tcp();
    redis_unix = Fixture::redis_unix();
    redis_tls_acl = Fixture::redis_tls();
}
