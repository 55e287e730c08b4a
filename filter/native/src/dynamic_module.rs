//! The host layer for Envoy's dynamic modules: as much of the ABI as the filter uses, from Envoy's `source/extensions/dynamic_modules/abi/abi.h`.
//! It was checked against Envoy 1.40. A test compares what is imported and exported here with what an Envoy binary has.
//!
//! Envoy promises that a module for one minor version works in the next, and only warns about another ABI version. But Rust links with
//! `-z now`, so an Envoy that lacks a callback refuses to load the module. Those before 1.40 lack some.
//!
//! Envoy resolves each hook by its name, and insists on nearly all of them, so those that the filter has no use for are empty functions here.
//! A request has no object of its own. The pointer that Envoy keeps for it is that of its configuration, which lives longer.
//!
//! A panic must not get to Envoy, whose code cannot unwind Rust's. Each hook that does anything catches it. Then a request is
//! refused with 503, a connection is closed, and a configuration is rejected. Otherwise an unchecked request would pass.
#![expect(unsafe_code, reason = "imports and exports of a dynamic module, and memory that is Envoy's")]

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::ptr::{null, null_mut};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use edgefold_filter::address;
use edgefold_filter::configuration::{self, ConfigurationError};
use edgefold_filter::host::{ConfigurationHost, Level, LocalResponse, Metric, MetricsHost, RequestHost, Resource};
use edgefold_filter::serving::{Action, Serving};
use edgefold_snapshot::{Fingerprint, SnapshotFile};

use crate::process::{MetricKind, MetricNames, MetricsDefiner, Process, SharedFilter};
use crate::snapshot_file;

/// The version of the ABI, as Envoy compares it: see `ENVOY_DYNAMIC_MODULES_ABI_VERSION`.
const ABI_VERSION: &std::ffi::CStr = c"v0.2.0";

const LOG_INFO: u32 = 2;
const LOG_ERROR: u32 = 4;
const METRICS_SUCCESS: u32 = 0;
const REQUEST_HEADERS: u32 = 0;
const ATTRIBUTE_SOURCE_ADDRESS: u32 = 24;
const RESET_LOCAL: u32 = 0;
/// Of headers, data and connections.
const CONTINUE: u32 = 0;
/// `StopAllIterationAndWatermark`: also a body and trailers that follow wait, whatever their hooks say.
const HEADERS_STOP: u32 = 4;
/// Of data of a request: what has come is not kept.
const DATA_STOP_NO_BUFFER: u32 = 3;
const NETWORK_STOP: u32 = 1;
/// Flushes what is to be written, as the wasm filter does.
const CLOSE_FLUSH_WRITE: u32 = 0;

/// The filter state with the address of the connection, as for the wasm filter.
const CONNECTION_ADDRESS: &str = "edgefold.connection_address";
/// What the wasm filter's filter states begin with. Access logs must not have to know which host writes them.
const FILTER_STATES: &str = "wasm.";
/// How many panics are logged: a request must not be able to fill the log.
const MOST_PANICS_LOGGED: u32 = 10;

static PROCESS: Process = Process::new();
static PANICS: AtomicU32 = AtomicU32::new(0);

/// Bytes of the module that Envoy reads: `envoy_dynamic_module_type_module_buffer`. Envoy does not keep them.
#[repr(C)]
#[derive(Clone, Copy)]
struct ModuleBuffer {
    bytes: *const u8,
    len: usize,
}

impl ModuleBuffer {
    const NULL: Self = Self { bytes: null(), len: 0 };
}

impl From<&[u8]> for ModuleBuffer {
    fn from(bytes: &[u8]) -> Self {
        Self { bytes: bytes.as_ptr(), len: bytes.len() }
    }
}

impl From<&str> for ModuleBuffer {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

/// Bytes of Envoy that the module reads: `envoy_dynamic_module_type_envoy_buffer`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EnvoyBuffer {
    bytes: *const u8,
    len: usize,
}

impl EnvoyBuffer {
    const NULL: Self = Self { bytes: null(), len: 0 };

