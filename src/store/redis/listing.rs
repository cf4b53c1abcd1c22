//! The names there are, page by page, from one server after the other.
//!
//! A page says where the next one begins: which slots were whose, which server is being read, which life of it, and how
//! far it was read. `SCAN` keeps its promise only within one life of one server, so whenever another one answers its
//! names are given again from the beginning; and all are when slots have changed hands.

use redis::{Pipeline, from_redis_value};
use sha1::{Digest as _, Sha1};

use super::cluster::Cluster;
use super::error::not_understood;
use super::node::Node;
use super::server::Place;
use super::servers::Servers;
use crate::store::{Cursor, StoreError};

/// Keys that Redis looks at for a page, about.
const LOOKED_AT: u32 = 1000;

pub(super) struct Names {
    pub(super) names: Vec<Vec<u8>>,
    pub(super) next: Option<Cursor>,
}

/// Where a page begins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Position {
    /// The cluster's slots, as a digest.
    slots: String,
    /// The server; empty where there is but one, and before the first.
    server: String,
    /// Its life; empty before its first page.
    life: String,
    /// Its own word for how far it was read.
    cursor: u64,
}

/// Names that begin with `prefix`.
pub(super) async fn list(servers: &Servers, prefix: &str, from: Option<&Cursor>) -> Result<Names, StoreError> {
    let position = match from {
        Some(Cursor(text)) => Position::parse(text)
            .ok_or_else(|| StoreError::Failed("a listing cannot go on from a place that is none in Redis".into()))?,
        None => Position::default(),
    };
    match servers {
        Servers::Cluster(cluster) => page_of_cluster(cluster, prefix, position).await,
        Servers::One(node) => {
            let (names, next, _) = page(node, prefix, position, false).await?;
            Ok(Names { names, next: next.map(|next| next.cursor()) })
        }
    }
}

async fn page_of_cluster(cluster: &Cluster, prefix: &str, from: Position) -> Result<Names, StoreError> {
    if from.slots.is_empty() {
        cluster.refresh().await?;
    }
    let masters = cluster.masters();
    let first = || masters.first().ok_or_else(|| StoreError::Failed("the cluster has no servers".into()));
    let place = match Place::parse(&from.server).filter(|place| masters.contains(place)) {
        Some(place) => place,
        None => first()?.clone(),
    };
    let begun = Position { server: place.to_string(), ..from.clone() };
    let begun = if begun.server == from.server { begun } else { Position { life: String::new(), cursor: 0, ..begun } };
    let (names, next, slots) = page(&cluster.node(&place), prefix, begun, true).await?;
    let again = !from.slots.is_empty() && from.slots != slots;
    if again {
        cluster.refresh().await?;
        return Ok(Names { names, next: Some(Position::default().cursor()) });
    }
    let next = match next {
        Some(next) => Some(Position { slots, ..next }),
        None => {
            let after = masters.iter().find(|master| **master > place);
            after.map(|after| Position { slots, server: after.to_string(), ..Position::default() })
        }
    };
    Ok(Names { names, next: next.map(|next| next.cursor()) })
}

/// A page of one server, and whose the slots are in its view.
async fn page(
    node: &Node,
    prefix: &str,
    from: Position,
    clustered: bool,
) -> Result<(Vec<Vec<u8>>, Option<Position>, String), StoreError> {
    let ask = async |cursor: u64| {
        let mut questions = redis::pipe();
        questions.cmd("INFO").arg("server");
        questions.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern(prefix)).arg("COUNT").arg(LOOKED_AT);
        if clustered {
            questions.cmd("CLUSTER").arg("NODES");
        }
        answer(node, &questions).await
    };
    let mut found = ask(from.cursor).await?;
    if from.cursor != 0 && found.life != from.life {
        found = ask(0).await?;
    }
    let Found { life, cursor, names, slots } = found;
    let next = (cursor != 0).then(|| Position { slots: slots.clone(), server: from.server, life, cursor });
    Ok((names, next, slots))
}

struct Found {
    life: String,
    cursor: u64,
    names: Vec<Vec<u8>>,
    slots: String,
}

async fn answer(node: &Node, questions: &Pipeline) -> Result<Found, StoreError> {
    let answers: Vec<redis::Value> = node.look_at_once(questions).await?;
    let mut answers = answers.into_iter();
    let mut next = || answers.next().ok_or_else(not_understood);
    let info: String = from_redis_value(next()?).map_err(|_| not_understood())?;
    let (cursor, names) = from_redis_value(next()?).map_err(|_| not_understood())?;
    let life = info.lines().find_map(|line| line.strip_prefix("run_id:")).ok_or_else(not_understood)?.trim().to_owned();
    let slots = match next() {
        Ok(nodes) => slots(&from_redis_value::<String>(nodes).map_err(|_| not_understood())?)?,
        Err(_) => String::new(),
    };
    Ok(Found { life, cursor, names, slots })
}

/// A digest of who has which slots since when, from the answer to `CLUSTER NODES`.
fn slots(nodes: &str) -> Result<String, StoreError> {
    let mut owners = Vec::new();
    for line in nodes.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [id, _, _, _, _, _, epoch, _, slots @ ..] = words.as_slice() else { continue };
        if slots.iter().any(|slots| slots.starts_with('[')) {
            return Err(StoreError::Failed(
                "slots of the cluster are being moved: list again when that is done".into(),
            ));
        }
        if !slots.is_empty() {
            owners.push(format!("{id} {epoch} {}", slots.join(" ")));
        }
    }
    owners.sort();
    Ok(hex::encode(Sha1::digest(owners.join("\n"))))
}

/// A pattern for what begins with exactly this.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::new();
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('*');
    pattern
}

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::to_owned);
        let (slots, server, life) = (words.next()?, words.next()?, words.next()?);
        let cursor = words.next()?.parse().ok()?;
        words.next().is_none().then_some(Self { slots, server, life, cursor })
    }

    fn cursor(&self) -> Cursor {
        Cursor(format!("{} {} {} {}", self.slots, self.server, self.life, self.cursor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_anything_else_is_none() {
        let position = Position { slots: "ab".into(), server: "::1:7000".into(), life: "cd".into(), cursor: u64::MAX };
        assert_eq!(Position::parse(&position.cursor().0), Some(position));
        assert_eq!(Position::parse(&Position::default().cursor().0), Some(Position::default()));
        for text in ["", "0", "a b c", "a b c d", "a b c 1 2", "a b c -1"] {
            assert_eq!(Position::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_prefix_is_itself_and_no_pattern() {
        assert_eq!(pattern("session:"), "session:*");
        assert_eq!(pattern("[a-z]*?\\^"), "\\[a\\-z\\]\\*\\?\\\\\\^*");
    }

    #[test]
    fn the_digest_is_of_owners_and_epochs_and_none_while_slots_move() {
        let nodes = "aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-99\nbb 127.0.0.1:2@3,host master - 0 7 2 connected 100-16383\n\
                     cc 127.0.0.1:3@4 slave bb 0 7 2 connected\n";
        let digest = slots(nodes).unwrap();
        assert_eq!(slots(&nodes.replace(" 0 7 ", " 9 9 ")).unwrap(), digest, "when it was heard of last");
        assert_ne!(slots(&nodes.replace("2 connected 100", "3 connected 100")).unwrap(), digest);
        assert_ne!(slots(&nodes.replace("0-99", "0-98")).unwrap(), digest);
        slots(&nodes.replace("0-99", "0-99 [5->-bb]")).unwrap_err();
        slots(&nodes.replace("0-99", "0-98 [99-<-bb]")).unwrap_err();
    }
}
