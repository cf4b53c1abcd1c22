//! What only `engine = "redis"` takes.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::{StoreSettings, shown};
use crate::problem::Problem;
use crate::secret::Secret;

const REDIS_FORMS: &str =
    "write redis://HOST:PORT/DATABASE, rediss://HOST:PORT/DATABASE or redis+unix:///PATH?db=DATABASE";

impl StoreSettings {
    /// The server behind `redis://…`, with the credentials wherever they are written.
    pub(in crate::store) fn redis_server(&self) -> Result<ConnectionInfo, Problem> {
        let Some(url) = self.url.as_ref().map(Secret::expose) else {
            return Err(Problem::new("store.url", "nothing", format!("engine = \"redis\" needs one: {REDIS_FORMS}")));
        };
        let problem = |message: String| Problem::new("store.url", shown(url), message);
        if self.prefix.is_empty() {
            return Err(Problem::new("store.prefix", "\"\"", "must not be empty: others may use the same Redis"));
        }
        // The library's own messages are kept out: they may quote what they could not read, such as a password.
        let info = url.into_connection_info().map_err(|_| problem(format!("is no Redis server: {REDIS_FORMS}")))?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(problem("skips the check of the certificate: name its authority in ca_file".to_owned()));
            }
            ConnectionAddr::TcpTls { .. } => {}
            _ => {
                if let Some(file) = &self.ca_file {
                    return Err(Problem::new("store.ca_file", file.display(), "is only for rediss://"));
                }
            }
        }
        self.with_credentials(info)
    }

    fn with_credentials(&self, info: ConnectionInfo) -> Result<ConnectionInfo, Problem> {
        let mut login = info.redis_settings().clone();
        if let Some(username) = &self.username {
            if login.username().is_some() {
                return Err(Problem::new("store.username", username, "stands in store.url too: keep one of them"));
            }
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            if login.password().is_some() {
                return Err(Problem::new("store.password", "…", "stands in store.url too: keep one of them"));
            }
            login = login.set_password(password.expose());
        }
        if let (Some(username), None) = (login.username(), login.password()) {
            return Err(Problem::new("store.username", username, "needs a password: write store.password"));
        }
        Ok(info.set_redis_settings(login))
    }
}