    /// The bytes.
    ///
    /// # Safety
    /// Envoy has set the buffer, and its bytes stay as they are for `'a`.
    unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.bytes.is_null() {
            return &[];
        }
        // SAFETY: as the caller says. Envoy's sizes fit into memory.
        unsafe { slice::from_raw_parts(self.bytes, self.len) }
    }
}

/// `envoy_dynamic_module_type_module_http_header`
#[repr(C)]
struct ModuleHeader {
    name: ModuleBuffer,
    value: ModuleBuffer,
}

/// An object of Envoy: a configuration, a request or a connection.
type EnvoyPointer = *mut c_void;

// All callbacks only use what they are given for the duration of the call. Pointers that they return are Envoy's, and are valid until the
// hook returns that is being called, or until headers or filter state are changed.
unsafe extern "C" {
    fn envoy_dynamic_module_callback_log(level: u32, message: ModuleBuffer);
    fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        configuration: EnvoyPointer,
        name: ModuleBuffer,
        labels: *mut ModuleBuffer,
        labels_len: usize,
        id: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_http_filter_config_define_gauge(
        configuration: EnvoyPointer,
        name: ModuleBuffer,
        labels: *mut ModuleBuffer,
        labels_len: usize,
        id: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_http_filter_config_increment_counter(
        configuration: EnvoyPointer,
        id: usize,
        labels: *mut ModuleBuffer,
        labels_len: usize,
        by: u64,
    ) -> u32;
    fn envoy_dynamic_module_callback_http_filter_config_set_gauge(
        configuration: EnvoyPointer,
        id: usize,
        labels: *mut ModuleBuffer,
        labels_len: usize,
        value: u64,
    ) -> u32;
    fn envoy_dynamic_module_callback_http_filter_increment_counter(
        request: EnvoyPointer,
        id: usize,
        labels: *mut ModuleBuffer,
        labels_len: usize,
        by: u64,
    ) -> u32;
    fn envoy_dynamic_module_callback_http_get_header(
        request: EnvoyPointer,
        map: u32,
        name: ModuleBuffer,
        value: *mut EnvoyBuffer,
        index: usize,
        values: *mut usize,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_add_header(
        request: EnvoyPointer,
        map: u32,
        name: ModuleBuffer,
        value: ModuleBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_set_header(
        request: EnvoyPointer,
        map: u32,
        name: ModuleBuffer,
        value: ModuleBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_clear_route_cache(request: EnvoyPointer);
    fn envoy_dynamic_module_callback_http_send_response(
        request: EnvoyPointer,
        status: u32,
        headers: *mut ModuleHeader,
        headers_len: usize,
        body: ModuleBuffer,
        details: ModuleBuffer,
    );
    fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
        request: EnvoyPointer,
        key: ModuleBuffer,
        value: ModuleBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_get_filter_state_bytes(
        request: EnvoyPointer,
        key: ModuleBuffer,
        value: *mut EnvoyBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        request: EnvoyPointer,
        attribute: u32,
        value: *mut EnvoyBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_filter_reset_stream(
        request: EnvoyPointer,
        reason: u32,
        details: ModuleBuffer,
    );
    fn envoy_dynamic_module_callback_network_filter_config_define_counter(
        configuration: EnvoyPointer,
        name: ModuleBuffer,
        id: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_network_filter_config_define_gauge(
        configuration: EnvoyPointer,
        name: ModuleBuffer,
        id: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_network_filter_config_increment_counter(
        configuration: EnvoyPointer,
        id: usize,
        by: u64,
    ) -> u32;
    fn envoy_dynamic_module_callback_network_filter_config_set_gauge(
        configuration: EnvoyPointer,
        id: usize,
        value: u64,
    ) -> u32;
    fn envoy_dynamic_module_callback_network_filter_increment_counter(
        connection: EnvoyPointer,
        id: usize,
        by: u64,
    ) -> u32;
    fn envoy_dynamic_module_callback_network_filter_get_remote_address(
        connection: EnvoyPointer,
        address: *mut EnvoyBuffer,
        port: *mut u32,
    ) -> bool;
    fn envoy_dynamic_module_callback_network_set_filter_state_bytes(
        connection: EnvoyPointer,
        key: ModuleBuffer,
        value: ModuleBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_network_filter_close(connection: EnvoyPointer, how: u32);
}

/// What Envoy's filter is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Http,
    Network,
}

/// What the module keeps for a configuration of Envoy, which has a pointer to it.
struct Configuration {
    filter: Arc<SharedFilter>,
    /// Envoy's numbers of the filter's metrics in this configuration, by those of the filter.
    metrics: Vec<Option<usize>>,
}

/// Envoy while it configures a filter.
struct ConfiguringHost<'a> {
    kind: Kind,
    configuration: EnvoyPointer,
    snapshot: &'a [u8],
    names: RefCell<MetricNames>,
    metrics: RefCell<Vec<Option<usize>>>,
}

impl ConfiguringHost<'_> {
    fn metric(&self, Metric(number): Metric) -> Option<usize> {
        self.metrics.borrow().get(usize::try_from(number).ok()?).copied().flatten()
    }

    fn define_new(&self, kind: MetricKind, name: &str) -> Option<Metric> {
        self.define_in_envoy(kind, name);
        self.names.borrow_mut().add(kind, name)
    }

    fn define_in_envoy(&self, kind: MetricKind, name: &str) {
        let (configuration, name, mut id) = (self.configuration, name.into(), 0);
        let id_out = &raw mut id;
        // SAFETY: Envoy has passed the configuration, and is calling. The other pointers are those of a string and a variable. There are
        // no labels.
        let result = unsafe {
            match (self.kind, kind) {
                (Kind::Http, MetricKind::Counter) => envoy_dynamic_module_callback_http_filter_config_define_counter(
                    configuration,
                    name,
                    null_mut(),
                    0,
                    id_out,
                ),
                (Kind::Http, MetricKind::Gauge) => envoy_dynamic_module_callback_http_filter_config_define_gauge(
                    configuration,
                    name,
                    null_mut(),
                    0,
                    id_out,
                ),
                (Kind::Network, MetricKind::Counter) => {
                    envoy_dynamic_module_callback_network_filter_config_define_counter(configuration, name, id_out)
                }
                (Kind::Network, MetricKind::Gauge) => {
                    envoy_dynamic_module_callback_network_filter_config_define_gauge(configuration, name, id_out)
                }
            }
        };
        self.metrics.borrow_mut().push((result == METRICS_SUCCESS).then_some(id));
    }
}

impl MetricsDefiner for ConfiguringHost<'_> {
    fn define(&self, kind: MetricKind, name: &str) {
        self.define_new(kind, name);
    }

    fn names(&self) -> MetricNames {
        self.names.borrow().clone()
    }
}

impl MetricsHost for ConfiguringHost<'_> {
    fn increment(&self, counter: Metric) {
        let Some(id) = self.metric(counter) else { return };
        let configuration = self.configuration;
        // SAFETY: Envoy has passed the configuration, and is calling. There are no labels.
        let _result = unsafe {
            match self.kind {
                Kind::Http => envoy_dynamic_module_callback_http_filter_config_increment_counter(
                    configuration,
                    id,
                    null_mut(),
                    0,
                    1,
                ),
                Kind::Network => {
                    envoy_dynamic_module_callback_network_filter_config_increment_counter(configuration, id, 1)
                }
            }
        };
    }

    fn set_gauge(&self, gauge: Metric, value: u64) {
        let Some(id) = self.metric(gauge) else { return };
        let configuration = self.configuration;
        // SAFETY: as above.
        let _result = unsafe {
            match self.kind {
                Kind::Http => {
                    envoy_dynamic_module_callback_http_filter_config_set_gauge(configuration, id, null_mut(), 0, value)
                }
                Kind::Network => {
                    envoy_dynamic_module_callback_network_filter_config_set_gauge(configuration, id, value)
                }
            }
        };
    }

    fn define_counter(&self, name: &str) -> Option<Metric> {
        self.define_new(MetricKind::Counter, name)
    }
}

impl ConfigurationHost for ConfiguringHost<'_> {
    fn has_canary(&self) -> bool {
        false
    }

    fn plugin_name(&self) -> Option<Vec<u8>> {
        // The filter was found by it.
        None
    }

    fn configuration(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(self.snapshot.len()).ok()?;
        bytes.extend_from_slice(self.snapshot);
        Some(bytes)
    }

    fn named_snapshot(&self, configuration: &[u8]) -> Option<Fingerprint> {
        SnapshotFile::named_in(configuration).ok().flatten().map(|file| file.fingerprint)
    }

    fn snapshot_in(&self, configuration: Vec<u8>) -> Result<Vec<u8>, ConfigurationError> {
        match SnapshotFile::named_in(&configuration).map_err(ConfigurationError::File)? {
            Some(file) => snapshot_file::read(&file).map_err(ConfigurationError::File),
            None => configuration::snapshot_in(configuration),
        }
    }

    /// Whoever names a snapshot vouches for it: `serve` validates those that it writes to files. To do it again would take most of the time of a
    /// reload, on a core that requests may need. The checksum, the header and the index are checked all the same.
    fn validated(&self, _from: Resource) -> Option<Fingerprint> {
        self.named_snapshot(self.snapshot)
    }

    fn share_validated(&self, _from: Resource, _fingerprint: Fingerprint) {}

    fn share_base(&self, _base: &[u8]) {}

    fn header_key(&self, name: &str) -> Vec<u8> {
        name.to_ascii_lowercase().into_bytes()
    }

    fn define_gauge(&self, name: &str) -> Option<Metric> {
        self.define_new(MetricKind::Gauge, name)
    }

    fn log(&self, level: Level, line: &str) {
        log(level, line);
    }
}

/// Envoy while a request is in the filter, or a connection.
struct RequestingHost<'a> {
    kind: Kind,
    /// The request or the connection.
    stream: EnvoyPointer,
    configuration: &'a Configuration,
}

impl RequestingHost<'_> {
    /// A value that Envoy passes by `call`, whose argument is where to put it; `None` if there is none.
    ///
    /// The bytes are Envoy's. `read` must not call what changes them: see [`RequestHost::with_header`].
    fn read<R>(call: impl FnOnce(*mut EnvoyBuffer) -> bool, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let mut value = EnvoyBuffer::NULL;
        let is_there = call(&raw mut value);
        // SAFETY: Envoy has set it, and it stays until something is changed.
        read(is_there.then(|| unsafe { value.as_slice() }))
    }

    /// The address of the client that Envoy has determined.
    fn address(&self) -> Option<IpAddr> {
        Self::read(
            // SAFETY: the request or connection is Envoy's, which is calling. The other pointers are those of variables.
            |value| unsafe {
                match self.kind {
                    Kind::Http => envoy_dynamic_module_callback_http_filter_get_attribute_string(
                        self.stream,
                        ATTRIBUTE_SOURCE_ADDRESS,
                        value,
                    ),
                    Kind::Network => {
                        let mut port = 0;
                        envoy_dynamic_module_callback_network_filter_get_remote_address(
                            self.stream,
                            value,
                            &raw mut port,
                        )
                    }
                }
            },
            |text| address::parse(text?),
        )
    }

    /// The value number `index` of a header, and how many there are.
    fn header(&self, name: &[u8], index: usize) -> (Option<&[u8]>, usize) {
        let (mut value, mut values) = (EnvoyBuffer::NULL, 0);
        // SAFETY: the request is Envoy's, which is calling. The other pointers are those of a slice and of two variables.
        let is_there = unsafe {
            envoy_dynamic_module_callback_http_get_header(
                self.stream,
                REQUEST_HEADERS,
                name.into(),
                &raw mut value,
                index,
                &raw mut values,
            )
        };
        // SAFETY: Envoy has set it, and it stays until headers are changed, which nobody does while this is borrowed.
        (is_there.then(|| unsafe { value.as_slice() }), values)
    }

    /// Whether this is a request of gRPC, as Envoy tells it.
    fn is_grpc(&self) -> bool {
        let (content_type, _) = self.header(b"content-type", 0);
        let format = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
        format.is_some_and(|format| format.is_empty() || format.starts_with(b"+"))
    }
}

