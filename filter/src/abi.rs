//! The host layer: proxy-wasm ABI 0.2.1, as much of it as the filter uses.
//!
//! It stands in for the `proxy-wasm` crate, whose dispatcher exports every callback of the ABI. A host calls what a module
//! exports, and each call into the VM costs a request some tenths of a microsecond, so this exports what the filter cannot do
//! without: of an allowed request, Envoy calls `proxy_on_request_headers`, and in it `proxy_on_memory_allocate` for the
//! client's address. `proxy_on_context_create`, `_done`, `_log` and `_delete` would be four more calls that say nothing the
//! filter needs.
//!
//! What a host hands in lies in memory that it asked for: up to [`SMALL`] bytes in a buffer that is always the same one, and
//! more, such as a snapshot, in a `Vec` that is handed on as it is, without a copy.
//!
//! A host may refuse any call, and memory may end. Nothing here panics for it: a trap would end the VM, and with it the
//! blocklist.
#![expect(unsafe_code, reason = "imports and exports of a wasm module, and memory that the host writes to")]

use alloc::vec::Vec;
use core::cell::{Cell, RefCell, UnsafeCell};
use core::panic::PanicInfo;
use core::ptr::{null, null_mut};
use core::slice::from_raw_parts;

use dlmalloc::GlobalDlmalloc;

use crate::filter::{Action, Filter, Host, Metric};

/// Enough for an address, and for most headers with some.
const SMALL: usize = 256;

const OK: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;
const DOWNSTREAM: u32 = 2;
const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const LOG_INFO: u32 = 2;
const LOG_ERROR: u32 = 4;
const NO_GRPC_STATUS: i32 = -1;
/// Sets shared data whatever is there.
const NO_COMPARE: u32 = 0;

// For `memcmp` and its like, which the compiler calls: without std nobody else links them.
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
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, by: i64) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
}

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;
static FILTER: OneThread<RefCell<Filter>> = OneThread(RefCell::new(Filter::new()));
static RECEIVED: OneThread<Received> =
    OneThread(Received { small: UnsafeCell::new([0; SMALL]), large: Cell::new(Vec::new()) });

/// What only one thread gets at.
struct OneThread<T>(T);

// SAFETY: a module without shared memory has one thread.
unsafe impl<T> Sync for OneThread<T> {}

/// Where the host writes what it hands in.
struct Received {
    small: UnsafeCell<[u8; SMALL]>,
    large: Cell<Vec<u8>>,
}

impl Received {
    fn allocate(&self, len: usize) -> *mut u8 {
        if len <= SMALL {
            return self.small.get().cast();
        }
        // A little more than asked for: snapshots that grow a little fit where those before them were, so the memory of the
        // VM, which never shrinks, does not grow with each.
        let step = (len / 8).next_power_of_two();
        let capacity = len.checked_next_multiple_of(step).unwrap_or(len);
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(capacity).is_err() {
            // The host then says that it cannot hand it in.
            return null_mut();
        }
        let address = bytes.as_mut_ptr();
        self.large.set(bytes);
        address
    }
}

/// What a host has handed in.
enum Bytes<'a> {
    Small(&'a [u8]),
    Large(Vec<u8>),
}

impl Bytes<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

