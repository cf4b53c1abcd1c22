//! Several real Redis servers that belong together: a master behind sentinels, and a cluster.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::FromRedisValue;

use super::redis_server::{How, RedisServer};

/// The name of the master that sentinels watch here.
pub const MASTER: &str = "sessions";
pub const SENTINELS: usize = 3;

/// Long enough for any machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three sentinels, a master and its replicas.
pub struct Watched {
    /// All data servers; the first was the master at first.
    pub servers: Vec<RedisServer>,
    pub sentinels: Vec<RedisServer>,
}

impl Watched {
    /// A server is replaced after `down_after` milliseconds of silence.
    pub fn start(replicas: usize, down_after: u32) -> Self {
        // A replica is sent what it lacks at once, and what it has is believed at once.
        let quick = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let mut servers = vec![RedisServer::with_options(&quick)];
        let port = servers[0].port().to_string();
        let follow = [&quick[..], &["--replicaof", "127.0.0.1", &port]].concat();
        servers.extend((0..replicas).map(|_| RedisServer::with_options(&follow)));
        until("the replicas follow", || following(&servers[0]) == replicas);
        let watched = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {MASTER} {down_after}\n\
             sentinel failover-timeout {MASTER} 3000\nsentinel parallel-syncs {MASTER} 2\n"
        );
        let sentinel = |_| RedisServer::of(How { sentinel: Some(watched.clone()), ..How::default() });
        let sentinels: Vec<RedisServer> = (0..SENTINELS).map(sentinel).collect();
        for sentinel in &sentinels {
            // What they do every few seconds they do at once, and a slow machine does not make them give up.
            // Four times the period between two words to each other is how long a new master may go unannounced before
            // the others make a replica of it again.
            let periods = ["INFO-PERIOD", "500", "PUBLISH-PERIOD", "500", "ASK-PERIOD", "100"];
            let patience = ["TILT-TRIGGER", "60000", "TILT-PERIOD", "100", "MIN-LINK-RECONNECT-PERIOD", "100"];
            redis::cmd("SENTINEL").arg("DEBUG").arg(&periods).arg(&patience).exec(&mut sentinel.look()).unwrap();
        }
        let watched = Self { servers, sentinels };
        until("the sentinels know one another", || watched.know(replicas));
        watched
    }

    pub fn url(&self) -> String {
        let sentinels: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis+sentinel://{}/{MASTER}", sentinels.join(","))
    }

    /// The port of the master by the word of this sentinel.
    pub fn named_by(&self, sentinel: usize) -> u16 {
        let mut sentinel = self.sentinels[sentinel].look();
        let answer: (String, u16) =
            redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(MASTER).query(&mut sentinel).unwrap();
        answer.1
    }

    /// The server that all sentinels call the master, once they agree.
    pub fn master(&self) -> usize {
        let mut port = 0;
        until("the sentinels agree", || {
            port = self.named_by(0);
            (1..SENTINELS).all(|sentinel| self.named_by(sentinel) == port)
        });
        self.servers.iter().position(|server| server.port() == port).expect("a server of ours")
    }

    /// Waits until another than `old` is the master; which one.
    pub fn failed_over(&self, old: usize) -> usize {
        until("another is the master", || self.master() != old);
        self.master()
    }

    /// Makes a replica the master in good order; which one.
    pub fn fail_over(&self) -> usize {
        let old = self.master();
        let port = self.servers[old].port();
        let begin = |sentinel: &mut redis::Connection| {
            let state: HashMap<String, String> =
                redis::cmd("SENTINEL").arg("MASTER").arg(MASTER).query(sentinel).unwrap();
            if self.named_by(0) == port && !state["flags"].contains("failover_in_progress") {
                // Refused while no replica is good enough, which may also show after it was begun.
                let _ = redis::cmd("SENTINEL").arg("FAILOVER").arg(MASTER).exec(sentinel);
            }
        };
        until("another is the master", || {
            begin(&mut self.sentinels[0].look());
            self.named_by(0) != port && self.master() != old
        });
        self.master()
    }

    /// Whether every sentinel knows all replicas as good ones and all other sentinels.
    pub fn know(&self, replicas: usize) -> bool {
        self.sentinels.iter().all(|sentinel| {
            let asked = redis::cmd("SENTINEL").arg("CKQUORUM").arg(MASTER).exec(&mut sentinel.look());
            let ask = |about: &str| -> Vec<HashMap<String, String>> {
                redis::cmd("SENTINEL").arg(about).arg(MASTER).query(&mut sentinel.look()).unwrap()
            };
            let fine = |replica: &HashMap<String, String>| {
                replica["flags"] == "slave" && replica["master-link-status"] == "ok"
            };
            asked.is_ok()
                && ask("REPLICAS").iter().filter(|replica| fine(replica)).count() == replicas
                && ask("SENTINELS").iter().filter(|other| other["flags"] == "sentinel").count() == SENTINELS - 1
        })
    }
}

/// How many replicas have all that this server has.
pub fn following(master: &RedisServer) -> usize {
    let replication: String = redis::cmd("INFO").arg("replication").query(&mut master.look()).unwrap();
    replication.lines().filter(|line| line.starts_with("slave") && line.contains("state=online")).count()
}