impl MetricsHost for RequestingHost<'_> {
    fn increment(&self, Metric(number): Metric) {
        // A request that began before a list was new has no number for that list's metrics.
        let metrics = &self.configuration.metrics;
        let Some(Some(id)) = usize::try_from(number).ok().and_then(|number| metrics.get(number)) else { return };
        // SAFETY: the request or connection is Envoy's, which is calling, and has the configuration with these numbers.
        let _result = unsafe {
            match self.kind {
                Kind::Http => {
                    envoy_dynamic_module_callback_http_filter_increment_counter(self.stream, *id, null_mut(), 0, 1)
                }
                Kind::Network => envoy_dynamic_module_callback_network_filter_increment_counter(self.stream, *id, 1),
            }
        };
    }

    // Gauges are set, and metrics are defined, when the filter is configured.
    fn set_gauge(&self, _gauge: Metric, _value: u64) {}

    fn define_counter(&self, _name: &str) -> Option<Metric> {
        None
    }
}

impl RequestHost for RequestingHost<'_> {
    // The process has one copy of everything, so nobody can have missed a base, and nobody asks for a name.
    fn shared_base(&self, _fingerprint: Fingerprint) -> Option<Vec<u8>> {
        None
    }

    fn with_plugin_name<R>(&self, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        read(None)
    }

    fn source_address(&self) -> Option<IpAddr> {
        let address = self.address();
        #[cfg(feature = "injected-panic")]
        injected_panic(address, &[66, 67]);
        address
    }

    fn connection_address(&self) -> Option<Option<IpAddr>> {
        if self.kind == Kind::Network {
            return Some(self.source_address());
        }
        Self::read(
            // SAFETY: the request is Envoy's, which is calling. The other pointers are those of a string and a variable.
            |value| unsafe {
                envoy_dynamic_module_callback_http_get_filter_state_bytes(self.stream, CONNECTION_ADDRESS.into(), value)
            },
            |text| text.map(address::parse),
        )
    }

    fn with_header<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let (first, values) = self.header(key, 0);
        let list = first.map(|first| {
            let mut list = Cow::Borrowed(first);
            for index in 1..values {
                let list = list.to_mut();
                list.push(b',');
                list.extend_from_slice(self.header(key, index).0.unwrap_or_default());
            }
            list
        });
        read(list.as_deref())
    }

    // Envoy chooses the route again after a wasm filter has changed headers. It leaves that to a dynamic module.
    fn remove_request_header(&self, name: &str) {
        // SAFETY: the request is Envoy's, which is calling. The other pointers are those of a string, and null, which removes.
        unsafe {
            envoy_dynamic_module_callback_http_set_header(
                self.stream,
                REQUEST_HEADERS,
                name.into(),
                ModuleBuffer::NULL,
            );
            envoy_dynamic_module_callback_http_clear_route_cache(self.stream);
        }
    }

    fn add_request_header(&self, name: &str, value: &str) {
        // SAFETY: the request is Envoy's, which is calling. The other pointers are those of strings.
        unsafe {
            envoy_dynamic_module_callback_http_add_header(self.stream, REQUEST_HEADERS, name.into(), value.into());
            envoy_dynamic_module_callback_http_clear_route_cache(self.stream);
        }
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        let key = format!("{FILTER_STATES}{name}");
        let (key, value) = (key.as_str().into(), value.into());
        // SAFETY: the request or connection is Envoy's, which is calling. The other pointers are those of strings.
        let _is_set = unsafe {
            match self.kind {
                Kind::Http => envoy_dynamic_module_callback_http_set_filter_state_bytes(self.stream, key, value),
                Kind::Network => envoy_dynamic_module_callback_network_set_filter_state_bytes(self.stream, key, value),
            }
        };
    }

    fn respond(&self, response: &LocalResponse<'_>) {
        #[cfg(feature = "injected-panic")]
        injected_panic(self.address(), &[67]);
        let LocalResponse { status, content_type, headers, body, details } = *response;
        let content_type = content_type.map(|value| ("content-type", value));
        let pairs = content_type.into_iter().chain(headers.iter().map(|(name, value)| (&**name, &**value)));
        let has_own = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("grpc-status"));
        let grpc_status = (!has_own && self.is_grpc()).then(|| ("grpc-status", grpc_status(status)));
        let mut headers: Vec<ModuleHeader> = pairs
            .chain(grpc_status)
            .map(|(name, value)| ModuleHeader { name: name.into(), value: value.into() })
            .collect();
        // SAFETY: the request is Envoy's, which is calling. The other pointers are those of slices. Envoy copies what it keeps.
        unsafe {
            envoy_dynamic_module_callback_http_send_response(
                self.stream,
                status.into(),
                headers.as_mut_ptr(),
                headers.len(),
                body.into(),
                details.into(),
            );
        }
    }

    fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn reset_request(&self) {
        // SAFETY: the request is Envoy's, which is calling.
        unsafe {
            envoy_dynamic_module_callback_http_filter_reset_stream(self.stream, RESET_LOCAL, ModuleBuffer::NULL);
        }
    }

    fn close_connection(&self) {
        // SAFETY: the connection is Envoy's, which is calling.
        unsafe { envoy_dynamic_module_callback_network_filter_close(self.stream, CLOSE_FLUSH_WRITE) };
    }
}

