//! Sentinels and clusters over TLS, where servers have names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{self, Expected, Key, SessionStore, StoreError};
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, TlsCertificates};

use crate::cases::stored;
use crate::fixture::{START, chain, settings};
use crate::redis_server::{How, PASSWORD, RedisServer, USER};
use crate::redis_topologies::{MASTER, until};

async fn open(url: &str, ca_file: &Path) -> Result<Arc<dyn SessionStore>, StoreError> {
    let login = format!("username = '{USER}'\npassword = '{PASSWORD}'");
    let text = format!("engine = 'redis'\nurl = '{url}'\nca_file = '{}'\ntimeout = '30s'\n{login}", ca_file.display());
    store::open_engine(&settings(&text), None, Clock::manual(START)).await
}

async fn works(url: &str, ca_file: &Path) {
    let store = open(url, ca_file).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let key = Key::new("visitor");
    stored(&*store, &key, Expected::Absent, "x", START.plus(Duration::from_secs(60))).await;
    let worker = Arc::clone(&store).attach().await.unwrap();
    assert_eq!(worker.load(&key).await.unwrap().unwrap().value, "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_over_tls_is_reached_by_the_names_of_its_servers() {
    let named = ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"];
    let options = [&named[..], &["--tls-cluster", "yes"]].concat().into_iter().map(str::to_owned).collect();
    let permissions = "+cluster +asking";
    let server = RedisServer::with_tls_as(How { options, permissions, bus: Some(0), sentinel: None });
    let authority = std::fs::read(server.ca_file()).unwrap();
    let address = server.tls_url().into_connection_info().unwrap();
    assert!(matches!(address.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
    let login = address.redis_settings().clone().set_username(USER).set_password(PASSWORD);
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(authority) };
    let client = Client::build_with_tls(address.set_redis_settings(login), certificates).unwrap();
    let mut admin = client.get_connection().unwrap();
    redis::cmd("CLUSTER").arg(&["ADDSLOTSRANGE", "0", "16383"]).exec(&mut admin).unwrap();
    until("the cluster is ready", || {
        let state: String = redis::cmd("CLUSTER").arg("INFO").query(&mut admin).unwrap();
        state.contains("cluster_state:ok")
    });
    let url = server.tls_url().replace("rediss://", "rediss+cluster://");
    works(&url, &server.ca_file()).await;
    let other = RedisServer::with_tls();
    let refused = open(&url, &other.ca_file()).await.err().unwrap();
    assert!(chain(&refused).contains("certificate"), "{}", chain(&refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_over_tls_name_a_server_over_tls() {
    let master = RedisServer::with_tls_as(How { permissions: "+role", ..How::default() });
    let watched = format!(
        "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\nsentinel monitor {MASTER} localhost {} 1\n",
        master.port()
    );
    let sentinel = RedisServer::with_tls_as(How { sentinel: Some(watched), ..How::default() });
    let url = format!("rediss+sentinel://localhost:{}/{MASTER}", sentinel.port());
    // Each has an authority of its own here, and both must be trusted.
    let refused = open(&url, &sentinel.ca_file()).await.err().unwrap();
    assert!(chain(&refused).contains("certificate"), "{}", chain(&refused));
    let both = [sentinel.ca_file(), master.ca_file()].map(|file| std::fs::read(file).unwrap()).concat();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("both.pem");
    std::fs::write(&file, both).unwrap();
    works(&url, &file).await;
}
