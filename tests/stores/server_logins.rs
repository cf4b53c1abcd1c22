//! Database servers that are not there, not who they say they are, or refuse us.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use cloakroom::clock::Clock;
use cloakroom::store::{self, Expected, StoreError};
use socket2::{Domain, Socket, Type};

use crate::cases::{HOUR, key, stored, value};
use crate::fixture::{Fixture, START, chain, settings};
use crate::mysql_server::MySqlServer;
use crate::postgres_server::PostgresServer;

/// Why it does not open, and all that is told of it.
async fn refusal(text: &str) -> (StoreError, String) {
    let settings = settings(text);
    match store::open_engine(&settings, None, Clock::manual(START)).await {
        Ok(_) => panic!("opened with {text}"),
        Err(error) => {
            let told = format!("{} {error:?} {settings:?}", chain(&error));
            (error, told)
        }
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    // Bound and not listening: nobody else can take the port and answer.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    for url in [
        format!("postgres://ann:hunter2@127.0.0.1:{port}/x"),
        "postgres://ann:hunter2@/x?host=/nonexistent".to_owned(),
        format!("mysql://ann:hunter2@127.0.0.1:{port}/x"),
        "mysql://ann:hunter2@localhost/x?socket=/nonexistent/socket".to_owned(),
    ] {
        let (error, told) = refusal(&format!("url = '{url}'")).await;
        assert!(matches!(error, StoreError::Unreachable(_)), "{url}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let (postgres, mysql) = (PostgresServer::start(), MySqlServer::start());
    for (url, words) in [
        (format!("postgres://cloakroom:hunter2@127.0.0.1:{}/postgres", postgres.port()), "authentication failed"),
        (format!("mysql://cloakroom:hunter2@127.0.0.1:{}/sessions", mysql.port()), "Access denied"),
    ] {
        let (error, told) = refusal(&format!("url = '{url}'")).await;
        assert!(matches!(error, StoreError::Failed(_)) && told.contains(words), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[tokio::test]
async fn only_a_certificate_by_whom_we_trust_is_accepted() {
    let (postgres, mysql) = (PostgresServer::with_tls(), MySqlServer::with_tls());
    let servers = [(postgres.tls_url(), postgres.ca_file()), (mysql.tls_url(), mysql.ca_file())];
    for (turn, (url, ca_file)) in servers.iter().enumerate() {
        let stranger = format!("ca_file = {:?}", servers[1 - turn].1);
        for (ca_file, told) in [
            (stranger.as_str(), "certificate"),
            ("", "certificate"),
            ("ca_file = '/nonexistent/ca.pem'", "/nonexistent/ca.pem"),
            ("ca_file = '/dev/null'", "no certificate"),
        ] {
            let (_, all) = refusal(&format!("url = '{url}'\n{ca_file}")).await;
            assert!(all.contains(told), "{ca_file}: {all}");
        }
        // Its name is localhost.
        let (_, all) =
            refusal(&format!("url = '{}'\nca_file = {ca_file:?}", url.replace("localhost", "127.0.0.1"))).await;
        assert!(all.contains("certificate"), "{all}");

        let mut fixture = Fixture::db();
        fixture.settings = settings(&format!("url = '{url}'\nca_file = {ca_file:?}\ntimeout = '60s'"));
        let store = fixture.open().await;
        stored(&*store, &key(), Expected::Absent, "covered", fixture.later(HOUR)).await;
        assert_eq!(value(&*store, &key()).await.unwrap(), "covered");
        if turn == 0 {
            let covered = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl
                AND application_name = 'cloakroom'";
            assert_eq!(postgres.sql(covered), "1");
        } else {
            mysql.sql("ALTER USER cloakroom@'%' REQUIRE SSL");
            Arc::clone(&store).attach().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_was_asked_for() {
    let (postgres, mysql) = (PostgresServer::start(), MySqlServer::start());
    for url in [postgres.tls_url(), mysql.tls_url()] {
        let (_, told) = refusal(&format!("url = '{url}'")).await;
        assert!(told.contains("TLS") || told.contains("SSL"), "{told}");
    }
}