/// Panics for clients of 192.0.2.0/24 that end like this.
#[cfg(feature = "injected-panic")]
#[expect(clippy::panic, reason = "it is there to panic")]
fn injected_panic(client: Option<IpAddr>, hosts: &[u8]) {
    if hosts.iter().any(|host| client == Some(IpAddr::from([192, 0, 2, *host]))) {
        panic!("injected");
    }
}

/// The status that a client of gRPC gets for a local reply. For a wasm filter Envoy finds it, but for a dynamic module it would say 0, which is
/// success. The table is that of gRPC's `http-grpc-status-mapping.md`.
fn grpc_status(http: u16) -> &'static str {
    match http {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502 | 503 | 504 => "14",
        _ => "2",
    }
}

fn log(level: Level, line: &str) {
    let level = match level {
        Level::Info => LOG_INFO,
        Level::Error => LOG_ERROR,
    };
    // SAFETY: the pointer is that of a string.
    unsafe { envoy_dynamic_module_callback_log(level, line.into()) };
}

/// Configures a filter, and returns what Envoy keeps for the configuration; null rejects it.
///
/// # Safety
/// `configuration` is the one that Envoy creates, and `name` and `snapshot` are its buffers, for the duration of the call.
unsafe fn configure(
    kind: Kind,
    configuration: EnvoyPointer,
    name: EnvoyBuffer,
    snapshot: EnvoyBuffer,
) -> *const c_void {
    // SAFETY: as the caller says.
    let (name, snapshot) = unsafe { (name.as_slice(), snapshot.as_slice()) };
    let configured = catch_unwind(AssertUnwindSafe(|| {
        let filter = PROCESS.filter(name);
        let (names, metrics) = (RefCell::default(), RefCell::default());
        let host = ConfiguringHost { kind, configuration, snapshot, names, metrics };
        let is_accepted = filter.configure(name, &host);
        is_accepted.then(|| Box::new(Configuration { filter, metrics: host.metrics.into_inner() }))
    }));
    configured.ok().flatten().map_or(null(), |configuration| Box::into_raw(configuration).cast_const().cast())
}

