//! Commands over HTTP, for whoever has no Kafka client. `docs/admin.md` is the authority for what it takes and answers.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use axum::{Router, serve as serve_http};
use edgefold::{Action, Appended, Command, Error, ListName, Log, MAX_NAMED_LISTS, NewCommand, Record, now, parse_ttl};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

mod appender;
mod tokens;

use appender::Appender;
pub(crate) use tokens::Token;
use tokens::Tokens;
pub use tokens::TokensError;

use crate::admin::{Known, wait_for};
use crate::net::{Accepted, Acceptor, Limits, Peer, TlsError, TlsFiles, accept, bind};

/// The most bytes of a request.
const MOST_BYTES: usize = 4 << 20;
/// The most commands in a request.
const MOST_COMMANDS: usize = 10_000;
/// How many connections there may be at a time.
const MOST_CONNECTIONS: Limits = Limits { all: 1_000, from_one_address: 100 };
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// How long requests may take when the process ends.
const DRAIN: Duration = Duration::from_secs(5);

/// Where commands are taken, and from whom.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The address; port 0 picks a free port.
    pub address: SocketAddr,
    /// The file with the tokens.
    pub tokens: PathBuf,
    /// Its certificate; `None` for no TLS.
    pub tls: Option<TlsFiles>,
}

/// Why the API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It cannot listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is something wrong with the tokens.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// There is something wrong with its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Takes commands from whoever has a token.
#[derive(Debug)]
pub(crate) struct Commands {
    tokens: Tokens,
    appender: Appender,
    /// What was shipped, and to whom, if anything is.
    known: Option<Known>,
}

/// A server that takes commands.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What takes them, for the page.
    pub(crate) commands: Arc<Commands>,
    stop: oneshot::Sender<()>,
    stopped: mpsc::Receiver<()>,
}

impl Server {
    /// Takes no more requests, and waits until those that are there are answered, but not long.
    pub(crate) fn stop(self) {
        let _told = self.stop.send(());
        let _stopped_or_late = self.stopped.recv_timeout(DRAIN);
    }
}

/// Takes commands on a thread of its own.
///
/// # Errors
/// [`ApiError`].
pub(crate) fn serve(config: ApiConfig, log: Arc<dyn Log>, known: Known) -> Result<Server, ApiError> {
    let failed = |source| ApiError::Listen { address: config.address, source };
    let (listener, address) = bind(config.address).map_err(failed)?;
    let commands = Arc::new(Commands::start(config.tokens, log, Some(known))?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (listener, acceptor) = {
        let _entered = runtime.enter();
        let acceptor = config.tls.map(|files| Acceptor::start(files, &["http/1.1"])).transpose()?;
        (TcpListener::from_std(listener).map_err(failed)?, acceptor)
    };
    let elsewhere = || async { refused(StatusCode::NOT_FOUND, "there is only POST /commands here") };
    let app = Router::new()
        .route("/commands", post(take).fallback(elsewhere))
        .fallback(elsewhere)
        .with_state(Arc::clone(&commands));
    let (stop, is_stopping) = oneshot::channel();
    let (ended, stopped) = mpsc::channel();
    let thread = thread::Builder::new().name("api".to_owned()).spawn(move || {
        let _ended = ended; // Dropped at the end.
        runtime.block_on(async move {
            let connections = Accepted::new(accept(listener, acceptor, MOST_CONNECTIONS), address);
            let server = serve_http(connections, app.into_make_service_with_connect_info::<Peer>());
            server.with_graceful_shutdown(async { drop(is_stopping.await) }).await
        })
    });
    thread.map_err(failed)?;
    Ok(Server { address, commands, stop, stopped })
}

/// What was wrong with a request.
fn refused(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(json!({ "error": error.into() }))).into_response()
}

async fn take(
    State(commands): State<Arc<Commands>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let _in_use = peer.in_use();
    // First of all: nobody else learns anything.
    let token = match commands.token(request.headers()) {
        Ok(token) => token,
        Err(response) => return response,
    };
    let wait = match wait_in(request.uri().query().unwrap_or_default()) {
        Ok(wait) => wait,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error),
    };
    match commands.read(request, &token).await {
        Ok(new) => commands.append(new, wait).await,
        Err(response) => response,
    }
}

impl Commands {
    /// Takes commands for `log` from whoever has one of the tokens in the file `tokens`.
    ///
    /// # Errors
    /// [`TokensError`].
    pub(crate) fn start(tokens: PathBuf, log: Arc<dyn Log>, known: Option<Known>) -> Result<Self, TokensError> {
        Ok(Self { tokens: Tokens::read(tokens)?, appender: Appender::start(log), known })
    }

    /// The token of a request, or what to answer whoever has none.
    #[allow(clippy::result_large_err, reason = "once for each request")]
    pub(crate) fn token(&self, headers: &HeaderMap) -> Result<Token, Response> {
        let presented = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        presented.and_then(|presented| self.tokens.find(presented)).ok_or_else(|| {
            let mut response =
                refused(StatusCode::UNAUTHORIZED, "give a token of this server, as in authorization: Bearer TOKEN");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        })
    }

