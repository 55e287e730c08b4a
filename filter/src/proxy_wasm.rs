//! The host layer for Envoy, which the lean modules are built with: as few calls between the host and the VM as possible.
//!
//! It replaces the `proxy-wasm` crate, whose dispatcher exports every callback of the ABI. A host calls what a module exports,
//! and each call into the VM costs a request some tenths of a microsecond. So this exports only what the filter needs: for an
//! allowed request Envoy calls `proxy_on_request_headers`, and during it `proxy_on_memory_allocate` for the client's address.
//! `proxy_on_context_create`, `_done`, `_log` and `_delete` would be four more calls without a use.
//!
//! What a host passes to the filter is in memory that the host has asked for: up to [`SMALL`] bytes in a buffer that is always
//! the same, and more, such as a snapshot, in a `Vec` that is passed on without a copy.
//!
//! A host may refuse any call, and memory may run out. A panic would end the VM, and with it the blocklist.
#![expect(unsafe_code, reason = "exports of a wasm module, and memory that the host writes to")]

use alloc::vec::Vec;
use core::cell::{Cell, RefCell, UnsafeCell};
use core::net::IpAddr;
use core::panic::PanicInfo;
use core::ptr::null_mut;
use core::slice::from_raw_parts;

use dlmalloc::GlobalDlmalloc;

use edgefold_snapshot::Fingerprint;

use crate::abi::{
    self, CONNECTION_ADDRESS, Destination, Kind, LOG_ERROR, LOG_INFO, OK, PLUGIN_NAME, REQUEST_HEADERS, SOURCE_ADDRESS,
};
use crate::address;
use crate::filter::{Action, Filter};
use crate::header_map;
use crate::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost, Resource};

/// Enough for an address, and for most headers with addresses.
const SMALL: usize = 256;

const HTTP_REQUEST: u32 = 0;
const DOWNSTREAM: u32 = 2;

// The compiler calls `memcmp` and the like. Without std, nothing else links them.
#[link(name = "c")]
unsafe extern "C" {}

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;
static FILTER: OneThread<RefCell<Filter>> = OneThread(RefCell::new(Filter::new()));
static RECEIVED: OneThread<Received> =
    OneThread(Received { small: UnsafeCell::new([0; SMALL]), is_read: Cell::new(false), large: Cell::new(Vec::new()) });

/// A value that only one thread can reach.
struct OneThread<T>(T);

// SAFETY: a module without shared memory has only one thread.
unsafe impl<T> Sync for OneThread<T> {}

/// Where the host writes what it passes to the filter.
struct Received {
    small: UnsafeCell<[u8; SMALL]>,
    /// Whether somebody reads `small`: the host must not write to it then.
    is_read: Cell<bool>,
    large: Cell<Vec<u8>>,
}

impl Received {
    fn allocate(&self, len: usize) -> *mut u8 {
        if len <= SMALL {
            return if self.is_read.get() { null_mut() } else { self.small.get().cast() };
        }
        // A little more than requested: a snapshot that has grown a little then fits where an earlier one was. The memory of a
        // VM never shrinks, and would otherwise grow with each.
        let step = (len / 8).next_power_of_two();
        let capacity = len.checked_next_multiple_of(step).unwrap_or(len);
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(capacity).is_err() {
            // The host then reports that it cannot pass the bytes.
            return null_mut();
        }
        let address = bytes.as_mut_ptr();
        self.large.set(bytes);
        address
    }
}

/// What the host has passed to the filter.
enum Bytes<'a> {
    Small(&'a [u8]),
    Large(Vec<u8>),
}

impl Bytes<'_> {
    fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Small(bytes) => bytes.to_vec(),
            Self::Large(bytes) => bytes,
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

