//! The IO of one xDS stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::vec;

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
use super::session::{Heard, Protocol, Request, Response, Session, Violation};
use crate::net::{InUse, Peer};
use crate::ship::ecds::length;

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
    /// Distinguishes this process from all others.
    pub(super) process: String,
}

/// The body of the response to a stream. It is not tonic's, which would copy each resource for each stream.
#[derive(Debug)]
pub(super) struct Messages {
    messages: Receiver<Item>,
    /// The rest of a message.
    rest: vec::IntoIter<Bytes>,
    _in_use: InUse,
}

#[derive(Debug)]
enum Item {
    /// In parts.
    Message(Vec<Bytes>),
    End(Status),
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(part) = self.rest.next() {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
            match ready!(self.messages.poll_recv(cx)) {
                None => return Poll::Ready(None),
                Some(Item::Message(parts)) => self.rest = parts.into_iter(),
                Some(Item::End(status)) => {
                    let mut trailers = axum::http::HeaderMap::new();
                    let frame = status.add_header(&mut trailers).map(|()| Frame::trailers(trailers));
                    return Poll::Ready(Some(frame));
                }
            }
        }
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
    let (sender, messages) = mpsc::channel(MOST_WAITING);
    let in_use = peer.in_use();
    tokio::spawn(async move {
        let mut session = Session::new(protocol, is_aggregated, std::time::Instant::now());
        let id = shared.fleet.connect(peer.address);
        let status = serve(&shared, &mut session, protocol, &peer, requests, &sender, id).await;
        shared.fleet.disconnect(id);
        debug!("{}: the stream has ended: {status}", peer.address);
        let _sent = sender.try_send(Item::End(status));
    });
    Messages { messages, rest: Vec::new().into_iter(), _in_use: in_use }
}

/// Answers the client until the stream ends, and returns why it does.
async fn serve<M: Into<Request>>(
    shared: &Shared,
    session: &mut Session,
    protocol: Protocol,
    peer: &Peer,
    mut requests: Streaming<M>,
    messages: &Sender<Item>,
    id: u64,
) -> Status {
    let (mut resources, mut stop) = (shared.resources.clone(), shared.stop.clone());
    let started = Instant::now();
    let (mut next_check, mut was_missing) = (started + REST_CHECK, false);
    // A client that comes before the first shipment waits for it.
    tokio::select! {
        found = resources.wait_for(Option::is_some) => if found.is_err() { return stopping() },
        _stopped = stop.wait_for(|stop| *stop) => return stopping(),
        () = messages.closed() => return Status::cancelled("the client has closed the stream"),
    }
    loop {
        let Some(current) = resources.borrow_and_update().clone() else { return stopping() };
        let now = Instant::now();
        while let Some(response) = session.next(&current, now.into_std()) {
            let Response { nonce, offer, form } = response;
            // It never comes again, from whichever process.
            let unique = format!("{}.{id}.{nonce}", shared.process);
            let any = offer.encode(form, &unique);
            shared.fleet.note_sent(offer.kind, length(&any));
            let message = proto::response(protocol, nonce, &offer.name, &offer.version, any);
            if messages.try_send(Item::Message(message)).is_err() {
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
                    // What waits to be sent to a client that does not read is freed only with the connection.
                    peer.close();
                    return Status::deadline_exceeded(why);
                }
                if next_check <= Instant::now() {
                    let is_missing = session.waits_for_base() && !shared.fleet.has_base(session.node(), peer.address.ip());
                    if is_missing && was_missing {
                        warn!("{}: {NO_BASE}", peer.address);
                        return Status::unavailable(NO_BASE);
                    }
                    (next_check, was_missing) = (next_check + REST_CHECK, is_missing);
                }
            }
        }
    }
}

/// Replicas that do not know each other have different bases. On the next attempt, all streams of the proxy may get to the same one.
const NO_BASE: &str = "the proxy has changes over a base, but does not ask this replica for the base: its configuration must have the \
                       resource that ends in -base; if it does, use ADS, or give the replicas --xds-peer";

fn stopping() -> Status {
    Status::unavailable("this server is stopping: connect to another one")
}

fn refused(peer: &Peer, violation: Violation) -> Status {
    // The client is told, and anybody can be one.
    debug!("{}: the stream is ended: {violation}", peer.address);
    let code = match violation {
        Violation::TooMany => Code::ResourceExhausted,
        Violation::NoNode | Violation::NoType | Violation::OtherType => Code::InvalidArgument,
    };
    Status::new(code, violation.to_string())
}

/// Tells people what was heard.
fn note(shared: &Shared, session: &Session, peer: &Peer, id: u64, heard: Heard) {
    let node = session.node().map_or("", |(id, _)| id);
    match &heard {
        Heard::Nothing => {}
        // What others say is escaped: it may have line feeds.
        Heard::Ack { version, .. } => debug!("{node:?} at {}: accepted {version}", peer.address),
        Heard::Nack { version, message, .. } => info!("{node:?} at {}: refused {version}: {message:?}", peer.address),
    }
    shared.fleet.note(id, session, heard);
}
