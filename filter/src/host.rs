//! The proxy-wasm host: hands what Envoy gives to [`crate::decision`], and does what it says.

use std::rc::Rc;

use edgefold_table::Snapshot;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel};

use crate::decision::{Decision, decide};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

/// The bytes that Envoy handed over, kept where they are: the SDK's buffer is the host's, and the snapshot is read in place.
type Table = Rc<Snapshot<Vec<u8>>>;

#[derive(Default)]
struct Root {
    table: Option<Table>,
}

impl Context for Root {}

impl RootContext for Root {
    /// False rejects the update, and must depend on the bytes alone: Envoy asks a canary first and every worker after it.
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX);
        match Snapshot::open(bytes.ok().flatten().unwrap_or_default()) {
            Ok(snapshot) => {
                let header = snapshot.header();
                log(
                    LogLevel::Info,
                    &format!(
                        "edgefold: list {:?} at offset {}: {} IPv4 and {} IPv6 ranges",
                        header.list, header.generation.next_offset, header.ipv4_ranges, header.ipv6_ranges
                    ),
                );
                self.table = Some(Rc::new(snapshot));
                true
            }
            Err(error) => {
                log(LogLevel::Error, &format!("edgefold: snapshot refused: {error}; what served before keeps serving"));
                false
            }
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { table: self.table.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Request {
    table: Option<Table>,
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let Some(table) = &self.table else {
            // Envoy sends no request to a plugin whose configuration it refused; should a host do, the request is not
            // passed unchecked.
            return reply(503, b"edgefold has no snapshot\n");
        };
        let source_address = hostcalls::get_property(vec!["source", "address"]).ok().flatten();
        match decide(table, source_address.as_deref()) {
            Decision::Allow => Action::Continue,
            Decision::Deny => reply(403, b"Forbidden\n"),
        }
    }
}

fn reply(status: u32, body: &[u8]) -> Action {
    let headers = vec![("content-type", "text/plain")];
    // Envoy has no way to fail here; were the reply not sent, the request would stay paused, and not pass.
    let _sent = hostcalls::send_http_response(status, headers, Some(body));
    Action::Pause
}

fn log(level: LogLevel, message: &str) {
    // A log line that is lost is no reason to refuse a snapshot.
    let _logged = hostcalls::log(level, message);
}
