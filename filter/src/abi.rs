//! The calls of proxy-wasm to its host: ABI 0.2.1, as much of it as the filter uses, for both host layers.
//!
//! A host may refuse any call. So each returns a status, and the crate `proxy-wasm` cannot be used for them: it panics at each
//! status that it does not expect, and passes no response code details.
//!
//! <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>
#![expect(unsafe_code, reason = "imports of a wasm module")]

use core::ptr::null;

use crate::host::Resource;

pub(crate) const OK: u32 = 0;

const PLUGIN_CONFIGURATION: u32 = 7;
const REQUEST_HEADER_MAP: u32 = 0;
const NO_GRPC_STATUS: i32 = -1;
/// Sets shared data unconditionally.
const NO_COMPARE: u32 = 0;

/// Paths of Envoy's attributes. Their parts are separated by NUL.
pub(crate) const SOURCE_ADDRESS: &[u8] = b"source\0address";
pub(crate) const CONNECTION_ADDRESS: &[u8] = b"filter_state\0edgefold.connection_address";
pub(crate) const PLUGIN_NAME: &[u8] = b"plugin_name";
pub(crate) const REQUEST_HEADERS: &[u8] = b"request\0headers\0";

/// The keys under which VMs share the fingerprint of the last snapshot that one of them has validated, for each resource, and the
/// last base.
///
/// Another version of the filter may validate less.
const VALIDATED: &str = concat!("edgefold.validated.", env!("CARGO_PKG_VERSION"));
const VALIDATED_BASE: &str = concat!("edgefold.validated_base.", env!("CARGO_PKG_VERSION"));
pub(crate) const BASE: &[u8] = concat!("edgefold.base.", env!("CARGO_PKG_VERSION")).as_bytes();

/// Levels of log lines.
pub(crate) const LOG_INFO: u32 = 2;
pub(crate) const LOG_ERROR: u32 = 4;

/// The kind of a metric.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Kind {
    Counter = 0,
    Gauge = 1,
}

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
    #[cfg(feature = "portable")]
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_len: usize,
        value: *mut *mut u8,
        value_len: *mut usize,
    ) -> u32;
    #[cfg(feature = "portable")]
    fn proxy_get_header_map_pairs(map: u32, pairs: *mut *mut u8, pairs_len: *mut usize) -> u32;
    #[cfg(not(feature = "portable"))]
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, by: i64) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
}

/// Where the host puts the address and the length of the bytes that it passes to the filter.
pub(crate) struct Destination<'a> {
    pub(crate) address: &'a mut *mut u8,
    pub(crate) len: &'a mut usize,
}

/// The key of the fingerprint of the last validated snapshot.
pub(crate) fn validated_key(from: Resource) -> &'static [u8] {
    match from {
        Resource::Filter => VALIDATED.as_bytes(),
        Resource::Base => VALIDATED_BASE.as_bytes(),
    }
}

#[inline]
pub(crate) fn log(level: u32, line: &str) -> u32 {
    // SAFETY: the pointer is that of a slice.
    unsafe { proxy_log(level, line.as_ptr(), line.len()) }
}

#[inline]
pub(crate) fn get_configuration(to: Destination<'_>) -> u32 {
    // SAFETY: the pointers are those of two variables.
    unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, to.address, to.len) }
}

#[inline]
pub(crate) fn get_property(path: &[u8], to: Destination<'_>) -> u32 {
    // SAFETY: the pointers are those of a slice and of two variables.
    unsafe { proxy_get_property(path.as_ptr(), path.len(), to.address, to.len) }
}

#[inline]
pub(crate) fn set_property(path: &str, value: &str) -> u32 {
    // SAFETY: the pointers are those of slices.
    unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) }
}

#[inline]
pub(crate) fn get_shared_data(key: &[u8], to: Destination<'_>, compare: &mut u32) -> u32 {
    // SAFETY: the pointers are those of a slice and of three variables.
    unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), to.address, to.len, compare) }
}

#[inline]
pub(crate) fn set_shared_data(key: &[u8], value: &[u8]) -> u32 {
    // SAFETY: the pointers are those of slices.
    unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), NO_COMPARE) }
}

/// `headers` are [encoded](crate::header_map::encode).
#[inline]
pub(crate) fn send_local_response(status: u16, details: &str, body: &[u8], headers: &[u8]) -> u32 {
    // SAFETY: the pointers are those of slices.
    unsafe {
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
    }
}

#[inline]
pub(crate) fn remove_request_header(name: &str) -> u32 {
    // SAFETY: the pointer is that of a slice.
    unsafe { proxy_remove_header_map_value(REQUEST_HEADER_MAP, name.as_ptr(), name.len()) }
}

#[inline]
pub(crate) fn add_request_header(name: &str, value: &str) -> u32 {
    // SAFETY: the pointers are those of slices.
    unsafe { proxy_add_header_map_value(REQUEST_HEADER_MAP, name.as_ptr(), name.len(), value.as_ptr(), value.len()) }
}

#[cfg(feature = "portable")]
#[inline]
pub(crate) fn get_request_header(name: &[u8], to: Destination<'_>) -> u32 {
    // SAFETY: the pointers are those of a slice and of two variables.
    unsafe { proxy_get_header_map_value(REQUEST_HEADER_MAP, name.as_ptr(), name.len(), to.address, to.len) }
}

/// All request headers, [encoded](crate::header_map::encode).
#[cfg(feature = "portable")]
#[inline]
pub(crate) fn get_request_headers(to: Destination<'_>) -> u32 {
    // SAFETY: the pointers are those of two variables.
    unsafe { proxy_get_header_map_pairs(REQUEST_HEADER_MAP, to.address, to.len) }
}

#[cfg(not(feature = "portable"))]
#[inline]
pub(crate) fn close_stream(stream: u32) -> u32 {
    // SAFETY: there are no pointers.
    unsafe { proxy_close_stream(stream) }
}

#[inline]
pub(crate) fn define_metric(kind: Kind, name: &str, metric: &mut u32) -> u32 {
    // SAFETY: the pointers are those of a slice and a variable.
    unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), metric) }
}

#[inline]
pub(crate) fn increment_metric(metric: u32) -> u32 {
    // SAFETY: there are no pointers.
    unsafe { proxy_increment_metric(metric, 1) }
}

#[inline]
pub(crate) fn record_metric(metric: u32, value: u64) -> u32 {
    // SAFETY: there are no pointers.
    unsafe { proxy_record_metric(metric, value) }
}

#[inline]
pub(crate) fn get_current_time(nanoseconds: &mut u64) -> u32 {
    // SAFETY: the pointer is that of a variable.
    unsafe { proxy_get_current_time_nanoseconds(nanoseconds) }
}
