//! Which of several servers has a key: rendezvous hashing exactly as pymemcache's `RendezvousHash` does it.

use super::super::settings::memcached::Server;

/// The place of the server whose name and the key together hash highest; of two alike, the greater name.
pub(super) fn node_of(servers: &[Server], key: &str) -> usize {
    let score = |server: &Server| murmur3_32(format!("{}-{key}", server.node).as_bytes());
    let best = servers.iter().enumerate().max_by_key(|(_, server)| (score(server), server.node.as_str()));
    best.map_or(0, |(place, _)| place)
}

/// `MurmurHash3_x86_32` with seed 0.
fn murmur3_32(bytes: &[u8]) -> u32 {
    let scramble = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = blocks.iter().fold(0_u32, |hash, block| {
        (hash ^ scramble(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let rest = tail.iter().rev().fold(0_u32, |rest, byte| rest << 8 | u32::from(*byte));
    hash ^= scramble(rest);
    // The algorithm has the length in 32 bits; keys are short.
    hash ^= u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::super::super::settings::memcached::Place;
    use super::*;

    fn server(node: &str) -> Server {
        Server { node: node.to_owned(), place: Place::Unix(Path::new("/").to_owned()) }
    }

    fn vectors(kind: &str) -> Vec<Value> {
        let file: Value = serde_json::from_str(include_str!("../../../tests/data/django/11_memcached.json")).unwrap();
        let of_kind = |vector: &&Value| vector["kind"] == kind;
        let vectors: Vec<Value> = file["vectors"].as_array().unwrap().iter().filter(of_kind).cloned().collect();
        assert!(vectors.len() >= 4, "{kind}");
        vectors
    }

    #[test]
    fn hashes_as_pymemcache_does() {
        for vector in vectors("murmur3_32_seed0") {
            assert_eq!(
                u64::from(murmur3_32(vector["input"].as_str().unwrap().as_bytes())),
                vector["expected"],
                "{vector}"
            );
        }
    }

    #[test]
    fn chooses_as_pymemcache_does() {
        for vector in vectors("node_choice") {
            let mut servers: Vec<Server> =
                vector["nodes"].as_array().unwrap().iter().map(|node| server(node.as_str().unwrap())).collect();
            for _ in 0..servers.len() {
                let chosen = node_of(&servers, vector["key"].as_str().unwrap());
                assert_eq!(servers[chosen].node, vector["expected_node"], "{vector}");
                servers.rotate_left(1);
            }
        }
    }
}
