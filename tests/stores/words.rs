//! What a watched store says, in its order.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::store::{Key, SessionStore, StoreError, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::fixture::chain;

/// Long enough for any machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Word {
    AllChanged,
    Changed(String),
    Missed,
}

struct Recorder(UnboundedSender<Word>);

impl Recorder {
    fn hear(&self, word: Word) {
        // A store may outlive its test's interest.
        let _ = self.0.send(word);
    }
}

impl Watcher for Recorder {
    fn changed(&self, key: &Key) {
        self.hear(Word::Changed(key.as_str().to_owned()));
    }

    fn all_changed(&self) {
        self.hear(Word::AllChanged);
    }

    fn missed(&self) {
        self.hear(Word::Missed);
    }
}

pub struct Words(UnboundedReceiver<Word>);

impl Words {
    /// One more handle on the store, and what it says.
    pub async fn of(store: &Arc<dyn SessionStore>) -> (Arc<dyn SessionStore>, Self) {
        let (watched, words) = Self::try_of(store).await;
        (watched.unwrap_or_else(|error| panic!("{}", chain(&error))), words)
    }

    pub async fn try_of(store: &Arc<dyn SessionStore>) -> (Result<Arc<dyn SessionStore>, StoreError>, Self) {
        let (recorder, words) = unbounded_channel();
        (Arc::clone(store).attach_watched(Arc::new(Recorder(recorder))).await, Self(words))
    }

    pub async fn next(&mut self) -> Word {
        let word = timeout(PATIENCE, self.0.recv()).await.expect("nothing more is said");
        word.expect("nothing more will ever be said")
    }

    /// Waits for a word; those before it.
    pub async fn until(&mut self, word: &Word) -> Vec<Word> {
        let mut before = Vec::new();
        loop {
            let next = self.next().await;
            if next == *word {
                return before;
            }
            before.push(next);
        }
    }

    /// What was said so far.
    pub fn so_far(&mut self) -> Vec<Word> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

pub fn changed(key: &str) -> Word {
    Word::Changed(key.to_owned())
}
