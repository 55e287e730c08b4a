//! The page: the address space as a map, a slider through time, what happened to an address, the lists, the fleet, and the log.
//!
//! The server side. `present` and `past` have the lists at a moment, `layers` says which addresses are shown in which colour, `tile` and
//! `networks` draw them as a map and as a table. `write` takes commands. `origin` says who may do that, and `assets` are the files of the
//! page. `docs/page.md` is for those who look at it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use edgefold::{Checkpoints, Log};
use tokio::sync::Semaphore;

mod assets;
mod growth;

mod layers;
mod networks;
mod origin;
mod past;
mod present;
mod query;
mod questions;
mod ranges;
mod tile;
mod write;

use growth::Growth;
use past::Past;
use present::Present;

use crate::api::Commands;
use crate::xds::Fleet;

/// How many questions are answered at a time: each takes a core, and a moment in the past takes memory.
const AT_A_TIME: usize = 4;

/// What the page needs.
pub(crate) struct Page {
    /// The log.
    pub(crate) log: Arc<dyn Log>,
    /// Its folds at earlier moments.
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// Names that browsers may know this server by, apart from its addresses and localhost.
    pub(crate) hosts: Vec<String>,
    /// What tells the page about changes, if there is a `serve`.
    pub(crate) fleet: Option<Arc<Fleet>>,
    /// Whether proxies connect to it.
    pub(crate) has_fleet: bool,
    /// What takes commands, once it does.
    pub(crate) writing: Writing,
}

/// Whether the page can append commands.
#[derive(Clone, Debug)]
pub(crate) enum Writing {
    /// It cannot, and this is what to do about it.
    Off(&'static str),
    /// It can, with a token, once this is set.
    With(Arc<OnceLock<Arc<Commands>>>),
}

impl Writing {
    /// For a server without TLS on this address. Whoever sees its traffic would see the tokens.
    pub(crate) fn over(address: SocketAddr, plaintext: bool, commands: Option<&Arc<OnceLock<Arc<Commands>>>>) -> Self {
        match commands {
            None => Self::Off("To block and to allow from here, start edgefold with --api and --api-tokens."),
            Some(_) if !address.ip().to_canonical().is_loopback() && !plaintext => Self::Off(
                "This page is served without TLS on an address that is not loopback, so it takes no tokens: use a tunnel to a loopback \
                 address, or say --plaintext if the network is trusted.",
            ),
            Some(commands) => Self::With(Arc::clone(commands)),
        }
    }
}

/// What the answers are made of.
struct Ui {
    log: Arc<dyn Log>,
    checkpoints: Arc<Checkpoints>,
    present: Present,
    past: Arc<Past>,
    growth: Arc<Growth>,
    fleet: Option<Arc<Fleet>>,
    has_fleet: bool,
    writing: Writing,
    at_a_time: Arc<Semaphore>,
    /// How the lists have grown takes many replays, and is found out once.
    one_growth: Arc<Semaphore>,
}

/// The page at `/`, its files and what it asks for below `/ui/`.
pub(crate) fn router(page: Page) -> Router {
    let Page { log, checkpoints, hosts, fleet, has_fleet, writing } = page;
    let past = Arc::new(Past::new(Arc::clone(&log), Arc::clone(&checkpoints)));
    let growth = Arc::new(Growth::default());
    let forget = {
        let (past, growth) = (Arc::clone(&past), Arc::clone(&growth));
        move || {
            past.clear();
            growth.clear();
        }
    };
    let ui = Arc::new(Ui {
        present: Present::new(Arc::clone(&log), Arc::clone(&checkpoints), forget),
        past,
        growth,
        log,
        checkpoints,
        fleet,
        has_fleet,
        writing,
        at_a_time: Arc::new(Semaphore::new(AT_A_TIME)),
        one_growth: Arc::new(Semaphore::new(1)),
    });
    let mut router = Router::new()
        .route("/ui/status", get(questions::status))
        .route("/ui/timeline", get(questions::timeline))
        .route("/ui/tile", get(questions::tile))
        .route("/ui/area", get(questions::area))
        .route("/ui/changes", get(questions::changes))
        .route("/ui/explain", get(questions::explain))
        .route("/ui/lists", get(questions::lists))
        .route("/ui/growth", get(questions::growth))
        .route("/ui/rejects", get(questions::rejects))
        .route("/ui/events", get(questions::events))
        .route("/ui/dry-run", post(write::dry_run))
        .route("/ui/commands", post(write::commands))
        .with_state(ui);
    for asset in assets::ASSETS {
        router = router.route(asset.path, get(move |headers| async move { asset.response(&headers) }));
    }
    only_for_known_names(router, &hosts)
}

/// Answers only what is asked under an address, `localhost` or one of the names, and not by other sites.
pub(crate) fn only_for_known_names<S: Clone + Send + Sync + 'static>(router: Router<S>, hosts: &[String]) -> Router<S> {
    router.layer(from_fn_with_state(Arc::new(hosts.to_vec()), origin::guard))
}
