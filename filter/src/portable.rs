//! The host layer of the portable module, for hosts other than Envoy: HTTP only.
//!
//! The `proxy-wasm` crate exports every callback of the ABI, some of which such hosts insist on, and keeps a context for each
//! request. Its calls to the host are not used: see [`abi`].
//!
//! Only Envoy, and what is built on it, shares data among VMs and lets plugins with one name share a snapshot. Elsewhere, each
//! root context is a plugin of its own. And there the filter only calls what cannot end the VM, or the proxy:
//!
//! - ngx_wasm_module traps at shared data without a `shm_kv` zone, at metrics with long names, and at calls that it does not
//!   implement, such as `proxy_close_stream` (`src/common/proxy_wasm/ngx_proxy_wasm_host.c`). To ask it for `plugin_name` while it
//!   configures a plugin is a null pointer in nginx (`get_filter_name` in `ngx_proxy_wasm_properties.c`). It sends what should be
//!   response code details to the client, as the reason phrase (`ngx_http_wasm_local_response.c`).
//! - The host of APISIX has no clock and no shared data (`src/http/ngx_http_wasm_api.c` of wasm-nginx-module).
//!
//! Memory belongs to the crate's allocator. If there is not enough for what the host passes, the VM ends.
#![expect(unsafe_code, reason = "memory that the host has written to")]

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::IpAddr;
use core::ptr::null_mut;

use edgefold_snapshot::Fingerprint;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action as NextAction, ContextType};

use crate::abi::{self, CONNECTION_ADDRESS, Destination, Kind, LOG_ERROR, LOG_INFO, OK, PLUGIN_NAME, SOURCE_ADDRESS};
use crate::configuration::{ConfigurationError, snapshot_in};
use crate::filter::{Action, Filter};
use crate::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost, Resource};
use crate::{address, configuration_text, header_map};

/// An attribute that only Envoy has, of those that can be read while a plugin is configured. ngx_wasm_module lists it as not
/// implemented, and wasm-nginx-module has only `plugin_root_id` then.
const VM_ID: &[u8] = b"plugin_vm_id";
/// nginx's variable with the address of the client, which its realip module may have replaced. ngx_wasm_module has it as
/// `source.address`; wasm-nginx-module takes names of variables alone.
const REMOTE_ADDR: &[u8] = b"remote_addr";
/// nginx's variable with the address of the connection: <https://nginx.org/en/docs/http/ngx_http_realip_module.html>.
/// ngx_wasm_module has variables under `ngx.`.
const REALIP_REMOTE_ADDR: [&[u8]; 2] = [b"ngx\0realip_remote_addr", b"realip_remote_addr"];
/// The same as `remote_addr`, as ngx_wasm_module has variables. Without the realip module it is the address of the connection.
const NGX_REMOTE_ADDR: &[u8] = b"ngx\0remote_addr";
/// What metrics are called after where the host must not be asked for a name.
const NAME: &str = "edgefold";
/// The longest name of a metric, except in Envoy. ngx_wasm_module traps at longer ones: by default 256 bytes together with the name of
/// the module (`max_metric_name_length` in its `docs/DIRECTIVES.md`).
const LONGEST_METRIC: usize = 128;
/// With fewer pairs than this, none are missing: ngx_wasm_module passes 100 of them (`NGX_HTTP_WASM_MAX_REQ_HEADERS`), and
/// wasm-nginx-module 100 (`NGX_HTTP_LUA_MAX_HEADERS`) and three pseudo-headers.
const FEWEST_IF_CUT: usize = 100;
/// Each `-` in the name of a header doubles the number of its spellings. Each spelling is a call.
const MOST_SEPARATORS: usize = 5;

std::thread_local! {
    /// What all plugins in a VM of Envoy have in common.
    static SHARED: Rc<RefCell<Filter>> = Rc::default();
}

/// The host that is calling.
#[derive(Clone, Copy)]
struct Portable {
    is_envoy: bool,
}

impl Portable {
    /// To be called while a plugin is configured.
    fn detect() -> Self {
        Self { is_envoy: property(VM_ID).is_some() }
    }

    /// The property at the first of these paths that the host knows; in Envoy only at the path of its attribute.
    fn first_property(self, of_envoy: &[u8], others: &[&[u8]]) -> Option<Vec<u8>> {
        property(of_envoy).or_else(|| others.iter().filter(|_| !self.is_envoy).find_map(|path| property(path)))
    }
}

