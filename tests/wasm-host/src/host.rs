//! The VM, and what a test can do with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};

use wasmtime::{Engine, Instance, Module, Store, WasmParams, WasmResults};

use crate::abi::{self, CONTINUE, STOP};
use crate::rules::{self, Rules};

const ROOT_CONTEXT: u32 = 1;

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::default);
/// Compiled modules by their bytes: compiling one takes longer than all tests that use it.
static COMPILED: LazyLock<Mutex<HashMap<Vec<u8>, Module>>> = LazyLock::new(Mutex::default);

/// A VM that runs a module, with one plugin.
pub struct Host {
    store: Store<State>,
    instance: Instance,
    last_context: u32,
    /// The root context of the plugin that is configured, and that requests are for.
    plugin: Plugin,
}

/// A plugin in a VM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plugin {
    context: u32,
    is_configured: bool,
}

/// What the module sees of its host, and what it did to it.
#[derive(Default)]
pub struct State {
    /// The attributes of the current request or connection, by path, as in `source.address`. Filter state that the test
    /// provides is among them, as in `filter_state.edgefold.connection_address`.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// The request's headers, which the filter may change: names and values.
    pub headers: Vec<(String, String)>,
    /// The time: milliseconds since 1970-01-01T00:00:00Z.
    pub now: u64,
    /// Calls to the host that fail, by name, as in `proxy_get_property`. They return this status and do nothing.
    pub refused_calls: BTreeMap<&'static str, u32>,
    /// The shared data, which all VMs of Envoy have in common. Another VM sees it once a test copies it there.
    pub shared: BTreeMap<String, Vec<u8>>,
    /// If set, the host asks the module to allocate this many bytes, whatever it needs.
    pub asked_instead: Option<u32>,
    pub(crate) rules: Rules,
    pub(crate) is_initializing: bool,
    pub(crate) is_in_request: bool,
    pub(crate) configuration: Vec<u8>,
    pub(crate) local_response: Option<Response>,
    pub(crate) is_closed: bool,
    pub(crate) filter_state: BTreeMap<String, String>,
    /// Names and values; the id of a metric is its position, from 1.
    pub(crate) metrics: Vec<(String, u64)>,
    pub(crate) log: Vec<String>,
    pub(crate) calls: Vec<String>,
}

/// The outcome of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Response {
    /// It continues to the next filter.
    Passed,
    /// The filter refused it with a local reply.
    Refused {
        /// The HTTP status.
        status: u32,
        /// Names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
        /// What Envoy's access log shows as `%RESPONSE_CODE_DETAILS%`.
        details: String,
    },
}

/// An open connection, as [`Host::connect`] returned it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connection {
    context: u32,
}

impl Host {
    /// Starts a VM with the wasm `module` in Envoy, and a plugin that is not configured yet. Each module is compiled once per
    /// process.
    ///
    /// # Panics
    /// If the bytes are not a wasm module, or if it imports what this host does not have.
    pub fn start(module: &[u8]) -> Self {
        Self::start_by(Rules::Envoy, module).unwrap()
    }

