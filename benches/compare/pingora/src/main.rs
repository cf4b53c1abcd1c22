//! The plainest proxy that pingora makes, with the headers that nginx sets too; with a URL of Redis as third word it
//! gets the session of each request from there, on one connection, and puts it into a header.
//!
//! `bench-pingora PORT BACKEND [redis://HOST:PORT/DATABASE]`

use std::sync::Arc;

use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

struct Forward {
    backend: String,
    redis: Option<redis::Client>,
    connection: OnceCell<MultiplexedConnection>,
}

impl Forward {
    /// What Redis has for the cookie of this request.
    async fn session(&self, session: &Session) -> Result<Option<String>> {
        let (Some(client), Some(id)) = (&self.redis, session_id(session)) else {
            return Ok(None);
        };
        let connect = || client.get_multiplexed_async_connection();
        let connection = self.connection.get_or_try_init(connect).await;
        let mut connection = connection.or_err(ErrorType::ConnectError, "Redis")?.clone();
        connection.get(format!("session:{id}")).await.or_err(ErrorType::ReadError, "Redis")
    }
}

fn session_id(session: &Session) -> Option<&str> {
    let cookies = session.get_header("cookie")?.to_str().ok()?;
    cookies.split("; ").find_map(|cookie| cookie.strip_prefix("sessionid="))
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.backend.as_str(), false, String::new())))
    }

    async fn upstream_request_filter(&self, session: &mut Session, request: &mut RequestHeader, (): &mut ()) -> Result<()> {
        let host = session.get_header("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        let client = session.client_addr().and_then(|address| address.as_inet());
        let client = client.map(|address| address.ip().to_string()).unwrap_or_default();
        request.insert_header("Forwarded", format!("for={client};proto=http;host=\"{host}\""))?;
        request.insert_header("X-Forwarded-For", client)?;
        request.insert_header("X-Forwarded-Proto", "http")?;
        request.insert_header("X-Forwarded-Host", host)?;
        request.insert_header("X-Request-Id", uuid::Uuid::new_v4().simple().to_string())?;
        if let Some(data) = self.session(session).await? {
            request.insert_header("X-Session-Data", data)?;
        }
        Ok(())
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let (Some(port), Some(backend)) = (words.next(), words.next()) else {
        eprintln!("bench-pingora PORT BACKEND [REDIS]");
        std::process::exit(2);
    };
    let forward = Forward {
        backend: format!("127.0.0.1:{backend}"),
        redis: words.next().map(|url| redis::Client::open(url).expect("a URL of Redis")),
        connection: OnceCell::new(),
    };
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 64, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), forward);
    service.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(service);
    server.run_forever();
}