/// Lets the host pass bytes by `call`, which returns a status. `None` if it fails.
fn receive(call: impl FnOnce(Destination<'_>) -> u32) -> Option<Vec<u8>> {
    let (mut address, mut len) = (null_mut::<u8>(), 0);
    let status = call(Destination { address: &mut address, len: &mut len });
    if status != OK {
        return None;
    }
    if address.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the host has got this memory, of this length, from the crate's `proxy_on_memory_allocate`, which leaks a boxed slice.
    Some(unsafe { Vec::from_raw_parts(address, len, len) })
}

fn property(path: &[u8]) -> Option<Vec<u8>> {
    receive(|to| abi::get_property(path, to))
}

impl MetricsHost for Portable {
    fn increment(&self, Metric(counter): Metric) {
        let _counted = abi::increment_metric(counter);
    }

    fn set_gauge(&self, Metric(gauge): Metric, value: u64) {
        let _set = abi::record_metric(gauge, value);
    }

    fn define_counter(&self, name: &str) -> Option<Metric> {
        self.define(Kind::Counter, name)
    }
}

impl ConfigurationHost for Portable {
    fn has_canary(&self) -> bool {
        self.is_envoy
    }

    fn takes_pairs(&self) -> bool {
        self.is_envoy
    }

    fn snapshot_in(&self, configuration: Vec<u8>) -> Result<Vec<u8>, ConfigurationError> {
        snapshot_in(configuration_text::snapshot_or(configuration)?)
    }

    fn plugin_name(&self) -> Option<Vec<u8>> {
        if self.is_envoy { property(PLUGIN_NAME) } else { Some(NAME.into()) }
    }

    fn configuration(&self) -> Option<Vec<u8>> {
        receive(abi::get_configuration)
    }

    fn validated(&self, from: Resource) -> Option<Fingerprint> {
        Fingerprint::from_bytes(&self.shared(abi::validated_key(from))?)
    }

    fn share_validated(&self, from: Resource, fingerprint: Fingerprint) {
        self.share(abi::validated_key(from), &fingerprint.to_bytes());
    }

    fn share_base(&self, base: &[u8]) {
        self.share(abi::BASE, base);
    }

    /// The name in lower case.
    fn header_key(&self, name: &str) -> Vec<u8> {
        name.to_ascii_lowercase().into_bytes()
    }

    fn define_gauge(&self, name: &str) -> Option<Metric> {
        self.define(Kind::Gauge, name)
    }

    fn log(&self, level: Level, line: &str) {
        let level = match level {
            Level::Info => LOG_INFO,
            Level::Error => LOG_ERROR,
        };
        let _logged = abi::log(level, line);
    }
}

impl RequestHost for Portable {
    fn shared_base(&self, fingerprint: Fingerprint) -> Option<Vec<u8>> {
        // Another one is not worth a copy.
        let is_there = self.validated(Resource::Base) == Some(fingerprint);
        is_there.then(|| self.shared(abi::BASE)).flatten()
    }

    fn with_plugin_name<R>(&self, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        read(self.plugin_name().as_deref())
    }

    fn source_address(&self) -> Option<IpAddr> {
        address::parse(&self.first_property(SOURCE_ADDRESS, &[REMOTE_ADDR])?)
    }

    fn connection_address(&self) -> Option<Option<IpAddr>> {
        let [with_prefix, without_prefix] = REALIP_REMOTE_ADDR;
        let others = [with_prefix, without_prefix, NGX_REMOTE_ADDR, REMOTE_ADDR];
        Some(address::parse(&self.first_property(CONNECTION_ADDRESS, &others)?))
    }

    fn with_header<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let value = if self.is_envoy { property(&[abi::REQUEST_HEADERS, key].concat()) } else { header(key) };
        read(value.as_deref())
    }

    fn remove_request_header(&self, name: &str) {
        let _removed = abi::remove_request_header(name);
    }

    fn add_request_header(&self, name: &str, value: &str) {
        let _added = abi::add_request_header(name, value);
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        if self.is_envoy {
            let _set = abi::set_property(name, value);
        }
    }

    fn respond(&self, response: &LocalResponse<'_>) {
        let LocalResponse { status, content_type, headers, body, details } = *response;
        let details = if self.is_envoy { details } else { "" };
        // A host that does not send the response leaves the request paused. It does not pass it.
        let _sent = abi::send_local_response(status, details, body, &header_map::encode(content_type, headers));
    }

    fn now(&self) -> u64 {
        let mut nanoseconds = 0;
        let _status = abi::get_current_time(&mut nanoseconds);
        nanoseconds / 1_000_000
    }

    // Neither is called: the portable module does not look at data, nor at connections.
    fn reset_request(&self) {}

    fn close_connection(&self) {}
}

