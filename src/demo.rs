//! The demonstration: a small shop of the old kind, which knows nothing of cookies or stores. Each of its pages is a
//! function that reads the visitor's session from a request header and changes it with response headers.

mod pages;
mod web;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Opens the shop on a free port of this machine and a thread of its own, until the process ends; where it is.
///
/// # Errors
/// The system gives no port or no thread.
pub fn open_shop() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("shop".to_owned()).spawn(move || {
        runtime.block_on(async { tokio::net::TcpListener::from_std(listener).map(web::serve)?.await })
    })?;
    Ok(address)
}

/// What to open and what to try, for a proxy on `listen` before the shop at `shop`.
pub fn greeting(listen: SocketAddr, shop: SocketAddr) -> String {
    format!(
        "A shop that keeps no sessions runs on http://{shop}, and Cloakroom before it on http://{listen}\n\
         \n\
         Open http://{listen} and log in, or try:\n\
         \n\
         \x20 curl -c jar -b jar http://{listen}/                       a visit is counted, a cookie set\n\
         \x20 curl -c jar -b jar http://{listen}/ -d item=umbrella      into the cart: POST /\n\
         \x20 curl -c jar -b jar http://{listen}/login -d name=Ada      a new cookie, the same cart\n\
         \x20 curl -c jar -b jar -X POST http://{listen}/logout         gone, everywhere\n\
         \x20 curl -i http://{shop}/                           the shop itself: commands, and no cookie\n\
         \n\
         The sessions are in cloakroom.sqlite3 in this folder and survive a restart. Ctrl-C stops both.\n"
    )
}

#[cfg(test)]
mod tests;