/// Three masters, with so many replicas each.
pub struct Cluster {
    /// The masters at first, then the replicas: the first of each, then the second.
    pub servers: Vec<RedisServer>,
}

pub const MASTERS: usize = 3;
const SLOTS: usize = 16_384;

impl Cluster {
    /// A server is replaced after `node_timeout` milliseconds of silence.
    pub fn start(replicas: usize, node_timeout: u32) -> Self {
        let options = ["--cluster-node-timeout", &node_timeout.to_string(), "--repl-diskless-sync-delay", "0"];
        let options: Vec<String> = options.map(str::to_owned).to_vec();
        let server = |_| RedisServer::of(How { bus: Some(0), options: options.clone(), ..How::default() });
        let cluster = Self { servers: (0..MASTERS * (1 + replicas)).map(server).collect() };
        for number in 0..MASTERS {
            let (first, end) = (SLOTS * number / MASTERS, SLOTS * (number + 1) / MASTERS);
            let () = cluster.ask(number, &["ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()]);
        }
        for number in 0..cluster.servers.len() {
            let () = cluster.ask(number, &["SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            for other in &cluster.servers[..number] {
                let (port, bus) = (other.port().to_string(), other.bus().to_string());
                let () = cluster.ask(number, &["MEET", "127.0.0.1", &port, &bus]);
            }
        }
        until("the servers know one another", || {
            (0..cluster.servers.len())
                .all(|number| cluster.state(number).contains("cluster_state:ok") && cluster.knows(number))
        });
        for replica in MASTERS..cluster.servers.len() {
            let () = cluster.ask(replica, &["REPLICATE", &cluster.id(replica % MASTERS)]);
        }
        until("the replicas follow", || (0..MASTERS).all(|master| following(&cluster.servers[master]) == replicas));
        until("all know the replicas", || {
            (0..cluster.servers.len()).all(|number| {
                let nodes: String = cluster.ask(number, &["NODES"]);
                nodes.matches(" slave ").count() + nodes.matches("myself,slave ").count() == MASTERS * replicas
            })
        });
        cluster
    }

    pub fn url(&self) -> String {
        let servers: Vec<String> =
            self.servers[..2].iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        format!("redis+cluster://{}", servers.join(","))
    }

    /// `CLUSTER …` at this server.
    pub fn ask<T: FromRedisValue>(&self, server: usize, words: &[&str]) -> T {
        self.try_ask(server, words).unwrap_or_else(|error| panic!("CLUSTER {words:?}: {error}"))
    }

    pub fn try_ask<T: FromRedisValue>(&self, server: usize, words: &[&str]) -> redis::RedisResult<T> {
        redis::cmd("CLUSTER").arg(words).query(&mut self.servers[server].look())
    }

    pub fn id(&self, server: usize) -> String {
        self.ask(server, &["MYID"])
    }

    pub fn state(&self, server: usize) -> String {
        self.ask(server, &["INFO"])
    }

    fn knows(&self, server: usize) -> bool {
        let nodes: String = self.ask(server, &["NODES"]);
        nodes.lines().filter(|line| line.contains(" connected")).count() == self.servers.len()
            && !nodes.contains("handshake")
    }

    /// The server that has this slot, by the word of `asked`.
    pub fn master_of(&self, slot: u16, asked: usize) -> usize {
        let ranges: Vec<(u16, u16, Vec<redis::Value>)> = {
            let answer: Vec<Vec<redis::Value>> = self.ask(asked, &["SLOTS"]);
            let number = |value: &redis::Value| redis::from_redis_value::<u16>(value.clone()).unwrap();
            let master = |value: &redis::Value| redis::from_redis_value::<Vec<redis::Value>>(value.clone()).unwrap();
            answer.iter().map(|range| (number(&range[0]), number(&range[1]), master(&range[2]))).collect()
        };
        let (_, _, master) = ranges
            .into_iter()
            .find(|(first, last, _)| (*first..=*last).contains(&slot))
            .expect("somebody has the slot");
        let port: u16 = redis::from_redis_value(master[1].clone()).unwrap();
        self.servers.iter().position(|server| server.port() == port).expect("a server of ours")
    }

    /// Moves a slot with its keys, as `redis-cli --cluster reshard` does; how many keys went. `between` is called while
    /// the slot is on its way.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize, mut between: impl FnMut()) -> usize {
        let (number, source, target) = (slot.to_string(), self.id(from), self.id(to));
        let () = self.ask(to, &["SETSLOT", &number, "IMPORTING", &source]);
        let () = self.ask(from, &["SETSLOT", &number, "MIGRATING", &target]);
        let mut moved = 0;
        let mut connection = self.servers[from].look();
        loop {
            between();
            let keys: Vec<Vec<u8>> = self.ask(from, &["GETKEYSINSLOT", &number, "1"]);
            if keys.is_empty() {
                break;
            }
            moved += keys.len();
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.servers[to].port()).arg("").arg(0).arg(10_000).arg("KEYS").arg(keys);
            migrate.exec(&mut connection).unwrap();
        }
        for server in [to, from].into_iter().chain((0..MASTERS).filter(|other| ![to, from].contains(other))) {
            let () = self.ask(server, &["SETSLOT", &number, "NODE", &target]);
        }
        moved
    }
}

/// Waits for what must come true.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