impl Portable {
    fn shared(self, key: &[u8]) -> Option<Vec<u8>> {
        let mut compare = 0;
        if !self.is_envoy {
            return None;
        }
        receive(|to| abi::get_shared_data(key, to, &mut compare))
    }

    fn share(self, key: &[u8], value: &[u8]) {
        if self.is_envoy {
            let _set = abi::set_shared_data(key, value);
        }
    }

    fn define(self, kind: Kind, name: &str) -> Option<Metric> {
        let mut metric = 0;
        if !self.is_envoy && name.len() > LONGEST_METRIC {
            return None;
        }
        (abi::define_metric(kind, name, &mut metric) == OK).then_some(Metric(metric))
    }
}

/// All request headers with this name, in lower case. nginx has them as a variable, joined since 1.23:
/// <https://nginx.org/en/docs/http/ngx_http_core_module.html#var_http_>. Its hosts pass only the first header, which may be one
/// that the client sent, or at most [`FEWEST_IF_CUT`] headers. Others have only the call.
///
/// With `underscores_in_headers on`, the variable also has headers with `_` in place of `-`, which the client may have sent. They do not
/// count.
fn header(name: &[u8]) -> Option<Vec<u8>> {
    let mut variable = b"ngx\0http_".to_vec();
    variable.extend(name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }));
    let without_prefix = variable.strip_prefix(b"ngx\0").unwrap_or_default();
    let of_this_spelling = first_header(name);
    let Some(of_all_spellings) = property(&variable).or_else(|| property(without_prefix)) else {
        return of_this_spelling;
    };
    // There is only one, as for most requests, or there is none of this spelling.
    if of_this_spelling.as_ref().is_none_or(|first| *first == of_all_spellings) {
        return of_this_spelling;
    }
    let encoded = receive(abi::get_request_headers).unwrap_or_default();
    match header_map::decode(&encoded) {
        Some(pairs) if pairs.len() < FEWEST_IF_CUT => {
            let values = pairs.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|&(_, value)| value);
            Some(values.collect::<Vec<_>>().join(&b','))
        }
        // No entry is an address, and there are as many as `trusted_hops` can count.
        _ if has_other_spelling(name) => Some(vec![b','; u16::MAX.into()]),
        _ => Some(of_all_spellings),
    }
}

fn first_header(name: &[u8]) -> Option<Vec<u8>> {
    receive(|to| abi::get_request_header(name, to))
}

/// Whether there is a request header whose name differs from this one only in `-` and `_`, or there may be.
fn has_other_spelling(name: &[u8]) -> bool {
    let is_separator = |byte: u8| matches!(byte, b'-' | b'_');
    if name.iter().filter(|&&byte| is_separator(byte)).count() > MOST_SEPARATORS {
        return true;
    }
    let mut spellings = vec![Vec::new()];
    for &byte in name {
        let mut others = if is_separator(byte) { spellings.clone() } else { Vec::new() };
        others.iter_mut().for_each(|other| other.push(if byte == b'-' { b'_' } else { b'-' }));
        spellings.iter_mut().for_each(|spelling| spelling.push(byte));
        spellings.append(&mut others);
    }
    spellings.iter().any(|spelling| spelling != name && first_header(spelling).is_some())
}

/// A plugin, as it is configured.
struct Root {
    host: Portable,
    filter: Rc<RefCell<Filter>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _len: usize) -> bool {
        self.host = Portable::detect();
        if self.host.is_envoy {
            self.filter = SHARED.with(Rc::clone);
        }
        self.filter.try_borrow_mut().is_ok_and(|mut filter| filter.on_configure(&self.host))
    }

    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { host: self.host, filter: Rc::clone(&self.filter) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// A request. Those that began under an earlier configuration of their plugin are served by the newest.
struct Request {
    host: Portable,
    filter: Rc<RefCell<Filter>>,
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> NextAction {
        // A host that calls while it is being called gets no answer from the filter.
        let filter = self.filter.try_borrow_mut();
        match filter.map_or(Action::Stop, |mut filter| filter.on_request(&self.host)) {
            Action::Continue => NextAction::Continue,
            Action::Stop => NextAction::Pause,
        }
    }
}

/// What the macro exports has no documentation.
#[allow(missing_docs, reason = "the macro exports an undocumented function")]
mod start {
    use super::{Box, Portable, Rc, Root};

    proxy_wasm::main! {{
        // The host must not be called yet: ngx_wasm_module has a null pointer then.
        proxy_wasm::set_root_context(|_| Box::new(Root { host: Portable { is_envoy: false }, filter: Rc::default() }));
    }}
}
