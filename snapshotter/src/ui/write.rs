//! Commands from the page. They are taken as `--api` takes them, from whoever has one of its tokens, and checked as the command line checks
//! them: what would change is shown first, and what is probably a mistake is only appended if it is asked for again.
//!
//! The token comes in a header that only scripts of the page itself can send, so no other site can send commands in its place.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HOST, ORIGIN};
use axum::response::{IntoResponse, Json, Response};
use edgefold::{Action, Command, Fold, IpRange, NewCommand, now};
use serde_json::{Value, json};

use super::{Ui, Writing};
use crate::admin::refused;
use crate::answers::difference::{Known, ListDifference, after, between_folds};
use crate::answers::guard::{You, affected, check_room, in_vain, objection};
use crate::api::Commands;
use crate::net::Peer;

/// How many ranges of a list are named.
const MOST_NAMED: usize = 16;
/// How long to wait until the proxies enforce what was appended.
const WAIT: Duration = Duration::from_secs(5);

/// Says what commands would change, and why they are probably a mistake, if they are.
pub(super) async fn dry_run(State(ui): State<Arc<Ui>>, peer: ConnectInfo<Peer>, request: Request) -> Response {
    match checked(&ui, peer, request).await {
        Ok((_, _, checked)) => Json(checked.json).into_response(),
        Err(response) => response,
    }
}

/// Appends commands. What is probably a mistake is refused with status 409, unless the query is `force=true`.
pub(super) async fn commands(State(ui): State<Arc<Ui>>, peer: ConnectInfo<Peer>, request: Request) -> Response {
    let is_forced = match request.uri().query() {
        None | Some("") => false,
        Some("force=true") => true,
        Some(_) => return refused(StatusCode::BAD_REQUEST, "there is only the parameter force=true"),
    };
    match checked(&ui, peer, request).await {
        Ok((_, _, checked)) if checked.is_objected_to && !is_forced => {
            (StatusCode::CONFLICT, Json(checked.json)).into_response()
        }
        Ok((commands, new, _)) => {
            let has_proxies = ui.fleet.as_ref().is_some_and(|fleet| fleet.report().has_proxies());
            commands.append(new, has_proxies.then_some(WAIT)).await
        }
        Err(response) => response,
    }
}

/// What commands would do.
struct Checked {
    json: Value,
    is_objected_to: bool,
}

/// Reads the commands of a request that may append them, and looks at what they would change.
async fn checked(
    ui: &Arc<Ui>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Result<(Arc<Commands>, Vec<NewCommand>, Checked), Response> {
    let commands = match &ui.writing {
        Writing::Off(why) => return Err(refused(StatusCode::NOT_FOUND, why)),
        Writing::With(commands) => commands.get().cloned(),
    };
    let Some(commands) = commands else {
        return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "edgefold is still starting: it takes no commands yet"));
    };
    let headers = request.headers();
    // A token is enough. This is in case somebody makes a browser send one along.
    if headers.get(ORIGIN).is_some_and(|origin| !is_of(origin.as_bytes(), headers.get(HOST).map(AsRef::as_ref))) {
        return Err(refused(StatusCode::FORBIDDEN, "this is not for other sites"));
    }
    let token = commands.token(headers)?;
    let new = commands.read(request, &token).await?;
    let (ui, texts): (_, Vec<String>) = (Arc::clone(ui), new.iter().map(|command| command.text.clone()).collect());
    let looked = tokio::task::spawn_blocking(move || check(&ui, &texts, peer.address.ip().to_canonical())).await;
    let checked =
        looked.unwrap_or_else(|_panic| Err((StatusCode::INTERNAL_SERVER_ERROR, "a bug of edgefold".to_owned())));
    let checked = checked.map_err(|(status, error)| refused(status, &format!("{error}; nothing was appended")))?;
    Ok((commands, new, checked))
}

/// Whether an origin is that of the host which was asked.
fn is_of(origin: &[u8], host: Option<&[u8]>) -> bool {
    let rest = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    rest.is_some() && rest == host
}

fn check(ui: &Ui, texts: &[String], peer: IpAddr) -> Result<Checked, (StatusCode, String)> {
    let actions: Vec<Action> =
        texts.iter().filter_map(|text| Command::parse(text).ok()).map(|command| command.action).collect();
    let state = ui.present.state();
    if !state.is_complete {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "the log is still being read".to_owned()));
    }
    check_room(Some(&state.fold), &actions)
        .map_err(|list| (StatusCode::CONFLICT, format!("list {list} would be one too many")))?;
    let now = now();
    // Only what the commands are about, so that the cost is theirs, however large the lists are.
    let before: Fold = state.fold.within(&affected(&state.fold, &actions));
    drop(state);
    let differences = between_folds((&before, now), (&after(&before, &actions, now), now), Known::ALL, |_| true);
    let you = You { address: peer, connected: "from which you look at this page" };
    let objection =
        objection(Some(&before), &actions, now, Some(you)).or_else(|| in_vain(Some(&before), &actions, now));
    let lists: Vec<Value> = differences.iter().map(list_json).collect();
    let is_objected_to = objection.is_some();
    Ok(Checked { json: json!({ "commands": texts, "lists": lists, "objection": objection }), is_objected_to })
}

fn list_json(list: &ListDifference) -> Value {
    let named = |wanted: fn(&edgefold::Difference) -> bool| {
        let ranges = list.ranges.iter().filter(|change| wanted(change)).map(|change| change.range);
        ranges.take(MOST_NAMED).map(IpRange::shortest_text).collect::<Vec<_>>()
    };
    json!({
        "list": list.list.as_str(),
        "does_before": list.does.0,
        "does": list.does.1,
        "words": list.totals().words(),
        "added": named(|change| change.before.is_none()),
        "removed": named(|change| change.after.is_none()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_must_be_the_host_that_was_asked() {
        let is_of = |origin: &str, host: &str| is_of(origin.as_bytes(), Some(host.as_bytes()));
        assert!(is_of("http://127.0.0.1:9464", "127.0.0.1:9464"));
        assert!(is_of("https://edgefold.example", "edgefold.example"));
        for origin in ["null", "http://127.0.0.1:9465", "http://127.0.0.1:9464.evil.example", "127.0.0.1:9464", ""] {
            assert!(!is_of(origin, "127.0.0.1:9464"), "{origin}");
        }
    }
}
