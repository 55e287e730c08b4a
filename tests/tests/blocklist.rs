//! A `Blocklist` whose broker is out of reach.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::thread;
use std::time::{Duration, Instant};

use edgefold::{Blocklist, LogUrl};
use edgefold_tests::{Edgefold, Kafka, Relay, eventually};

/// How long to watch that nothing happens: several times as long as the blocklist takes to confirm that it is at the end.
const WATCHED: Duration = Duration::from_secs(4);
/// How long dropping a blocklist may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

fn follow(relay: &Relay, prefix: &str) -> Blocklist {
    let url: LogUrl = relay.log(prefix).parse().unwrap();
    Blocklist::follow(url.open().unwrap()).unwrap()
}

fn is_blocked(blocklist: &Blocklist, ip: &str) -> bool {
    blocklist.get(ip.parse().unwrap()).denied().is_some()
}

fn await_trouble(blocklist: &Blocklist) {
    eventually("trouble", || blocklist.status().trouble);
}

/// Waits until the blocklist has confirmed that it is at the end of its log once more.
fn await_contact(blocklist: &Blocklist) {
    let before = blocklist.status().last_contact;
    eventually("contact", || (blocklist.status().last_contact > before).then_some(()));
}

#[test]
fn a_blocklist_keeps_its_last_state_while_kafka_is_out_of_reach() {
    let (kafka, relay) = Kafka::start_with_relay();
    let edgefold = Edgefold::kafka(&kafka, "outage").block(&["10.0.0.0/24"]);
    let blocklist = follow(&relay, "outage");
    for (what, interrupt, range, ip) in [
        ("nothing comes through", Relay::hold as fn(&Relay), "10.1.0.0/24", "10.1.0.7"),
        ("connections break", Relay::cut, "10.2.0.0/24", "10.2.0.7"),
    ] {
        await_contact(&blocklist);
        assert_eq!(blocklist.status().trouble, None, "before {what}");

        interrupt(&relay);
        await_trouble(&blocklist);
        let (last_contact, position) = (blocklist.status().last_contact, blocklist.position());
        edgefold.block(&[range]);
        thread::sleep(WATCHED);
        let status = blocklist.status();
        assert!(status.trouble.is_some(), "{what}");
        assert_eq!((status.last_contact, blocklist.position()), (last_contact, position), "{what}");
        assert!(is_blocked(&blocklist, "10.0.0.7") && !is_blocked(&blocklist, ip), "{what}");

        relay.mend();
        eventually("the command that was appended meanwhile", || is_blocked(&blocklist, ip).then_some(()));
        eventually("the end of the trouble", || blocklist.status().trouble.is_none().then_some(()));
        await_contact(&blocklist);
    }
}

#[test]
fn a_blocklist_is_dropped_soon_even_while_kafka_is_out_of_reach() {
    let (kafka, relay) = Kafka::start_with_relay();
    Edgefold::kafka(&kafka, "dropped");
    for interrupt in [Relay::hold as fn(&Relay), Relay::cut] {
        relay.mend();
        let blocklist = follow(&relay, "dropped");
        // At once: before it has heard from Kafka that it is at the end.
        interrupt(&relay);
        await_trouble(&blocklist);
        let started = Instant::now();
        drop(blocklist);
        assert!(started.elapsed() < STOP_TIMEOUT, "it took {:?}", started.elapsed());
    }
}
