//! The host layer for proxy-wasm: ABI 0.2.1, as much of it as the filter uses.
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
#![expect(unsafe_code, reason = "imports and exports of a wasm module, and memory that the host writes to")]

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell, UnsafeCell};
use core::net::IpAddr;
use core::panic::PanicInfo;
use core::ptr::{null, null_mut};
use core::slice::from_raw_parts;

use dlmalloc::GlobalDlmalloc;

use edgefold_snapshot::Fingerprint;

use crate::address;
use crate::filter::{Action, Filter};
use crate::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost, Resource};

/// Enough for an address, and for most headers with addresses.
const SMALL: usize = 256;

const OK: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;
const HTTP_REQUEST: u32 = 0;
const REQUEST_HEADER_MAP: u32 = 0;
const DOWNSTREAM: u32 = 2;
const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const LOG_INFO: u32 = 2;
const LOG_ERROR: u32 = 4;
const NO_GRPC_STATUS: i32 = -1;
/// Sets shared data unconditionally.
const NO_COMPARE: u32 = 0;

/// Paths of Envoy's attributes. Their parts are separated by NUL.
const SOURCE_ADDRESS: &[u8] = b"source\0address";
const CONNECTION_ADDRESS: &[u8] = b"filter_state\0edgefold.connection_address";
const PLUGIN_NAME: &[u8] = b"plugin_name";
const REQUEST_HEADERS: &[u8] = b"request\0headers\0";
/// The keys under which VMs share the fingerprint of the last snapshot that one of them has validated, for each resource, and the
/// last base.
///
/// Another version of the filter may validate less.
const VALIDATED: &str = concat!("edgefold.validated.", env!("CARGO_PKG_VERSION"));
const VALIDATED_BASE: &str = concat!("edgefold.validated_base.", env!("CARGO_PKG_VERSION"));
const BASE: &str = concat!("edgefold.base.", env!("CARGO_PKG_VERSION"));

// The compiler calls `memcmp` and the like. Without std, nothing else links them.
#[link(name = "c")]
unsafe extern "C" {}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, message_len: usize) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, most: usize, bytes: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_get_property(path: *const u8, path_len: usize, value: *mut *mut u8, value_len: *mut usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_len: usize,
        value: *mut *mut u8,
        value_len: *mut usize,
        compare: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_len: usize, value: *const u8, value_len: usize, compare: u32) -> u32;
    fn proxy_set_property(path: *const u8, path_len: usize, value: *const u8, value_len: usize) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_len: usize,
        body: *const u8,
        body_len: usize,
        headers: *const u8,
        headers_len: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_len: usize) -> u32;
    fn proxy_add_header_map_value(map: u32, key: *const u8, key_len: usize, value: *const u8, value_len: usize) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, by: i64) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
}

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

/// Lets the host pass bytes by `call`. Its arguments are where to put their address and their length, and it returns a status.
fn receive<R>(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32, read: impl FnOnce(Option<Bytes<'_>>) -> R) -> R {
    let (mut address, mut len) = (null_mut(), 0);
    let status = call(&raw mut address, &raw mut len);
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
        receive(
            // SAFETY: the pointers are those of a slice, and of two variables of `receive`.
            |value, len| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, len) },
            |bytes| read(bytes.as_ref().map(Bytes::as_slice)),
        )
    }
}

impl MetricsHost for ProxyWasm {
    fn increment(&self, Metric(counter): Metric) {
        // SAFETY: there are no pointers.
        let _counted = unsafe { proxy_increment_metric(counter, 1) };
    }

    fn set_gauge(&self, Metric(gauge): Metric, value: u64) {
        // SAFETY: there are no pointers.
        let _set = unsafe { proxy_record_metric(gauge, value) };
    }

    fn define_counter(&self, name: &str) -> Option<Metric> {
        define(COUNTER, name)
    }
}

impl ConfigurationHost for ProxyWasm {
    fn plugin_name(&self) -> Option<Vec<u8>> {
        self.attribute(PLUGIN_NAME, |name| name.map(<[u8]>::to_vec))
    }

