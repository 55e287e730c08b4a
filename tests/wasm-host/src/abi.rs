//! The host functions of the ABI, and the memory they share with the module. A status is proxy-wasm's `proxy_status_t`.
//!
//! <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>

use wasmtime::{Caller, Engine, Linker, Memory, Module};

use crate::{Response, State};

// Statuses.
pub(crate) const OK: u32 = 0;
pub(crate) const NOT_FOUND: u32 = 1;
pub(crate) const BAD_ARGUMENT: u32 = 2;
const INVALID_MEMORY_ACCESS: u32 = 6;
pub(crate) const INTERNAL_FAILURE: u32 = 10;
pub(crate) const UNIMPLEMENTED: u32 = 12;
/// The buffer with the configuration.
const PLUGIN_CONFIGURATION: u32 = 7;
/// `proxy_map_type_t`.
const REQUEST_HEADERS: u32 = 0;
/// The stream of the client's connection: `proxy_stream_type_t`.
const HTTP_REQUEST: u32 = 0;
const DOWNSTREAM: u32 = 2;

/// The action of a request or connection that goes on.
pub(crate) const CONTINUE: u32 = 0;
/// The action of one that the filter has answered or closed.
pub(crate) const STOP: u32 = 1;

/// What a module imports only because the `proxy-wasm` crate and std do, and must not call. All hosts have it.
const NEVER_CALLED: [&str; 21] = [
    "fd_write",
    "proc_exit",
    "proxy_call_foreign_function",
    "proxy_continue_stream",
    "proxy_dequeue_shared_queue",
    "proxy_done",
    "proxy_enqueue_shared_queue",
    "proxy_get_status",
    "proxy_grpc_call",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_grpc_stream",
    "proxy_http_call",
    "proxy_register_shared_queue",
    "proxy_replace_header_map_value",
    "proxy_resolve_shared_queue",
    "proxy_set_buffer_bytes",
    "proxy_set_effective_context",
    "proxy_set_header_map_pairs",
    "proxy_set_tick_period_milliseconds",
];

/// Everything that this module can import.
pub(crate) fn linker(engine: &Engine, module: &Module) -> Linker<State> {
    let mut linker = Linker::new(engine);
    for import in module.imports() {
        if let (true, Some(ty)) = (NEVER_CALLED.contains(&import.name()), import.ty().func()) {
            let name = import.name().to_owned();
            let call = move |_: Caller<'_, State>, _: &[_], _: &mut [_]| panic!("{name} must not be called");
            linker.func_new(import.module(), import.name(), ty.clone(), call).unwrap();
        }
    }
    linker.func_wrap("wasi_snapshot_preview1", "environ_sizes_get", environ_sizes_get).unwrap();
    linker.func_wrap("wasi_snapshot_preview1", "environ_get", |_: u32, _: u32| OK).unwrap();
    linker.func_wrap("env", "proxy_log", proxy_log).unwrap();
    linker.func_wrap("env", "proxy_get_buffer_bytes", proxy_get_buffer_bytes).unwrap();
    linker.func_wrap("env", "proxy_get_property", proxy_get_property).unwrap();
    linker.func_wrap("env", "proxy_set_property", proxy_set_property).unwrap();
    linker.func_wrap("env", "proxy_get_shared_data", proxy_get_shared_data).unwrap();
    linker.func_wrap("env", "proxy_set_shared_data", proxy_set_shared_data).unwrap();
    linker.func_wrap("env", "proxy_send_local_response", proxy_send_local_response).unwrap();
    linker.func_wrap("env", "proxy_remove_header_map_value", proxy_remove_header_map_value).unwrap();
    linker.func_wrap("env", "proxy_get_header_map_value", proxy_get_header_map_value).unwrap();
    linker.func_wrap("env", "proxy_get_header_map_pairs", proxy_get_header_map_pairs).unwrap();
    linker.func_wrap("env", "proxy_add_header_map_value", proxy_add_header_map_value).unwrap();
    linker.func_wrap("env", "proxy_close_stream", proxy_close_stream).unwrap();
    linker.func_wrap("env", "proxy_define_metric", proxy_define_metric).unwrap();
    linker.func_wrap("env", "proxy_increment_metric", proxy_increment_metric).unwrap();
    linker.func_wrap("env", "proxy_record_metric", proxy_record_metric).unwrap();
    linker.func_wrap("env", "proxy_get_current_time_nanoseconds", proxy_get_current_time_nanoseconds).unwrap();
    linker
}

/// Records the call. Returns the status of a call that the test wants to fail, or that the host does not implement.
fn refused(caller: &mut Caller<'_, State>, call: &'static str) -> Option<u32> {
    let state = caller.data_mut();
    assert!(!state.is_initializing, "nginx has no instance yet for {call}");
    state.calls.push(call.to_owned());
    state.refused_calls.get(call).copied().or_else(|| state.rules.answer(call))
}

