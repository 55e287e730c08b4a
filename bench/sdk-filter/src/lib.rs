//! A contender in the benchmark with Envoy: the same lookup in the same table, in a plain filter written with the
//! `proxy-wasm` crate. Built for any target other than wasm32 the crate is empty.
#![cfg(target_arch = "wasm32")]
#![allow(missing_docs, reason = "the macro of the SDK exports an undocumented function")]

use std::net::SocketAddr;
use std::rc::Rc;

use edgefold_snapshot::Snapshot;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { snapshot: None }));
}}

struct Root {
    snapshot: Option<Rc<Snapshot<Vec<u8>>>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX).ok().flatten();
        self.snapshot = bytes.and_then(|bytes| Snapshot::open(bytes).ok()).map(Rc::new);
        self.snapshot.is_some()
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { snapshot: self.snapshot.clone()? }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Request {
    snapshot: Rc<Snapshot<Vec<u8>>>,
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let source = hostcalls::get_property(vec!["source", "address"]).ok().flatten();
        let source = source.as_deref().and_then(|bytes| str::from_utf8(bytes).ok()?.parse::<SocketAddr>().ok());
        if source.is_some_and(|source| self.snapshot.contains(0, source.ip())) {
            self.send_http_response(403, vec![("content-type", "text/plain")], Some(b"Forbidden\n"));
            return Action::Pause;
        }
        Action::Continue
    }
}
