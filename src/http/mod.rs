//! The daemon's HTTP side: the page, the API that it and programs use, `/events`, `/metrics`, `/livez` and `/readyz`;
//! `openapi.json` is the contract. What it tells of the daemon is what actors published: it never waits for an actor
//! and never takes a core away from the stream. What only the cache or the warehouse knows is asked on a thread of its
//! own, within limits (`desks`); what changes something is asked there too. Every answer of a route carries the same security headers (what is no request at all, or too slow, is
//! answered by the server itself, with a status alone); who may ask is `guard`'s to say, by the table in
//! `routes`.

mod aggregates;
mod answers;
mod changes;
mod connections;
mod contract;
#[cfg(test)]
mod contract_tests;
mod desks;
mod events;
#[cfg(test)]
mod events_tests;
mod forecasts;
mod guard;
mod health;
mod letters;
#[cfg(test)]
mod lockout_tests;
mod page;
mod pipeline;
mod places;
mod problem;
mod rates;
#[cfg(test)]
mod route_tests;
mod routes;
mod rows;
#[cfg(test)]
mod schema_for_tests;
#[cfg(test)]
mod script_tests;
#[cfg(test)]
pub(crate) mod sources_for_tests;
mod status;
mod tap;
#[cfg(test)]
mod tap_tests;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::KeepAlive;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, HttpServer, dev::Server, web};
use chrono::{DateTime, Utc};

pub use self::desks::Sources;
use self::places::Places;
use crate::config::{Access, Aggregate, Forecast, Panel};
use crate::core::comparison::Comparison;
use crate::messages::{Board, Forecasts, Freshness, Replacements, Tap};
use crate::metrics::Metrics;

/// A client gets so long to send its request's head. Browsers open connections before they know what to ask for, and on a
/// busy machine it takes them seconds.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// And so long to go after the answer.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// Lists of aggregates and forecasts and the groups of dead letters are given again for so long: what they tell changes
/// no faster, and a page may ask often.
const LISTS_KEPT: Duration = Duration::from_secs(2);
/// The same of the newest rows.
const ROWS_KEPT: Duration = Duration::from_secs(1);

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
    /// As configured.
    pub aggregates: Vec<Aggregate>,
    pub forecasts: Vec<Forecast>,
    pub panels: Vec<Panel>,
    /// That streams feed.
    pub tables: Vec<String>,
    /// Lanes of each stream.
    pub lanes: BTreeMap<String, usize>,
    /// What writers wait for, by name: `MySQL`.
    pub database: &'static str,
    pub freshness: Freshness,
    pub replacements: Replacements,
    /// How forecasts stand.
    pub standing: Forecasts,
    /// Reads the newest stored comparison of frameworks; may block.
    pub comparison: Arc<dyn Fn() -> io::Result<Option<Comparison>> + Send + Sync>,
}

/// What all handlers share.
struct Shared {
    state: HttpState,
    routes: Vec<routes::Served>,
    hosts: guard::Hosts,
    door: token::Door,
    rates: rates::Rates,
    pipeline: pipeline::Pipeline,
    readers: events::Readers,
    desks: desks::Desks,
    recent_lists: answers::Recent,
    recent_rows: answers::Recent,
    changes: changes::Gate,
    connections: Arc<connections::Connections>,
}

/// Serves on `listener` until the server's handle stops it; signals are the caller's. Must be called within a tokio
/// runtime; the answer is a future that must be polled there.
///
/// # Errors
/// When the listener cannot be used, or the thread that asks databases cannot be started.
pub fn serve(listener: TcpListener, state: HttpState, sources: Sources) -> io::Result<Server> {
    let connections = Arc::new(connections::Connections::new(connections::STALLED_AFTER));
    let served = Served { routes: routes::table(), connections, places: Places::of_process() };
    serve_routes(listener, state, sources, served)
}

/// What tests set otherwise.
struct Served {
    routes: Vec<routes::Served>,
    connections: Arc<connections::Connections>,
    places: Places,
}

fn serve_routes(listener: TcpListener, state: HttpState, sources: Sources, served: Served) -> io::Result<Server> {
    let Served { routes, connections, places } = served;
    let shared = Arc::new(Shared {
        door: token::Door::new(&state.access),
        desks: desks::Desks::open(sources)?,
        routes,
        hosts: guard::Hosts::new(listener.local_addr()?, &state.allowed_hosts),
        rates: rates::Rates::default(),
        pipeline: pipeline::Pipeline::default(),
        readers: events::Readers::new(format!("{:x}", state.daemon.started_at.timestamp_millis()), places.readers),
        recent_lists: answers::Recent::new(LISTS_KEPT),
        recent_rows: answers::Recent::new(ROWS_KEPT),
        changes: changes::Gate::default(),
        connections: connections.clone(),
        state,
    });
    tokio::spawn(events::tell(Arc::downgrade(&shared)));
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
    .max_connections(places.connections)
    // What a reader that stalls holds in its connection.
    .h1_write_buffer_size(events::PIECE)
    .client_request_timeout(HEAD_TIMEOUT)
    .client_disconnect_timeout(GOODBYE_TIMEOUT)
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
