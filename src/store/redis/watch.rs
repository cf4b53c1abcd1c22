//! What Redis tells of changes: `CLIENT TRACKING`, as of Redis 6, in its default mode. The server remembers which keys a
//! connection has read and says, on that connection and in its order, when one of them is changed or gone.
//!
//! `NOLOOP` leaves out what the connection changes itself. That is for the caller to know, who hears sooner that way. It
//! also leaves out what Redis evicts to make room for what came on that connection: a record that was evicted may be shown
//! until it is too old. To hear of that, every write of a worker's own would have to be told to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult, Value, from_redis_value_ref};

use super::error::told;
use crate::store::{Key, Watcher};

/// Whom to tell of changes, in keys instead of names.
#[derive(Clone)]
pub(super) struct Watch {
    watcher: Arc<dyn Watcher>,
    prefix: Arc<str>,
    /// One server that cannot is enough to know.
    warned: Arc<AtomicBool>,
}

impl Watch {
    pub(super) fn new(watcher: Arc<dyn Watcher>, prefix: &str) -> Self {
        Self { watcher, prefix: prefix.into(), warned: Arc::default() }
    }

    /// Asks for word of changes on a new connection; false if this server gives none.
    pub(super) async fn begin(&self, connection: &mut MultiplexedConnection) -> RedisResult<bool> {
        let mut question = redis::cmd("CLIENT");
        question.arg("TRACKING").arg("ON").arg("NOLOOP");
        match question.exec_async(connection).await {
            Ok(()) => Ok(true),
            // It does not know the command, or we may not use it. All else passes, as a script that holds Redis up.
            Err(error) if matches!(error.code(), Some("ERR" | "NOPERM")) => {
                self.cannot(&told(&error).to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// This server does not tell of changes.
    pub(super) fn cannot(&self, cause: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(cause, "Redis does not tell what changes (CLIENT TRACKING), so the near cache stays empty");
        }
    }

    /// What Redis, or the library, says unasked.
    pub(super) fn hear(&self, push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        match push.data.first() {
            Some(Value::Array(names)) => {
                for name in names {
                    // A name that is no text is nobody's session.
                    let name = from_redis_value_ref::<String>(name).unwrap_or_default();
                    if let Some(key) = name.strip_prefix(&*self.prefix) {
                        self.watcher.changed(&Key::new(key));
                    }
                }
            }
            // After FLUSHDB and its like.
            _ => self.watcher.all_changed(),
        }
    }

    /// A record was read on a connection that gives no word of it.
    pub(super) fn read_unwatched(&self, key: &Key) {
        self.watcher.changed(key);
    }

    /// A connection ended, or keys went to another server.
    pub(super) fn missed(&self) {
        self.watcher.missed();
    }
}
