//! The daemon's HTTP side: the page, `/status`, `/events`, `/metrics`, `/livez` and `/readyz`. Reads only what actors
//! published; it never waits for an actor, a database or a broker, never writes, and never takes a core away from
//! the stream. Every answer of a route carries the same security headers (what is no request at all, or too slow, is
//! answered by the server itself, with a status alone); who may ask is `guard`'s to say, by the table in
//! `routes`.

mod connections;
mod events;
mod guard;
mod health;
#[cfg(test)]
mod lockout_tests;
mod page;
mod problem;
mod rates;
#[cfg(test)]
mod route_tests;
mod routes;
#[cfg(test)]
mod script_tests;
mod status;
mod tap;
#[cfg(test)]
mod tap_tests;
#[cfg(test)]
mod tests;
mod token;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::KeepAlive;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, HttpServer, dev::Server, web};
use chrono::{DateTime, Utc};

use crate::config::Access;
use crate::messages::{Board, Tap};
use crate::metrics::Metrics;

/// A client gets so long to send its request's head, and so long to go after the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections at once. Far above what pages and scrapers need, and with [`events::MAX_READERS`] well below it, so
/// that open pages never lock a liveness probe out. Each takes two file descriptors, its own and that of
/// [`connections`]: 384 of the 1,024 that are usual, which leaves the rest for the broker and the database.
const MAX_CONNECTIONS: usize = 192;

/// A stop waits so long for answers under way; the live stream of a page ends at once.
const SHUTDOWN_SECONDS: u64 = 1;

/// One thing that must be so for the daemon to be ready.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// Stable, short: `database`, `stream orders`.
    pub name: String,
    pub ok: bool,
    /// Why not, in words for the reader, without secrets.
    pub cause: Option<String>,
    /// Since when it is so.
    pub since: Option<DateTime<Utc>>,
}

/// Who answers.
#[derive(Debug, Clone)]
pub struct DaemonInfo {
    /// `daemon.name` of the configuration.
    pub name: String,
    pub version: &'static str,
    pub revision: &'static str,
    pub started_at: DateTime<Utc>,
}

/// What the answers are made of. The closures must not block: they read what is there.
pub struct HttpState {
    pub daemon: DaemonInfo,
    pub metrics: Metrics,
    pub board: Board,
    /// Where records can be looked at on their way.
    pub tap: Tap,
    /// An array of `{name, state, generation, restarts, last_error, since, actors: [{name, state, restarts}]}`.
    pub units: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    pub checks: Arc<dyn Fn() -> Vec<Check> + Send + Sync>,
    /// Names under which the daemon may be asked for beside its own address and localhost: `name` or `name:port`.
    pub allowed_hosts: Vec<String>,
    /// Who is let in.
    pub access: Access,
}

/// What all handlers share.
struct Shared {
    state: HttpState,
    routes: Vec<routes::Served>,
    hosts: guard::Hosts,
    door: token::Door,
    rates: rates::Rates,
    readers: events::Readers,
    connections: Arc<connections::Connections>,
}

/// Serves on `listener` until the server's handle stops it; signals are the caller's. Must be called within a tokio
/// runtime; the answer is a future that must be polled there.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(listener: TcpListener, state: HttpState) -> io::Result<Server> {
    let connections = Arc::new(connections::Connections::new(connections::STALLED_AFTER));
    serve_routes(listener, state, routes::table(), connections)
}

fn serve_routes(
    listener: TcpListener,
    state: HttpState,
    routes: Vec<routes::Served>,
    connections: Arc<connections::Connections>,
) -> io::Result<Server> {
    let shared = Arc::new(Shared {
        door: token::Door::new(&state.access),
        routes,
        hosts: guard::Hosts::new(listener.local_addr()?, &state.allowed_hosts),
        rates: rates::Rates::default(),
        readers: events::Readers::default(),
        connections: connections.clone(),
        state,
    });
    tokio::spawn(events::publish_every_second(Arc::downgrade(&shared)));
    let assets = web::Data::from(Arc::new(page::Assets::new()));
    let server = HttpServer::new(move || {
        let routes = shared.routes.clone();
        App::new()
            .app_data(web::Data::from(shared.clone()))
            .app_data(assets.clone())
            .wrap(Compress::default())
            .wrap(from_fn(guard::refuse_strangers))
            .wrap(from_fn(guard::add_security_headers))
            .configure(|app| {
                for route in &routes {
                    app.route(route.path, (route.handler)());
                }
            })
            .default_service(web::to(problem::not_found))
    })
    .workers(1)
    .max_connections(MAX_CONNECTIONS)
    .client_request_timeout(REQUEST_TIMEOUT)
    .client_disconnect_timeout(REQUEST_TIMEOUT)
    // The server times the head of a connection's first request alone: a second one would have for ever.
    .keep_alive(KeepAlive::Disabled)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .disable_signals()
    .on_connect(move |connection, data| connections.watch(connection, data))
    .listen(listener)?
    .run();
    Ok(server)
}

impl Shared {
    /// The checks as they are now, with the `bief_ready` gauge set by them.
    fn checks(&self) -> Vec<Check> {
        let checks = (self.state.checks)();
        self.state.metrics.set_ready(checks.iter().all(|c| c.ok));
        checks
    }
}