/// Lets the host pass bytes by `call`, which returns a status.
fn receive<R>(call: impl FnOnce(Destination<'_>) -> u32, read: impl FnOnce(Option<Bytes<'_>>) -> R) -> R {
    let (mut address, mut len) = (null_mut(), 0);
    let status = call(Destination { address: &mut address, len: &mut len });
    let bytes = received(status, address, len);
    RECEIVED.0.is_read.set(true);
    let result = read(bytes);
    RECEIVED.0.is_read.set(false);
    result
}

/// The bytes that a call has passed; `None` if it failed. Those in the small buffer may only be used while `is_read` is set. Not
/// inlined, to keep the module small.
#[inline(never)]
fn received<'a>(status: u32, address: *mut u8, len: usize) -> Option<Bytes<'a>> {
    let mut large = RECEIVED.0.large.take();
    if status != OK {
        return None;
    }
    if (SMALL..=large.capacity()).contains(&len) && core::ptr::eq(large.as_ptr(), address) {
        // SAFETY: this much is allocated, and according to its status the host has written it.
        unsafe { large.set_len(len) };
        return Some(Bytes::Large(large));
    }
    let small = RECEIVED.0.small.get().cast::<u8>();
    if len == 0 {
        Some(Bytes::Small(&[]))
    } else if len <= SMALL && core::ptr::eq(small, address) {
        // SAFETY: `small` has SMALL bytes that are always valid. While `is_read` is set, nobody writes to them: the host only
        // writes where `allocate` told it to.
        Some(Bytes::Small(unsafe { from_raw_parts(small, len) }))
    } else {
        // The host has not written where it was told to.
        None
    }
}

/// The host that is calling.
struct ProxyWasm;

impl ProxyWasm {
    /// Passes an attribute of Envoy to `read`.
    fn attribute<R>(&self, path: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        receive(|to| abi::get_property(path, to), |bytes| read(bytes.as_ref().map(Bytes::as_slice)))
    }
}

impl MetricsHost for ProxyWasm {
    fn increment(&self, Metric(counter): Metric) {
        let _counted = abi::increment_metric(counter);
    }

    fn set_gauge(&self, Metric(gauge): Metric, value: u64) {
        let _set = abi::record_metric(gauge, value);
    }

    fn define_counter(&self, name: &str) -> Option<Metric> {
        define(Kind::Counter, name)
    }
}

impl ConfigurationHost for ProxyWasm {
    fn plugin_name(&self) -> Option<Vec<u8>> {
        self.attribute(PLUGIN_NAME, |name| name.map(<[u8]>::to_vec))
    }

    fn configuration(&self) -> Option<Vec<u8>> {
        receive(abi::get_configuration, |bytes| bytes.map(Bytes::into_vec))
    }

    fn validated(&self, from: Resource) -> Option<Fingerprint> {
        shared(abi::validated_key(from), |bytes| Fingerprint::from_bytes(bytes.as_ref()?.as_slice()))
    }

    fn share_validated(&self, from: Resource, fingerprint: Fingerprint) {
        share(abi::validated_key(from), &fingerprint.to_bytes());
    }

    fn share_base(&self, base: &[u8]) {
        share(abi::BASE, base);
    }

    /// The path of an attribute, which joins several headers with the name. `proxy_get_header_map_value` would only return the
    /// first, which is whatever the client sent. Envoy's names of headers are in lower case.
    fn header_key(&self, name: &str) -> Vec<u8> {
        let mut path = REQUEST_HEADERS.to_vec();
        path.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
        path
    }

    fn define_gauge(&self, name: &str) -> Option<Metric> {
        define(Kind::Gauge, name)
    }

    fn log(&self, level: Level, line: &str) {
        let level = match level {
            Level::Info => LOG_INFO,
            Level::Error => LOG_ERROR,
        };
        let _logged = abi::log(level, line);
    }
}

impl RequestHost for ProxyWasm {
    fn shared_base(&self, fingerprint: Fingerprint) -> Option<Vec<u8>> {
        // Another one is not worth a copy.
        let is_there = self.validated(Resource::Base) == Some(fingerprint);
        is_there.then(|| shared(abi::BASE, |bytes| bytes.map(Bytes::into_vec))).flatten()
    }