/// Frees what Envoy has kept for a configuration.
///
/// # Safety
/// [`configure`] has returned it, and nothing uses it any more.
unsafe fn destroy(configuration: *const c_void) {
    if configuration.is_null() {
        return;
    }
    // SAFETY: as the caller says.
    let configuration = unsafe { Box::from_raw(configuration.cast_mut().cast::<Configuration>()) };
    // It may be the last of its filter. Nothing in it can panic when it is dropped, but if it did, that must not get to Envoy.
    let _dropped = catch_unwind(AssertUnwindSafe(|| drop(configuration)));
}

/// What `act` does with a request or connection; `None` if it panicked.
///
/// # Safety
/// `stream` is the request or connection in Envoy that is in this hook, and `configuration` is what [`configure`] has returned for its
/// configuration.
unsafe fn judge(
    kind: Kind,
    stream: EnvoyPointer,
    configuration: *const c_void,
    act: impl FnOnce(&Serving, &RequestingHost<'_>) -> Action,
) -> Option<Action> {
    // SAFETY: as the caller says. Envoy keeps the configuration for as long as it has the request or connection.
    let configuration = unsafe { configuration.cast::<Configuration>().as_ref() }?;
    let host = RequestingHost { kind, stream, configuration };
    catch_unwind(AssertUnwindSafe(|| act(&configuration.filter.serving(), &host))).ok()
}

/// Refuses a request whose hook panicked.
///
/// # Safety
/// As for [`judge`].
unsafe fn refuse_after_panic(request: EnvoyPointer, configuration: *const c_void) {
    let (body, details) = (b"edgefold failed\n", "edgefold_denied[panic]");
    let response = LocalResponse { status: 503, content_type: None, headers: &[], body, details };
    let respond = |_: &Serving, host: &RequestingHost<'_>| {
        host.respond(&response);
        Action::Stop
    };
    // SAFETY: as the caller says.
    unsafe {
        if judge(Kind::Http, request, configuration, respond).is_none() {
            envoy_dynamic_module_callback_http_filter_reset_stream(request, RESET_LOCAL, ModuleBuffer::NULL);
        }
    }
}

