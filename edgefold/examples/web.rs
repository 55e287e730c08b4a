//! A web server that answers blocked clients with 403.
//!
//! ```text
//! cargo run --package edgefold --example web -- sqlite:edgefold.db 127.0.0.1:8080
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, serve};
use edgefold::{Blocklist, LogUrl};
use tokio::net::TcpListener;

async fn refuse_blocked(
    State(blocklist): State<Arc<Blocklist>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    // A lookup neither blocks nor waits, so it can be made from async code.
    match blocklist.get(client.ip()).denied() {
        Some(_listing) => (StatusCode::FORBIDDEN, "Forbidden\n").into_response(),
        None => next.run(request).await,
    }
}

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(log), Some(address)) = (args.next(), args.next()) else { return Err("usage: web LOG ADDRESS".into()) };
    let log: LogUrl = log.parse()?;
    // Before the server starts: this returns once the blocklist is complete.
    let blocklist = Arc::new(Blocklist::follow(log.open()?)?);

    let app = Router::new().route("/", get("hello\n")).layer(from_fn_with_state(blocklist, refuse_blocked));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(&address).await?;
        println!("listening on http://{}/", listener.local_addr()?);
        serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
    })?;
    Ok(())
}