/// There are no environment variables.
fn environ_sizes_get(mut caller: Caller<'_, State>, count: u32, bytes: u32) -> u32 {
    for address in [count, bytes] {
        memory(&mut caller).write(&mut caller, address as usize, &[0; 4]).unwrap();
    }
    OK
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
    assert_eq!(buffer, PLUGIN_CONFIGURATION, "the filter reads only its configuration");
    let rest = caller.data().configuration.get(start as usize..).unwrap();
    let bytes = rest[..rest.len().min(most as usize)].to_vec();
    pass(&mut caller, &bytes, data, size)
}

fn proxy_get_property(mut caller: Caller<'_, State>, path: u32, path_bytes: u32, data: u32, size: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_get_property") {
        return status;
    }
    let path = read_text(&mut caller, path, path_bytes);
    let state = caller.data();
    match state.rules.property(state, &path.replace('\0', "."), path.contains('\0')) {
        Ok(value) => pass(&mut caller, &value, data, size),
        Err(status) => status,
    }
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
    pass(&mut caller, &value, data, size)
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
    assert_eq!(compare, 0, "the filter sets shared data without compare-and-swap");
    let key = read_text(&mut caller, key, key_bytes);
    let value = read(&mut caller, value, value_bytes);
    caller.data_mut().shared.insert(key, value);
    OK
}

fn proxy_remove_header_map_value(mut caller: Caller<'_, State>, map: u32, key: u32, key_bytes: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_remove_header_map_value") {
        return status;
    }
    assert_eq!(map, REQUEST_HEADERS, "the filter changes only request headers");
    let key = read_text(&mut caller, key, key_bytes);
    caller.data_mut().headers.retain(|(name, _)| !name.eq_ignore_ascii_case(&key));
    OK
}

fn proxy_get_header_map_value(
    mut caller: Caller<'_, State>,
    map: u32,
    key: u32,
    key_bytes: u32,
    data: u32,
    size: u32,
) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_get_header_map_value") {
        return status;
    }
    assert_eq!(map, REQUEST_HEADERS, "the filter reads only request headers");
    let key = read_text(&mut caller, key, key_bytes);
    let state = caller.data();
    let Some(value) = state.rules.header(state, &key) else { return NOT_FOUND };
    pass(&mut caller, &value, data, size)
}

fn proxy_get_header_map_pairs(mut caller: Caller<'_, State>, map: u32, data: u32, size: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_get_header_map_pairs") {
        return status;
    }
    assert_eq!(map, REQUEST_HEADERS, "the filter reads only request headers");
    let state = caller.data();
    let map = write_map(&state.rules.headers(state));
    pass(&mut caller, &map, data, size)
}

/// The encoding that [`read_map`] reads.
fn write_map(pairs: &[(String, String)]) -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
    let mut map = number(pairs.len()).to_vec();
    for (name, value) in pairs {
        map.extend([number(name.len()), number(value.len())].concat());
    }
    for (name, value) in pairs {
        map.extend(format!("{name}\0{value}\0").bytes());
    }
    map
}

fn proxy_add_header_map_value(
    mut caller: Caller<'_, State>,
    map: u32,
    key: u32,
    key_bytes: u32,
    value: u32,
    value_bytes: u32,
) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_add_header_map_value") {
        return status;
    }
    assert_eq!(map, REQUEST_HEADERS, "the filter changes only request headers");
    let key = read_text(&mut caller, key, key_bytes);
    let value = read_text(&mut caller, value, value_bytes);
    caller.data_mut().headers.push((key, value));
    OK
}

#[expect(clippy::too_many_arguments, reason = "this is the ABI's signature")]
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
    assert_eq!(grpc_status, -1, "the filter leaves the gRPC status to Envoy");
    let details = read_text(&mut caller, details, details_bytes);
    let headers = read_map(&read(&mut caller, headers, headers_bytes));
    let body = read(&mut caller, body, body_bytes);
    let before = caller.data_mut().local_response.replace(Response::Refused { status, headers, body, details });
    assert_eq!(before, None, "a request must be answered only once");
    OK
}

/// Reads a map in proxy-wasm's encoding: the number of pairs, then the lengths of each name and value, then each name
/// and value followed by a NUL.
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
    assert!([HTTP_REQUEST, DOWNSTREAM].contains(&stream), "the filter closes the client's side");
    caller.data_mut().is_closed = true;
    OK
}

fn proxy_define_metric(mut caller: Caller<'_, State>, _kind: u32, name: u32, name_bytes: u32, id: u32) -> u32 {
    if let Some(status) = refused(&mut caller, "proxy_define_metric") {
        return status;
    }
    let name = read_text(&mut caller, name, name_bytes);
    caller.data().rules.check_metric(&name);
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

/// Copies `bytes` into memory that the module allocates, and writes their address to `data` and their length to `size`.
/// Returns the status of the call.
fn pass(caller: &mut Caller<'_, State>, bytes: &[u8], data: u32, size: u32) -> u32 {
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