    fn with_plugin_name<R>(&self, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        self.attribute(PLUGIN_NAME, read)
    }

    fn source_address(&self) -> Option<IpAddr> {
        self.attribute(SOURCE_ADDRESS, |text| address::parse(text?))
    }

    fn connection_address(&self) -> Option<Option<IpAddr>> {
        self.attribute(CONNECTION_ADDRESS, |text| text.map(address::parse))
    }

    fn with_header<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        self.attribute(key, read)
    }

    fn remove_request_header(&self, name: &str) {
        let _removed = abi::remove_request_header(name);
    }

    fn add_request_header(&self, name: &str, value: &str) {
        let _added = abi::add_request_header(name, value);
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        let _set = abi::set_property(name, value);
    }

    fn respond(&self, response: &LocalResponse<'_>) {
        let LocalResponse { status, content_type, headers, body, details } = *response;
        // A host that does not send the response leaves the request paused. It does not pass it.
        let _sent = abi::send_local_response(status, details, body, &header_map::encode(content_type, headers));
    }

    fn now(&self) -> u64 {
        let mut nanoseconds = 0;
        let _status = abi::get_current_time(&mut nanoseconds);
        nanoseconds / 1_000_000
    }

    fn reset_request(&self) {
        let _reset = abi::close_stream(HTTP_REQUEST);
    }

    fn close_connection(&self) {
        let _closed = abi::close_stream(DOWNSTREAM);
    }
}

/// Passes what VMs share under `key` to `read`.
fn shared<R>(key: &[u8], read: impl FnOnce(Option<Bytes<'_>>) -> R) -> R {
    let mut compare = 0;
    receive(|to| abi::get_shared_data(key, to, &mut compare), read)
}

fn share(key: &[u8], value: &[u8]) {
    let _set = abi::set_shared_data(key, value);
}

fn define(kind: Kind, name: &str) -> Option<Metric> {
    let mut metric = 0;
    let status = abi::define_metric(kind, name, &mut metric);
    (status == OK).then_some(Metric(metric))
}

/// Calls `act` with the filter. Returns `otherwise` to a host that calls while it is being called.
fn with_filter<R>(otherwise: R, act: impl FnOnce(&mut Filter) -> R) -> R {
    match FILTER.0.try_borrow_mut() {
        Ok(mut filter) => act(&mut filter),
        Err(_) => otherwise,
    }
}

/// What `act` makes of the current request or connection: 0 lets it continue, 1 stops it.
fn judge(act: impl FnOnce(&mut Filter) -> Action) -> u32 {
    match with_filter(Action::Stop, act) {
        Action::Continue => 0,
        Action::Stop => 1,
    }
}

/// Its name states the ABI of the module. It is never called.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(len: usize) -> *mut u8 {
    RECEIVED.0.allocate(len)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(_root_context: u32, _configuration_len: u32) -> u32 {
    with_filter(false, |filter| filter.on_configure(&ProxyWasm)).into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(_context: u32, _headers: u32, _end_of_stream: u32) -> u32 {
    judge(|filter| filter.on_request(&ProxyWasm))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(_context: u32) -> u32 {
    judge(|filter| filter.on_connection(&ProxyWasm))
}

/// Only one of the two modules exports this: Envoy calls it for all bytes of every request.
#[cfg(feature = "recheck")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(_context: u32, _len: u32, _end_of_stream: u32) -> u32 {
    judge(|filter| filter.on_request_data(&ProxyWasm))
}

/// As above, for all bytes of every connection.
#[cfg(feature = "recheck")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(_context: u32, _len: u32, _end_of_stream: u32) -> u32 {
    judge(|filter| filter.on_data(&ProxyWasm))
}

/// Ends the VM, and logs where. Nothing should ever get here.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Some(at) = info.location() {
        ProxyWasm.log(Level::Error, at.file());
    }
    core::arch::wasm32::unreachable()
}
