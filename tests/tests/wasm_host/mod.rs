//! A proxy-wasm host for the built filter: as much of ABI 0.2.1 as the filter uses, and nothing else, so that a module that
//! asks for more does not start.
//!
//! It is deliberately no Envoy: one plugin at a time, no threads, no timeouts. What it gives the module follows
//! proxy-wasm-cpp-host, which Envoy embeds: it calls what the module exports, and empty data is a null pointer.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use edgefold::ecds::{FILTER_WASM, RECHECK_WASM};
use wasmtime::{Caller, Engine, Instance, Linker, Memory, Module, Store, WasmParams, WasmResults};

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const INVALID_MEMORY_ACCESS: u32 = 6;
const PLUGIN_CONFIGURATION: u32 = 7;
const DOWNSTREAM: u32 = 2;
const CONTINUE: u32 = 0;
const STOP: u32 = 1;

const ROOT_CONTEXT: u32 = 1;

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::default);
/// Compiled once: cranelift takes longer than all the tests.
static FILTER: LazyLock<Module> = LazyLock::new(|| Module::new(&ENGINE, FILTER_WASM).unwrap());
static RECHECK: LazyLock<Module> = LazyLock::new(|| Module::new(&ENGINE, RECHECK_WASM).unwrap());

/// The filter in a VM of its own.
pub(crate) struct Host {
    store: Store<State>,
    instance: Instance,
    last_context: u32,
}

/// What the module sees of the host, and the host of the module.
#[derive(Default)]
pub(crate) struct State {
    configuration: Vec<u8>,
    /// By their paths, with `.` for NUL.
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
    /// Milliseconds since 1970.
    pub(crate) now: u64,
    /// Statuses that calls give instead of doing what they should.
    pub(crate) refused_calls: BTreeMap<&'static str, u32>,
    /// What the VMs of the plugin share.
    pub(crate) shared: BTreeMap<String, Vec<u8>>,
    /// How much memory it asks for, in place of what it needs.
    pub(crate) asked_instead: Option<u32>,
    local_response: Option<Response>,
    is_closed: bool,
    filter_state: BTreeMap<String, String>,
    metrics: Vec<(String, u64)>,
    tick_period: Option<u32>,
    log: Vec<String>,
    calls: Vec<String>,
}

/// What became of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Response {
    /// It goes on to the next filter.
    Passed,
    /// The filter answered it.
    Refused { status: u32, headers: Vec<(String, String)>, body: Vec<u8>, details: String },
}

impl Host {
    /// Starts a VM with a root context that is not configured yet.
    pub(crate) fn start() -> Self {
        Self::start_module(&FILTER)
    }

    /// Starts the module that looks at the data of connections.
    pub(crate) fn start_recheck() -> Self {
        Self::start_module(&RECHECK)
    }

    fn start_module(module: &Module) -> Self {
        let mut store = Store::new(&ENGINE, State::default());
        store.data_mut().attributes.insert("plugin_name".to_owned(), b"edgefold".to_vec());
        let instance = linker(module).instantiate(&mut store, module).unwrap();
        let mut host = Self { store, instance, last_context: ROOT_CONTEXT };
        host.call_if_exported::<_, ()>("_initialize", ());
        host.call_if_exported::<_, ()>("proxy_on_context_create", (ROOT_CONTEXT, 0_u32));
        let started = host.call_if_exported::<_, u32>("proxy_on_vm_start", (ROOT_CONTEXT, 0_u32));
        assert_ne!(started, Some(0), "the VM did not start");
        host
    }

    /// Whether the filter takes `configuration`.
    pub(crate) fn configure(&mut self, configuration: &[u8]) -> bool {
        self.store.data_mut().configuration = configuration.to_vec();
        let bytes = u32::try_from(configuration.len()).unwrap();
        let taken: u32 = self.call("proxy_on_configure", (ROOT_CONTEXT, bytes));
        // Envoy gives the configuration in this call alone.
        self.store.data_mut().configuration.clear();
        taken != 0
    }

    /// A request, from its first to its last callback, with the attributes as they are.
    pub(crate) fn request(&mut self) -> Response {
        self.last_context += 1;
        let context = self.last_context;
        self.store.data_mut().calls.clear();
        self.store.data_mut().filter_state.clear();
        self.call_if_exported::<_, ()>("proxy_on_context_create", (context, ROOT_CONTEXT));
        let action: u32 = self.call("proxy_on_request_headers", (context, 0_u32, 1_u32));
        let response = self.store.data_mut().local_response.take();
        let expected_action = if response.is_some() { STOP } else { CONTINUE };
        assert_eq!(action, expected_action, "an answered request stops, every other one continues: {response:?}");
        self.end(context);
        response.unwrap_or(Response::Passed)
    }

