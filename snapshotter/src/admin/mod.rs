//! The admin server: metrics, probes, what was shipped, and who enforces it. `docs/admin.md` is the authority for what it answers.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve as serve_http};
use edgefold::parse_address;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};

mod metrics;
mod shipped;

pub(crate) use metrics::{Metrics, histogram};
pub(crate) use shipped::Shipped;

use crate::net::{Accepted, Limits, Peer, accept, bind};
use crate::ui::{self, Page};
use crate::xds::{Fleet, Report};

/// How long the loop that ships may take for one round. A call to an unreachable broker takes up to 10 seconds.
const STUCK: Duration = Duration::from_secs(60);
/// How many connections there may be at a time. Each tab of a browser has a few, and so has whoever waits.
const MOST_CONNECTIONS: Limits = Limits { all: 1_000, from_one_address: 500 };
/// How long anybody may wait for proxies.
const MOST_WAIT: Duration = Duration::from_secs(600);

/// What the admin server knows.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) shipped: Arc<Shipped>,
}

/// Serves `/metrics`, `/live`, `/ready`, `/check`, `/lists`, `/fleet`, `/wait` and `/events`, and the page, on `address` until the process
/// ends, and returns the address it listens on. Port 0 picks a free port.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) fn serve(address: SocketAddr, known: Known, page: Page) -> io::Result<SocketAddr> {
    let mut answers = Router::new()
        .route("/check", get(check))
        .route("/lists", get(lists))
        .route("/fleet", get(fleet))
        .route("/wait", get(wait))
        .route("/events", get(events));
    if address.ip().to_canonical().is_loopback() {
        // On other addresses, programs may use any name.
        answers = ui::only_for_known_names(answers, &page.hosts);
    }
    let app = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .merge(answers)
        .with_state(known)
        .merge(ui::router(page));
    serve_app(address, app, "docs/admin.md lists what there is")
}

/// Serves only the page, as [`serve`] does.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) fn serve_page(address: SocketAddr, page: Page) -> io::Result<SocketAddr> {
    serve_app(
        address,
        ui::router(page),
        "this is edgefold ui, which has only the page: edgefold serve --admin has the rest",
    )
}

fn serve_app(address: SocketAddr, app: Router, otherwise: &'static str) -> io::Result<SocketAddr> {
    let (listener, address) = bind(address)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let app = app.fallback(move || async move { refused(StatusCode::NOT_FOUND, otherwise) });
    let app = app.layer(from_fn(answering)).into_make_service_with_connect_info::<Peer>();
    thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            serve_http(Accepted::new(accept(listener, None, MOST_CONNECTIONS), address), app).await
        })
    })?;
    Ok(address)
}

/// Keeps a connection open as long as a request on it is being answered.
async fn answering(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    let _in_use = peer.in_use();
    next.run(request).await
}

/// What was wrong with a request, in words.
pub(crate) fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// Before the first shipment there is nothing to ask.
fn not_ready() -> Response {
    refused(StatusCode::SERVICE_UNAVAILABLE, "nothing has been shipped yet: see /ready")
}

async fn metrics_text(State(known): State<Known>) -> Response {
    let text = blocking(move || known.metrics.text(&known.fleet, &known.shipped)).await;
    match text {
        Some(Ok(text)) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn verdict(is_well: bool) -> StatusCode {
    if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// 503 if a restart would help: the loop that ships is stuck. It is 200 during the start, which may wait long for a log that cannot be
/// reached.
async fn live(State(known): State<Known>) -> StatusCode {
    verdict(known.metrics.shipped.get() == 0 || known.metrics.stuck_for() < STUCK)
}

/// 503 until the first snapshot is shipped.
async fn ready(State(known): State<Known>) -> StatusCode {
    verdict(known.metrics.shipped.get() > 0)
}

#[derive(Deserialize)]
struct CheckQuery {
    ip: Option<String>,
}

async fn check(State(known): State<Known>, Query(query): Query<CheckQuery>) -> Response {
    let ip: Option<IpAddr> = query.ip.as_deref().and_then(|ip| parse_address(ip).ok());
    let Some(ip) = ip else {
        return refused(StatusCode::BAD_REQUEST, "give one address, as in /check?ip=10.0.0.7");
    };
    match blocking(move || known.shipped.open().map(|shipped| shipped.check_json(ip))).await {
        Some(Some(json)) => Json(json).into_response(),
        _ => not_ready(),
    }
}

async fn lists(State(known): State<Known>) -> Response {
    match blocking(move || known.shipped.open().map(|shipped| shipped.lists_json())).await {
        Some(Some(json)) => Json(json).into_response(),
        _ => not_ready(),
    }
}

/// Does what takes long for large lists beside everything else.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

async fn fleet(State(known): State<Known>) -> Json<Value> {
    Json(known.fleet.report().json())
}

#[derive(Deserialize)]
struct WaitQuery {
    next_offset: Option<u64>,
    timeout_ms: Option<u64>,
    allow_none: Option<bool>,
}

async fn wait(State(known): State<Known>, query: Result<Query<WaitQuery>, QueryRejection>) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return refused(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let Some(next_offset) = query.next_offset else {
        return refused(
            StatusCode::BAD_REQUEST,
            "give the offset after the last command, as in /wait?next_offset=1042",
        );
    };
    let most = query.timeout_ms.map_or(Duration::from_secs(30), Duration::from_millis);
    let (report, enforced) = wait_for(&known.fleet, next_offset, query.allow_none == Some(true), most).await;
    let mut json = report.json();
    json["enforced"] = enforced.into();
    Json(json).into_response()
}

/// Waits until all proxies enforce all commands below an offset, but not longer than `most`. If none is connected, it waits for one, unless
/// `allow_none`. Returns who has what then, and whether it has come to that.
pub(crate) async fn wait_for(fleet: &Fleet, next_offset: u64, allow_none: bool, most: Duration) -> (Report, bool) {
    let mut changes = fleet.watch();
    let is_done = |report: &Report| report.is_enforced(next_offset) && (allow_none || report.has_proxies());
    let enforced = async {
        loop {
            let start = Instant::now();
            if is_done(&fleet.report()) {
                return;
            }
            // A report takes as long as the fleet is large, and each answer of a proxy is a change.
            sleep(4 * start.elapsed()).await;
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    let _in_time = timeout(most.min(MOST_WAIT), enforced).await;
    let report = fleet.report();
    let is_done = is_done(&report);
    (report, is_done)
}

async fn events(
    State(known): State<Known>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let in_use = peer.in_use();
    let events = BroadcastStream::new(known.fleet.events()).map(move |event| {
        let _goes_on = &in_use;
        Ok(Event::default().data(match event {
            Ok(event) => event,
            Err(BroadcastStreamRecvError::Lagged(missed)) => json!({ "event": "missed", "count": missed }).to_string(),
        }))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