/// Envoy loads the module.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    // Instead of a line and a backtrace on stderr.
    set_hook(Box::new(|panic| {
        let next = |count: u32| count.checked_add(1).filter(|next| *next <= MOST_PANICS_LOGGED);
        if PANICS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok() {
            let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
            log(Level::Error, &format!("edgefold: panicked at {place}: please report this"));
        }
    }));
    ABI_VERSION.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    configuration: EnvoyPointer,
    name: EnvoyBuffer,
    snapshot: EnvoyBuffer,
) -> *const c_void {
    // SAFETY: this is how Envoy calls it.
    unsafe { configure(Kind::Http, configuration, name, snapshot) }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(configuration: *const c_void) {
    // SAFETY: this is how Envoy calls it: after the last request of the configuration.
    unsafe { destroy(configuration) };
}

/// There is nothing to configure for a route: a route may only disable the filter.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_new(
    _name: EnvoyBuffer,
    _configuration: EnvoyBuffer,
) -> *const c_void {
    null()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_destroy(_configuration: *const c_void) {}

/// What stands for a request is its configuration: the filter remembers nothing about requests.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(
    configuration: *const c_void,
    _request: EnvoyPointer,
) -> *const c_void {
    configuration
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(_configuration: *const c_void) {}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    request: EnvoyPointer,
    configuration: *const c_void,
    _end_of_stream: bool,
) -> u32 {
    // SAFETY: this is how Envoy calls it.
    match unsafe { judge(Kind::Http, request, configuration, |serving, host| serving.on_request(host)) } {
        Some(Action::Continue) => CONTINUE,
        Some(Action::Stop) => HEADERS_STOP,
        None => {
            // SAFETY: as above.
            unsafe { refuse_after_panic(request, configuration) };
            HEADERS_STOP
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    request: EnvoyPointer,
    configuration: *const c_void,
    _end_of_stream: bool,
) -> u32 {
    let act = |serving: &Serving, host: &RequestingHost<'_>| {
        if serving.rechecks() { serving.on_request_data(host) } else { Action::Continue }
    };
    // SAFETY: this is how Envoy calls it.
    match unsafe { judge(Kind::Http, request, configuration, act) } {
        Some(Action::Continue) => CONTINUE,
        Some(Action::Stop) => DATA_STOP_NO_BUFFER,
        None => {
            // SAFETY: as above.
            unsafe { envoy_dynamic_module_callback_http_filter_reset_stream(request, RESET_LOCAL, ModuleBuffer::NULL) };
            DATA_STOP_NO_BUFFER
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_network_filter_config_new(
    configuration: EnvoyPointer,
    name: EnvoyBuffer,
    snapshot: EnvoyBuffer,
) -> *const c_void {
    // SAFETY: this is how Envoy calls it.
    unsafe { configure(Kind::Network, configuration, name, snapshot) }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_network_filter_config_destroy(configuration: *const c_void) {
    // SAFETY: this is how Envoy calls it: after the last connection of the configuration.
    unsafe { destroy(configuration) };
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_network_filter_new(
    configuration: *const c_void,
    _connection: EnvoyPointer,
) -> *const c_void {
    configuration
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_network_filter_destroy(_configuration: *const c_void) {}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_network_filter_new_connection(
    connection: EnvoyPointer,
    configuration: *const c_void,
) -> u32 {
    let act = |serving: &Serving, host: &RequestingHost<'_>| serving.on_connection(host);
    // SAFETY: this is how Envoy calls it.
    unsafe { judge_connection(connection, configuration, act) }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_network_filter_read(
    connection: EnvoyPointer,
    configuration: *const c_void,
    _len: usize,
    _end_of_stream: bool,
) -> u32 {
    let act = |serving: &Serving, host: &RequestingHost<'_>| {
        if serving.rechecks() { serving.on_data(host) } else { Action::Continue }
    };
    // SAFETY: this is how Envoy calls it.
    unsafe { judge_connection(connection, configuration, act) }
}

/// What `act` does with a connection, which is closed if it panicked.
///
/// # Safety
/// As for [`judge`].
unsafe fn judge_connection(
    connection: EnvoyPointer,
    configuration: *const c_void,
    act: impl FnOnce(&Serving, &RequestingHost<'_>) -> Action,
) -> u32 {
    // SAFETY: as the caller says.
    match unsafe { judge(Kind::Network, connection, configuration, act) } {
        Some(Action::Continue) => CONTINUE,
        Some(Action::Stop) => NETWORK_STOP,
        None => {
            // SAFETY: as the caller says.
            unsafe { envoy_dynamic_module_callback_network_filter_close(connection, CLOSE_FLUSH_WRITE) };
            NETWORK_STOP
        }
    }
}

/// Hooks that Envoy insists on, and that let everything pass: arguments are ignored, and 0 is `Continue` where something is returned.
macro_rules! without_effect {
    ($($hook:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $hook($(_: $argument),*) $(-> $result)? {
                $(<$result>::default())?
            }
        )*
    };
}

without_effect! {
    envoy_dynamic_module_on_http_filter_request_trailers(EnvoyPointer, *const c_void) -> u32;
    envoy_dynamic_module_on_http_filter_response_headers(EnvoyPointer, *const c_void, bool) -> u32;
    envoy_dynamic_module_on_http_filter_response_body(EnvoyPointer, *const c_void, bool) -> u32;
    envoy_dynamic_module_on_http_filter_response_trailers(EnvoyPointer, *const c_void) -> u32;
    envoy_dynamic_module_on_http_filter_stream_complete(EnvoyPointer, *const c_void);
    envoy_dynamic_module_on_http_filter_scheduled(EnvoyPointer, *const c_void, u64);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(EnvoyPointer, *const c_void);
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(EnvoyPointer, *const c_void);
    envoy_dynamic_module_on_http_filter_http_callout_done(
        EnvoyPointer, *const c_void, u64, u32, *const c_void, usize, *const c_void, usize);
    envoy_dynamic_module_on_http_filter_http_stream_headers(
        EnvoyPointer, *const c_void, u64, *const c_void, usize, bool);
    envoy_dynamic_module_on_http_filter_http_stream_data(
        EnvoyPointer, *const c_void, u64, *const c_void, usize, bool);
    envoy_dynamic_module_on_http_filter_http_stream_trailers(EnvoyPointer, *const c_void, u64, *const c_void, usize);
    envoy_dynamic_module_on_http_filter_http_stream_complete(EnvoyPointer, *const c_void, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(EnvoyPointer, *const c_void, u64, u32);
    envoy_dynamic_module_on_network_filter_write(EnvoyPointer, *const c_void, usize, bool) -> u32;
    envoy_dynamic_module_on_network_filter_event(EnvoyPointer, *const c_void, u32);
}
