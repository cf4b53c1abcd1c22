//! How one Redis server is reached, and what is known of a connection to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, PushInfo, RedisResult,
    TlsCertificates,
};

use super::error::told;
use super::watch::Watch;
use crate::store::{StoreError, StoreSettings};

/// A connection may take longer than a call: it goes on in the background and is there for the calls after.
const CONNECT: Duration = Duration::from_secs(2);
/// Calls that may wait to be written; more wait for their turn.
const QUEUE: usize = 1024;
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// A server's address, how to log in there, whom to trust and how long to wait.
#[derive(Clone)]
pub(super) struct Server {
    address: ConnectionInfo,
    config: AsyncConnectionConfig,
    /// Whom to tell what others change there.
    watch: Option<Watch>,
}

impl Server {
    pub(super) fn new(address: ConnectionInfo, settings: &StoreSettings) -> Result<Self, StoreError> {
        // Less than the limit around the store, so that it is this connection that notices and is replaced: a network
        // that swallows packets would otherwise hold it for minutes.
        let limit = settings.timeout.saturating_sub(settings.timeout / 16);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT.max(settings.timeout)))
            .set_response_timeout(Some(limit))
            .set_pipeline_buffer_size(QUEUE);
        Ok(Self { address: trusting(address, settings)?, config, watch: None })
    }

    /// The same, from which `watch` hears of changes.
    pub(super) fn watched(&self, watch: Option<Watch>) -> Self {
        Self { watch, ..self.clone() }
    }

    pub(super) const fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    /// The same at another address.
    pub(super) fn at(&self, place: &Place) -> Self {
        let (host, port) = (place.host.clone(), place.port);
        let address = match self.address.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        let address = self.address.clone().set_addr(address);
        Self { address, config: self.config.clone(), watch: self.watch.clone() }
    }

    /// Where it is; `None` on a Unix socket.
    pub(super) fn place(&self) -> Option<Place> {
        match self.address.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Place { host: host.clone(), port: *port })
            }
            _ => None,
        }
    }

    pub(super) async fn connect(&self) -> RedisResult<Connected> {
        let life = Arc::<Life>::default();
        let witness = Witness(Arc::clone(&life));
        let config = self.config.clone().set_push_sender(move |push: PushInfo| {
            if let Some(watch) = witness.0.watch.get() {
                watch.hear(&push);
            }
            Ok::<(), ()>(())
        });
        // In RESP3, the protocol in which the library tells that a connection has ended.
        let login = self.address.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let telling = Client::open(self.address.clone().set_redis_settings(login))?;
        let place = self.place().map(Arc::new);
        match telling.get_multiplexed_async_connection_with_config(&config).await {
            Ok(mut connection) => {
                let watched = match &self.watch {
                    Some(watch) => life.watch.get_or_init(|| watch.clone()).begin(&mut connection).await?,
                    None => false,
                };
                Ok(Connected { connection, place, life, watched })
            }
            Err(error) if error.is_io_error() => Err(error),
            // A server before Redis 6 does not speak RESP3: the end of its connection shows in the next call only. One
            // that refuses us will do so again, in the words of the older protocol.
            Err(error) => {
                let client = Client::open(self.address.clone())?;
                let connection = client.get_multiplexed_async_connection_with_config(&self.config).await?;
                if let Some(watch) = &self.watch {
                    watch.cannot(&told(&error).to_string());
                }
                Ok(Connected { connection, place, life: Arc::default(), watched: false })
            }
        }
    }
}

/// The host and port of a server.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Place {
    /// `HOST:PORT` as Redis writes it: an IPv6 address without brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// A connection that was made; since then it may have been lost.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    pub(super) place: Option<Arc<Place>>,
    life: Arc<Life>,
    /// Whether word comes of changes to what is read here.
    pub(super) watched: bool,
}

impl Connected {
    pub(super) fn is_lost(&self) -> bool {
        self.life.lost.load(Ordering::Acquire)
    }

    /// No call begins on it any more; those that are under way come to their end.
    pub(super) fn discard(&self) {
        self.life.end();
    }
}

#[derive(Default)]
struct Life {
    lost: AtomicBool,
    /// Set before the server is asked for word of changes: an attempt to connect that gets no further tells nobody
    /// anything, so its end is not worth telling.
    watch: OnceLock<Watch>,
}

impl Life {
    fn end(&self) {
        if !self.lost.swap(true, Ordering::AcqRel)
            && let Some(watch) = self.watch.get()
        {
            watch.missed();
        }
    }
}

/// Handed to the library with a connection, which drops it when that one has ended, however it did.
struct Witness(Arc<Life>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The address with the authorities to trust there.
fn trusting(address: ConnectionInfo, settings: &StoreSettings) -> Result<ConnectionInfo, StoreError> {
    // Installed already if another part of the program speaks TLS; theirs serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(file) = &settings.ca_file else { return Ok(address) };
    let unreadable = |cause| StoreError::Failed(format!("store.ca_file {}: {cause}", file.display()).into());
    let pem = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    if !pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Err(unreadable("holds no certificate in PEM".to_owned()));
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    let client = Client::build_with_tls(address, certificates).map_err(|error| StoreError::Failed(told(&error)))?;
    Ok(client.get_connection_info().clone())
}