    /// The commands of a request, all of them valid and allowed, or what to answer.
    pub(crate) async fn read(&self, request: Request, token: &Token) -> Result<Vec<NewCommand>, Response> {
        let Ok(Ok(body)) = timeout(ARRIVAL, to_bytes(request.into_body(), MOST_BYTES)).await else {
            return Err(refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is longer than {MOST_BYTES} bytes, too slow, or cut off"),
            ));
        };
        parse(&body, token, self.known.as_ref()).map_err(|(status, error)| refused(status, error))
    }

    /// Appends commands, waits at most `wait` until the proxies enforce them, and says what became of that.
    pub(crate) async fn append(&self, commands: Vec<NewCommand>, wait: Option<Duration>) -> Response {
        let (sender, outcome) = oneshot::channel();
        if !self.appender.append(commands, sender) {
            return refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many commands are waiting for the log; nothing was appended",
            );
        }
        match outcome.await {
            Ok(Ok(offsets)) => self.appended(&offsets, wait).await,
            Ok(Err(error)) => not_appended(&error),
            Err(_gone) => {
                refused(StatusCode::INTERNAL_SERVER_ERROR, "it is not known whether the commands were appended")
            }
        }
    }

    async fn appended(&self, offsets: &[u64], wait: Option<Duration>) -> Response {
        let next_offset = offsets.iter().max().map_or(0, |last| last + 1);
        let mut json = json!({ "offsets": offsets, "next_offset": next_offset });
        let (Some(most), Some(known)) = (wait, &self.known) else { return Json(json).into_response() };
        let (report, is_enforced) = wait_for(&known.fleet, next_offset, false, most).await;
        json["enforced"] = is_enforced.into();
        json["proxies"] = report.proxies.len().into();
        json["behind"] = report.late_json(next_offset).into();
        let status = if is_enforced { StatusCode::OK } else { StatusCode::ACCEPTED };
        (status, Json(json)).into_response()
    }
}

/// How long to wait for proxies: the query `wait=30s`, or just `wait`.
fn wait_in(query: &str) -> Result<Option<Duration>, String> {
    let mut wait = None;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, "30s"));
        if name != "wait" {
            return Err(format!("unknown parameter {name:?}: there is only wait, as in /commands?wait=30s"));
        }
        wait = Some(parse_ttl(value).map_err(|error| format!("wait={value}: {error}"))?);
    }
    Ok(wait)
}

/// The commands in a body, one on each line. All of them must be valid and allowed, or none is appended.
fn parse(body: &Bytes, token: &Token, known: Option<&Known>) -> Result<Vec<NewCommand>, (StatusCode, String)> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, error);
    let text = std::str::from_utf8(body).map_err(|error| bad(format!("the body is not UTF-8: {error}")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let time = now();
    let (mut commands, mut new_lists) = (Vec::new(), BTreeSet::new());
    for (index, line) in lines {
        let number = index + 1;
        if commands.len() == MOST_COMMANDS {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("there are more than {MOST_COMMANDS} commands")));
        }
        let mut command = Command::parse(line).map_err(|error| bad(format!("line {number}: {error}")))?;
        let forbidden = |error: String| (StatusCode::FORBIDDEN, format!("line {number}: {error}"));
        token.check(&command).map_err(forbidden)?;
        check_room(&command.action, known, &mut new_lists)
            .map_err(|error| (StatusCode::CONFLICT, format!("line {number}: {error}")))?;
        // Whoever looks at the log later sees whose token it was.
        command.origin = Some(token.name().to_owned());
        let text = command.to_string();
        // What every reader would do with it.
        let (key, value) = (Some(time.to_string().into()), Some(text.clone().into()));
        let record = Record { offset: 0, timestamp: Some(time), key, value };
        record.effect().map_err(|error| bad(format!("line {number}, with the origin {}: {error}", token.name())))?;
        commands.push(NewCommand { time, text });
    }
    if commands.is_empty() {
        return Err(bad(
            "the body has no command: write one on each line, as in BLACKLIST 10.0.0.0/24 ttl=4h".to_owned()
        ));
    }
    Ok(commands)
}

/// Checks that a command does not create one list too many, after those that the request creates before it: every reader would reject it.
fn check_room(action: &Action, known: Option<&Known>, new_lists: &mut BTreeSet<ListName>) -> Result<(), String> {
    let (Action::Blacklist { list, .. } | Action::List { list, .. }) = action else { return Ok(()) };
    let Some(shipped) = known.and_then(|known| known.shipped.open()) else { return Ok(()) };
    if !shipped.has_list(list) {
        new_lists.insert(*list);
        if shipped.lists_count() + new_lists.len() > MAX_NAMED_LISTS + 1 {
            return Err(format!("list {list} does not exist, and there may be only {MAX_NAMED_LISTS} lists"));
        }
    }
    Ok(())
}

fn not_appended(error: &Error) -> Response {
    match error {
        Error::Partly { outcomes, .. } => {
            let offsets: Vec<Option<u64>> = outcomes.iter().map(|outcome| outcome.offset()).collect();
            let unknown = outcomes.iter().filter(|outcome| **outcome == Appended::Unknown).count();
            let json = json!({ "error": error.to_string(), "offsets": offsets, "unknown": unknown });
            (StatusCode::BAD_GATEWAY, Json(json)).into_response()
        }
        Error::Unacknowledged(_) => {
            refused(StatusCode::GATEWAY_TIMEOUT, format!("{error}; to append it twice does no harm"))
        }
        error => refused(StatusCode::BAD_GATEWAY, format!("{error}; nothing was appended")),
    }
}