    /// A request from `source_address`.
    pub(crate) fn request_from(&mut self, source_address: Option<&[u8]>) -> Response {
        self.set_source(source_address);
        self.request()
    }

    /// Whether a connection from `source_address` is let in; gives its context.
    pub(crate) fn connect(&mut self, source_address: &str) -> Option<u32> {
        self.last_context += 1;
        let context = self.last_context;
        self.set_source(Some(source_address.as_bytes()));
        self.call_if_exported::<_, ()>("proxy_on_context_create", (context, ROOT_CONTEXT));
        let action: u32 = self.call("proxy_on_new_connection", context);
        self.goes_on(action).then_some(context)
    }

    /// Whether a connection that bytes come from stays open.
    pub(crate) fn data(&mut self, context: u32) -> bool {
        let action = self.call_if_exported("proxy_on_downstream_data", (context, 1_u32, 0_u32));
        action.is_none_or(|action| self.goes_on(action))
    }

    /// The verdict on a connection.
    fn goes_on(&mut self, action: u32) -> bool {
        let is_closed = std::mem::take(&mut self.store.data_mut().is_closed);
        assert_eq!(action, if is_closed { STOP } else { CONTINUE });
        !is_closed
    }

    fn end(&mut self, context: u32) {
        self.call_if_exported::<_, u32>("proxy_on_done", context);
        self.call_if_exported::<_, ()>("proxy_on_log", context);
        self.call_if_exported::<_, ()>("proxy_on_delete", context);
    }

    /// Time passes, and the filter is told if it asked for it.
    pub(crate) fn tick(&mut self, now: u64) {
        self.store.data_mut().now = now;
        assert!(self.store.data().tick_period.is_some_and(|millis| (100..=10_000).contains(&millis)));
        self.call::<_, ()>("proxy_on_tick", ROOT_CONTEXT);
    }

    /// Sets an attribute, or takes it away.
    pub(crate) fn set(&mut self, path: &str, value: Option<&[u8]>) {
        let attributes = &mut self.store.data_mut().attributes;
        match value {
            Some(value) => attributes.insert(path.to_owned(), value.to_vec()),
            None => attributes.remove(path),
        };
    }

    fn set_source(&mut self, source_address: Option<&[u8]>) {
        self.set("source.address", source_address);
    }

    /// What may be changed of the host.
    pub(crate) fn state(&mut self) -> &mut State {
        self.store.data_mut()
    }

    /// The value of a metric of the plugin.
    pub(crate) fn metric(&self, plugin: &str, name: &str) -> u64 {
        let name = format!("edgefold_filter.{plugin}.{name}");
        let found: Vec<u64> =
            self.store.data().metrics.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value).collect();
        assert_eq!(found.len(), 1, "{name} is defined once: {:?}", self.store.data().metrics);
        found[0]
    }

    /// What the last request or connection left as filter state, without Envoy's prefix.
    pub(crate) fn filter_state(&self, key: &str) -> Option<&str> {
        self.store.data().filter_state.get(key).map(String::as_str)
    }

    /// The calls from the module to the host, and from there back into it, since the last request began.
    pub(crate) fn calls(&self) -> &[String] {
        &self.store.data().calls
    }

    /// What the filter logged so far, oldest first.
    pub(crate) fn log(&self) -> &[String] {
        &self.store.data().log
    }

    /// The size of the VM's memory.
    pub(crate) fn memory_bytes(&mut self) -> usize {
        self.instance.get_memory(&mut self.store, "memory").unwrap().data_size(&self.store)
    }

    /// A trap is a panic here, and so fails the test.
    fn call<P: WasmParams, R: WasmResults>(&mut self, export: &str, parameters: P) -> R {
        self.store.data_mut().calls.push(export.to_owned());
        let function = self.instance.get_typed_func::<P, R>(&mut self.store, export).unwrap();
        let result = function.call(&mut self.store, parameters);
        result.unwrap_or_else(|trap| panic!("{export} trapped: {trap:?}; log: {:?}", self.log()))
    }

    fn call_if_exported<P: WasmParams, R: WasmResults>(&mut self, export: &str, parameters: P) -> Option<R> {
        self.instance.get_func(&mut self.store, export)?;
        Some(self.call(export, parameters))
    }
}

