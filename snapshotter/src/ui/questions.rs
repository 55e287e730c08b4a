//! What the page is answered: one function for each question.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as HttpQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use edgefold::{Action, AddressRange, AppendedCommand, Cause, IpRange, List, ListActionText, LogTime, What, now};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};

use super::layers::{Colouring, Look, SPANS, by_age};
use super::networks::{Row, rows};
use super::query::{At, Query, Why};
use super::ranges::{Family, Ranges, ip_range};
use super::tile::{Layers, MOST_ZOOM, Tile};
use super::{Ui, Writing};
use crate::addresses::Addresses;
use crate::admin::refused;
use crate::answers::explained::{Explained, command_json, effects, lateness};
use crate::answers::words::verdict_json;
use crate::net::Peer;

/// How many of the blocks of a list are named.
const MOST_BLOCKS: usize = 8;
/// How many changes are named.
const MOST_CHANGES: usize = 64;
/// About how many events of a history are shown, the last.
const MOST_EVENTS: usize = 500;
/// Stretches of the timeline.
const BARS: usize = 240;
/// The least time between two events.
const QUIET: Duration = Duration::from_millis(200);

type Asked = Result<HttpQuery<Query>, QueryRejection>;

impl IntoResponse for Why {
    fn into_response(self) -> Response {
        match self {
            Self::Bad(error) => refused(StatusCode::BAD_REQUEST, &error),
            Self::Failed(error) => refused(StatusCode::BAD_GATEWAY, &error),
            Self::Reading { done, end, trouble } => {
                let error = trouble.unwrap_or_else(|| "the log is being read".to_owned());
                (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error, "done": done, "end": end })))
                    .into_response()
            }
        }
    }
}

