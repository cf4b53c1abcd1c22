//! A connection to PostgreSQL, its own task, and what is prepared in it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls, Socket, Statement};

use super::super::super::StoreError;
use super::super::super::settings::{Place, Server as Account};
use super::super::layout::Layout;
use super::super::pool::Fault;
use super::fault::{fault, not_connected};
use super::tls::Tls;
use super::words::Words;

/// When a silent server is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(15);
/// A statement that waits for a row must not be carried out long after whoever asked gave up.
const SETUP: &str = "SET statement_timeout = '8s'";

pub(super) struct Connector {
    config: Config,
    tls: Option<Tls>,
}

pub(in super::super) struct Connection {
    pub(super) client: Client,
    pub(super) layout: Arc<Layout>,
    pub(super) words: Arc<Words>,
    prepared: Option<Prepared>,
    /// Carries what goes to and fro.
    carrier: JoinHandle<()>,
}

#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) load: Statement,
    pub(super) create: Statement,
    pub(super) replace: Statement,
    pub(super) touch: Statement,
    pub(super) delete: Statement,
}

impl Connector {
    pub(super) fn new(server: &Account) -> Result<Self, StoreError> {
        let mut config = Config::new();
        config.application_name("cloakroom").user(&server.user).dbname(&server.database);
        config.keepalives_idle(SILENCE).keepalives_interval(SILENCE).tcp_user_timeout(SILENCE);
        if let Some(password) = &server.password {
            config.password(password);
        }
        let tls = match &server.place {
            Place::Socket(directory, port) => {
                config.host_path(directory).port(*port);
                None
            }
            Place::Tcp { host, port, tls } => {
                config.host(host).port(*port);
                tls.as_ref().map(Tls::new).transpose()?
            }
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        Ok(Self { config, tls })
    }

    pub(super) async fn connect(&self, layout: Arc<Layout>, words: Arc<Words>) -> Result<Connection, StoreError> {
        let made = match &self.tls {
            Some(tls) => self.through(tls.clone()).await,
            None => self.through(NoTls).await,
        };
        let (client, carrier) = made.map_err(|error| not_connected(&error))?;
        Ok(Connection { client, layout, words, prepared: None, carrier })
    }

    async fn through<T>(&self, tls: T) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, connection) = self.config.connect(tls).await?;
        // How it ends shows in the calls.
        let carrier = tokio::spawn(async move { drop(connection.await) });
        client.batch_execute(SETUP).await?;
        Ok((client, carrier))
    }
}

impl Connection {
    pub(super) async fn prepared(&mut self) -> Result<Prepared, Fault> {
        if let Some(prepared) = &self.prepared {
            return Ok(prepared.clone());
        }
        let (client, words) = (&self.client, &self.words);
        let made = tokio::try_join!(
            client.prepare(&words.load),
            client.prepare(&words.create),
            client.prepare(&words.replace),
            client.prepare(&words.touch),
            client.prepare(&words.delete),
        );
        let (load, create, replace, touch, delete) = made.map_err(|error| fault(&error))?;
        Ok(self.prepared.insert(Prepared { load, create, replace, touch, delete }).clone())
    }
}

impl Drop for Connection {
    /// Whoever drops it may do so because the server does not answer: nothing waits for it.
    fn drop(&mut self) {
        self.carrier.abort();
    }
}
