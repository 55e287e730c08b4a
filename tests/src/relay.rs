//! A TCP relay between one client and a server, which can be cut as a network can.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// Relays connections to a port of 127.0.0.1; they end with it.
#[derive(Debug)]
pub struct Relay {
    wire: Arc<Wire>,
    port: u16,
}

#[derive(Debug)]
struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    link: Link,
    connections: Vec<TcpStream>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Link {
    Up,
    /// Connections stand, and nothing comes through, in neither direction.
    Silent,
    /// There are no connections.
    Down,
    /// For good.
    Closed,
}

impl Relay {
    /// Relays to `target` from a free port.
    pub(crate) fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the relay");
        let port = listener.local_addr().expect("its address").port();
        let state = Mutex::new(State { link: Link::Up, connections: Vec::new() });
        let wire = Arc::new(Wire { state, changed: Condvar::new() });
        let accepting = Arc::clone(&wire);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let link = accepting.state().link;
                match link {
                    Link::Up | Link::Silent => accepting.connect(client, target),
                    Link::Down => {}
                    Link::Closed => break,
                }
            }
        });
        Self { wire, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the log with `prefix`, by way of the relay.
    pub fn log(&self, prefix: &str) -> String {
        format!("kafka://{}:{}/{prefix}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Holds everything back, as a network does that has gone silent; it comes through when the relay is mended.
    pub fn hold(&self) {
        self.wire.set(Link::Silent);
    }

    /// Breaks all connections, and lets none be made.
    pub fn cut(&self) {
        self.wire.set(Link::Down);
    }

    /// Is as good as new again.
    pub fn mend(&self) {
        self.wire.set(Link::Up);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.wire.set(Link::Closed);
        // Wakes the thread that accepts, which ends then.
        let _connected = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Wire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the relay panics")
    }

    fn set(&self, link: Link) {
        let mut state = self.state();
        state.link = link;
        if matches!(link, Link::Down | Link::Closed) {
            for connection in state.connections.drain(..) {
                let _ended_already = connection.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    /// Carries both directions, each on a thread of its own. A server that is not there is a connection that ends.
    fn connect(self: &Arc<Self>, client: TcpStream, target: u16) {
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
        let twin = |stream: &TcpStream| stream.try_clone().expect("a second handle");
        let ways = [(twin(&client), twin(&server)), (twin(&server), twin(&client))];
        let mut state = self.state();
        if matches!(state.link, Link::Down | Link::Closed) {
            return;
        }
        state.connections.extend([client, server]);
        for (from, to) in ways {
            let wire = Arc::clone(self);
            thread::spawn(move || wire.carry(from, to));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            if !self.comes_through() || to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            let _ended_already = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits while the link is silent, and says whether it is up then.
    fn comes_through(&self) -> bool {
        let state = self.changed.wait_while(self.state(), |state| state.link == Link::Silent);
        state.expect("no thread of the relay panics").link == Link::Up
    }
}
