//! What a copy does with one session. Each step can be repeated.

use std::time::Duration;

use bytes::Bytes;

use super::super::transfer::{self, Found, Parcel, Unfit};
use super::Run;
use super::seen::Sight;
use crate::clock::Timestamp;
use crate::session::Session;
use crate::store::{Expected, Key, Saved, StoreError, Version};

/// Tries to replace a session that keeps changing.
const TRIES: usize = 8;
/// A deadline that moved by less is not worth a write: some stores know theirs only so coarsely.
const COARSE: Duration = Duration::from_secs(1);

pub(super) enum Brought {
    Copied,
    Expired,
    Failed(Unfit),
    Newer,
    Same,
}

/// What the second look at a session of the source found at the target.
pub(super) enum Checked {
    Different,
    /// From the source itself.
    Gone,
    Good,
    /// It is new at the source, or changed, or failed before; this became of it.
    Late(Brought),
    Missing,
}

/// A session as it is at the source, and as the target would have it.
struct Taken {
    parcel: Parcel,
    source: Version,
}

async fn take(run: &Run, key: &Key) -> Result<Result<Taken, Brought>, StoreError> {
    let stored = match transfer::find(&run.from, key).await? {
        Found::Gone => return Ok(Err(Brought::Expired)),
        Found::There(stored) => stored,
        Found::Unreadable(_) => return Ok(Err(Brought::Failed(Unfit::Unreadable))),
    };
    let packed = Parcel::key(&run.to.codec, key, run.from.codec.names_ids())
        .and_then(|key| Parcel::pack(&run.to.codec, key, &stored.session, stored.expires_at));
    Ok(packed.map(|parcel| Taken { parcel, source: stored.version }).map_err(Brought::Failed))
}

/// Makes the target have what the source has, unless it has something newer.
pub(super) async fn bring(run: &Run, key: &Key) -> Result<Brought, StoreError> {
    match take(run, key).await? {
        Ok(taken) => settle(run, &taken).await,
        Err(brought) => Ok(brought),
    }
}

async fn settle(run: &Run, Taken { parcel, source }: &Taken) -> Result<Brought, StoreError> {
    let remember = |target| {
        run.seen().remember(&parcel.key, Sight { source: *source, target, expires_at: parcel.expires_at });
    };
    for _ in 0..TRIES {
        let expected = match transfer::find(&run.to, &parcel.key).await? {
            Found::Gone if parcel.expires_at <= run.to.clock.now() => return Ok(Brought::Expired),
            Found::Gone => Expected::Absent,
            Found::Unreadable(version) => Expected::Version(version),
            Found::There(there) if parcel.is(&there.session) => {
                // Requests that changed nothing have moved the deadline at the source.
                let later = parcel.expires_at.since(there.expires_at) > COARSE;
                if later && !run.to.store.touch(&parcel.key, there.version, parcel.expires_at).await? {
                    continue;
                }
                remember(there.version);
                return Ok(Brought::Same);
            }
            Found::There(there) if is_newer(&there.session, &parcel.session) => return Ok(Brought::Newer),
            Found::There(there) => Expected::Version(there.version),
        };
        match run.to.store.save(&parcel.key, expected, parcel.value.clone(), parcel.expires_at).await {
            Ok(Saved::Stored(version)) => {
                remember(version);
                return Ok(Brought::Copied);
            }
            Ok(Saved::Conflict) => {}
            Err(StoreError::TooLarge) => return Ok(Brought::Failed(Unfit::TooLarge)),
            Err(error) => return Err(error),
        }
    }
    Ok(Brought::Failed(Unfit::Contended))
}

/// Whether `there` has a life of its own. A session that moved on to another key or ended is newer though it was not saved
/// again; of two that were saved in the same moment the source's counts.
fn is_newer(there: &Session, here: &Session) -> bool {
    let moved_on = there.retired.is_some() && here.retired.is_none();
    there.saved_at > here.saved_at || (there.saved_at == here.saved_at && moved_on)
}

/// Looks at a session of the source for the second time.
pub(super) async fn check(run: &Run, key: &Key) -> Result<Checked, StoreError> {
    let taken = match take(run, key).await? {
        Ok(taken) => taken,
        Err(Brought::Expired) => return Ok(Checked::Gone),
        Err(brought) => {
            // It did not end, whatever else is wrong with it.
            if let Ok(key) = Parcel::key(&run.to.codec, key, run.from.codec.names_ids()) {
                run.seen().forget(&key);
            }
            return Ok(Checked::Late(brought));
        }
    };
    let key = &taken.parcel.key;
    let unchanged = run.seen().of(key).is_some_and(|sight| sight.source == taken.source);
    let checked = if unchanged {
        match transfer::find(&run.to, key).await? {
            Found::Gone if taken.parcel.expires_at <= run.to.clock.now() => Checked::Gone,
            Found::Gone => Checked::Missing,
            Found::There(there) if taken.parcel.is(&there.session) => Checked::Good,
            Found::There(there) if is_newer(&there.session, &taken.parcel.session) => Checked::Good,
            Found::There(_) | Found::Unreadable(_) => Checked::Different,
        }
    } else {
        Checked::Late(settle(run, &taken).await?)
    };
    // What is left in the end was not at the source any more.
    run.seen().forget(key);
    Ok(checked)
}

/// Ends a session of the target if it was ended at the source: it was brought over and never seen there again, and nobody
/// has stored it at the target since. True if it was ended.
pub(super) async fn end(run: &Run, key: &Key) -> Result<bool, StoreError> {
    let Some(sight) = run.seen().of(key) else { return Ok(false) };
    // Where the key is the same at the source, it can say so itself.
    let same_keys = run.from.codec.names_ids() == run.to.codec.names_ids();
    if same_keys && run.from.store.load(key).await?.is_some() {
        return Ok(false);
    }
    // Long past, so that it is over by every clock.
    let over = Timestamp::from_millis(0);
    let ended = run.to.store.save(key, Expected::Version(sight.target), Bytes::new(), over).await?;
    Ok(matches!(ended, Saved::Stored(_)))
}