    /// As [`start`](Self::start), in the host with these rules.
    ///
    /// # Errors
    /// Why that host refuses the module.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_by(rules: Rules, module: &[u8]) -> Result<Self, String> {
        let module = compiled(module);
        if let Some(refusal) = rules.refusal(&module) {
            return Err(refusal);
        }
        // Calls before there is a context are a null pointer in nginx: issue 695 of Kong/ngx_wasm_module.
        let mut store = Store::new(&ENGINE, State { rules, is_initializing: true, ..State::default() });
        for name in ["plugin_name", "plugin_vm_id"] {
            store.data_mut().attributes.insert(name.to_owned(), rules::NAME.into());
        }
        let instance = abi::linker(&ENGINE, &module).instantiate(&mut store, &module).unwrap();
        let plugin = Plugin { context: ROOT_CONTEXT, is_configured: false };
        let mut host = Self { store, instance, last_context: ROOT_CONTEXT, plugin };
        host.call_if_exported::<_, ()>("_initialize", ());
        host.store.data_mut().is_initializing = false;
        host.call_if_exported::<_, ()>("proxy_on_context_create", (ROOT_CONTEXT, 0_u32));
        if rules.starts_the_vm() {
            let started = host.call_if_exported::<_, u32>("proxy_on_vm_start", (ROOT_CONTEXT, 0_u32));
            assert_ne!(started, Some(0), "the VM did not start");
        }
        Ok(host)
    }

    /// Configures the plugin, and returns whether the module accepts `configuration`.
    ///
    /// # Panics
    /// If the host does not configure a plugin again.
    pub fn configure(&mut self, configuration: &[u8]) -> bool {
        let is_again = std::mem::replace(&mut self.plugin.is_configured, true);
        assert!(!is_again || self.store.data().rules.configures_again(), "this host does not configure a plugin again");
        self.store.data_mut().configuration = configuration.to_vec();
        let bytes = u32::try_from(configuration.len()).unwrap();
        let accepted: u32 = self.call("proxy_on_configure", (self.plugin.context, bytes));
        // Envoy provides the configuration only during this call.
        self.store.data_mut().configuration.clear();
        accepted != 0
    }

    /// Starts another plugin in the VM. From now on, it is the one that is configured, and that requests are for. Returns the one
    /// before.
    pub fn start_plugin(&mut self) -> Plugin {
        let context = self.new_context();
        self.call_if_exported::<_, ()>("proxy_on_context_create", (context, 0_u32));
        self.choose(Plugin { context, is_configured: false })
    }

    /// From now on, this plugin is the one that is configured, and that requests are for. Returns the one before.
    pub fn choose(&mut self, plugin: Plugin) -> Plugin {
        std::mem::replace(&mut self.plugin, plugin)
    }

    /// Ends a plugin.
    pub fn end(&mut self, plugin: Plugin) {
        self.call_if_exported::<_, u32>("proxy_on_done", plugin.context);
        self.call_if_exported::<_, ()>("proxy_on_delete", plugin.context);
    }

    /// Sends a request with the current attributes, from its first callback to its last.
    pub fn request(&mut self) -> Response {
        let context = self.start_request();
        let end_of_stream = u32::from(self.store.data().rules.knows_the_end());
        let action: u32 = self.call("proxy_on_request_headers", (context, 0_u32, end_of_stream));
        let response = self.store.data_mut().local_response.take();
        let expected_action = if response.is_some() { STOP } else { CONTINUE };
        assert_eq!(action, expected_action, "only an answered request stops: {response:?}");
        self.end_request(context);
        response.unwrap_or(Response::Passed)
    }

    /// The first callback of a request, whose context is returned.
    fn start_request(&mut self) -> u32 {
        let context = self.new_context();
        let state = self.store.data_mut();
        state.calls.clear();
        state.filter_state.clear();
        state.is_in_request = true;
        self.call_if_exported::<_, ()>("proxy_on_context_create", (context, self.plugin.context));
        context
    }

    /// The callbacks of a response, and those at the end of a request.
    fn end_request(&mut self, context: u32) {
        for callback in ["proxy_on_response_headers", "proxy_on_response_body"] {
            let action = self.call_if_exported::<_, u32>(callback, (context, 0_u32, 1_u32));
            assert_ne!(action, Some(STOP), "the filter does not look at responses");
        }
        self.call_if_exported::<_, u32>("proxy_on_done", context);
        if self.store.data().rules.logs() {
            self.call_if_exported::<_, ()>("proxy_on_log", context);
        }
        self.call_if_exported::<_, ()>("proxy_on_delete", context);
        self.store.data_mut().is_in_request = false;
    }

    /// Sends a request whose `source.address` is `source_address`, or absent.
    pub fn request_from(&mut self, source_address: Option<&[u8]>) -> Response {
        self.set("source.address", source_address);
        self.request()
    }

    /// Opens a connection from `source_address`. Returns it, or `None` if the filter closes it.
    pub fn connect(&mut self, source_address: &str) -> Option<Connection> {
        let context = self.new_context();
        self.set("source.address", Some(source_address.as_bytes()));
        self.call_if_exported::<_, ()>("proxy_on_context_create", (context, self.plugin.context));
        let action: u32 = self.call("proxy_on_new_connection", context);
        self.stays_open(action).then_some(Connection { context })
    }

    /// Sends a byte of a request that was let pass before, and returns whether the request goes on. A module that does not look
    /// at bodies is not called.
    pub fn request_data(&mut self) -> bool {
        let context = self.last_context;
        let action = self.call_if_exported("proxy_on_request_body", (context, 1_u32, 0_u32));
        action.is_none_or(|action| self.stays_open(action))
    }

    /// Sends a byte over a connection, and returns whether the connection stays open. A module that does not look at
    /// data is not called.
    pub fn data(&mut self, connection: Connection) -> bool {
        let action = self.call_if_exported("proxy_on_downstream_data", (connection.context, 1_u32, 0_u32));
        action.is_none_or(|action| self.stays_open(action))
    }

    /// Sets the attribute at `path`, or removes it.
    pub fn set(&mut self, path: &str, value: Option<&[u8]>) {
        let attributes = &mut self.store.data_mut().attributes;
        match value {
            Some(value) => attributes.insert(path.to_owned(), value.to_vec()),
            None => attributes.remove(path),
        };
    }

    /// The state of the host, which a test may change.
    pub fn state(&mut self) -> &mut State {
        self.store.data_mut()
    }

    /// The value of the metric `edgefold_filter.PLUGIN.NAME`.
    ///
    /// # Panics
    /// If the module did not define the metric, or defined it twice.
    pub fn metric(&self, plugin: &str, name: &str) -> u64 {
        let metrics = &self.store.data().metrics;
        let name = format!("edgefold_filter.{plugin}.{name}");
        let values: Vec<u64> =
            metrics.iter().filter(|(defined, _)| *defined == name).map(|(_, value)| *value).collect();
        let [value] = values[..] else { panic!("{name} must be defined once: {metrics:?}") };
        value
    }

    /// The filter state that was set since the last request began, by its key without Envoy's prefix.
    pub fn filter_state(&self, key: &str) -> Option<&str> {
        self.store.data().filter_state.get(key).map(String::as_str)
    }

    /// The calls since the last request began, oldest first: those of the module to the host, and those of the host to
    /// the module.
    pub fn calls(&self) -> &[String] {
        &self.store.data().calls
    }

    /// Everything that the module has logged, oldest first.
    pub fn log(&self) -> &[String] {
        &self.store.data().log
    }

    /// The size of the VM's memory. It never shrinks.
    pub fn memory_bytes(&mut self) -> usize {
        self.instance.get_memory(&mut self.store, "memory").unwrap().data_size(&self.store)
    }

    fn new_context(&mut self) -> u32 {
        self.last_context += 1;
        self.last_context
    }

    /// Whether the current connection stays open. `action` is what the module returned, and has to agree.
    fn stays_open(&mut self, action: u32) -> bool {
        let is_closed = std::mem::take(&mut self.store.data_mut().is_closed);
        assert_eq!(action, if is_closed { STOP } else { CONTINUE }, "only a closed connection stops");
        !is_closed
    }

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

/// The compiled `module`. The lock is held during the compilation, so that parallel tests do not all compile it.
fn compiled(module: &[u8]) -> Module {
    let mut compiled = COMPILED.lock().unwrap();
    if let Some(module) = compiled.get(module) {
        return module.clone();
    }
    let new = Module::new(&ENGINE, module).unwrap();
    compiled.insert(module.to_vec(), new.clone());
    new
}