fn linker(module: &Module) -> Linker<State> {
    let mut linker = Linker::new(module.engine());
    linker.func_wrap("env", "proxy_log", proxy_log).unwrap();
    linker.func_wrap("env", "proxy_get_buffer_bytes", proxy_get_buffer_bytes).unwrap();
    linker.func_wrap("env", "proxy_get_property", proxy_get_property).unwrap();
    linker.func_wrap("env", "proxy_set_property", proxy_set_property).unwrap();
    linker.func_wrap("env", "proxy_get_shared_data", proxy_get_shared_data).unwrap();
    linker.func_wrap("env", "proxy_set_shared_data", proxy_set_shared_data).unwrap();
    linker.func_wrap("env", "proxy_send_local_response", proxy_send_local_response).unwrap();
    linker.func_wrap("env", "proxy_close_stream", proxy_close_stream).unwrap();
    linker.func_wrap("env", "proxy_define_metric", proxy_define_metric).unwrap();
    linker.func_wrap("env", "proxy_increment_metric", proxy_increment_metric).unwrap();
    linker.func_wrap("env", "proxy_record_metric", proxy_record_metric).unwrap();
    linker.func_wrap("env", "proxy_get_current_time_nanoseconds", proxy_get_current_time_nanoseconds).unwrap();
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", proxy_set_tick_period_milliseconds).unwrap();
    linker
}

/// Notes the call, and gives the status that it is to be refused with.
fn refused(caller: &mut Caller<'_, State>, call: &'static str) -> Option<u32> {
    caller.data_mut().calls.push(call.to_owned());
    caller.data().refused_calls.get(call).copied()
}

fn proxy_log(mut caller: Caller<'_, State>, _level: u32, message: u32, message_bytes: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_log") {
        return status;
    }
    let message = read_text(&mut caller, message, message_bytes);
    caller.data_mut().log.push(message);
    OK
}

fn proxy_get_buffer_bytes(
    mut caller: Caller<'_, State>,
    buffer: u32,
    start: u32,
    most: u32,
    data: u32,
    size: u32,
) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_get_buffer_bytes") {
        return status;
    }
    assert_eq!(buffer, PLUGIN_CONFIGURATION, "the filter reads its configuration and no other buffer");
    let rest = caller.data().configuration.get(start as usize..).unwrap();
    let bytes = rest[..rest.len().min(most as usize)].to_vec();
    give(&mut caller, &bytes, data, size)
}

fn proxy_get_property(mut caller: Caller<'_, State>, path: u32, path_bytes: u32, data: u32, size: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_get_property") {
        return status;
    }
    let path = read_text(&mut caller, path, path_bytes).replace('\0', ".");
    let Some(value) = caller.data().attributes.get(&path).cloned() else { return NOT_FOUND };
    give(&mut caller, &value, data, size)
}

fn proxy_set_property(mut caller: Caller<'_, State>, path: u32, path_bytes: u32, value: u32, value_bytes: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_set_property") {
        return status;
    }
    let path = read_text(&mut caller, path, path_bytes);
    let value = read_text(&mut caller, value, value_bytes);
    caller.data_mut().filter_state.insert(path, value);
    OK
}

fn proxy_get_shared_data(
    mut caller: Caller<'_, State>,
    key: u32,
    key_bytes: u32,
    data: u32,
    size: u32,
    compare: u32,
) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_get_shared_data") {
        return status;
    }
    let key = read_text(&mut caller, key, key_bytes);
    let Some(value) = caller.data().shared.get(&key).cloned() else { return NOT_FOUND };
    memory(&mut caller).write(&mut caller, compare as usize, &1_u32.to_le_bytes()).unwrap();
    give(&mut caller, &value, data, size)
}

fn proxy_set_shared_data(
    mut caller: Caller<'_, State>,
    key: u32,
    key_bytes: u32,
    value: u32,
    value_bytes: u32,
    compare: u32,
) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_set_shared_data") {
        return status;
    }
    assert_eq!(compare, 0);
    let key = read_text(&mut caller, key, key_bytes);
    let value = read(&mut caller, value, value_bytes);
    caller.data_mut().shared.insert(key, value);
    OK
}

#[expect(clippy::too_many_arguments, reason = "the ABI has so many")]
fn proxy_send_local_response(
    mut caller: Caller<'_, State>,
    status: u32,
    details: u32,
    details_bytes: u32,
    body: u32,
    body_bytes: u32,
    headers: u32,
    headers_bytes: u32,
    grpc_status: i32,
) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_send_local_response") {
        return status;
    }
    assert_eq!(grpc_status, -1);
    let details = read_text(&mut caller, details, details_bytes);
    let headers = read_map(&read(&mut caller, headers, headers_bytes));
    let body = read(&mut caller, body, body_bytes);
    let before = caller.data_mut().local_response.replace(Response::Refused { status, headers, body, details });
    assert_eq!(before, None, "a request is answered once");
    OK
}

