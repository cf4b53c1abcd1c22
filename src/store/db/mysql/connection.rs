//! A connection to MySQL, with what we rely on.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};

use super::super::super::StoreError;
use super::super::super::settings::{Place, Server as Account};
use super::super::layout::Layout;
use super::super::tls::authorities;
use super::fault::not_connected;
use super::words::Words;

/// When a silent server is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(15);
/// Of a packet, for all that is not the key or the value.
const ENVELOPE: usize = 1024;
/// What does not fit is an error, not cut off; what is done is done; and a statement that waits for a row is not carried
/// out long after whoever asked gave up.
const SETUP: &str = "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@SESSION.sql_mode, ''), 'STRICT_ALL_TABLES'), \
                     SESSION autocommit = 1, SESSION innodb_lock_wait_timeout = 8";

pub(super) struct Connector(Opts);

pub(in super::super) struct Connection {
    pub(super) conn: Conn,
    pub(super) words: Arc<Words>,
    pub(super) layout: Arc<Layout>,
    /// Bytes of key and value that fit into one packet.
    pub(super) most: usize,
}

impl Connector {
    pub(super) fn new(server: &Account) -> Result<Self, StoreError> {
        let options = OptsBuilder::default()
            .user(Some(&server.user))
            .pass(server.password.as_ref())
            .db_name(Some(&server.database))
            .prefer_socket(false)
            .client_found_rows(true)
            .tcp_keepalive(Some(SILENCE))
            .setup(vec![SETUP]);
        let options = match &server.place {
            Place::Socket(path, _) => options.socket(path.to_str()),
            Place::Tcp { host, port, tls } => {
                let options = options.ip_or_hostname(host.as_str()).tcp_port(*port);
                let Some(tls) = tls else { return Ok(Self(options.into())) };
                let trusted = authorities(tls)?.into_iter().map(|authority| authority.to_vec().into()).collect();
                let tls = SslOpts::default().with_disable_built_in_roots(true).with_root_certs(trusted);
                options.ssl_opts(Some(tls))
            }
        };
        Ok(Self(options.into()))
    }

    pub(super) async fn connect(&self, layout: Arc<Layout>, words: Arc<Words>) -> Result<Connection, StoreError> {
        let made = async {
            let mut conn = Conn::new(self.0.clone()).await?;
            let packet: Option<usize> = conn.query_first("SELECT @@max_allowed_packet").await?;
            let most = packet.unwrap_or_default().saturating_sub(ENVELOPE);
            Ok(Connection { conn, words, layout, most })
        };
        made.await.map_err(not_connected)
    }
}