    fn configuration(&self) -> Option<Vec<u8>> {
        receive(
            // SAFETY: the pointers are those of two variables of `receive`.
            |bytes, len| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, bytes, len) },
            |bytes| bytes.map(Bytes::into_vec),
        )
    }

    fn validated(&self, from: Resource) -> Option<Fingerprint> {
        shared(validated_key(from), |bytes| Fingerprint::from_bytes(bytes.as_ref()?.as_slice()))
    }

    fn share_validated(&self, from: Resource, fingerprint: Fingerprint) {
        share(validated_key(from), &fingerprint.to_bytes());
    }

    fn share_base(&self, base: &[u8]) {
        share(BASE.as_bytes(), base);
    }

    /// The path of an attribute, which joins several headers with the name. `proxy_get_header_map_value` would only return the
    /// first, which is whatever the client sent. Envoy's names of headers are in lower case.
    fn header_key(&self, name: &str) -> Vec<u8> {
        let mut path = REQUEST_HEADERS.to_vec();
        path.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
        path
    }

    fn define_gauge(&self, name: &str) -> Option<Metric> {
        define(GAUGE, name)
    }

    fn log(&self, level: Level, line: &str) {
        let level = match level {
            Level::Info => LOG_INFO,
            Level::Error => LOG_ERROR,
        };
        // SAFETY: the pointer is that of a slice.
        let _logged = unsafe { proxy_log(level, line.as_ptr(), line.len()) };
    }
}

impl RequestHost for ProxyWasm {
    fn shared_base(&self, fingerprint: Fingerprint) -> Option<Vec<u8>> {
        // Another one is not worth a copy.
        let is_there = self.validated(Resource::Base) == Some(fingerprint);
        is_there.then(|| shared(BASE.as_bytes(), |bytes| bytes.map(Bytes::into_vec))).flatten()
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
        // SAFETY: the pointer is that of a slice.
        let _removed = unsafe { proxy_remove_header_map_value(REQUEST_HEADER_MAP, name.as_ptr(), name.len()) };
    }

    fn add_request_header(&self, name: &str, value: &str) {
        // SAFETY: the pointers are those of slices.
        let _added = unsafe {
            proxy_add_header_map_value(REQUEST_HEADER_MAP, name.as_ptr(), name.len(), value.as_ptr(), value.len())
        };
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        // SAFETY: the pointers are those of slices.
        let _set = unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }

    fn respond(&self, response: &LocalResponse<'_>) {
        let LocalResponse { status, content_type, headers, body, details } = *response;
        let headers = encode_headers(content_type, headers);
        // A host that does not send the response leaves the request paused. It does not pass it.
        // SAFETY: the pointers are those of slices.
        let _sent = unsafe {
            proxy_send_local_response(
                status.into(),
                details.as_ptr(),
                details.len(),
                if body.is_empty() { null() } else { body.as_ptr() },
                body.len(),
                headers.as_ptr(),
                headers.len(),
                NO_GRPC_STATUS,
            )
        };
    }

    fn now(&self) -> u64 {
        let mut nanoseconds = 0;
        // SAFETY: the pointer is that of a variable.
        let _status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
        nanoseconds / 1_000_000
    }

    fn reset_request(&self) {
        // SAFETY: there are no pointers.
        let _reset = unsafe { proxy_close_stream(HTTP_REQUEST) };
    }

    fn close_connection(&self) {
        // SAFETY: there are no pointers.
        let _closed = unsafe { proxy_close_stream(DOWNSTREAM) };
    }
}

/// The headers as a proxy-wasm map: the number of pairs, the lengths of each name and value, and then each name and value
/// followed by NUL. Lengths are u32, little-endian.
fn encode_headers(content_type: Option<&str>, headers: &[(String, String)]) -> Vec<u8> {
    let content_type = content_type.map(|value| ("content-type", value));
    let pairs = || content_type.into_iter().chain(headers.iter().map(|(name, value)| (&**name, &**value)));
    // The header of a snapshot, and with it any name or value, is far shorter than a u32 can express.
    let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let mut encoded = length(pairs().count()).to_vec();
    for (name, value) in pairs() {
        encoded.extend(length(name.len()));
        encoded.extend(length(value.len()));
    }
    for text in pairs().flat_map(|(name, value)| [name, value]) {
        encoded.extend(text.bytes());
        encoded.push(0);
    }
    encoded
}

/// Passes what VMs share under `key` to `read`.
fn validated_key(from: Resource) -> &'static [u8] {
    match from {
        Resource::Filter => VALIDATED.as_bytes(),
        Resource::Base => VALIDATED_BASE.as_bytes(),
    }
}

fn shared<R>(key: &[u8], read: impl FnOnce(Option<Bytes<'_>>) -> R) -> R {
    let mut compare = 0;
    receive(
        // SAFETY: the pointers are those of a slice, of two variables of `receive` and of one here.
        |value, len| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), value, len, &raw mut compare) },
        read,
    )
}

fn share(key: &[u8], value: &[u8]) {
    // SAFETY: the pointers are those of slices.
    let _set = unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), NO_COMPARE) };
}

fn define(kind: u32, name: &str) -> Option<Metric> {
    let mut metric = 0;
    // SAFETY: the pointers are those of a slice and a variable.
    let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut metric) };
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