/// A map as proxy-wasm has it: how many pairs, the lengths of each, then each name and value with a NUL behind it.
fn read_map(bytes: &[u8]) -> Vec<(String, String)> {
    let number = |index: usize| {
        let bytes = bytes[4 * index..][..4].try_into().unwrap();
        u32::from_le_bytes(bytes) as usize
    };
    let pairs = number(0);
    let mut at = 4 + 8 * pairs;
    let mut text = |len: usize| {
        let text = String::from_utf8(bytes[at..][..len].to_vec()).unwrap();
        assert_eq!(bytes[at + len], 0);
        at += len + 1;
        text
    };
    let map = (0..pairs).map(|pair| (text(number(1 + 2 * pair)), text(number(2 + 2 * pair)))).collect();
    assert_eq!(at, bytes.len());
    map
}

fn proxy_close_stream(mut caller: Caller<'_, State>, stream: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_close_stream") {
        return status;
    }
    assert_eq!(stream, DOWNSTREAM);
    caller.data_mut().is_closed = true;
    OK
}

fn proxy_define_metric(mut caller: Caller<'_, State>, _kind: u32, name: u32, name_bytes: u32, id: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_define_metric") {
        return status;
    }
    let name = read_text(&mut caller, name, name_bytes);
    caller.data_mut().metrics.push((name, 0));
    let metric = u32::try_from(caller.data().metrics.len()).unwrap();
    memory(&mut caller).write(&mut caller, id as usize, &metric.to_le_bytes()).unwrap();
    OK
}

fn proxy_increment_metric(mut caller: Caller<'_, State>, metric: u32, by: i64) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_increment_metric") {
        return status;
    }
    caller.data_mut().metrics[metric as usize - 1].1 += u64::try_from(by).unwrap();
    OK
}

fn proxy_record_metric(mut caller: Caller<'_, State>, metric: u32, value: u64) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_record_metric") {
        return status;
    }
    caller.data_mut().metrics[metric as usize - 1].1 = value;
    OK
}

fn proxy_get_current_time_nanoseconds(mut caller: Caller<'_, State>, time: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_get_current_time_nanoseconds") {
        return status;
    }
    let now = caller.data().now * 1_000_000;
    memory(&mut caller).write(&mut caller, time as usize, &now.to_le_bytes()).unwrap();
    OK
}

fn proxy_set_tick_period_milliseconds(mut caller: Caller<'_, State>, period: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_set_tick_period_milliseconds") {
        return status;
    }
    caller.data_mut().tick_period = Some(period);
    OK
}

fn memory(caller: &mut Caller<'_, State>) -> Memory {
    caller.get_export("memory").unwrap().into_memory().unwrap()
}

fn read(caller: &mut Caller<'_, State>, address: u32, bytes: u32) -> Vec<u8> {
    let memory = memory(caller);
    memory.data(&caller)[address as usize..][..bytes as usize].to_vec()
}

fn read_text(caller: &mut Caller<'_, State>, address: u32, bytes: u32) -> String {
    String::from_utf8(read(caller, address, bytes)).unwrap()
}

/// Gives `bytes` to the module in memory that it allocates, and writes where they are to `data` and `size`; gives the status.
fn give(caller: &mut Caller<'_, State>, bytes: &[u8], data: u32, size: u32) -> u32 {
    let length = u32::try_from(bytes.len()).unwrap();
    let mut address = 0;
    if !bytes.is_empty() {
        caller.data_mut().calls.push("proxy_on_memory_allocate".to_owned());
        let allocate = caller.get_export("proxy_on_memory_allocate").unwrap().into_func().unwrap();
        let asked = caller.data().asked_instead.unwrap_or(length);
        address = allocate.typed::<u32, u32>(&caller).unwrap().call(&mut *caller, asked).unwrap();
        if address == 0 {
            return INVALID_MEMORY_ACCESS;
        }
    }
    let memory = memory(caller);
    memory.write(&mut *caller, address as usize, bytes).unwrap();
    memory.write(&mut *caller, data as usize, &address.to_le_bytes()).unwrap();
    memory.write(&mut *caller, size as usize, &length.to_le_bytes()).unwrap();
    OK
}
