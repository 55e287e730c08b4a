//! A proxy-wasm host for the built filter: as much of ABI 0.2.1 as the filter uses, and a trap for all else,
//! WASI included: the filter calls it in a panic alone.
//!
//! It is deliberately no Envoy: one root context, no threads, no timeouts. What it gives the module follows
//! proxy-wasm-cpp-host, which Envoy embeds: empty data is a null pointer.

use std::sync::LazyLock;

use edgefold::ecds::FILTER_WASM;
use wasmtime::{Caller, Engine, Instance, Linker, Memory, Module, Store, WasmParams, WasmResults};

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const PLUGIN_CONFIGURATION: u32 = 7;
const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

const ROOT_CONTEXT: u32 = 1;

/// Compiled once: cranelift takes longer than all the tests.
static FILTER: LazyLock<Module> = LazyLock::new(|| Module::new(&Engine::default(), FILTER_WASM).unwrap());

/// The filter in a VM of its own.
pub(crate) struct Host {
    store: Store<State>,
    instance: Instance,
    last_context: u32,
}

/// What the module sees of the host, and the host of the module.
#[derive(Default)]
struct State {
    configuration: Vec<u8>,
    source_address: Option<Vec<u8>>,
    local_response: Option<Response>,
    log: Vec<String>,
}

/// What became of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Response {
    /// It goes on to the next filter.
    Passed,
    /// The filter answered it.
    Refused { status: u32, body: Vec<u8> },
}

impl Host {
    /// Starts a VM with a root context that is not configured yet.
    pub(crate) fn start() -> Self {
        let mut store = Store::new(FILTER.engine(), State::default());
        let instance = linker().instantiate(&mut store, &FILTER).unwrap();
        let mut host = Self { store, instance, last_context: ROOT_CONTEXT };
        host.call_if_exported::<(), ()>("_initialize", ());
        // Envoy creates the root context before it starts the VM, and the SDK panics if it does not know the context.
        host.call::<_, ()>("proxy_on_context_create", (ROOT_CONTEXT, 0_u32));
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

    /// A request from `source_address`, from its first to its last callback.
    pub(crate) fn request(&mut self, source_address: Option<&[u8]>) -> Response {
        self.last_context += 1;
        let context = self.last_context;
        self.store.data_mut().source_address = source_address.map(<[u8]>::to_vec);
        self.call::<_, ()>("proxy_on_context_create", (context, ROOT_CONTEXT));
        let action: u32 = self.call("proxy_on_request_headers", (context, 0_u32, 1_u32));
        let response = self.store.data_mut().local_response.take();
        let expected_action = if response.is_some() { PAUSE } else { CONTINUE };
        assert_eq!(action, expected_action, "an answered request pauses, every other one continues: {response:?}");
        self.call_if_exported::<_, u32>("proxy_on_done", context);
        self.call_if_exported::<_, ()>("proxy_on_log", context);
        self.call_if_exported::<_, ()>("proxy_on_delete", context);
        response.unwrap_or(Response::Passed)
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
        let function = self.instance.get_typed_func::<P, R>(&mut self.store, export).unwrap();
        let result = function.call(&mut self.store, parameters);
        result.unwrap_or_else(|trap| panic!("{export} trapped: {trap:?}; log: {:?}", self.log()))
    }

    fn call_if_exported<P: WasmParams, R: WasmResults>(&mut self, export: &str, parameters: P) -> Option<R> {
        self.instance.get_func(&mut self.store, export)?;
        Some(self.call(export, parameters))
    }
}

fn linker() -> Linker<State> {
    let mut linker = Linker::new(FILTER.engine());
    linker.func_wrap("env", "proxy_log", proxy_log).unwrap();
    linker.func_wrap("env", "proxy_get_buffer_bytes", proxy_get_buffer_bytes).unwrap();
    linker.func_wrap("env", "proxy_get_property", proxy_get_property).unwrap();
    linker.func_wrap("env", "proxy_send_local_response", proxy_send_local_response).unwrap();
    linker.define_unknown_imports_as_traps(&FILTER).unwrap();
    linker
}

fn proxy_log(mut caller: Caller<'_, State>, _level: u32, message: u32, message_bytes: u32) -> u32 {
    let message = read(&mut caller, message, message_bytes);
    caller.data_mut().log.push(String::from_utf8(message).unwrap());
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
    assert_eq!(buffer, PLUGIN_CONFIGURATION, "the filter reads its configuration and no other buffer");
    let rest = caller.data().configuration.get(start as usize..).unwrap();
    let bytes = rest[..rest.len().min(most as usize)].to_vec();
    give(&mut caller, &bytes, data, size);
    OK
}

fn proxy_get_property(mut caller: Caller<'_, State>, path: u32, path_bytes: u32, data: u32, size: u32) -> u32 {
    let path = read(&mut caller, path, path_bytes);
    assert_eq!(path, b"source\0address", "the filter reads source.address and no other property");
    let Some(source_address) = caller.data().source_address.clone() else { return NOT_FOUND };
    give(&mut caller, &source_address, data, size);
    OK
}

#[expect(clippy::too_many_arguments, reason = "the ABI has so many")]
fn proxy_send_local_response(
    mut caller: Caller<'_, State>,
    status: u32,
    _details: u32,
    _details_bytes: u32,
    body: u32,
    body_bytes: u32,
    _headers: u32,
    _headers_bytes: u32,
    _grpc_status: i32,
) -> u32 {
    let body = read(&mut caller, body, body_bytes);
    let before = caller.data_mut().local_response.replace(Response::Refused { status, body });
    assert_eq!(before, None, "a request is answered once");
    OK
}

fn memory(caller: &mut Caller<'_, State>) -> Memory {
    caller.get_export("memory").unwrap().into_memory().unwrap()
}

fn read(caller: &mut Caller<'_, State>, address: u32, bytes: u32) -> Vec<u8> {
    let memory = memory(caller);
    memory.data(&caller)[address as usize..][..bytes as usize].to_vec()
}

/// Gives `bytes` to the module in memory that it allocates, and writes where they are to `data` and `size`.
fn give(caller: &mut Caller<'_, State>, bytes: &[u8], data: u32, size: u32) {
    let length = u32::try_from(bytes.len()).unwrap();
    let mut address = 0;
    if !bytes.is_empty() {
        let allocate = caller.get_export("proxy_on_memory_allocate").unwrap().into_func().unwrap();
        address = allocate.typed::<u32, u32>(&caller).unwrap().call(&mut *caller, length).unwrap();
    }
    let memory = memory(caller);
    memory.write(&mut *caller, address as usize, bytes).unwrap();
    memory.write(&mut *caller, data as usize, &address.to_le_bytes()).unwrap();
    memory.write(&mut *caller, size as usize, &length.to_le_bytes()).unwrap();
}