/// Has the host hand in bytes by `call`, which gets where to put their address and their length, and gives its status.
fn receive<R>(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32, read: impl FnOnce(Option<Bytes<'_>>) -> R) -> R {
    let (mut address, mut len) = (null_mut(), 0);
    let status = call(&raw mut address, &raw mut len);
    let mut large = RECEIVED.0.large.take();
    if status != OK {
        return read(None);
    }
    if (SMALL..=large.capacity()).contains(&len) && core::ptr::eq(large.as_ptr(), address) {
        // SAFETY: so much is allocated, and by its status the host has written it.
        unsafe { large.set_len(len) };
        return read(Some(Bytes::Large(large)));
    }
    let small = RECEIVED.0.small.get().cast::<u8>();
    if len == 0 {
        read(Some(Bytes::Small(&[])))
    } else if len <= SMALL && core::ptr::eq(small, address) {
        // SAFETY: `small` has SMALL bytes that are always valid, and nobody writes to them before `read` returns: only the
        // host does, in another call that hands in bytes, and no `read` of the filter makes one.
        read(Some(Bytes::Small(unsafe { from_raw_parts(small, len) })))
    } else {
        // Not where it was told to.
        read(None)
    }
}

/// The host that has called.
struct Envoy;

impl Host for Envoy {
    fn attribute<R>(&self, path: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        receive(
            // SAFETY: the pointers are those of a slice, and of two variables of `receive`.
            |value, len| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, len) },
            |bytes| read(bytes.as_ref().map(Bytes::as_slice)),
        )
    }

    fn shared<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let mut compare = 0;
        receive(
            // SAFETY: the pointers are those of a slice, of two variables of `receive` and of one here.
            |value, len| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), value, len, &raw mut compare) },
            |bytes| read(bytes.as_ref().map(Bytes::as_slice)),
        )
    }

    fn share(&self, key: &[u8], value: &[u8]) {
        // SAFETY: the pointers are those of slices.
        let _set = unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), NO_COMPARE) };
    }

    fn set_state(&self, name: &[u8], value: &str) {
        // SAFETY: the pointers are those of slices.
        let _set = unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }

    fn configuration(&self) -> Option<Vec<u8>> {
        receive(
            // SAFETY: the pointers are those of two variables of `receive`.
            |bytes, len| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, bytes, len) },
            |bytes| match bytes? {
                Bytes::Small(bytes) => Some(bytes.to_vec()),
                Bytes::Large(bytes) => Some(bytes),
            },
        )
    }

    fn respond(&self, status: u16, headers: &[u8], body: &[u8], details: &str) {
        // A host that does not send it leaves the request paused, and does not pass it.
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

    fn close_connection(&self) {
        // SAFETY: there are no pointers.
        let _closed = unsafe { proxy_close_stream(DOWNSTREAM) };
    }

    fn now(&self) -> u64 {
        let mut nanoseconds = 0;
        // SAFETY: the pointer is that of a variable.
        let _status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
        nanoseconds / 1_000_000
    }

    fn set_tick_period(&self, millis: u32) {
        // SAFETY: there are no pointers.
        let _set = unsafe { proxy_set_tick_period_milliseconds(millis) };
    }

    fn counter(&self, name: &str) -> Option<Metric> {
        define(COUNTER, name)
    }

    fn gauge(&self, name: &str) -> Option<Metric> {
        define(GAUGE, name)
    }

    fn increment(&self, Metric(metric): Metric) {
        // SAFETY: there are no pointers.
        let _counted = unsafe { proxy_increment_metric(metric, 1) };
    }

    fn set(&self, Metric(metric): Metric, value: u64) {
        // SAFETY: there are no pointers.
        let _set = unsafe { proxy_record_metric(metric, value) };
    }

    fn log(&self, is_error: bool, line: &str) {
        let level = if is_error { LOG_ERROR } else { LOG_INFO };
        // SAFETY: the pointer is that of a slice.
        let _logged = unsafe { proxy_log(level, line.as_ptr(), line.len()) };
    }
}

fn define(kind: u32, name: &str) -> Option<Metric> {
    let mut metric = 0;
    // SAFETY: the pointers are those of a slice and a variable.
    let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut metric) };
    (status == OK).then_some(Metric(metric))
}

/// Hands the filter to `act`; gives `otherwise` to a host that calls while it is being called.
fn with_filter<R>(otherwise: R, act: impl FnOnce(&mut Filter) -> R) -> R {
    match FILTER.0.try_borrow_mut() {
        Ok(mut filter) => act(&mut filter),
        Err(_) => otherwise,
    }
}

/// 0 lets the stream go on, 1 stops it.
fn status(action: Action) -> u32 {
    match action {
        Action::Continue => 0,
        Action::Stop => 1,
    }
}

/// Its name says which ABI the module has; it is never called.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(len: usize) -> *mut u8 {
    RECEIVED.0.allocate(len)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(_root_context: u32, _configuration_len: u32) -> u32 {
    with_filter(false, |filter| filter.on_configure(&Envoy)).into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(_root_context: u32) {
    with_filter((), |filter| filter.on_tick(&Envoy));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(_context: u32, _headers: u32, _end_of_stream: u32) -> u32 {
    status(with_filter(Action::Stop, |filter| filter.on_request(&Envoy)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(_context: u32) -> u32 {
    status(with_filter(Action::Stop, |filter| filter.on_connection(&Envoy)))
}

/// Its module is another one: if it were exported for all, Envoy would call it for all bytes of every connection.
#[cfg(feature = "recheck")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(_context: u32, _len: u32, _end_of_stream: u32) -> u32 {
    status(with_filter(Action::Stop, |filter| filter.on_data(&Envoy)))
}

/// Ends the VM, and says where. Nothing here is meant to get there.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Some(at) = info.location() {
        Envoy.log(true, at.file());
    }
    core::arch::wasm32::unreachable()
}
