//! All the servers behind one store: one, the master of a few, or a cluster of masters.

use redis::ConnectionInfo;

use super::cluster::Cluster;
use super::connection::Target;
use super::node::Node;
use super::request::{Answer, Reply, Request, Wait};
use super::sentinel::Sentinels;
use super::server::{Place, Server};
use super::watch::Watch;
use crate::store::settings::RedisServers;
use crate::store::{StoreError, StoreSettings};

pub(super) enum Servers {
    Cluster(Cluster),
    One(Node),
}

impl Servers {
    pub(super) async fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        // Well within the time limit, which otherwise ends the connection too.
        let wait = settings.wait_replicas.map(|replicas| Wait { replicas, limit: settings.timeout * 3 / 4 });
        let server = |address: ConnectionInfo| Server::new(address, settings);
        let target = match settings.redis_servers().map_err(|problem| StoreError::Failed(problem.into()))? {
            RedisServers::Cluster(addresses) => {
                let seeds = addresses.into_iter().map(server).collect::<Result<Vec<_>, _>>()?;
                let places: Vec<Place> = seeds.iter().filter_map(Server::place).collect();
                let any = seeds.into_iter().next();
                let any = any.ok_or_else(|| StoreError::Failed("store.url names no server".into()))?;
                return Ok(Self::Cluster(Cluster::open(places, any, wait).await?));
            }
            RedisServers::Sentinel { sentinels, master, server: data } => {
                let sentinels = sentinels.into_iter().map(server).collect::<Result<_, _>>()?;
                Target::Master(Sentinels::new(sentinels, master, server(*data)?))
            }
            RedisServers::Single(address) => Target::Server(server(*address)?),
        };
        let node = Node::new(target, wait);
        node.connect().await?;
        Ok(Self::One(node))
    }

    /// The same on connections of its own, in the runtime that asks; `watch` hears of changes to what is read on them.
    pub(super) async fn another(&self, watch: Option<Watch>) -> Result<Self, StoreError> {
        Ok(match self {
            Self::Cluster(cluster) => Self::Cluster(cluster.another(watch).await?),
            Self::One(node) => {
                let node = node.another(watch);
                node.connect().await?;
                Self::One(node)
            }
        })
    }

    pub(super) async fn ask(&self, request: &Request) -> Result<Answer, StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.ask(request).await,
            Self::One(node) => match node.ask(request, false).await? {
                Reply::Answer(answer) => Ok(answer),
                Reply::Elsewhere(_) => {
                    Err(StoreError::Failed("this server belongs to a cluster: write redis+cluster://".into()))
                }
            },
        }
    }
}
