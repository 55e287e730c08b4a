//! A small load generator: a few keep-alive connections on one thread.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The statuses of an allowed and of a denied request.
pub(crate) const PASSED: u16 = 200;
pub(crate) const DENIED: u16 = 403;

/// A keep-alive connection to Envoy.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        // Fail if Envoy does not answer.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { stream, buffer: vec![0; 4096] }
    }

    /// Sends a request with `client` in X-Forwarded-For, and returns the status.
    pub(crate) fn status_for(&mut self, client: u32) -> u16 {
        self.ask(client);
        self.answer()
    }

    fn ask(&mut self, client: u32) {
        let client = Ipv4Addr::from_bits(client);
        self.buffer.clear();
        write!(self.buffer, "GET / HTTP/1.1\r\nhost: bench\r\nx-forwarded-for: {client}\r\n\r\n").unwrap();
        self.stream.write_all(&self.buffer).unwrap();
    }

    /// Reads one response to its end, and returns the status.
    fn answer(&mut self) -> u16 {
        self.buffer.resize(4096, 0);
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert_ne!(read, 0, "Envoy closed the connection");
            filled += read;
            let text = str::from_utf8(&self.buffer[..filled]).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if body.len() == body_bytes(head) {
                return head.split(' ').nth(1).unwrap().parse().unwrap();
            }
        }
    }
}

fn body_bytes(head: &str) -> usize {
    head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap()
}

/// Several connections to one Envoy, each with one request in flight.
pub(crate) struct Load(Vec<Connection>);

impl Load {
    pub(crate) fn open(server: SocketAddr, connections: usize) -> Self {
        Self((0..connections).map(|_| Connection::open(server)).collect())
    }

    /// Sends a request from each of `clients`, and panics if one is not answered with `status`.
    pub(crate) fn send(&mut self, clients: &[u32], status: u16) {
        let wrong = self.wrong(clients, status);
        assert!(wrong.is_empty(), "not answered with {status}: {wrong:?}");
    }

    /// Sends a request from each of `clients` again and again until `done`, so many at a time with a pause between. Returns how many were
    /// sent, and how many of them did not pass.
    pub(crate) fn send_until(
        &mut self,
        done: &AtomicBool,
        clients: &[u32],
        at_once: usize,
        pause: Duration,
    ) -> (usize, usize) {
        let (mut requests, mut failed) = (0, 0);
        for clients in clients.chunks(at_once).cycle() {
            if done.load(Ordering::Relaxed) {
                break;
            }
            requests += clients.len();
            failed += self.wrong(clients, PASSED).len();
            thread::sleep(pause);
        }
        (requests, failed)
    }

    /// Sends a request from each of `clients`, and returns those not answered with `status`, with their status.
    pub(crate) fn wrong(&mut self, clients: &[u32], status: u16) -> Vec<(Ipv4Addr, u16)> {
        let mut wrong = Vec::new();
        for clients in clients.chunks(self.0.len()) {
            for (connection, &client) in self.0.iter_mut().zip(clients) {
                connection.ask(client);
            }
            for (connection, &client) in self.0.iter_mut().zip(clients) {
                let answer = connection.answer();
                if answer != status {
                    wrong.push((Ipv4Addr::from_bits(client), answer));
                }
            }
        }
        wrong
    }
}
