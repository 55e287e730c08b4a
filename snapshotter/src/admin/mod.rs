//! The admin server: metrics for Prometheus, and whether the process is alive and ready.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

mod metrics;

pub(crate) use metrics::Metrics;

/// How long the loop that ships may take for one round. A call to an unreachable broker takes up to 10 seconds.
const STUCK: Duration = Duration::from_secs(60);

/// Serves `/metrics`, `/live` and `/ready` on `address` until the process ends, and returns the address it listens on. Port 0 picks
/// a free port.
///
/// - `/live` returns 503 if a restart would help: the loop that ships is stuck. It is 200 during the start, which may wait long
///   for a log that cannot be reached.
/// - `/ready` returns 503 until the first snapshot is shipped.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verdict = |is_well: bool| if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let (for_live, for_ready) = (Arc::clone(&metrics), Arc::clone(&metrics));
    let live = move || {
        let is_well = for_live.shipped.get() == 0 || for_live.stuck_for() < STUCK;
        async move { verdict(is_well) }
    };
    let ready = move || {
        let is_well = for_ready.shipped.get() > 0;
        async move { verdict(is_well) }
    };
    let text = move || {
        let metrics = Arc::clone(&metrics);
        async move {
            let text = metrics.text().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
            Ok::<_, StatusCode>(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
        }
    };
    let app = Router::new().route("/metrics", get(text)).route("/live", get(live)).route("/ready", get(ready));
    thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, app).await
        })
    })?;
    Ok(address)
}