/// Answers a question on a thread for work, when it is its turn. What is quick has no turn: `None`.
async fn answer<T: IntoResponse + Send + 'static>(
    ui: Arc<Ui>,
    asked: Asked,
    turn: Option<Arc<Semaphore>>,
    answer: impl FnOnce(&Ui, &Query) -> Result<T, Why> + Send + 'static,
) -> Response {
    let query = match asked {
        Ok(HttpQuery(query)) => query,
        Err(rejection) => return refused(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    // A browser that has lost interest closes the connection, and loses its place in the queue.
    let turn = match turn {
        None => None,
        Some(turn) => turn.acquire_owned().await.ok(),
    };
    let work = move || {
        // As long as it takes, whether anybody waits for it or not.
        let _turn = turn;
        answer(&ui, &query).into_response()
    };
    let answered = tokio::task::spawn_blocking(work).await;
    let mut response = answered.unwrap_or_else(|_panic| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// How the log is doing, and what the page can do.
pub(super) async fn status(State(ui): State<Arc<Ui>>, asked: Asked) -> Response {
    answer(ui, asked, None, |ui, _| {
        let state = ui.present.state();
        let position = state.fold.position();
        let (can_write, why_not) = match &ui.writing {
            Writing::Off(why) => (false, Some(*why)),
            Writing::With(commands) => (commands.get().is_some(), None),
        };
        Ok(Json(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "next_offset": position.next_offset,
            "log_time": position.log_time.to_string(),
            "end": state.end,
            "is_complete": state.is_complete,
            "contact": state.contact.map(|time| time.to_string()),
            "trouble": state.trouble,
            "recent": state.recent.iter().map(recent_json).collect::<Vec<_>>(),
            "lists": state.fold.lists().iter().map(|list| list.name().to_string()).collect::<Vec<_>>(),
            "has_fleet": ui.has_fleet,
            "can_write": can_write,
            "why_not": why_not,
            "spans": SPANS.map(|span| span.as_secs()),
            "most_zoom": MOST_ZOOM,
        })))
    })
    .await
}

fn recent_json(command: &AppendedCommand) -> Value {
    let range = match &command.command.action {
        Action::Blacklist { range, .. } | Action::Whitelist { range, .. } => Some(range.shortest_text()),
        Action::List { .. } | Action::Unlist { .. } => None,
    };
    let mut json = command_json(command);
    json["range"] = range.into();
    json
}

/// How many commands there were in each of some equal stretches, from the first command to now.
pub(super) async fn timeline(State(ui): State<Arc<Ui>>, asked: Asked) -> Response {
    answer(ui, asked, None, |ui, _| {
        let timeline = ui.checkpoints.timeline();
        let first = timeline.buckets.first().map_or(0, |(start, _)| start.millis());
        let last = now().millis().max(first + 60_000);
        let mut bars = vec![0_u64; BARS];
        for (start, records) in timeline.buckets.iter() {
            let middle = start.millis() - first + timeline.resolution / 2;
            let bar = usize::try_from(middle * BARS as u64 / (last - first)).unwrap_or(BARS);
            bars[bar.min(BARS - 1)] += records;
        }
        Ok(Json(json!({ "first": first, "last": last, "bars": bars })))
    })
    .await
}

/// A tile of the map, as [`Tile::paint`] returns it.
pub(super) async fn tile(State(ui): State<Arc<Ui>>, asked: Asked) -> Response {
    let turn = Arc::clone(&ui.at_a_time);
    answer(ui, asked, Some(turn), |ui, query| {
        let place = query.zoom.zip(query.x).zip(query.y).and_then(|((zoom, x), y)| Tile::new(zoom, x, y));
        let tile = place.ok_or_else(|| Why::Bad("there is no such tile: give zoom, x and y".to_owned()))?;
        let colouring: Colouring = query.colour.as_deref().unwrap_or("refused").parse().map_err(Why::Bad)?;
        let (at, only, bounds) = (query.at()?, query.list()?, tile.bounds());
        let layers = match query.since()? {
            Some(since) => compare(ui, since, at, query, |before, after| after.changes(&before, bounds))?,
            None if colouring == Colouring::Age => age_layers(ui, at, query, bounds)?,
            None => ui.look(at, only, |look| look.layers(colouring, bounds))?,
        };
        Ok(([(CONTENT_TYPE, "application/octet-stream")], tile.paint(&layers)))
    })
    .await
}

/// Looks at the lists at two moments.
fn compare<T>(
    ui: &Ui,
    before: At,
    after: At,
    query: &Query,
    answer: impl FnOnce(Look<'_>, Look<'_>) -> T,
) -> Result<T, Why> {
    let only = query.list()?;
    ui.look(before, only, |before| ui.look(after, only, |after| answer(before, after)))?
}

fn age_layers(ui: &Ui, at: At, query: &Query, bounds: AddressRange<Ipv4Addr>) -> Result<Layers, Why> {
    let only = query.list()?;
    let (time, refused) = ui.look(at, only, |look| (look.time, look.refused(bounds)))?;
    // To the minute, so that all tiles are of the same moments.
    let start = time.millis() - if matches!(at, At::Now) { time.millis() % 60_000 } else { 0 };
    let then = |span: Duration| {
        let millis = start.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        // One after the other: a fold may be large.
        ui.refused_then(LogTime::from_millis(millis).unwrap_or_default(), only, bounds)
    };
    let [hour, day, week, month] = SPANS;
    let then = [then(hour)?, then(day)?, then(week)?, then(month)?];
    Ok(by_age(&refused, then.each_ref().map(|then| then.in_range(bounds))))
}

/// What is on the lists in a range: in all, on each list, and by network.
pub(super) async fn area(State(ui): State<Arc<Ui>>, asked: Asked) -> Response {
    let turn = Arc::clone(&ui.at_a_time);
    answer(ui, asked, Some(turn), |ui, query| {
        let range = query.range()?;
        ui.look(query.at()?, query.list()?, |look| {
            let mut json = match range {
                IpRange::V4(range) => within(&look, range),
                IpRange::V6(range) => within(&look, range),
            };
            json["range"] = range.shortest_text().into();
            json["addresses"] = addresses(range).into();
            if range.first() == range.last() {
                json["verdict"] = verdict_json(&look.fold.verdict(range.first(), look.time));
            }
            Json(json)
        })
    })
    .await
}

fn within<A: Family>(look: &Look<'_>, range: AddressRange<A>) -> Value {
    let (refused, rows) = summary(range, &look.refused(range));
    let lists = look.fold.lists().iter().filter(|list| look.only.is_none_or(|only| only == list.name()));
    let lists: Vec<Value> = lists.filter_map(|list| list_within(list, range, look.time)).collect();
    json!({ "refused": refused, "lists": lists, "rows": rows })
}

fn summary<A: Family>(range: AddressRange<A>, refused: &Ranges<A>) -> (Value, Vec<Value>) {
    let rows = rows(range, refused).into_iter().map(|Row { range, ranges, addresses: listed }| {
        json!({
            "range": range.shortest_text(),
            "ranges": ranges,
            "addresses": addresses(range),
            "listed": listed.to_string(),
        })
    });
    (json!({ "ranges": refused.len(), "addresses": refused.addresses().to_string() }), rows.collect())
}

/// How many addresses a range has, as text: numbers of JSON are often read as floating point.
fn addresses(range: IpRange) -> String {
    let Addresses { ipv4, ipv6, .. } = Addresses::of([range].into_iter());
    (u128::from(ipv4).saturating_add(ipv6)).to_string()
}

/// What a list has in a range; `None` if nothing.
fn list_within<A: Family>(list: &List, range: AddressRange<A>, time: LogTime) -> Option<Value> {
    let (mut ranges, mut listed, mut named) = (0_u64, 0_u128, Vec::new());
    for block in A::blocks(list, range).filter(|block| block.until.holds_at(time)) {
        let part = block.range.common(range)?;
        (ranges, listed) =
            (ranges + 1, listed.saturating_add((part.last().number() - part.first().number()).saturating_add(1)));
        if named.len() < MOST_BLOCKS {
            let whole = ip_range(block.range.first(), block.range.last())?;
            let until = block.until.time().map(|time| time.to_string());
            named.push(json!({ "range": whole.shortest_text(), "addresses": addresses(whole), "until": until }));
        }
    }
    (ranges > 0).then(|| {
        json!({
            "name": list.name().as_str(),
            "action": list.action().name(),
            "does": ListActionText(list.action()).to_string(),
            "ranges": ranges,
            "addresses": listed.to_string(),
            "blocks": named,
        })
    })
}

/// What has changed between two moments, in a range.
pub(super) async fn changes(State(ui): State<Arc<Ui>>, asked: Asked) -> Response {
    let turn = Arc::clone(&ui.at_a_time);
    answer(ui, asked, Some(turn), |ui, query| {
        let since = query.since()?.ok_or_else(|| Why::Bad("give since, a time".to_owned()))?;
        let range = query.range()?;
        compare(ui, since, query.at()?, query, |before, after| {
            Json(match range {
                IpRange::V4(range) => differences(&before.refused(range), &after.refused(range)),
                IpRange::V6(range) => differences(&before.refused(range), &after.refused(range)),
            })
        })
    })
    .await
}

fn differences<A: Family>(before: &Ranges<A>, after: &Ranges<A>) -> Value {
    let side = |ranges: Ranges<A>| {
        let named = ranges.iter().take(MOST_CHANGES).filter_map(|(first, last)| ip_range(first, last));
        let named: Vec<String> = named.map(IpRange::shortest_text).collect();
        json!({ "ranges": ranges.len(), "addresses": ranges.addresses().to_string(), "named": named })
    };
    json!({ "added": side(after.clone().without(before)), "removed": side(before.clone().without(after)) })
}

/// Why a range is refused or not: what `edgefold explain` prints.
pub(super) async fn explain(State(ui): State<Arc<Ui>>, asked: Asked) -> Response {
    let turn = Arc::clone(&ui.at_a_time);
    answer(ui, asked, Some(turn), |ui, query| {
        let range = query.range()?;
        let at = match query.at()? {
            At::Now => None,
            At::Then(time) => Some(time),
        };
        let explanation = ui.checkpoints.explain_last(&*ui.log, range, at, now(), MOST_EVENTS);
        let explained = Explained::new(explanation.map_err(|error| Why::Failed(error.to_string()))?);
        let event = |(index, event): (usize, &edgefold::Event)| {
            let mut json = explained.event_json(index, event);
            json["words"] = effects(event).into();
            if let Cause::Command(command) = &event.cause {
                json["late"] =
                    lateness(command, event.effects.iter().any(|effect| effect.what != What::Nothing)).into();
            }
            json
        };
        let undo = explained.undo().into_iter().map(|(what, command)| json!({ "what": what, "command": command }));
        Ok(Json(json!({
            "headline": explained.headline(),
            "dated": explained.dated_words(),
            "dropped": explained.history().dropped(),
            "events": explained.history().events().iter().enumerate().map(event).collect::<Vec<_>>(),
            "late": explained.explanation.late.len() as u64 + explained.explanation.late_dropped,
            "undo": undo.collect::<Vec<_>>(),
        })))
    })
    .await
}

/// What is on the lists, and what they do.
pub(super) async fn lists(State(ui): State<Arc<Ui>>, asked: Asked) -> Response {
    let turn = Arc::clone(&ui.at_a_time);
    answer(ui, asked, Some(turn), |ui, query| {
        ui.look(query.at()?, None, |look| {
            let list = |list: &List| {
                let Addresses { ranges, ipv4, ipv6 } = Addresses::of(list.ranges_at(look.time));
                json!({
                    "name": list.name().as_str(),
                    "action": list.action().name(),
                    "does": ListActionText(list.action()).to_string(),
                    "is_stated": list.stated_action().is_some(),
                    "ranges": ranges,
                    "ipv4_addresses": ipv4,
                    "ipv6_addresses": ipv6.to_string(),
                    "next_expiry": list.next_expiry(look.time).map(|time| time.to_string()),
                })
            };
            Json(
                json!({ "at": look.time.to_string(), "lists": look.fold.lists().iter().map(list).collect::<Vec<_>>() }),
            )
        })
    })
    .await
}

/// How the lists have grown.
pub(super) async fn growth(State(ui): State<Arc<Ui>>, asked: Asked) -> Response {
    let turn = Arc::clone(&ui.one_growth);
    answer(ui, asked, Some(turn), |ui, _| {
        let samples = ui.growth.samples(&*ui.log, &ui.checkpoints, &ui.checkpoints.timeline());
        let samples = samples.map_err(|error| Why::Failed(error.to_string()))?;
        let samples = samples.into_iter().map(|(time, counts)| {
            let counts: serde_json::Map<String, Value> =
                counts.into_iter().map(|(list, ranges)| (list.to_string(), ranges.into())).collect();
            json!({ "at": time.millis(), "ranges": counts })
        });
        Ok(Json(json!({ "samples": samples.collect::<Vec<_>>() })))
    })
    .await
}

/// The records that were rejected last.
pub(super) async fn rejects(State(ui): State<Arc<Ui>>, asked: Asked) -> Response {
    answer(ui, asked, None, |ui, _| {
        let state = ui.present.state();
        Ok(Json(json!({ "from": state.rejects_from, "rejected": state.rejected, "rejects": state.rejects })))
    })
    .await
}

/// Says that something has changed, in the log or in the fleet. What it is, the page asks for.
pub(super) async fn events(
    State(ui): State<Arc<Ui>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (changes, looker) = ui.present.watch();
    let in_use = peer.in_use();
    let log = WatchStream::new(changes).map(move |_| {
        let _go_on = (&looker, &in_use);
        "log"
    });
    let fleet: Pin<Box<dyn Stream<Item = &'static str> + Send>> = match &ui.fleet {
        Some(fleet) => Box::pin(WatchStream::new(fleet.watch()).map(|_| "fleet").throttle(QUIET)),
        None => Box::pin(tokio_stream::pending()),
    };
    let events = log.throttle(QUIET).merge(fleet).map(|what| Ok(Event::default().data(what)));
    Sse::new(events).keep_alive(KeepAlive::default())
}
