//! A TCP relay in front of a server, which can fail as a network does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// Relays connections to a port of 127.0.0.1. They end when it is dropped.
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
    /// Connections stay open, but nothing comes through in either direction.
    Silent,
    /// The same for fetch requests only.
    NoFetch,
    /// All connections are closed, and new ones too.
    Down,
    /// The relay has been dropped.
    Closed,
}

impl Relay {
    /// Relays to `target` from a free port.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the relay");
        let port = listener.local_addr().expect("its address").port();
        let state = Mutex::new(State { link: Link::Up, connections: Vec::new() });
        let wire = Arc::new(Wire { state, changed: Condvar::new() });
        let accepting = Arc::clone(&wire);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let link = accepting.state().link;
                match link {
                    Link::Up | Link::Silent | Link::NoFetch => accepting.connect(client, target),
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL of the log with `prefix`, through the relay.
    pub fn log(&self, prefix: &str) -> String {
        format!("kafka://{}:{}/{prefix}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Holds everything back, like a network that has gone silent. It comes through once the relay is mended.
    pub fn hold(&self) {
        self.wire.set(Link::Silent);
    }

    /// Holds back what fetches records, and lets everything else through.
    pub fn hold_fetches(&self) {
        self.wire.set(Link::NoFetch);
    }

    /// Closes all connections, and every new one.
    pub fn cut(&self) {
        self.wire.set(Link::Down);
    }

    /// Works again.
    pub fn mend(&self) {
        self.wire.set(Link::Up);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.wire.set(Link::Closed);
        // Wakes up the thread that accepts connections, which then ends.
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

    /// Relays both directions, each on its own thread. If the server does not accept, the connection is closed.
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
            // A request starts with its length and the number of its kind, and is short enough to come as a whole. An answer has zeros
            // there, up to the 65,536th of a connection.
            let is_fetch = bytes[..read].get(4..6) == Some(&[0, 1]);
            if !self.comes_through(is_fetch) || to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            let _ended_already = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits while the link holds this back, and returns whether the link is up after that.
    fn comes_through(&self, is_fetch: bool) -> bool {
        let is_held = |state: &mut State| state.link == Link::Silent || (is_fetch && state.link == Link::NoFetch);
        let state = self.changed.wait_while(self.state(), is_held).expect("no thread of the relay panics");
        matches!(state.link, Link::Up | Link::NoFetch)
    }
}
