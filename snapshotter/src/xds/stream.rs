//! The IO of one xDS stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};

use super::fleet::Fleet;
use super::proto;
use super::resources::Resources;
use super::session::{Heard, Protocol, Request, Session, Violation};
use crate::net::Peer;

/// How long a client may take for its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How often a stream that carries only a part of what a proxy needs is checked for the rest. An Envoy may take half a minute to connect.
const REST_CHECK: Duration = Duration::from_secs(60);
/// What waits to be sent: one response for each resource, and the end.
const MOST_WAITING: usize = 4;

/// What all streams share.
#[derive(Debug)]
pub(super) struct Shared {
    /// `None` before the first shipment.
    pub(super) resources: watch::Receiver<Option<Arc<Resources>>>,
    /// Whether the process is to end.
    pub(super) stop: watch::Receiver<bool>,
    pub(super) fleet: Arc<Fleet>,
}

/// The body of the response to a stream. It is not tonic's, which would copy each resource for each stream.
#[derive(Debug)]
pub(super) struct Messages {
    parts: Receiver<Part>,
    /// The second half of a message.
    rest: Option<Bytes>,
}

#[derive(Debug)]
enum Part {
    Message([Bytes; 2]),
    End(Status),
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        Poll::Ready(match ready!(self.parts.poll_recv(cx)) {
            None => None,
            Some(Part::Message([head, resource])) => {
                self.rest = Some(resource);
                Some(Ok(Frame::data(head)))
            }
            Some(Part::End(status)) => {
                let mut trailers = axum::http::HeaderMap::new();
                Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
            }
        })
    }
}

/// Starts a stream with a client, and returns the body of the response.
pub(super) fn start<M>(
    shared: Arc<Shared>,
    protocol: Protocol,
    is_aggregated: bool,
    peer: Peer,
    requests: Streaming<M>,
) -> Messages
where
    M: Into<Request> + Send + 'static,
{
    let (messages, parts) = mpsc::channel(MOST_WAITING);
    tokio::spawn(async move {
        let mut session = Session::new(protocol, is_aggregated, std::time::Instant::now());
        let id = shared.fleet.connect(peer.0);
        let status = serve(&shared, &mut session, protocol, peer, requests, &messages, id).await;
        session.end();
        shared.fleet.disconnect(id);
        debug!("{}: the stream has ended: {status}", peer.0);
        let _sent = messages.try_send(Part::End(status));
    });
    Messages { parts, rest: None }
}

/// Answers the client until the stream ends, and returns why it does.
async fn serve<M: Into<Request>>(
    shared: &Shared,
    session: &mut Session,
    protocol: Protocol,
    peer: Peer,
    mut requests: Streaming<M>,
    messages: &Sender<Part>,
    id: u64,
) -> Status {
    let (mut resources, mut stop) = (shared.resources.clone(), shared.stop.clone());
    let started = Instant::now();
    let (mut next_check, mut was_missing) = (started + REST_CHECK, false);
    // A client that comes before the first shipment waits for it.
    let Ok(_) = resources.wait_for(Option::is_some).await else { return stopping() };
    loop {
        let Some(current) = resources.borrow_and_update().clone() else { return stopping() };
        let now = Instant::now();
        while let Some(response) = session.next(&current, now.into_std()) {
            let offer = &response.offer;
            shared.fleet.note_sent(offer.kind, response.encoded.any.len());
            let message = proto::response(protocol, response.nonce, &offer.name, &offer.version, &response.encoded.any);
            if messages.try_send(Part::Message(message)).is_err() {
                return Status::cancelled("the client has closed the stream");
            }
        }
        let retry = session.wait(now.into_std()).map(|wait| now + wait);
        let deadline = match session.node() {
            None => Some((started + FIRST_REQUEST, "no request has come")),
            Some(_) => session.answer_deadline().map(|at| (at.into(), "a response was not answered")),
        };
        let due = retry.into_iter().chain(deadline.map(|(at, _)| at)).chain([next_check]).min();
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => match session.take(request.into(), &current, std::time::Instant::now()) {
                    Ok(heard) => note(shared, session, peer, id, heard),
                    Err(violation) => return refused(peer, violation),
                },
                Ok(None) => return Status::ok("the client has ended the stream"),
                Err(status) => return status,
            },
            changed = resources.changed() => if changed.is_err() { return stopping() },
            _stopped = stop.wait_for(|stop| *stop) => return stopping(),
            () = messages.closed() => return Status::cancelled("the client has closed the stream"),
            () = sleep_until(due.unwrap_or(now)), if due.is_some() => {
                if let Some((_, why)) = deadline.filter(|(at, _)| *at <= Instant::now()) {
                    return Status::deadline_exceeded(why);
                }
                if next_check <= Instant::now() {
                    let is_missing = session.waits_for_base() && !shared.fleet.has_base(session.node(), peer.0.ip());
                    if is_missing && was_missing {
                        warn!("{}: {NO_BASE}", peer.0);
                        return Status::unavailable(NO_BASE);
                    }
                    (next_check, was_missing) = (next_check + REST_CHECK, is_missing);
                }
            }
        }
    }
}

/// Bases of different replicas differ. On the next attempt, both may get to the same one.
const NO_BASE: &str = "the proxy has changes over a base, but does not ask this replica for the base: use ADS, or send all its streams to \
                       one replica, and see that its configuration has the resource that ends in -base";

fn stopping() -> Status {
    Status::unavailable("this server is stopping: connect to another one")
}

fn refused(peer: Peer, violation: Violation) -> Status {
    warn!("{}: the stream is ended: {violation}", peer.0);
    let code = match violation {
        Violation::TooMany => Code::ResourceExhausted,
        Violation::NoNode | Violation::NoType | Violation::OtherType => Code::InvalidArgument,
    };
    Status::new(code, violation.to_string())
}

/// Tells people what was heard.
fn note(shared: &Shared, session: &Session, peer: Peer, id: u64, heard: Heard) {
    let node = session.node().map_or("", |(id, _)| id);
    match &heard {
        Heard::Nothing => {}
        // What others say is escaped: it may have line feeds.
        Heard::Ack { version, .. } => debug!("{node:?} at {}: accepted {version}", peer.0),
        Heard::Nack { version, message, .. } => info!("{node:?} at {}: refused {version}: {message:?}", peer.0),
    }
    shared.fleet.note(id, session, heard);
}
